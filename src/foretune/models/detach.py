"""Take low-rank adapters off a model without folding them in, so that others can be put on the same base."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from foretune.models.load import LoadedModel
from foretune.models.lora import LowRank

__all__ = ["detach_adapters"]


def detach_adapters(loaded: LoadedModel) -> int:
    """Put the frozen layer below every low-rank one back in its place; how many there were."""
    layers = [(name, module) for name, module in loaded.model.named_modules() if isinstance(module, LowRank)]
    for name, layer in layers:
        loaded.model.set_submodule(name, layer.base)
    return len(layers)
