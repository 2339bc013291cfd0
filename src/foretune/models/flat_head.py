"""Language-model head and cross-entropy in one: logits exist a few rows at a time, the gradient is made on the way."""

# SPDX-License-Identifier: Apache-2.0
#
# Shapes: N predictions, D width, V vocabulary, M rows of a chunk.
from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from foretune.models.kernels import Kernels, usable

__all__ = ["HeadLoss", "TokenLosses", "head_loss", "token_losses"]


class HeadLoss(NamedTuple):
    """Weighted sum of cross-entropies in nats, with gradient, and for each prediction whether it is the likeliest."""

    loss: Tensor
    right_N: Tensor


class TokenLosses(NamedTuple):
    """The cross-entropy of each prediction in nats, with gradient, and whether it is the likeliest."""

    losses_N: Tensor
    right_N: Tensor


class _HeadLoss(Function):
    """Sum of weighted cross-entropies; the gradient of hidden states (and of a trained head) is made in the forward."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        master_VD: Tensor,
        targets_N: Tensor,
        weights_N: Tensor,
        rows: int,
        kernels: Kernels | None,
    ) -> Any:
        losses_N = torch.empty(len(hidden_ND), device=hidden_ND.device)
        right_N = torch.empty(len(hidden_ND), dtype=torch.bool, device=hidden_ND.device)
        dhidden_ND = torch.empty_like(hidden_ND) if ctx.needs_input_grad[0] else None
        dmaster_VD = torch.zeros_like(master_VD) if ctx.needs_input_grad[2] else None
        has_gradient = dhidden_ND is not None or dmaster_VD is not None
        for start in range(0, len(hidden_ND), rows):
            part = slice(start, start + rows)
            hidden_MD, weights_M1 = hidden_ND[part], weights_N[part, None]
            losses_N[part], right_N[part], dlogits_MV = _chunk(
                hidden_MD, weight_VD, targets_N[part], kernels, has_gradient
            )
            if dhidden_ND is not None:
                dhidden_ND[part] = (dlogits_MV @ weight_VD) * weights_M1
            if dmaster_VD is not None:
                dmaster_VD += dlogits_MV.T @ (hidden_MD * weights_M1).to(dlogits_MV.dtype)
        ctx.save_for_backward(dhidden_ND, dmaster_VD)
        ctx.mark_non_differentiable(right_N)
        return (losses_N * weights_N).sum(), right_N

    @staticmethod
    def backward(ctx: Any, dloss: Tensor, _right: Any) -> Any:
        dhidden_ND, dmaster_VD = ctx.saved_tensors
        return (
            None if dhidden_ND is None else dhidden_ND * dloss,
            None,
            None if dmaster_VD is None else dmaster_VD * dloss,
            None,
            None,
            None,
            None,
        )


def _chunk(
    hidden_MD: Tensor, weight_VD: Tensor, targets_M: Tensor, kernels: Kernels | None, has_gradient: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Losses, whether the target is likeliest, and the losses' gradient of the logits [M, V] (if it is wanted)."""
    logits_MV = hidden_MD @ weight_VD.T
    if kernels is not None:
        return *kernels.cross_entropy(logits_MV, targets_M, has_gradient=has_gradient), logits_MV
    share_MV, targets_M1 = torch.softmax(logits_MV, -1, dtype=torch.float32), targets_M[:, None]
    top_M = logits_MV.amax(-1).float()
    chosen_M = logits_MV.gather(1, targets_M1)[:, 0].float()
    # log of the sum of exponentials by way of the likeliest token, whose share cannot underflow
    losses_M = top_M - share_MV.amax(-1).log() - chosen_M
    if has_gradient:
        share_MV.scatter_add_(1, targets_M1, share_MV.new_full(targets_M1.shape, -1.0))
        share_MV = share_MV.to(logits_MV.dtype)
    return losses_M, chosen_M >= top_M, share_MV


class _TokenLosses(Function):
    """Cross-entropies one by one: what each is worth is known only after all of them (preference methods).

    A loss depends on its own hidden state alone, so the gradient of that is made in the forward and scaled in the
    backward; a trained head's is made in the backward, from logits computed again.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        master_VD: Tensor,
        targets_N: Tensor,
        rows: int,
        kernels: Kernels | None,
    ) -> Any:
        losses_N = torch.empty(len(hidden_ND), device=hidden_ND.device)
        right_N = torch.empty(len(hidden_ND), dtype=torch.bool, device=hidden_ND.device)
        dhidden_ND = torch.empty_like(hidden_ND) if ctx.needs_input_grad[0] else None
        for start in range(0, len(hidden_ND), rows):
            part = slice(start, start + rows)
            losses_N[part], right_N[part], dlogits_MV = _chunk(
                hidden_ND[part], weight_VD, targets_N[part], kernels, dhidden_ND is not None
            )
            if dhidden_ND is not None:
                dhidden_ND[part] = dlogits_MV @ weight_VD
        is_trained = ctx.needs_input_grad[2]
        ctx.save_for_backward(dhidden_ND, *((hidden_ND, weight_VD, targets_N) if is_trained else (None, None, None)))
        ctx.rows, ctx.dtype, ctx.kernels = rows, master_VD.dtype, kernels
        ctx.mark_non_differentiable(right_N)
        return losses_N, right_N

    @staticmethod
    def backward(ctx: Any, dlosses_N: Tensor, _right: Any) -> Any:
        dhidden_ND, hidden_ND, weight_VD, targets_N = ctx.saved_tensors
        dmaster_VD = None
        if hidden_ND is not None:
            dmaster_VD = torch.zeros_like(weight_VD, dtype=ctx.dtype)
            for start in range(0, len(hidden_ND), ctx.rows):
                part = slice(start, start + ctx.rows)
                _, _, dlogits_MV = _chunk(hidden_ND[part], weight_VD, targets_N[part], ctx.kernels, True)
                dmaster_VD += dlogits_MV.T @ (hidden_ND[part] * dlosses_N[part, None]).to(dlogits_MV.dtype)
        scaled_ND = None if dhidden_ND is None else (dhidden_ND * dlosses_N[:, None]).to(dhidden_ND.dtype)
        return scaled_ND, None, dmaster_VD, None, None, None


def head_loss(
    hidden_ND: Tensor,
    weight_VD: Tensor,
    master_VD: Tensor,
    targets_N: Tensor,
    weights_N: Tensor,
    *,
    rows: int,
    kernels: Kernels | None = None,
) -> HeadLoss:
    """Cross-entropy of `targets_N` under `hidden_ND @ weight_VD.T`, `rows` predictions at a time (0: all at once).

    `master_VD` is the trained parameter that `weight_VD` is a cast of; it gets a gradient where it wants one.
    """
    loss, right_N = _HeadLoss.apply(  # type: ignore[no-untyped-call]
        hidden_ND,
        weight_VD,
        _wanted(master_VD),
        targets_N,
        weights_N,
        rows or max(1, len(hidden_ND)),
        usable(kernels, hidden_ND),
    )
    return HeadLoss(loss, right_N)


def token_losses(
    hidden_ND: Tensor,
    weight_VD: Tensor,
    master_VD: Tensor,
    targets_N: Tensor,
    *,
    rows: int,
    kernels: Kernels | None = None,
) -> TokenLosses:
    """`head_loss` before the sum: the cross-entropy of each target in nats, with gradient."""
    losses_N, right_N = _TokenLosses.apply(  # type: ignore[no-untyped-call]
        hidden_ND, weight_VD, _wanted(master_VD), targets_N, rows or max(1, len(hidden_ND)), usable(kernels, hidden_ND)
    )
    return TokenLosses(losses_N, right_N)


def _wanted(master_VD: Tensor) -> Tensor:
    """The parameter, cut off where no gradient is wanted: a function's own forward cannot tell."""
    return master_VD if torch.is_grad_enabled() else master_VD.detach()
