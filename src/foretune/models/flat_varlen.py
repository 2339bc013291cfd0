"""Flash attention over a token tree: each segment by itself, then every shared one seen by all that continues it.

The partial results are merged by their log-sums of exponentials. The backward kernel takes the merged output and the
merged log-sum, so that each part computes its share of the whole softmax's gradient: exact, no part is differentiated
by itself. FlashAttention-2: Dao 2023, arXiv 2307.08691; shared prefixes in parts: Juravsky et al. 2024, arXiv
2402.05099.
"""

# SPDX-License-Identifier: Apache-2.0
#
# Shapes: T tokens, H query heads, K key heads, E width of a head; of a part: Q queries, S keys, B sequences.
from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function

from foretune.models.flat_segments import Heads, Segment, on_device, rotate

__all__ = ["FLASH", "PLAIN", "Cross", "Kernel", "Ranges", "TreeTable", "tree_table", "varlen_attention", "why_no_flash"]

FLASH_CAPABILITY = (8, 0)  # Ampere


class Ranges(NamedTuple):
    """B sequences of queries and keys laid end to end: where each begins ([B + 1], int32), and the longest."""

    queries: Tensor
    keys: Tensor
    max_queries: int
    max_keys: int


class Kernel(NamedTuple):
    """Attention over sequences laid end to end, forward and backward, with the log-sums in hand.

    `forward(q_QHE, k_SKE, v_SKE, ranges, is_causal, scale)` gives out_QHE and lse_HQ (fp32).
    `backward(dout_QHE, q, k, v, out, lse, ranges, is_causal, scale)` gives dq, dk, dv; `out` and `lse` may be those of
    a softmax over more keys than these.
    """

    forward: Callable[[Tensor, Tensor, Tensor, Ranges, bool, float], tuple[Tensor, Tensor]]
    backward: Callable[
        [Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Ranges, bool, float], tuple[Tensor, Tensor, Tensor]
    ]


class Cross(NamedTuple):
    """Shared segments of one depth as keys, and as queries all tokens that continue them."""

    queries: slice | Tensor
    keys: slice | Tensor
    ranges: Ranges


class TreeTable(NamedTuple):
    """What the kernels need to know of the segments: each by itself, and the crosses, one for a depth of the tree."""

    own: Ranges
    crosses: tuple[Cross, ...]


@lru_cache(maxsize=8)
def tree_table(segments: tuple[Segment, ...], device: torch.device) -> TreeTable:
    """The table of a micro-batch, made once and used by all layers. Segments lie end to end from token 0 on."""
    starts = [segment.start for segment in segments] + [segments[-1].end]
    bounds = on_device(np.asarray(starts, dtype=np.int32), device)
    longest = max(segment.end - segment.start for segment in segments)
    depths: list[list[Segment]] = []
    path: list[Segment] = []
    for segment in segments:
        while path and path[-1].reach <= segment.start:
            path.pop()
        if segment.reach > segment.end:
            depths += [[]] if len(path) == len(depths) else []
            depths[len(path)].append(segment)
            path.append(segment)
    own = Ranges(bounds, bounds, longest, longest)
    return TreeTable(own, tuple(_cross(shared, device) for shared in depths))


def _cross(shared: Sequence[Segment], device: torch.device) -> Cross:
    queries = [(one.end, one.reach) for one in shared]
    keys = [(one.start, one.end) for one in shared]
    ranges = Ranges(_bounds(queries, device), _bounds(keys, device), _longest(queries), _longest(keys))
    return Cross(_rows(queries, device), _rows(keys, device), ranges)


def _bounds(parts: Sequence[tuple[int, int]], device: torch.device) -> Tensor:
    lengths = [end - start for start, end in parts]
    return on_device(np.cumsum([0, *lengths]).astype(np.int32), device)


def _longest(parts: Sequence[tuple[int, int]]) -> int:
    return max(end - start for start, end in parts)


def _rows(parts: Sequence[tuple[int, int]], device: torch.device) -> slice | Tensor:
    """The rows of ranges: a slice, which copies nothing, where there is one range."""
    if len(parts) == 1:
        return slice(*parts[0])
    return on_device(np.concatenate([np.arange(start, end) for start, end in parts]), device)


def _flash_forward(
    q_QHE: Tensor, k_SKE: Tensor, v_SKE: Tensor, ranges: Ranges, is_causal: bool, scale: float
) -> tuple[Tensor, Tensor]:
    """torch's own flash attention over sequences of different lengths; what `torch.nn.attention.varlen` calls."""
    out_QHE, lse_HQ, *_ = torch.ops.aten._flash_attention_forward(
        q_QHE, k_SKE, v_SKE, *ranges, 0.0, is_causal, False, scale=scale
    )
    return out_QHE, lse_HQ


def _flash_backward(
    dout_QHE: Tensor,
    q_QHE: Tensor,
    k_SKE: Tensor,
    v_SKE: Tensor,
    out_QHE: Tensor,
    lse_HQ: Tensor,
    ranges: Ranges,
    is_causal: bool,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    state, unused = q_QHE.new_zeros(2, dtype=torch.uint64), q_QHE.new_empty(0)  # of a dropout that is off
    dq, dk, dv = torch.ops.aten._flash_attention_backward(
        dout_QHE, q_QHE, k_SKE, v_SKE, out_QHE, lse_HQ, *ranges, 0.0, is_causal, state, unused, scale=scale
    )
    return dq, dk, dv


FLASH = Kernel(_flash_forward, _flash_backward)


class _Sequence(NamedTuple):
    """Rows of the queries and of the keys of one sequence."""

    queries: slice
    keys: slice


def _sequences(ranges: Ranges) -> list[_Sequence]:
    queries, keys = ranges.queries.tolist(), ranges.keys.tolist()
    bounds = zip(queries, queries[1:], keys, keys[1:], strict=False)
    return [_Sequence(slice(begin, end), slice(first, last)) for begin, end, first, last in bounds]


def _scores(q_QHE: Tensor, k_SKE: Tensor, is_causal: bool, scale: float) -> Tensor:
    """[H, Q, S]; the last query sees all keys, the one before all but the last."""
    k_SHE = k_SKE.repeat_interleave(q_QHE.shape[1] // k_SKE.shape[1], 1)
    scores_HQS = torch.einsum("qhe,she->hqs", q_QHE, k_SHE) * scale
    if not is_causal:
        return scores_HQS
    hidden_QS = torch.ones(scores_HQS.shape[1:], dtype=torch.bool, device=scores_HQS.device).triu_(
        1 + scores_HQS.shape[2] - scores_HQS.shape[1]
    )
    return scores_HQS.masked_fill(hidden_QS, float("-inf"))


def _plain_forward(
    q_QHE: Tensor, k_SKE: Tensor, v_SKE: Tensor, ranges: Ranges, is_causal: bool, scale: float
) -> tuple[Tensor, Tensor]:
    """The same in plain torch, sequence by sequence: to hold the kernel and its merging to."""
    out_QHE = torch.empty_like(q_QHE)
    lse_HQ = q_QHE.new_empty(q_QHE.shape[1], len(q_QHE))
    for queries, keys in _sequences(ranges):
        scores_HQS = _scores(q_QHE[queries], k_SKE[keys], is_causal, scale)
        v_SHE = v_SKE[keys].repeat_interleave(q_QHE.shape[1] // v_SKE.shape[1], 1)
        lse_HQ[:, queries] = scores_HQS.logsumexp(-1)
        out_QHE[queries] = torch.einsum("hqs,she->qhe", scores_HQS.softmax(-1), v_SHE)
    return out_QHE, lse_HQ


def _plain_backward(
    dout_QHE: Tensor,
    q_QHE: Tensor,
    k_SKE: Tensor,
    v_SKE: Tensor,
    out_QHE: Tensor,
    lse_HQ: Tensor,
    ranges: Ranges,
    is_causal: bool,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    dq_QHE, dk_SKE, dv_SKE = (torch.zeros_like(one) for one in (q_QHE, k_SKE, v_SKE))
    group = q_QHE.shape[1] // k_SKE.shape[1]
    inner_HQ = (dout_QHE * out_QHE).sum(-1).T
    for queries, keys in _sequences(ranges):
        scores_HQS = _scores(q_QHE[queries], k_SKE[keys], is_causal, scale)
        share_HQS = (scores_HQS - lse_HQ[:, queries, None]).exp()
        v_SHE, k_SHE = (one[keys].repeat_interleave(group, 1) for one in (v_SKE, k_SKE))
        dshare_HQS = torch.einsum("qhe,she->hqs", dout_QHE[queries], v_SHE)
        dscores_HQS = share_HQS * (dshare_HQS - inner_HQ[:, queries, None]) * scale
        dq_QHE[queries] = torch.einsum("hqs,she->qhe", dscores_HQS, k_SHE)
        dk_SHE = torch.einsum("hqs,qhe->she", dscores_HQS, q_QHE[queries])
        dv_SHE = torch.einsum("hqs,qhe->she", share_HQS, dout_QHE[queries])
        dk_SKE[keys] = dk_SHE.unflatten(1, (-1, group)).sum(2)
        dv_SKE[keys] = dv_SHE.unflatten(1, (-1, group)).sum(2)
    return dq_QHE, dk_SKE, dv_SKE


PLAIN = Kernel(_plain_forward, _plain_backward)


def _merge(out_THE: Tensor, lse_HT: Tensor, part_QHE: Tensor, lse_HQ: Tensor, rows: slice | Tensor) -> None:
    """Put a partial result over further keys into the rows it is of, in place."""
    before_HQ = lse_HT[:, rows]
    whole_HQ = torch.logaddexp(before_HQ, lse_HQ)
    old_QH1, new_QH1 = ((one - whole_HQ).exp().T[..., None] for one in (before_HQ, lse_HQ))
    out_THE[rows] = (out_THE[rows] * old_QH1 + part_QHE * new_QH1).to(out_THE.dtype)
    lse_HT[:, rows] = whole_HQ


def _add_rows(whole: Tensor, rows: slice | Tensor, part: Tensor) -> None:
    if isinstance(rows, slice):
        whole[rows] += part
    else:
        whole.index_add_(0, rows, part.to(whole.dtype))


class _Split(NamedTuple):
    """Views of queries, keys and values of one [T, H + 2 K, E]."""

    q_THE: Tensor
    k_TKE: Tensor
    v_TKE: Tensor


def _split(all_TJE: Tensor, heads: Heads) -> _Split:
    return _Split(*all_TJE.split([heads.num, heads.num_keys, heads.num_keys], 1))


class _VarlenAttention(Function):
    """Rotary embedding and attention over a token tree; saves the rotated product, the output and the log-sums."""

    @staticmethod
    def forward(
        ctx: Any, qkv_TC: Tensor, cosine: Tensor, sine: Tensor, table: TreeTable, heads: Heads, kernel: Kernel
    ) -> Tensor:
        rotated_TJE = qkv_TC.clone().view(len(qkv_TC), -1, heads.width)
        rotate(rotated_TJE[:, : heads.num + heads.num_keys], cosine, sine)
        q_THE, k_TKE, v_TKE = _split(rotated_TJE, heads)
        scale = heads.width**-0.5
        out_THE, lse_HT = kernel.forward(q_THE, k_TKE, v_TKE, table.own, True, scale)
        for cross in table.crosses:
            keys, values = k_TKE[cross.keys], v_TKE[cross.keys]
            part = kernel.forward(q_THE[cross.queries], keys, values, cross.ranges, False, scale)
            _merge(out_THE, lse_HT, *part, cross.queries)
        ctx.save_for_backward(rotated_TJE, cosine, sine, out_THE, lse_HT)
        ctx.table, ctx.heads, ctx.kernel = table, heads, kernel
        return out_THE.view(len(qkv_TC), -1)

    @staticmethod
    def backward(ctx: Any, dout_TC: Tensor) -> Any:
        rotated_TJE, cosine, sine, out_THE, lse_HT = ctx.saved_tensors
        heads: Heads = ctx.heads
        dout_THE = dout_TC.contiguous().view_as(out_THE)
        split, scale = _split(rotated_TJE, heads), heads.width**-0.5
        own = ctx.kernel.backward(dout_THE, *split, out_THE, lse_HT, ctx.table.own, True, scale)
        grads_TJE = torch.cat(own, 1)
        if ctx.table.crosses and grads_TJE.dtype in (torch.bfloat16, torch.float16):
            grads_TJE = grads_TJE.float()  # a shared token's gradient is a sum over all that continue it
        for cross in ctx.table.crosses:
            _add_cross(ctx, cross, dout_THE, split, out_THE, lse_HT, _split(grads_TJE, heads))
        rotate(grads_TJE[:, : heads.num + heads.num_keys], cosine, -sine)
        return grads_TJE.view(len(grads_TJE), -1).to(rotated_TJE.dtype), None, None, None, None, None


def _add_cross(
    ctx: Any, cross: Cross, dout_THE: Tensor, split: _Split, out_THE: Tensor, lse_HT: Tensor, grads: _Split
) -> None:
    """Add the gradients of one depth: of the whole softmax, by the merged output and log-sums."""
    rows, keys = cross.queries, cross.keys
    found = ctx.kernel.backward(
        dout_THE[rows],
        split.q_THE[rows],
        split.k_TKE[keys],
        split.v_TKE[keys],
        out_THE[rows],
        lse_HT[:, rows].contiguous(),
        cross.ranges,
        False,
        ctx.heads.width**-0.5,
    )
    for whole, part, place in zip(grads, found, (rows, keys, keys), strict=True):
        _add_rows(whole, place, part)


def varlen_attention(
    qkv_TC: Tensor, cosine: Tensor, sine: Tensor, segments: Sequence[Segment], heads: Heads, kernel: Kernel
) -> Tensor:
    """Rotate and attend by a kernel: queries, keys and values side by side [T, (H + 2K) E] -> [T, H E]."""
    table = tree_table(tuple(segments), qkv_TC.device)
    result: Tensor = _VarlenAttention.apply(qkv_TC, cosine, sine, table, heads, kernel)  # type: ignore[no-untyped-call]
    return result


def why_no_flash(device: torch.device, precision: str) -> str:
    """Why flash attention cannot run on a GPU in this precision; empty where it can, and on a CPU."""
    if device.type != "cuda":
        return ""
    if precision != "bf16":
        return f"flash attention computes in bf16, and this run in {precision}"
    capability = torch.cuda.get_device_capability(device)
    if capability < FLASH_CAPABILITY:
        return f"flash attention needs compute capability 8.0, and this GPU has {capability[0]}.{capability[1]}"
    has_kernel = torch.backends.cuda.is_flash_attention_available()
    return "" if has_kernel else "this build of torch has no flash attention"
