"""Greedy answers of the flat-token decoder: prompts without padding, a shared prefix read once, rows in and out.

Rows that end leave the batch at once and waiting ones take their place. Prompts that share a prefix (system prompt,
examples, virtual tokens) run together over one copy of its keys and values.
"""

# SPDX-License-Identifier: Apache-2.0
#
# Shapes: T tokens, N rows, D width, V vocabulary; Y2KPE: layers, keys and values, key heads, prefix tokens, head width.
from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from foretune.data.token_tree import MIN_PREFIX_TOKENS
from foretune.models.decoder import FlatModel, FlatTokens
from foretune.models.generate_slots import Slots, Span, no_prefix
from foretune.models.virtual import KeyValuePrefix

__all__ = ["Generator", "Wave", "waves"]

PASS_TOKENS = 2048  # tokens of prompts read at once
ADMIT_FRACTION = 4  # new rows enter when one slot in so many is free
BYTES = 4  # of a number in the memory


class Wave(NamedTuple):
    """Prompts (by number) that are answered together, and the tokens at their beginning that they share."""

    num_shared: int
    members: list[int]


def waves(prompts: Sequence[Sequence[int]], num_rows: int, least: int = MIN_PREFIX_TOKENS) -> list[Wave]:
    """Prompts grouped by shared prefix: a group that fills `num_rows` and shares `least` more tokens is a wave."""
    order = sorted(range(len(prompts)), key=lambda i: list(prompts[i]))
    shared = [_common(prompts[a], prompts[b]) for a, b in pairwise(order)]
    return _split(order, shared, prompts, max(2, num_rows), least)


def _split(
    order: list[int], shared: list[int], prompts: Sequence[Sequence[int]], num_rows: int, least: int
) -> list[Wave]:
    common = min(shared, default=0)
    cuts = [0, *(i + 1 for i, num in enumerate(shared) if num < common + least), len(order)]
    groups = [(a, b) for a, b in pairwise(cuts) if b - a >= num_rows and len(cuts) > 2]
    found = [wave for a, b in groups for wave in _split(order[a:b], shared[a : b - 1], prompts, num_rows, least)]
    taken = {i for wave in found for i in wave.members}
    rest = [i for i in order if i not in taken]
    if rest:
        num = min((_common(prompts[rest[0]], prompts[i]) for i in rest[1:]), default=0)
        found.append(Wave(_worth(num, rest, prompts, least), rest))
    return found


def _worth(num: int, members: Sequence[int], prompts: Sequence[Sequence[int]], least: int) -> int:
    """Tokens to share: a row keeps at least one of its own; 0 where sharing gains nothing."""
    num = min(num, min(len(prompts[i]) for i in members) - 1)
    return num if num >= least and len(members) > 1 else 0


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    """Length of the common prefix."""
    return next(
        (i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
    )


@dataclass
class _Row:
    """A prompt that is being answered."""

    number: int
    answer: list[int] = field(default_factory=list)


class Generator:
    """Answers of a flat model; `stop_ids` end an answer, `penalty` divides (or multiplies) logits of tokens seen."""

    def __init__(self, model: FlatModel, stop_ids: Collection[int], *, penalty: float = 1.0) -> None:
        self.model, self.stop_ids, self.penalty = model, frozenset(stop_ids), penalty

    def slot_bytes(self, num_tokens: int) -> int:
        """Memory of a row of `num_tokens` tokens: keys and values, and the logits of its next token, three times."""
        heads, model = self.model.heads, self.model
        states = len(model.layers) * 2 * heads.num_keys * num_tokens * heads.width
        return BYTES * (states + 3 * (len(model.head_VD) + heads.num * num_tokens))

    @torch.inference_mode()
    def answers(
        self, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, num_rows: int
    ) -> Iterator[tuple[int, list[int]]]:
        """Each prompt's number with its answer (without stop token), as soon as it is there; `num_rows` at once."""
        virtual = list(range(-1, -1 - self.model.num_prompt_tokens, -1))
        whole = [[*virtual, *prompt] for prompt in prompts]
        for wave in waves(whole, num_rows):
            yield from self._wave(wave, whole, max_new_tokens, num_rows)

    @torch.inference_mode()
    def outputs(self, inputs: Sequence[Sequence[int]], *, num_rows: int) -> Iterator[tuple[int, Tensor]]:
        """Each input's number with what the head says behind its last token: [V], of a class head [C]."""
        for wave in waves(inputs, num_rows):
            shared = self._shared(list(inputs[wave.members[0]][: wave.num_shared]))
            members = sorted(wave.members, key=lambda i: -len(inputs[i]))
            for start in range(0, len(members), num_rows):
                chosen = members[start : start + num_rows]
                slots = Slots(self.model.heads, shared, len(chosen), len(inputs[chosen[0]]) - wave.num_shared)
                parts = {place: list(inputs[i][wave.num_shared :]) for place, i in enumerate(chosen)}
                yield from zip(chosen, self._read(slots, parts), strict=True)

    def _wave(
        self, wave: Wave, prompts: Sequence[list[int]], max_new_tokens: int, num_rows: int
    ) -> Iterator[tuple[int, list[int]]]:
        shared = self._shared(prompts[wave.members[0]][: wave.num_shared])
        waiting = deque(sorted(wave.members, key=lambda i: -len(prompts[i])))
        num_slots = min(num_rows, len(waiting))
        slots = Slots(self.model.heads, shared, num_slots, len(prompts[waiting[0]]) - wave.num_shared + max_new_tokens)
        seen = _Seen(self.penalty, num_slots, len(self.model.head_VD), shared.device)
        rows: list[_Row] = []
        while waiting or rows:
            first, free = 0, num_slots - len(rows)
            if waiting and (not rows or free * ADMIT_FRACTION >= num_slots):
                first = len(rows)
                rows += [_Row(waiting.popleft()) for _ in range(min(free, len(waiting)))]
                parts = {place: prompts[rows[place].number] for place in range(first, len(rows))}
                seen.begin(parts)
                logits_NV = self._read(slots, {place: ids[wave.num_shared :] for place, ids in parts.items()})
            else:
                logits_NV = self._step(slots, [row.answer[-1] for row in rows])
            chosen = seen.penalised(logits_NV, first).argmax(-1).tolist()
            seen.add(first, chosen)
            for row, token in zip(rows[first:], chosen, strict=True):
                row.answer.append(token)
            for place in reversed(range(first, len(rows))):  # from the end: a row that fills a gap is done with already
                number, answer = rows[place].number, rows[place].answer
                is_stopped = answer[-1] in self.stop_ids
                if is_stopped or len(answer) == max_new_tokens:
                    yield number, answer[:-1] if is_stopped else answer
                    slots.move(len(rows) - 1, place)
                    seen.move(len(rows) - 1, place)
                    rows[place] = rows[-1]
                    rows.pop()

    def _shared(self, ids: list[int]) -> Tensor:
        """Keys and values of the prefix that all rows share, learned ones first."""
        prefix = getattr(self.model.loaded.model, "kv_prefix", None)
        shared = no_prefix(len(self.model.layers), self.model.heads, self.model.norm_D.detach())
        if isinstance(prefix, KeyValuePrefix):
            num_layers, num_heads, width = prefix.sizes
            shared = prefix.states.view(prefix.num_tokens, num_layers, 2, num_heads, width).permute(1, 2, 3, 0, 4)
        if not ids:
            return shared
        slots = Slots(self.model.heads, shared, 1, len(ids))
        self._read(slots, {0: ids})
        return slots.with_shared(0)

    def _read(self, slots: Slots, parts: dict[int, list[int]]) -> Tensor:
        """Put tokens into slots, which are emptied first; logits behind the last token of each, [N, V]."""
        last = []
        for spans, ids in _passes(parts):
            places = [torch.arange(s.before, s.before + s.end - s.start) for s in spans]
            rows = [s.end - 1 for s in spans if s.before + s.end - s.start == len(parts[s.slot])]
            tokens = self._tokens(ids, torch.cat(places) + slots.num_shared, rows)
            last.append(self.model.hidden(tokens, partial(slots.read, spans=spans)))
            for span in spans:
                slots.lengths_N[span.slot] = span.before + span.end - span.start
        return self.model.logits(torch.cat(last))

    def _step(self, slots: Slots, ids: list[int]) -> Tensor:
        """One more token in each of the first slots; logits behind it, [N, V]."""
        lengths_N = slots.lengths_N[: len(ids)]
        num_seen = int(lengths_N.max()) + 1
        hidden = torch.arange(num_seen, device=lengths_N.device) > lengths_N[:, None, None]
        mask_N1S = torch.zeros(hidden.shape, device=lengths_N.device).masked_fill_(hidden, float("-inf"))
        tokens = self._tokens(ids, lengths_N + slots.num_shared, range(len(ids)))
        hidden_ND = self.model.hidden(tokens, partial(slots.step, mask_N1S=mask_N1S))
        lengths_N += 1
        return self.model.logits(hidden_ND)

    def _tokens(self, ids: Sequence[int], positions_T: Tensor, rows: Sequence[int]) -> FlatTokens:
        device = self.model.loaded.device
        return FlatTokens(
            torch.tensor(ids, device=device), positions_T.to(device), (), torch.tensor(rows, device=device).long()
        )


def _passes(parts: dict[int, list[int]]) -> Iterator[tuple[list[Span], list[int]]]:
    """Tokens of slots in passes of at most PASS_TOKENS."""
    spans: list[Span] = []
    ids: list[int] = []
    for slot, tokens in parts.items():
        done = 0
        while done < len(tokens):
            num = min(len(tokens) - done, PASS_TOKENS - len(ids))
            spans.append(Span(slot, len(ids), len(ids) + num, done))
            ids += tokens[done : done + num]
            done += num
            if len(ids) == PASS_TOKENS:
                yield spans, ids
                spans, ids = [], []
    if ids:
        yield spans, ids


class _Seen:
    """Tokens that each slot has seen, for a repetition penalty (Keskar et al. 2019, arXiv 1909.05858, section 4.1)."""

    def __init__(self, penalty: float, num_slots: int, vocabulary: int, device: torch.device) -> None:
        self.penalty = penalty
        size = (num_slots, vocabulary) if penalty != 1.0 else (0, 0)
        self.seen_NV = torch.zeros(size, dtype=torch.bool, device=device)

    def begin(self, parts: dict[int, list[int]]) -> None:
        """Prompts enter slots."""
        if self.penalty != 1.0:
            for slot, ids in parts.items():
                self.seen_NV[slot] = False
                self.seen_NV[slot, [i for i in ids if i >= 0]] = True

    def add(self, first: int, chosen: Sequence[int]) -> None:
        """A token more in each slot from `first` on."""
        if self.penalty != 1.0:
            self.seen_NV[range(first, first + len(chosen)), list(chosen)] = True

    def move(self, source: int, target: int) -> None:
        """A row moves to another slot."""
        if self.penalty != 1.0:
            self.seen_NV[target] = self.seen_NV[source]

    def penalised(self, logits_NV: Tensor, first: int) -> Tensor:
        """Logits with those of seen tokens made smaller."""
        if self.penalty == 1.0:
            return logits_NV
        less_NV = torch.where(logits_NV < 0, logits_NV * self.penalty, logits_NV / self.penalty)
        return torch.where(self.seen_NV[first : first + len(logits_NV)], less_NV, logits_NV)
