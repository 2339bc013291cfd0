"""The one door to a frozen base in 8 or 4 bits: bitsandbytes on CUDA, plain torch layers everywhere else.

8 bits: one scale an output row (LLM.int8 weights, Dettmers et al. 2022, arXiv 2208.07339, without their outlier path).
4 bits: NormalFloat with one scale for 64 weights (QLoRA, Dettmers et al. 2023, arXiv 2305.14314). The plain layers
unpack a weight for each product and again for its gradient, so they save memory, not time.
"""

# SPDX-License-Identifier: Apache-2.0
#
# Shapes: O outputs, I inputs, K blocks of 64 weights.
from __future__ import annotations

import importlib.util
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional

from foretune.errors import ConfigError
from foretune.models.linear import head_names, is_conv1d, is_linear, linear_layers

__all__ = [
    "Bits",
    "QuantisedLinear",
    "bitsandbytes_is_usable",
    "nf4_values",
    "plain_weight",
    "prepare_for_training",
    "quantise_layers",
    "quantise_note",
]

Bits = Literal["none", "8bit", "4bit"]
BLOCK = 64
# Where QLoRA puts the outermost of 16 values on the normal distribution (appendix E of the paper).
OUTER_QUANTILE = 0.9677083


def nf4_values() -> Tensor:
    """The 16 values of NormalFloat-4, ascending, -1 to 1: quantiles of a normal distribution, zero among them."""
    steps = torch.linspace(OUTER_QUANTILE, 0.5, 9, dtype=torch.float64)[:-1]
    positive = torch.special.ndtri(steps)
    steps = torch.linspace(OUTER_QUANTILE, 0.5, 8, dtype=torch.float64)[:-1]
    negative = -torch.special.ndtri(steps)
    values = torch.cat([negative, torch.zeros(1, dtype=torch.float64), positive]).sort().values
    return (values / values.abs().max()).float()


class QuantisedLinear(nn.Module):
    """A frozen linear layer whose weight [O, I] is packed into 8 or 4 bits."""

    def __init__(self, layer: nn.Module, bits: Literal["8bit", "4bit"]) -> None:
        super().__init__()
        weight, bias = layer.weight, layer.bias
        assert isinstance(weight, Tensor)
        self.was_conv1d = is_conv1d(layer)
        weight_OI = weight.detach().float().T if self.was_conv1d else weight.detach().float()
        self.out_features, self.in_features = weight_OI.shape
        self.bits = bits
        packed, scales = _packed_8(weight_OI) if bits == "8bit" else _packed_4(weight_OI)
        # int8, so that models which look at the type of a weight (T5) leave their activations alone
        self.register_buffer("weight", packed)
        self.register_buffer("scales", scales)
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)  # type: ignore[operator]

    def unpacked(self) -> Tensor:
        """The weight [O, I] in fp32."""
        packed, scales = self.weight, self.scales
        assert isinstance(packed, Tensor) and isinstance(scales, Tensor)
        if self.bits == "8bit":
            return packed * scales[:, None]
        pairs = packed.view(torch.uint8).long()
        values = nf4_values().to(packed.device)
        whole = values[torch.stack([pairs >> 4, pairs & 15], dim=-1)].view(-1, BLOCK) * scales[:, None]
        return whole.view(-1)[: self.out_features * self.in_features].view(self.out_features, self.in_features)

    def forward(self, x: Tensor) -> Tensor:
        """[..., I] -> [..., O]."""
        y: Tensor = _FrozenProduct.apply(x, self)  # type: ignore[no-untyped-call]
        return y if self.bias is None else y + self.bias.to(y.dtype)


class _FrozenProduct(Function):
    """x W', with the weight unpacked twice instead of kept: once for the product, once for the gradient of x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: QuantisedLinear) -> Tensor:
        ctx.layer, ctx.dtype = layer, x.dtype
        return functional.linear(x, layer.unpacked().to(x.dtype))

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None]:
        return (dy @ ctx.layer.unpacked().to(dy.dtype)).to(ctx.dtype), None


def _packed_8(weight_OI: Tensor) -> tuple[Tensor, Tensor]:
    scales_O = weight_OI.abs().amax(dim=1).clamp_min(1e-12) / 127
    return (weight_OI / scales_O[:, None]).round().clamp(-127, 127).to(torch.int8), scales_O


def _packed_4(weight_OI: Tensor) -> tuple[Tensor, Tensor]:
    """Two 4-bit codes a byte, the first in the upper half."""
    flat = functional.pad(weight_OI.reshape(-1), (0, -weight_OI.numel() % BLOCK)).view(-1, BLOCK)
    scales_K = flat.abs().amax(dim=1).clamp_min(1e-12)
    values = nf4_values().to(flat.device)
    codes = torch.bucketize(flat / scales_K[:, None], (values[1:] + values[:-1]) / 2).view(-1, 2)
    return (codes[:, 0] << 4 | codes[:, 1]).to(torch.uint8).view(torch.int8), scales_K


def plain_weight(layer: nn.Module) -> Tensor:
    """The weight of a linear layer, unpacked where it is quantised, in the layer's own layout."""
    if isinstance(layer, QuantisedLinear):
        return layer.unpacked()
    weight = layer.weight
    assert isinstance(weight, Tensor)
    if type(layer).__name__ in ("Linear4bit", "Linear8bitLt"):
        from peft.utils.integrations import dequantize_module_weight

        unpacked: Tensor = dequantize_module_weight(layer)
        return unpacked
    return weight


def quantise_layers(model: nn.Module, bits: Literal["8bit", "4bit"]) -> int:
    """Put every linear layer but the heads into plain-torch `bits`; the number of layers.

    Raises ConfigError where the model has no such layer.
    """
    heads = head_names(model)
    chosen = [(name, layer) for name, layer in linear_layers(model) if name not in heads and is_linear(layer)]
    if not chosen:
        raise ConfigError(
            f"{type(model).__name__} has no linear layer that could be quantised",
            fix='train.advanced.quantise_base = "none"',
        )
    for name, layer in chosen:
        model.set_submodule(name, QuantisedLinear(layer, bits))
    return len(chosen)


def bitsandbytes_is_usable(device: torch.device) -> bool:
    """Whether bitsandbytes, with what transformers and we need beside it, is installed and can run on `device`."""
    needed = ("bitsandbytes", "accelerate", "peft")
    return device.type == "cuda" and all(importlib.util.find_spec(name) is not None for name in needed)


def prepare_for_training(model: nn.Module) -> None:
    """Freeze a quantised base and keep what is not packed in fp32; PEFT's own step where bitsandbytes packed it."""
    if getattr(model, "is_quantized", False):
        from peft import prepare_model_for_kbit_training

        prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)  # type: ignore[no-untyped-call]
        return
    model.requires_grad_(False)


def quantise_note(bits: Bits, device: torch.device) -> str:
    """What the user should hear about a quantised base on this device; "" where it is as fast as it can be."""
    if bits == "none" or bitsandbytes_is_usable(device):
        return ""
    why = (
        "bitsandbytes runs on CUDA only"
        if device.type != "cuda"
        else "bitsandbytes is not installed (pip install bitsandbytes accelerate peft)"
    )
    return (
        f"{bits} base in plain torch, because {why}: less memory, but slower than without train.advanced.quantise_base"
    )
