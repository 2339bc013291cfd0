"""Lengths of the samples in tokens, and the very batches that training will cut them into."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from foretune.config.derive import Derived
from foretune.data.micro import epoch_order, micro_batches
from foretune.data.token_tree import (
    MIN_PREFIX_TOKENS,
    Piece,
    cut_grouped_trees,
    cut_trees,
    num_pairs,
    num_tokens,
    with_soft_prompt,
)

__all__ = ["Cutting", "Lengths", "Pass", "Work", "training_work", "validation_passes"]

MOST_ROWS = 150_000  # beyond this many rows, steps are sampled evenly; keeps the plan under a second
MOST_SHARING_ROWS = 20_000  # the same where shared prefixes are looked for


class Pass(NamedTuple):
    """One micro-batch: computed positions, as rows of `row_tokens`, and the pairs of them that attention computes.

    Flat tokens are one row; a prefix that samples share counts once.
    """

    num_rows: int
    row_tokens: int
    num_pairs: int

    @property
    def num_tokens(self) -> int:
        """Positions computed."""
        return self.num_rows * self.row_tokens

    @classmethod
    def padded(cls, num_rows: int, row_tokens: int) -> Pass:
        """A padded rectangle."""
        return cls(num_rows, row_tokens, num_rows * row_tokens**2)


@dataclass(frozen=True)
class Cutting:
    """How the engine lays a global batch out.

    `is_flat`: flat tokens, else padded rectangles; `shares_prefixes`: in training (validation shares them always);
    `num_prompt_tokens`: soft-prompt tokens before each sample; `predicts_tokens`: the last token is only predicted, so
    that flat inputs lack it (classes are read off it); `num_sequences`: sequences of a sample, 2 for preference pairs;
    `row_multiple`: flat passes are filled up to a multiple of it.
    """

    is_flat: bool = False
    shares_prefixes: bool = False
    num_prompt_tokens: int = 0
    predicts_tokens: bool = True
    num_sequences: int = 1
    row_multiple: int = 1


PADDED = Cutting()


@dataclass(frozen=True)
class Lengths:
    """Tokens of every sample, in the order of the splits.

    Of an encoder-decoder, source and target together. `train_answers` and `test_answers` are the tokens that carry
    loss or will be generated; where they are missing, all tokens count. `max_seq_len` is where samples are cut,
    0 = nowhere. `num_labels` is the number of classes of a classification job. `train_ids` and `validation_ids` are the
    token ids, where they are known: with them shared prefixes are counted. `train_others` and `validation_others` are
    those of the worse conversations of preference pairs.
    """

    train: Sequence[int]
    validation: Sequence[int] = ()
    test: Sequence[int] = ()
    train_answers: Sequence[int] = ()
    test_answers: Sequence[int] = ()
    max_seq_len: int = 0
    num_labels: int = 0
    train_ids: Sequence[np.ndarray] = ()
    validation_ids: Sequence[np.ndarray] = ()
    train_others: Sequence[np.ndarray] = ()
    validation_others: Sequence[np.ndarray] = ()

    @property
    def longest_train(self) -> int:
        """Tokens of the longest training sample after cutting, 0 without samples."""
        longest = max(self.train, default=0)
        return min(longest, self.max_seq_len) if self.max_seq_len else longest


@dataclass(frozen=True)
class Work:
    """How often each pass is computed in the whole run; scaled where steps were sampled."""

    passes: dict[Pass, float]
    largest: Pass
    is_sampled: bool

    @property
    def num_computed_tokens(self) -> float:
        """Positions computed, padding included."""
        return sum(one.num_tokens * count for one, count in self.passes.items())

    def num_large(self, share: float) -> float:
        """How many passes of the run compute at least `share` of the positions of the largest."""
        least = share * self.largest.num_tokens
        return sum(count for one, count in self.passes.items() if one.num_tokens >= least)


def training_work(lengths: Lengths, derived: Derived, *, seed: int, cutting: Cutting = PADDED) -> Work:
    """The micro-batches of the whole run, in the order that the training loop gives them."""
    rows = [min(length, derived.max_seq_len) for length in lengths.train]
    known = _Ids(lengths.train_ids, lengths.train_others, cutting.shares_prefixes)
    most = MOST_SHARING_ROWS if known.are_read else MOST_ROWS
    stride = max(1, math.ceil(derived.num_steps * derived.global_batch_size / most))
    counts: Counter[Pass] = Counter()
    num_seen = 0
    for batch in _global_batches(len(rows), derived, seed, stride):
        counts.update(_cut(rows, known, derived, cutting, batch))
        num_seen += 1
    scale = derived.num_steps / num_seen if num_seen else 0.0
    largest = max(counts, key=lambda one: (one.num_tokens, one), default=Pass.padded(1, 1))
    if stride > 1:
        bound = _largest(rows, derived, cutting)
        largest = max(largest, bound, key=lambda one: one.num_tokens)
    return Work({one: count * scale for one, count in counts.items()}, largest, stride > 1)


def _largest(rows: Sequence[int], derived: Derived, cutting: Cutting) -> Pass:
    """The largest pass that there can be."""
    longest = max(rows) + cutting.num_prompt_tokens
    if not cutting.is_flat:
        return Pass.padded(max(cutting.num_sequences, derived.micro_batch_size), longest)
    longest *= cutting.num_sequences
    budget = min(derived.micro_batch_size * derived.max_seq_len, derived.global_batch_size * longest)
    return Pass(1, max(budget, longest), max(budget, longest) * longest)


def validation_passes(lengths: Lengths, derived: Derived, *, cutting: Cutting = PADDED) -> Iterator[Pass]:
    """The micro-batches of one validation."""
    rows = [min(length, derived.max_seq_len) for length in lengths.validation]
    known = _Ids(lengths.validation_ids, lengths.validation_others, True)
    return _cut(rows, known, derived, cutting, range(len(rows)))


def _global_batches(num_samples: int, derived: Derived, seed: int, stride: int) -> Iterator[list[int]]:
    """Every `stride`-th global batch of the run, as data/micro.py's global_batch cuts them."""
    size = derived.global_batch_size
    epoch, order = -1, []
    for step in range(0, derived.num_steps if num_samples else 0, stride):
        wanted, within = divmod(step, derived.steps_per_epoch)
        if wanted != epoch:
            epoch, order = wanted, epoch_order(num_samples, seed=seed, epoch=wanted).tolist()
        yield order[within * size : (within + 1) * size]


class _Ids(NamedTuple):
    """Token ids of the samples, those of the worse conversations of pairs, and whether common prefixes are looked for.

    Each may be empty.
    """

    ids: Sequence[np.ndarray]
    others: Sequence[np.ndarray]
    shares_prefixes: bool

    @property
    def are_read(self) -> bool:
        """Whether ids, not lengths alone, tell how samples are laid out; of pairs both lengths are told by them."""
        return len(self.others) > 0 or (len(self.ids) > 0 and self.shares_prefixes)


def _cut(
    rows: Sequence[int], known: _Ids, derived: Derived, cutting: Cutting, indices: Sequence[int]
) -> Iterator[Pass]:
    """Micro-batches of the rows at `indices`; with ids shared prefixes are found."""
    budget, prompt = derived.micro_batch_size * derived.max_seq_len, cutting.num_prompt_tokens
    if not cutting.is_flat:
        for batch in micro_batches(indices, rows, budget_tokens=budget // cutting.num_sequences):
            yield Pass.padded(cutting.num_sequences * len(batch), rows[batch[0]] + prompt)
    elif known.are_read:
        for trees in _trees(known, cutting, indices, budget):
            yield _filled(num_tokens(trees), num_pairs(trees), cutting)
    else:
        lengths = [cutting.num_sequences * max(1, rows[i] - cutting.predicts_tokens) + prompt for i in indices]
        for tokens, pairs in _cut_flat(lengths, budget):
            yield _filled(tokens, pairs, cutting)


def _trees(known: _Ids, cutting: Cutting, indices: Sequence[int], budget_tokens: int) -> Iterator[list[Piece]]:
    """The token trees of each micro-batch."""
    least = MIN_PREFIX_TOKENS if known.shares_prefixes else 0

    def inputs(ids: np.ndarray) -> np.ndarray:
        return with_soft_prompt(ids[: len(ids) - cutting.predicts_tokens], cutting.num_prompt_tokens)

    if len(known.others):
        groups = [[inputs(known.ids[i]), inputs(known.others[i])] for i in indices]
        cut = cut_grouped_trees(groups, budget_tokens=budget_tokens, min_prefix_tokens=least)
    else:
        cut = cut_trees([inputs(known.ids[i]) for i in indices], budget_tokens=budget_tokens, min_prefix_tokens=least)
    return (trees for _, trees in cut)


def _filled(tokens: int, pairs: int, cutting: Cutting) -> Pass:
    """A flat pass with what fills it up, which attends to itself."""
    spare = -tokens % cutting.row_multiple
    return Pass(1, tokens + spare, pairs + spare**2)


def _cut_flat(lengths: Sequence[int], budget_tokens: int) -> Iterator[tuple[int, int]]:
    """Tokens and pairs of samples end to end in their order, cut where the next would pass the budget."""
    tokens = pairs = 0
    for length in lengths:
        if tokens and tokens + length > budget_tokens:
            yield tokens, pairs
            tokens = pairs = 0
        tokens, pairs = tokens + length, pairs + length**2
    if tokens:
        yield tokens, pairs
