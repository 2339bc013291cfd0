"""Static key-value memory of rows on their way, with one copy of the prefix that they share, and attention over it."""

# SPDX-License-Identifier: Apache-2.0
#
# Shapes: T tokens, N rows, H query heads, K key heads, G = H / K, E width of a head, P tokens of the shared prefix,
# S tokens of a slot, M = tokens x G queries of a key head, Y layers, J = H + 2 K heads of a product.
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from foretune.models.flat_attention import Heads

__all__ = ["Slots", "Span", "no_prefix"]

TILE = 128  # queries at once while prompts are read


class Span(NamedTuple):
    """Flat tokens [start, end) of one slot, that has `before` tokens already."""

    slot: int
    start: int
    end: int
    before: int


def no_prefix(num_layers: int, heads: Heads, like: Tensor) -> Tensor:
    """A shared prefix of no tokens: [Y, 2, K, 0, E]."""
    return like.new_empty(num_layers, 2, heads.num_keys, 0, heads.width, dtype=torch.float32)


class Slots:
    """Keys and values of every layer: `shared` once for all rows, then each row's own tokens from the left."""

    def __init__(self, heads: Heads, shared_Y2KPE: Tensor, num_slots: int, num_tokens: int) -> None:
        num_layers, _, num_keys, self.num_shared, width = shared_Y2KPE.shape
        self.heads, self.shared = heads, shared_Y2KPE
        self.own_Y2NKSE = shared_Y2KPE.new_zeros(num_layers, 2, num_slots, num_keys, num_tokens, width)
        self.lengths_N = torch.zeros(num_slots, dtype=torch.long, device=shared_Y2KPE.device)

    def move(self, source: int, target: int) -> None:
        """Put the row of one slot into another."""
        if source != target:
            used = int(self.lengths_N[source])
            self.own_Y2NKSE[:, :, target, :, :used] = self.own_Y2NKSE[:, :, source, :, :used]
            self.lengths_N[target] = used

    def with_shared(self, slot: int) -> Tensor:
        """The shared prefix with a slot's tokens behind it, [Y, 2, K, P + length, E]."""
        used = int(self.lengths_N[slot])
        return torch.cat([self.shared, self.own_Y2NKSE[:, :, slot, :, :used]], 3)

    def _turned(self, qkv_TC: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        """Heads apart, [T, J, E]; those of queries and keys rotated, in place."""
        num, num_keys, width = self.heads
        all_TJE = qkv_TC.view(len(qkv_TC), num + 2 * num_keys, width)
        turned = all_TJE[:, : num + num_keys]
        swapped = turned.roll(width // 2, -1)
        swapped[..., : width // 2].neg_()
        turned.mul_(torch.cat([cosine, cosine], -1)).addcmul_(swapped, torch.cat([sine, sine], -1))
        return all_TJE

    def read(self, layer: int, qkv_TC: Tensor, cosine: Tensor, sine: Tensor, spans: Sequence[Span]) -> Tensor:
        """Attention of prompts: each span is kept, sees itself causally and all before it; [T, C] -> [T, H E]."""
        num, num_keys, width = self.heads
        group = num // num_keys
        all_TJE = self._turned(qkv_TC, cosine, sine)
        out_TKGE = qkv_TC.new_empty(len(qkv_TC), num_keys, group, width)
        keys_KPE, values_KPE = self.shared[layer]
        for slot, start, end, before in spans:
            used = before + end - start
            own_2KSE = self.own_Y2NKSE[layer, :, slot, :, :used]
            kept = all_TJE[start:end, num:].view(end - start, 2, num_keys, width)
            own_2KSE[:, :, before:] = kept.permute(1, 2, 0, 3)
            keys_KSE = torch.cat([keys_KPE, own_2KSE[0]], 1)
            values_KSE = torch.cat([values_KPE, own_2KSE[1]], 1)
            queries_LKGE = all_TJE[start:end, :num].view(end - start, num_keys, group, width)
            for first in range(0, end - start, TILE):
                tile_LKGE = queries_LKGE[first : first + TILE]
                seen = self.num_shared + before + first + len(tile_LKGE)
                mixed = _causal(tile_LKGE, keys_KSE[:, :seen], values_KSE[:, :seen])
                out_TKGE[start + first : start + first + len(tile_LKGE)] = mixed
        return out_TKGE.view(len(qkv_TC), -1)

    def step(self, layer: int, qkv_NC: Tensor, cosine: Tensor, sine: Tensor, mask_N1S: Tensor) -> Tensor:
        """Attention of one new token a row, for the first N slots; `mask_N1S` hides what a slot does not hold."""
        num, num_keys, width = self.heads
        num_rows, num_seen = len(qkv_NC), mask_N1S.shape[-1]
        all_NJE = self._turned(qkv_NC, cosine, sine)
        own_2NKSE = self.own_Y2NKSE[layer, :, :num_rows]
        rows_N = torch.arange(num_rows, device=qkv_NC.device)
        new_N2KE = all_NJE[:, num:].view(num_rows, 2, num_keys, width)
        own_2NKSE[:, rows_N, :, self.lengths_N[:num_rows]] = new_N2KE
        queries_NKGE = all_NJE[:, :num].reshape(num_rows, num_keys, -1, width) * width**-0.5
        keys, values = own_2NKSE[:, :, :, :num_seen].flatten(1, 2)  # [N K, S, E] each
        mask = mask_N1S.expand(-1, num_keys, -1).reshape(num_rows * num_keys, 1, num_seen)
        scores = torch.baddbmm(mask, queries_NKGE.flatten(0, 1), keys.transpose(1, 2))
        if not self.num_shared:
            return torch.bmm(scores.softmax(-1), values).view(num_rows, -1)
        return self._with_prefix(layer, queries_NKGE, scores, values).view(num_rows, -1)

    def _with_prefix(self, layer: int, queries_NKGE: Tensor, scores: Tensor, values: Tensor) -> Tensor:
        """One softmax over the shared prefix, that all rows read from one place, and each row's own tokens."""
        num_rows, num_keys, group, width = queries_NKGE.shape
        keys_KPE, values_KPE = self.shared[layer]
        queries_KQE = queries_NKGE.transpose(0, 1).reshape(num_keys, -1, width)
        first_KNGP = torch.bmm(queries_KQE, keys_KPE.transpose(1, 2)).view(num_keys, num_rows, group, -1)
        both = torch.cat([first_KNGP.transpose(0, 1), scores.view(num_rows, num_keys, group, -1)], -1).softmax(-1)
        first, own = both.split([self.num_shared, scores.shape[-1]], -1)
        mixed_KQE = torch.bmm(first.transpose(0, 1).reshape(num_keys, -1, self.num_shared), values_KPE)
        mixed_NKGE = torch.bmm(own.reshape(num_rows * num_keys, group, -1), values).view(queries_NKGE.shape)
        return mixed_NKGE + mixed_KQE.view(num_keys, num_rows, group, width).transpose(0, 1)


def _causal(queries_LKGE: Tensor, keys_KSE: Tensor, values_KSE: Tensor) -> Tensor:
    """Attention of the last L of S tokens: [L, K, G, E]."""
    length, num_keys, group, width = queries_LKGE.shape
    num_seen = keys_KSE.shape[1]
    mask_LS = torch.full((length, num_seen), float("-inf"), device=keys_KSE.device).triu_(1 + num_seen - length)
    mask = mask_LS.repeat_interleave(group, 0).expand(num_keys, -1, -1)
    queries_KQE = queries_LKGE.transpose(0, 1).reshape(num_keys, length * group, width)
    share = torch.baddbmm(mask, queries_KQE, keys_KSE.transpose(1, 2), alpha=width**-0.5).softmax(-1)
    return torch.bmm(share, values_KSE).view(num_keys, length, group, width).transpose(0, 1)
