"""Lengths of the samples in tokens, and the very batches that training will cut them into."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from foretune.config.derive import Derived
from foretune.data.micro import epoch_order, micro_batches

__all__ = ["Lengths", "Rectangle", "Work", "cut_rows", "training_work"]

Rectangle = tuple[int, int]  # rows, tokens of the longest row
MOST_ROWS = 150_000  # beyond this many rows, steps are sampled evenly; keeps the plan under a second


@dataclass(frozen=True)
class Lengths:
    """Tokens of every sample, in the order of the splits.

    Of an encoder-decoder, source and target together. `train_answers` and `test_answers` are the tokens that carry
    loss or will be generated; where they are missing, all tokens count. `max_seq_len` is where samples are cut,
    0 = nowhere. `num_labels` is the number of classes of a classification job.
    """

    train: Sequence[int]
    validation: Sequence[int] = ()
    test: Sequence[int] = ()
    train_answers: Sequence[int] = ()
    test_answers: Sequence[int] = ()
    max_seq_len: int = 0
    num_labels: int = 0

    @property
    def longest_train(self) -> int:
        """Tokens of the longest training sample after cutting, 0 without samples."""
        longest = max(self.train, default=0)
        return min(longest, self.max_seq_len) if self.max_seq_len else longest


@dataclass(frozen=True)
class Work:
    """How often each padded rectangle is computed in the whole run; scaled where steps were sampled."""

    rectangles: dict[Rectangle, float]
    largest: Rectangle
    is_sampled: bool

    @property
    def padded_tokens(self) -> float:
        """Positions computed, padding included."""
        return sum(rows * tokens * count for (rows, tokens), count in self.rectangles.items())


def training_work(lengths: Lengths, derived: Derived, *, seed: int) -> Work:
    """The micro-batches of the whole run, in the order that the training loop gives them."""
    rows = [min(length, derived.max_seq_len) for length in lengths.train]
    stride = max(1, math.ceil(derived.num_steps * derived.global_batch_size / MOST_ROWS))
    counts: Counter[Rectangle] = Counter()
    num_seen = 0
    for batch in _global_batches(len(rows), derived, seed, stride):
        counts.update(cut_rows(rows, derived, batch))
        num_seen += 1
    scale = derived.num_steps / num_seen if num_seen else 0.0
    largest = max(counts, key=lambda rectangle: (rectangle[0] * rectangle[1], rectangle), default=(1, 1))
    if stride > 1:
        longest = max(rows)
        largest = max(largest, (max(1, derived.micro_batch_size), longest), key=lambda r: r[0] * r[1])
    return Work({rectangle: count * scale for rectangle, count in counts.items()}, largest, stride > 1)


def _global_batches(num_samples: int, derived: Derived, seed: int, stride: int) -> Iterator[list[int]]:
    """Every `stride`-th global batch of the run, as data/micro.py's global_batch cuts them."""
    size = derived.global_batch_size
    epoch, order = -1, []
    for step in range(0, derived.num_steps if num_samples else 0, stride):
        wanted, within = divmod(step, derived.steps_per_epoch)
        if wanted != epoch:
            epoch, order = wanted, epoch_order(num_samples, seed=seed, epoch=wanted).tolist()
        yield order[within * size : (within + 1) * size]


def cut_rows(rows: Sequence[int], derived: Derived, indices: Sequence[int] | None = None) -> Iterator[Rectangle]:
    """Rectangles of the micro-batches that these rows (all, without `indices`) are cut into."""
    chosen = range(len(rows)) if indices is None else indices
    batches = micro_batches(chosen, rows, micro_batch_size=derived.micro_batch_size, max_seq_len=derived.max_seq_len)
    for batch in batches:
        yield len(batch), rows[batch[0]]
