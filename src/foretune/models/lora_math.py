"""Products of a flat-token decoder with hand-written gradients: merged layers, low-rank changes, norms, gates.

A frozen base gets no weight gradient, and all A-products of one input are one matrix product. LoRA: Hu et al. 2021,
arXiv 2106.09685; RMSNorm: Zhang & Sennrich 2019, arXiv 1910.07467; SwiGLU: Shazeer 2020, arXiv 2002.05202.
"""

# SPDX-License-Identifier: Apache-2.0
#
# Shapes: T tokens, I inputs, O outputs of all merged layers, R ranks of all their adapters, D width, F gate width.
from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

from foretune.models.kernels import Kernels, multiplies, usable

__all__ = [
    "Dropped",
    "Slot",
    "adapted_product",
    "dropped",
    "frozen_product",
    "gated",
    "joined_ranks",
    "rms_norm",
    "trained_product",
]


class Slot(NamedTuple):
    """Where one adapter's change goes among the outputs of a merged product, and its alpha / rank."""

    start: int
    end: int
    scale: float


class Dropped(NamedTuple):
    """Dropout of an adapter's input: what is kept (bool, [T, I]) and the factor that makes up for the rest."""

    keep_TI: Tensor
    scale: float

    def of(self, x_TI: Tensor) -> Tensor:
        """The input as the adapters see it."""
        return (x_TI * self.keep_TI).mul_(self.scale)


def dropped(x_TI: Tensor, dropout: float) -> Dropped | None:
    """A mask for `x_TI`, shared by all adapters of that input; None where nothing is dropped.

    One random byte an element, so the rate is the nearest multiple of 1/256 (0.05: 13/256 = 0.0508); the factor is
    exact for that rate. Eight elements a random number: several times as fast as a Bernoulli draw on a CPU.
    """
    out_of_256 = round(dropout * 256)
    if not out_of_256:
        return None
    words = torch.empty((x_TI.numel() + 7) // 8, dtype=torch.int64, device=x_TI.device)
    words.random_(-(2**63), None)
    keep = words.view(torch.uint8)[: x_TI.numel()].view(x_TI.shape) >= out_of_256
    return Dropped(keep, 256 / (256 - out_of_256))


class Ranks(NamedTuple):
    """The A matrices of one input below each other, and the scaled B matrices as a block diagonal."""

    a_RI: Tensor
    b_OR: Tensor


def joined_ranks(slots: tuple[Slot, ...], matrices: tuple[Tensor, ...], num_outputs: int, dtype: torch.dtype) -> Ranks:
    """`matrices` are A and B of each slot in turn."""
    a_RI = torch.cat(matrices[0::2]).to(dtype)
    b_OR = a_RI.new_zeros(num_outputs, len(a_RI))
    column = 0
    for slot, b_Or in zip(slots, matrices[1::2], strict=True):
        rank = b_Or.shape[1]
        b_OR[slot.start : slot.end, column : column + rank] = b_Or * slot.scale
        column += rank
    return Ranks(a_RI, b_OR)


def _summed_product(
    x_TI: Tensor,
    weight_OI: Tensor,
    bias_O: Tensor | None,
    residual_TO: Tensor | None,
    kernels: Kernels | None,
) -> Tensor:
    """residual + x W + bias."""
    if kernels is not None:
        return kernels.product(
            x_TI.contiguous(), weight_OI, is_turned=True, bias_O=bias_O, residual_TO=_dense(residual_TO)
        )
    return _with_residual(_base_product(x_TI, weight_OI, bias_O, residual_TO), residual_TO)


def _dense(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.contiguous()


def _input_gradient(dy_TO: Tensor, weight_OI: Tensor, kernels: Kernels | None) -> Tensor:
    """The gradient of the input of x W."""
    slim_TO = dy_TO.to(weight_OI.dtype)
    return slim_TO @ weight_OI if kernels is None else kernels.product(slim_TO.contiguous(), weight_OI, is_turned=False)


def _base_product(x_TI: Tensor, weight_OI: Tensor, bias_O: Tensor | None, residual_TO: Tensor | None) -> Tensor:
    """x W + bias, and a residual of the same type, added within the product."""
    if residual_TO is None or residual_TO.dtype != x_TI.dtype:
        return functional.linear(x_TI, weight_OI, bias_O)
    y_TO = torch.addmm(residual_TO, x_TI, weight_OI.T)
    return y_TO if bias_O is None else y_TO.add_(bias_O)


class _AdaptedProduct(Function):
    """residual + x W + bias + sum of (alpha / r) B A x, with gradients of x, the residual, every A and every B."""

    @staticmethod
    def forward(
        ctx: Any,
        x_TI: Tensor,
        weight_OI: Tensor,
        bias_O: Tensor | None,
        residual_TO: Tensor | None,
        slots: tuple[Slot, ...],
        rank_dtype: torch.dtype,
        keep_TI: Tensor | None,
        keep_scale: float,
        kernels: Kernels | None,
        *matrices: Tensor,
    ) -> Tensor:
        ctx.kernels = kernels
        x_TI = x_TI if kernels is None else x_TI.contiguous()
        seen_TI = x_TI if keep_TI is None else Dropped(keep_TI, keep_scale).of(x_TI)
        if kernels is not None:
            y_TO, h_TR, *ranks = kernels.adapted(
                x_TI, seen_TI, weight_OI, slots, matrices, bias_O=bias_O, residual_TO=_dense(residual_TO)
            )
        else:
            ranks = [*joined_ranks(slots, matrices, len(weight_OI), rank_dtype)]
            h_TR = seen_TI.to(rank_dtype) @ ranks[0].T
            y_TO = _base_product(x_TI, weight_OI, bias_O, residual_TO)
            _add_product(y_TO, h_TR, ranks[1].T)
            y_TO = _with_residual(y_TO, residual_TO)
        ctx.slots, ctx.has_residual, ctx.keep_scale = slots, residual_TO is not None, keep_scale
        ctx.sizes = [b_Or.shape[1] for b_Or in matrices[1::2]]
        ctx.save_for_backward(x_TI, h_TR, weight_OI, keep_TI, *ranks)
        return y_TO

    @staticmethod
    def backward(ctx: Any, dy_TO: Tensor) -> Any:
        x_TI, h_TR, weight_OI, keep_TI, a_RI, b_OR = ctx.saved_tensors
        drop = None if keep_TI is None else Dropped(keep_TI, ctx.keep_scale)
        slim_TO = dy_TO.to(a_RI.dtype).contiguous()
        seen_TI = x_TI if drop is None else drop.of(x_TI)
        dx_TI = None
        if ctx.kernels is not None:
            ranks, has_input = (h_TR, a_RI, b_OR), ctx.needs_input_grad[0]
            dx_TI, dh_TR, grads = ctx.kernels.adapted_backward(
                slim_TO, seen_TI, weight_OI, ranks, ctx.slots, ctx.sizes, has_input=has_input and drop is None
            )
            if has_input and drop is not None:
                dx_TI = ctx.kernels.product(slim_TO, weight_OI, is_turned=False).add_(drop.of(dh_TR @ a_RI))
        else:
            dh_TR = slim_TO @ b_OR
            if ctx.needs_input_grad[0]:
                dx_TI = _adapted_gradient(dy_TO, weight_OI, dh_TR, a_RI, drop, x_TI.dtype)
            grads = _rank_gradients(slim_TO, dh_TR, seen_TI.to(a_RI.dtype), h_TR, ctx.slots, ctx.sizes)
        return dx_TI, None, None, dy_TO if ctx.has_residual else None, None, None, None, None, None, *grads


def _rank_gradients(
    dy_TO: Tensor, dh_TR: Tensor, seen_TI: Tensor, h_TR: Tensor, slots: tuple[Slot, ...], sizes: list[int]
) -> list[Tensor]:
    """Gradients of A and B of each adapter in turn."""
    da_RI = (dh_TR.T @ seen_TI).float()
    grads: list[Tensor] = []
    column = 0
    for slot, rank in zip(slots, sizes, strict=True):
        db_rO = (h_TR[:, column : column + rank].T @ dy_TO[:, slot.start : slot.end]).float()
        grads += [da_RI[column : column + rank], db_rO.mul_(slot.scale).T]
        column += rank
    return grads


def _adapted_gradient(
    dy_TO: Tensor, weight_OI: Tensor, dh_TR: Tensor, a_RI: Tensor, drop: Dropped | None, dtype: torch.dtype
) -> Tensor:
    """The gradient of the input of an adapted product."""
    dx_TI = _input_gradient(dy_TO.to(dtype), weight_OI, None)
    if drop is None:
        _add_product(dx_TI, dh_TR, a_RI)
        return dx_TI
    return dx_TI.add_(drop.of(dh_TR @ a_RI))


def _with_residual(y_TO: Tensor, residual_TO: Tensor | None) -> Tensor:
    """Add a residual of a finer type than the product's; the others are in it already."""
    return y_TO if residual_TO is None or residual_TO.dtype == y_TO.dtype else residual_TO + y_TO


def _add_product(y_TO: Tensor, left_TR: Tensor, right_RO: Tensor) -> None:
    """y += left right, in place; the sum is formed in the finer of the two types."""
    if left_TR.dtype == y_TO.dtype:
        y_TO.addmm_(left_TR, right_RO)
    else:
        y_TO.add_(left_TR @ right_RO)


def adapted_product(
    x_TI: Tensor,
    weight_OI: Tensor,
    bias_O: Tensor | None,
    residual_TO: Tensor | None,
    slots: tuple[Slot, ...],
    matrices: tuple[Tensor, ...],
    rank_dtype: torch.dtype,
    drop: Dropped | None = None,
    kernels: Kernels | None = None,
) -> Tensor:
    """A product with a frozen weight, adapters in `slots`; `matrices` are A and B of each slot in turn (fp32).

    `rank_dtype` is the type of the rank path: fp32, or that of `x_TI` (sums are formed in fp32 either way). `drop` is
    what the adapters do not see of their input.
    """
    keep_TI, scale = (None, 1.0) if drop is None else drop
    num_ranks = sum(len(matrix) for matrix in matrices[0::2])
    is_fit = rank_dtype == x_TI.dtype and weight_OI.is_contiguous()
    fused = multiplies(kernels, x_TI, *weight_OI.shape, num_ranks) if is_fit else None
    result: Tensor = _AdaptedProduct.apply(  # type: ignore[no-untyped-call]
        x_TI, weight_OI, bias_O, residual_TO, slots, rank_dtype, keep_TI, scale, fused, *matrices
    )
    return result


class _FrozenProduct(Function):
    """residual + x W + bias; only x and the residual get gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        x_TI: Tensor,
        weight_OI: Tensor,
        bias_O: Tensor | None,
        residual_TO: Tensor | None,
        kernels: Kernels | None,
    ) -> Tensor:
        ctx.save_for_backward(weight_OI)
        ctx.has_residual, ctx.kernels = residual_TO is not None, kernels
        return _summed_product(x_TI, weight_OI, bias_O, residual_TO, kernels)

    @staticmethod
    def backward(ctx: Any, dy_TO: Tensor) -> Any:
        (weight_OI,) = ctx.saved_tensors
        dx_TI = _input_gradient(dy_TO, weight_OI, ctx.kernels) if ctx.needs_input_grad[0] else None
        return dx_TI, None, None, dy_TO if ctx.has_residual else None, None


def frozen_product(
    x_TI: Tensor,
    weight_OI: Tensor,
    bias_O: Tensor | None,
    residual_TO: Tensor | None,
    kernels: Kernels | None = None,
) -> Tensor:
    """A product whose weight and bias are frozen."""
    fused = multiplies(kernels, x_TI, *weight_OI.shape)
    result: Tensor = _FrozenProduct.apply(x_TI, weight_OI, bias_O, residual_TO, fused)  # type: ignore[no-untyped-call]
    return result


class _TrainedProduct(Function):
    """residual + x W + bias with gradients of everything; W is merged, its gradient is handed out in pieces."""

    @staticmethod
    def forward(
        ctx: Any,
        x_TI: Tensor,
        weight_OI: Tensor,
        bias_O: Tensor | None,
        residual_TO: Tensor | None,
        kernels: Kernels | None,
        *parameters: Tensor | None,
    ) -> Tensor:
        num = len(parameters) // 2
        ctx.parts = [(p.shape[0], p.dtype) for p in parameters[:num] if p is not None]
        ctx.has_bias = [p is not None for p in parameters[num:]]
        ctx.has_residual, ctx.kernels = residual_TO is not None, kernels
        ctx.save_for_backward(x_TI, weight_OI)
        return _summed_product(x_TI, weight_OI, bias_O, residual_TO, kernels)

    @staticmethod
    def backward(ctx: Any, dy_TO: Tensor) -> Any:
        x_TI, weight_OI = ctx.saved_tensors
        dresidual_TO, dy_TO = dy_TO if ctx.has_residual else None, dy_TO.to(x_TI.dtype)
        dx_TI = _input_gradient(dy_TO, weight_OI, ctx.kernels) if ctx.needs_input_grad[0] else None
        dweights: list[Tensor] = []
        dbiases: list[Tensor | None] = []
        start = 0
        for (rows, dtype), has_bias in zip(ctx.parts, ctx.has_bias, strict=True):
            piece_TO = dy_TO[:, start : start + rows]
            dweights.append((piece_TO.T @ x_TI).to(dtype))
            dbiases.append(piece_TO.sum(0, dtype=torch.float32) if has_bias else None)
            start += rows
        return dx_TI, None, None, dresidual_TO, None, *dweights, *dbiases


def trained_product(
    x_TI: Tensor,
    weight_OI: Tensor,
    bias_O: Tensor | None,
    residual_TO: Tensor | None,
    weights: tuple[Tensor, ...],
    biases: tuple[Tensor | None, ...],
    kernels: Kernels | None = None,
) -> Tensor:
    """A product with the merged `weight_OI`, whose pieces `weights` and `biases` are trained themselves."""
    fused = multiplies(kernels, x_TI, *weight_OI.shape)
    result: Tensor = _TrainedProduct.apply(x_TI, weight_OI, bias_O, residual_TO, fused, *weights, *biases)  # type: ignore[no-untyped-call]
    return result


class _RmsNorm(Function):
    """x / rms(x) * weight, computed in fp32 and rounded once."""

    @staticmethod
    def forward(
        ctx: Any, x_TD: Tensor, weight_D: Tensor, epsilon: float, dtype: torch.dtype, kernels: Kernels | None
    ) -> Tensor:
        ctx.kernels = kernels
        if kernels is not None:
            x_TD = x_TD.contiguous()
            fused_TD, inverse_T = kernels.rms_norm(x_TD, weight_D, epsilon, dtype)
            ctx.save_for_backward(x_TD, inverse_T.view(*x_TD.shape[:-1], 1), weight_D)
            return fused_TD
        wide_TD = x_TD.float()
        square_T1 = torch.linalg.vector_norm(wide_TD, dim=-1, keepdim=True).square_()
        inverse_T1 = square_T1.div_(x_TD.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(x_TD, inverse_T1, weight_D)
        normed_TD: Tensor = (wide_TD * inverse_T1).mul_(weight_D).to(dtype)
        return normed_TD

    @staticmethod
    def backward(ctx: Any, dy_TD: Tensor) -> Any:
        x_TD, inverse_T1, weight_D = ctx.saved_tensors
        if ctx.kernels is not None and not ctx.needs_input_grad[1]:
            return ctx.kernels.rms_norm_backward(x_TD, weight_D, dy_TD.contiguous(), inverse_T1), None, None, None, None
        wide_TD = x_TD.float() * inverse_T1
        dwide_TD = dy_TD.float()
        dweight_D = None
        if ctx.needs_input_grad[1]:
            dweight_D = (dwide_TD * wide_TD).flatten(0, -2).sum(0).to(weight_D.dtype)
        if not ctx.needs_input_grad[0]:
            return None, dweight_D, None, None, None
        dwide_TD = dwide_TD * weight_D
        mean_T1 = torch.linalg.vecdot(dwide_TD, wide_TD).div_(x_TD.shape[-1]).unsqueeze_(-1)
        dx_TD = dwide_TD.addcmul_(wide_TD, mean_T1, value=-1).mul_(inverse_T1).to(x_TD.dtype)
        return dx_TD, dweight_D, None, None, None


def rms_norm(
    x_TD: Tensor, weight_D: Tensor, epsilon: float, dtype: torch.dtype, kernels: Kernels | None = None
) -> Tensor:
    """Root-mean-square norm over the last dimension, in `dtype`."""
    result: Tensor = _RmsNorm.apply(x_TD, weight_D, epsilon, dtype, usable(kernels, x_TD))  # type: ignore[no-untyped-call]
    return result


class _Gated(Function):
    """silu(gate) * up of a merged [gate, up] product; the gradient is written into one merged buffer."""

    @staticmethod
    def forward(ctx: Any, both_T2F: Tensor, kernels: Kernels | None) -> Tensor:
        ctx.kernels = kernels
        ctx.save_for_backward(both_T2F)
        if kernels is not None:
            return kernels.gated(both_T2F)
        gate_TF, up_TF = both_T2F.chunk(2, -1)
        result: Tensor = functional.silu(gate_TF).mul_(up_TF)
        return result

    @staticmethod
    def backward(ctx: Any, dy_TF: Tensor) -> Any:
        (both_T2F,) = ctx.saved_tensors
        if ctx.kernels is not None:
            return ctx.kernels.gated_backward(both_T2F, dy_TF.contiguous()), None
        gate_TF, up_TF = both_T2F.chunk(2, -1)
        dboth_T2F = torch.empty_like(both_T2F)
        dgate_TF, dup_TF = dboth_T2F.chunk(2, -1)
        torch.mul(dy_TF, functional.silu(gate_TF), out=dup_TF)
        torch.ops.aten.silu_backward.grad_input(dy_TF * up_TF, gate_TF, grad_input=dgate_TF)
        return dboth_T2F, None


def gated(both_T2F: Tensor, kernels: Kernels | None = None) -> Tensor:
    """SwiGLU of gate and up side by side: [T, 2F] -> [T, F]."""
    result: Tensor = _Gated.apply(both_T2F, usable(kernels, both_T2F))  # type: ignore[no-untyped-call]
    return result
