"""The flat decoder over sharded weights (FSDP2): a layer's weights are whole only while it runs.

Everything reads its weights when it computes, not before. Products are not merged: merged weights would be copies that
live until the backward pass, and so would undo the sharding.
"""

# SPDX-License-Identifier: Apache-2.0
#
# Shapes: T tokens, D width, N rows asked for.
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import register_fsdp_forward_method

from foretune.models.decoder import FlatLayer, FlatModel, FlatSettings
from foretune.models.flat_attention import Heads
from foretune.models.load import LoadedModel

__all__ = ["flat_over_shards"]

METHOD = "run_flat"  # of a sharded layer: gathers its weights as its forward does


class _Live:
    """Weights as they are at this moment, uncast."""

    copied_bytes = 0

    def merged(self, parameters: Sequence[nn.Parameter]) -> Tensor:
        """The parameters below each other."""
        whole = [parameter.detach() for parameter in parameters]
        return whole[0] if len(whole) == 1 else torch.cat(whole)

    def restore(self) -> None:
        """Nothing was changed."""


class _ShardedLayer:
    """A sharded transformers layer, run by our decoder."""

    def __init__(self, layer: Any, heads: Heads, epsilon: float, settings: FlatSettings) -> None:
        self.layer = layer

        def run(*inputs: Any, **named: Any) -> Tensor:
            return FlatLayer(layer, heads, epsilon, _Live(), settings)(*inputs, **named)

        setattr(layer, METHOD, run)
        register_fsdp_forward_method(layer, METHOD)

    @property
    def products(self) -> list[Any]:
        """None of them outlives a call."""
        return []

    def __call__(self, *inputs: Any, **named: Any) -> Tensor:
        """[T, D] -> [T, D], or [N, D] of the rows asked for."""
        result: Tensor = getattr(self.layer, METHOD)(*inputs, **named)
        return result


def flat_over_shards(loaded: LoadedModel, settings: FlatSettings) -> FlatModel:
    """The flat form of a model whose layers `fully_shard` has taken apart.

    Call it inside the forward of the sharded whole, after `read`, which finds the gathered weights outside the layers.
    """
    unmerged = replace(settings, has_merged_products=False, caches_trunk=False)
    model: Any = loaded.model
    config, layers = model.config, model.base_model.layers
    heads = Heads(config.num_attention_heads, config.num_key_value_heads, layers[0].self_attn.head_dim)
    sharded = [_ShardedLayer(layer, heads, float(config.rms_norm_eps), unmerged) for layer in layers]
    return FlatModel(loaded, unmerged, storage=_Live(), layers=sharded)
