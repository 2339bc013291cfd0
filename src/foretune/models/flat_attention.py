"""Attention over flat tokens: a segment table instead of masks, a prefix shared by many sequences computed once.

Tokens lie in depth-first order of a token tree: a segment, then everything that continues it. A segment sees itself
causally and its ancestors whole; nothing else, so sequences cannot leak into each other. In bf16 on a GPU it is flash
attention (`flat_varlen.py`), everywhere else tiles of plain torch.
"""

# SPDX-License-Identifier: Apache-2.0
#
# Shapes: T tokens, H query heads, K key heads, G = H / K queries a key head, E width of a head, L queries of a tile,
# S keys that a tile sees.
from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from foretune.models.flat_segments import Heads, Segment, rotary_tables, rotate
from foretune.models.flat_varlen import FLASH, varlen_attention
from foretune.models.kernels import Kernels, TileTable, usable

__all__ = ["Heads", "Segment", "flat_attention", "rotary_tables"]

TILE = 128  # queries at once: scores of a tile stay in the processor's cache


class _Tile(NamedTuple):
    """Queries [start, end) of a segment; keys are the ancestors' tokens, then the segment's from `origin` on."""

    start: int
    end: int
    origin: int
    ancestors: tuple[Segment, ...]

    def key_ranges(self) -> list[tuple[int, int]]:
        """Flat token ranges of the keys, in order."""
        return [(a.start, a.end) for a in self.ancestors] + [(self.origin, self.end)]


def _tiles(segments: Sequence[Segment]) -> Iterator[_Tile]:
    path: list[Segment] = []
    for segment in segments:
        while path and path[-1].reach <= segment.start:
            path.pop()
        for start in range(segment.start, segment.end, TILE):
            yield _Tile(start, min(start + TILE, segment.end), segment.start, tuple(path))
        if segment.reach > segment.end:
            path.append(segment)


def _mask(num_queries: int, num_keys: int, group: int, like: Tensor) -> Tensor:
    """[L * G, S] of 0 and -inf: the last query sees every key, the one before all but the last."""
    row = torch.arange(num_queries, device=like.device).repeat_interleave(group)[:, None]
    column = torch.arange(num_keys, device=like.device)[None]
    hidden = column > row + (num_keys - num_queries)
    return torch.zeros(hidden.shape, device=like.device).masked_fill_(hidden, float("-inf"))


class _Views:
    """The tiles of one rotated [T, (H + 2K) E] product, as batches over key heads."""

    def __init__(self, qkv_TC: Tensor, heads: Heads) -> None:
        self.heads = heads
        self.group = heads.num // heads.num_keys
        self.all_TJE = qkv_TC.view(len(qkv_TC), heads.num + 2 * heads.num_keys, heads.width)
        self.masks: dict[tuple[int, int], Tensor] = {}

    def queries(self, tile: _Tile) -> Tensor:
        """[K, L * G, E]."""
        return self.grouped(self.all_TJE[tile.start : tile.end, : self.heads.num])

    def grouped(self, x_LHE: Tensor) -> Tensor:
        """[L, H, E] -> [K, L * G, E]."""
        num_keys, width = self.heads.num_keys, self.heads.width
        grouped = x_LHE.reshape(len(x_LHE), num_keys, self.group, width).transpose(0, 1)
        return grouped.reshape(num_keys, -1, width)

    def ungrouped(self, x_KQE: Tensor) -> Tensor:
        """[K, L * G, E] -> [L, H, E]."""
        num_keys, width = self.heads.num_keys, self.heads.width
        return x_KQE.view(num_keys, -1, self.group, width).transpose(0, 1).reshape(-1, self.heads.num, width)

    def keys(self, tile: _Tile, first: int) -> Tensor:
        """[K, S, E] of the heads from `first` on: keys or values of all that the tile sees."""
        heads = self.all_TJE[:, first : first + self.heads.num_keys]
        ranges = tile.key_ranges()
        parts = [heads[start:end] for start, end in ranges]
        return (parts[0] if len(parts) == 1 else torch.cat(parts)).transpose(0, 1)

    def probabilities(self, queries_KQE: Tensor, keys_KSE: Tensor, num_queries: int) -> Tensor:
        """Softmax of masked scores in fp32, [K, L * G, S]."""
        size = (num_queries, keys_KSE.shape[1])
        if size not in self.masks:
            self.masks[size] = _mask(*size, self.group, queries_KQE)
        mask = self.masks[size].expand(len(keys_KSE), -1, -1)
        scores = torch.baddbmm(
            mask, queries_KQE.float(), keys_KSE.float().transpose(1, 2), alpha=self.heads.width**-0.5
        )
        return torch.softmax(scores, -1)


@lru_cache(maxsize=16)
def _tile_table(segments: tuple[Segment, ...]) -> TileTable:
    """The tiles of all segments as the kernels read them."""
    tiles: list[tuple[int, ...]] = []
    ranges: list[tuple[int, int]] = []
    trees: list[tuple[int, int, int]] = []
    begin = 0
    for tile in _tiles(segments):
        if not tile.ancestors and tile.start == tile.origin:
            if tiles:
                trees.append((begin, len(tiles), tile.start - tiles[begin][0]))
            begin = len(tiles)
        tiles.append((tile.start, tile.end, tile.origin, len(ranges), len(tile.ancestors)))
        ranges += [(ancestor.start, ancestor.end) for ancestor in tile.ancestors]
    trees.append((begin, len(tiles), tiles[-1][1] - tiles[begin][0]))
    return TileTable(*(torch.tensor(rows, dtype=torch.int64) for rows in (tiles, ranges or [(0, 0)], trees)))


class _FusedAttention(Function):
    """The same with fused kernels: saves the product as it came, the result, and one number a query and head."""

    @staticmethod
    def forward(
        ctx: Any,
        qkv_TC: Tensor,
        cosine: Tensor,
        sine: Tensor,
        segments: tuple[Segment, ...],
        heads: Heads,
        kernels: Kernels,
    ) -> Tensor:
        qkv_TC, cosine, sine = qkv_TC.contiguous(), cosine.contiguous(), sine.contiguous()
        table = _tile_table(segments)
        out_TC, sums_TH = kernels.attention(qkv_TC, cosine, sine, table, heads)
        ctx.save_for_backward(qkv_TC, out_TC, sums_TH, cosine, sine)
        ctx.table, ctx.heads, ctx.kernels = table, heads, kernels
        return out_TC

    @staticmethod
    def backward(ctx: Any, dout_TC: Tensor) -> Any:
        qkv_TC, out_TC, sums_TH, cosine, sine = ctx.saved_tensors
        dqkv_TC = ctx.kernels.attention_backward(
            qkv_TC, out_TC, dout_TC.contiguous(), sums_TH, cosine, sine, ctx.table, ctx.heads
        )
        return dqkv_TC, None, None, None, None, None


class _FlatAttention(Function):
    """Rotary embedding and attention; saves the rotated product alone and computes the probabilities again."""

    @staticmethod
    def forward(
        ctx: Any, qkv_TC: Tensor, cosine: Tensor, sine: Tensor, segments: Sequence[Segment], heads: Heads
    ) -> Tensor:
        rotated_TC = qkv_TC.clone()
        views = _Views(rotated_TC, heads)
        rotate(views.all_TJE[:, : heads.num + heads.num_keys], cosine, sine)
        out_THE = qkv_TC.new_empty(len(qkv_TC), heads.num, heads.width)
        for tile in _tiles(segments):
            keys_KSE, values_KSE = views.keys(tile, heads.num), views.keys(tile, heads.num + heads.num_keys)
            share = views.probabilities(views.queries(tile), keys_KSE, tile.end - tile.start)
            out_THE[tile.start : tile.end] = views.ungrouped(torch.bmm(share, values_KSE.float()))
        ctx.save_for_backward(rotated_TC, cosine, sine)
        ctx.segments, ctx.heads = segments, heads
        return out_THE.view(len(qkv_TC), -1)

    @staticmethod
    def backward(ctx: Any, dout_TC: Tensor) -> Any:
        rotated_TC, cosine, sine = ctx.saved_tensors
        heads: Heads = ctx.heads
        views = _Views(rotated_TC, heads)
        dout_THE = dout_TC.view(len(dout_TC), heads.num, heads.width)
        grads_TJE = torch.zeros_like(views.all_TJE, dtype=torch.float32)
        for tile in _tiles(ctx.segments):
            _tile_gradients(views, tile, dout_THE, grads_TJE)
        rotate(grads_TJE[:, : heads.num + heads.num_keys], cosine, -sine)
        return grads_TJE.view(rotated_TC.shape).to(rotated_TC.dtype), None, None, None, None


def _tile_gradients(views: _Views, tile: _Tile, dout_THE: Tensor, grads_TJE: Tensor) -> None:
    """Add what one tile gives to the gradients of queries, keys and values."""
    heads, scale = views.heads, views.heads.width**-0.5
    queries_KQE = views.queries(tile)
    keys_KSE, values_KSE = views.keys(tile, heads.num), views.keys(tile, heads.num + heads.num_keys)
    share = views.probabilities(queries_KQE, keys_KSE, tile.end - tile.start)
    dout_KQE = views.grouped(dout_THE[tile.start : tile.end]).float()
    dshare = torch.bmm(dout_KQE, values_KSE.float().transpose(1, 2))
    dscores = torch._softmax_backward_data(dshare, share, -1, torch.float32)
    dqueries_KQE = torch.bmm(dscores, keys_KSE.float())
    grads_TJE[tile.start : tile.end, : heads.num] = views.ungrouped(dqueries_KQE) * scale
    dkeys_SKE = torch.bmm(dscores.transpose(1, 2), queries_KQE.float()).transpose(0, 1)
    dvalues_SKE = torch.bmm(share.transpose(1, 2), dout_KQE).transpose(0, 1)
    done = 0
    for start, end in tile.key_ranges():
        place = slice(done, done + end - start)
        grads_TJE[start:end, heads.num : heads.num + heads.num_keys].add_(dkeys_SKE[place], alpha=scale)
        grads_TJE[start:end, heads.num + heads.num_keys :].add_(dvalues_SKE[place])
        done += end - start


def flat_attention(
    qkv_TC: Tensor,
    cosine: Tensor,
    sine: Tensor,
    segments: Sequence[Segment],
    heads: Heads,
    kernels: Kernels | None = None,
) -> Tensor:
    """Rotate and attend: queries, keys and values side by side [T, (H + 2K) E] -> [T, H E]."""
    if qkv_TC.is_cuda and qkv_TC.dtype in (torch.bfloat16, torch.float16):
        return varlen_attention(qkv_TC, cosine, sine, segments, heads, FLASH)
    if usable(kernels, qkv_TC):
        fused: Tensor = _FusedAttention.apply(qkv_TC, cosine, sine, tuple(segments), heads, kernels)  # type: ignore[no-untyped-call]
        return fused
    result: Tensor = _FlatAttention.apply(qkv_TC, cosine, sine, segments, heads)  # type: ignore[no-untyped-call]
    return result
