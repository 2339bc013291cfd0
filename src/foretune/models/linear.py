"""The linear layers of a model: which there are, which are heads, and how large each is."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor, nn

__all__ = ["Sides", "head_names", "is_conv1d", "is_linear", "is_packed", "layer_sides", "linear_layers"]

HEADS = {"lm_head", "score", "classifier", "classification_head", "embed_out", "out_proj"}
# Names, not types: bitsandbytes' layers need not be installed to be known.
PACKED = ("Linear4bit", "Linear8bitLt", "QuantisedLinear")


class Sides(NamedTuple):
    """Inputs and outputs of a linear layer."""

    inputs: int
    outputs: int


def is_conv1d(layer: nn.Module) -> bool:
    """Whether a layer is transformers' Conv1D (GPT-2), which holds its weight as [inputs, outputs]."""
    return type(layer).__name__ == "Conv1D"


def is_packed(layer: nn.Module) -> bool:
    """Whether a linear layer's weight is packed into fewer bits."""
    return type(layer).__name__ in PACKED


def is_linear(layer: nn.Module) -> bool:
    """Whether a layer is a linear one, packed into fewer bits or not."""
    return isinstance(layer, nn.Linear) or is_conv1d(layer) or is_packed(layer)


def linear_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Every linear layer with its name."""
    return ((name, module) for name, module in model.named_modules() if is_linear(module))


def head_names(model: nn.Module) -> set[str]:
    """Names of the linear layers that are heads."""
    return {name for name, _ in linear_layers(model) if name.split(".")[0] in HEADS}


def layer_sides(layer: nn.Module) -> Sides:
    """Inputs and outputs; of packed weights the layer itself says them."""
    inputs, outputs = getattr(layer, "in_features", None), getattr(layer, "out_features", None)
    if isinstance(inputs, int) and isinstance(outputs, int):
        return Sides(inputs, outputs)
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return Sides(weight.shape[0], weight.shape[1])
