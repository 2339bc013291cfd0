"""Low-rank layers: LoRA, rank-stabilised LoRA and DoRA over a frozen linear layer, quantised or not.

LoRA: Hu et al. 2021, arXiv 2106.09685: y = W x + (alpha / r) B A x, A random, B zero. rsLoRA: Kalajdzievski 2023,
arXiv 2312.03732: alpha / sqrt(r) instead. DoRA: Liu et al. 2024, arXiv 2402.09353: rows keep a learned length.
"""

# SPDX-License-Identifier: Apache-2.0
#
# Shapes: B batch, L tokens, I inputs, O outputs, R rank.
from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from foretune.models.linear import is_conv1d, layer_sides
from foretune.models.quantise import plain_weight

__all__ = ["DoraLinear", "LoraLinear", "LowRank", "Variant", "adapters_off", "low_rank_layer"]

Variant = Literal["lora", "rslora", "dora"]


class LowRank(nn.Module):
    """A frozen linear layer plus a low-rank change; the rank path is computed in fp32."""

    def __init__(self, base: nn.Module, rank: int, alpha: float, dropout: float, variant: Variant) -> None:
        super().__init__()
        self.conv1d = is_conv1d(base)
        sides, weight = layer_sides(base), base.weight
        assert isinstance(weight, Tensor)
        self.base = base
        self.variant = variant
        self.alpha = alpha
        self.scale = alpha / (math.sqrt(rank) if variant == "rslora" else rank)
        self.dropout = dropout
        self.is_off = False
        self.lora_a = nn.Parameter(torch.empty(rank, sides.inputs, device=weight.device))
        self.lora_b = nn.Parameter(torch.zeros(sides.outputs, rank, device=weight.device))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))

    @property
    def weight(self) -> Tensor:
        """The frozen weight, for models that look at its dtype (T5)."""
        weight = self.base.weight
        assert isinstance(weight, Tensor)
        return weight

    def low_rank(self, x_BLI: Tensor) -> Tensor:
        """scale x B A x in fp32: [B, L, I] -> [B, L, O]."""
        change_BLO = functional.linear(functional.linear(x_BLI.to(self.lora_a.dtype), self.lora_a), self.lora_b)
        return change_BLO * self.scale

    @abstractmethod
    def delta(self) -> Tensor:
        """The change of the base weight, in the base weight's own layout, fp32."""

    def merge(self) -> nn.Module:
        """The base layer with the change folded in."""
        with torch.no_grad():
            self.weight.add_(self.delta().to(self.weight.dtype))
        return self.base


class LoraLinear(LowRank):
    """LoRA or rank-stabilised LoRA: a sum."""

    def forward(self, x_BLI: Tensor) -> Tensor:
        """[B, L, I] -> [B, L, O]."""
        y_BLO: Tensor = self.base(x_BLI)
        if self.is_off:
            return y_BLO
        change_BLO = self.low_rank(functional.dropout(x_BLI, self.dropout, self.training))
        return y_BLO + change_BLO.to(y_BLO.dtype)

    def delta(self) -> Tensor:
        """scale x B A."""
        change_OI = (self.lora_b @ self.lora_a) * self.scale
        return change_OI.T if self.conv1d else change_OI


class DoraLinear(LowRank):
    """DoRA: each output's row of W + scale x B A keeps its direction and gets the learned length `magnitude`.

    As in the paper (section 4.3) the norm is a constant to the gradient.
    """

    def __init__(self, base: nn.Module, rank: int, alpha: float, dropout: float, variant: Variant) -> None:
        super().__init__(base, rank, alpha, dropout, variant)
        self.magnitude = nn.Parameter(self._norm_O())

    def _weight_OI(self) -> Tensor:
        weight = plain_weight(self.base).float()
        return weight.T if self.conv1d else weight

    def _norm_O(self) -> Tensor:
        with torch.no_grad():
            whole_OI = self._weight_OI() + (self.lora_b @ self.lora_a) * self.scale
            return whole_OI.square().sum(dim=1).sqrt()

    def forward(self, x_BLI: Tensor) -> Tensor:
        """[B, L, I] -> [B, L, O]."""
        y_BLO: Tensor = self.base(x_BLI)
        if self.is_off:
            return y_BLO
        bias = self.base.bias
        dropped_BLI = functional.dropout(x_BLI, self.dropout, self.training)
        plain_BLO = y_BLO if dropped_BLI is x_BLI else self.base(dropped_BLI)
        if isinstance(bias, Tensor):
            plain_BLO = plain_BLO - bias
        length_O = self.magnitude / self._norm_O()
        change_BLO = (length_O - 1) * plain_BLO.float() + length_O * self.low_rank(dropped_BLI)
        return y_BLO + change_BLO.to(y_BLO.dtype)

    def delta(self) -> Tensor:
        """The rows with their learned lengths, minus the base weight."""
        weight_OI = self._weight_OI()
        whole_OI = weight_OI + (self.lora_b @ self.lora_a) * self.scale
        change_OI = (self.magnitude / self._norm_O())[:, None] * whole_OI - weight_OI
        return change_OI.T if self.conv1d else change_OI


def low_rank_layer(base: nn.Module, rank: int, alpha: float, dropout: float, variant: Variant) -> LowRank:
    """The layer of a variant over `base`."""
    kind = DoraLinear if variant == "dora" else LoraLinear
    return kind(base, rank, alpha, dropout, variant)


@contextmanager
def adapters_off(model: nn.Module) -> Iterator[None]:
    """The model as if it had no adapters, inside the block."""
    layers = [module for module in model.modules() if isinstance(module, LowRank)]
    for layer in layers:
        layer.is_off = True
    try:
        yield
    finally:
        for layer in layers:
            layer.is_off = False
