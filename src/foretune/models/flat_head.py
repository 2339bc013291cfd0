"""Language-model head and cross-entropy in one: logits exist a few rows at a time, the gradient is made on the way."""

# SPDX-License-Identifier: Apache-2.0
#
# Shapes: N predictions, D width, V vocabulary, M rows of a chunk.
from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

__all__ = ["HeadLoss", "head_loss"]


class HeadLoss(NamedTuple):
    """Weighted sum of cross-entropies in nats, with gradient, and for each prediction whether it is the likeliest."""

    loss: Tensor
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
    ) -> Any:
        losses_N = torch.empty(len(hidden_ND), device=hidden_ND.device)
        right_N = torch.empty(len(hidden_ND), dtype=torch.bool, device=hidden_ND.device)
        dhidden_ND = torch.empty_like(hidden_ND) if ctx.needs_input_grad[0] else None
        dmaster_VD = torch.zeros_like(master_VD) if ctx.needs_input_grad[2] else None
        for start in range(0, len(hidden_ND), rows):
            part = slice(start, start + rows)
            hidden_MD, targets_M1 = hidden_ND[part], targets_N[part, None]
            logits_MV = hidden_MD @ weight_VD.T
            share_MV = torch.softmax(logits_MV, -1, dtype=torch.float32)
            top_M = logits_MV.amax(-1).float()
            chosen_M = logits_MV.gather(1, targets_M1)[:, 0].float()
            # log of the sum of exponentials by way of the likeliest token, whose share cannot underflow
            losses_N[part] = top_M - share_MV.amax(-1).log() - chosen_M
            right_N[part] = chosen_M >= top_M
            if dhidden_ND is None and dmaster_VD is None:
                continue
            dlogits_MV = _logit_gradient(share_MV, targets_M1, hidden_ND.dtype)
            weights_M1 = weights_N[part, None]
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
        )


def _logit_gradient(share_MV: Tensor, targets_M1: Tensor, dtype: torch.dtype) -> Tensor:
    """Share minus one at the target, in place, in the type of the product that follows."""
    share_MV.scatter_add_(1, targets_M1, share_MV.new_full(targets_M1.shape, -1.0))
    return share_MV.to(dtype)


def head_loss(
    hidden_ND: Tensor, weight_VD: Tensor, master_VD: Tensor, targets_N: Tensor, weights_N: Tensor, *, rows: int
) -> HeadLoss:
    """Cross-entropy of `targets_N` under `hidden_ND @ weight_VD.T`, `rows` predictions at a time (0: all at once).

    `master_VD` is the trained parameter that `weight_VD` is a cast of; it gets a gradient where it wants one.
    """
    loss, right_N = _HeadLoss.apply(  # type: ignore[no-untyped-call]
        hidden_ND, weight_VD, master_VD, targets_N, weights_N, rows or max(1, len(hidden_ND))
    )
    return HeadLoss(loss, right_N)
