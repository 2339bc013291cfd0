"""Global batches as flat tokens: a token tree of shared prefixes, cut to a token budget, and the loss over it.

A global batch keeps its samples; only how they lie in memory changes. Losses are sums, and the loop divides by the
weight of the whole global batch, so the gradient does not depend on the cut.
"""

# SPDX-License-Identifier: Apache-2.0
#
# Shapes: T tokens, N predictions (classification: samples), U uses of predictions, a shared one once a sequence.
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from foretune.data.token_tree import cut_grouped_trees, cut_trees, with_soft_prompt
from foretune.models.decoder import FlatModel, FlatTokens
from foretune.models.flat_segments import on_device
from foretune.train.flat_layout import Layout
from foretune.train.objective import LossSum, Row
from foretune.train.trunk import Trunk

__all__ = [
    "Asked",
    "FlatBatch",
    "FlatSequences",
    "flat_batches",
    "flat_inputs",
    "flat_loss",
    "flat_pairs",
    "flat_sequences",
]


@dataclass(frozen=True)
class FlatBatch:
    """One micro-batch: tokens, and what is predicted from the rows asked for."""

    tokens: FlatTokens
    targets_N: Tensor
    weights_N: Tensor
    counts_N: Tensor  # samples that make this very prediction
    chosen: tuple[int, ...]  # samples of the global batch
    num_repeated_tokens: int  # tokens of the samples, each sample for itself

    @property
    def num_tokens(self) -> int:
        """Tokens that are computed."""
        return len(self.tokens.ids_T)


class Asked(NamedTuple):
    """One sequence of a group: its ids, what its answer weighs, and whether its prompt is predicted too."""

    ids: np.ndarray  # int, [L]
    weights: np.ndarray  # float, [L]
    asks_prompt: bool = False


@dataclass(frozen=True)
class FlatSequences:
    """One micro-batch of groups of sequences: tokens, what is predicted, and whose each prediction is.

    Sequence j of the g-th of G chosen groups has the number j G + g.
    """

    tokens: FlatTokens
    targets_N: Tensor
    prediction_U: Tensor
    sequence_U: Tensor
    answer_U: Tensor  # bool: of the answer, not of the prompt
    chosen: tuple[int, ...]  # groups
    num_sequences: int


def flat_pairs(tokens: FlatTokens) -> int:
    """Pairs of a token and a token of its own segment or one before it: position of a segment's end x its tokens."""
    ends = tokens.positions_T[[segment.end - 1 for segment in tokens.segments]] + 1
    return int(sum((s.end - s.start) * int(end) for s, end in zip(tokens.segments, ends, strict=True)))


def flat_batches(
    rows: Sequence[Row], model: FlatModel, *, budget_tokens: int, device: torch.device, trunk: Trunk | None = None
) -> Iterator[FlatBatch]:
    """Cut the samples of one global batch into micro-batches of at most `budget_tokens` computed tokens.

    A sample longer than the budget is a micro-batch of its own. Samples that share a prefix lie together. Where `trunk`
    knows all of them, the layers below it are not computed.
    """
    num_prompt = model.num_prompt_tokens
    inputs = [with_soft_prompt(_input(row), num_prompt) for row in rows]
    known = trunk.places_of(inputs) if trunk else None
    least = model.settings.min_prefix_tokens if model.shares_prefixes else 0
    budget = budget_tokens if model.settings.has_packing else 0
    for chosen, forest in cut_trees(inputs, budget_tokens=budget, min_prefix_tokens=least):
        layout = Layout(forest, inputs)
        layout.pad(-layout.length % model.settings.row_multiple, num_prompt)
        batch = _flat_batch(layout, chosen, rows, num_prompt, model.settings.row_multiple, device)
        yield (
            batch if known is None or trunk is None else replace(batch, tokens=trunk.known(batch.tokens, layout, known))
        )


def _input(row: Row) -> np.ndarray:
    """What a model reads of a row; the last token is only predicted, but a class is read off it."""
    return np.asarray(row.ids if row.label >= 0 else row.ids[:-1], dtype=np.int64)


def flat_inputs(rows: Sequence[Row]) -> list[np.ndarray]:
    """All that passes over these rows read, the worse conversations of pairs (kto: mismatched ones) too."""
    others = [np.asarray(row.preference.ids[:-1], dtype=np.int64) for row in rows if row.preference is not None]
    return [*(_input(row) for row in rows), *others]


def _flat_batch(
    layout: Layout, chosen: Sequence[int], rows: Sequence[Row], num_prompt: int, multiple: int, device: torch.device
) -> FlatBatch:
    is_class = rows[0].label >= 0
    predictions = [_predictions(rows[i], np.concatenate(layout.places[i]), is_class) for i in chosen]
    asked, targets, weights = (np.concatenate(parts) for parts in zip(*predictions, strict=True))
    pairs, inverse, counts = np.unique(np.stack([asked, targets]), axis=1, return_inverse=True, return_counts=True)
    summed = np.bincount(inverse.reshape(-1), weights=weights, minlength=pairs.shape[1]).astype(np.float32)
    spare = -pairs.shape[1] % multiple  # predictions without weight
    pairs = np.pad(pairs, ((0, 0), (0, spare)), mode="edge")
    summed, counts = np.pad(summed, (0, spare)), np.pad(counts, (0, spare))
    return FlatBatch(
        layout.tokens(pairs[0], num_prompt, device),
        on_device(pairs[1], device),
        on_device(summed, device),
        on_device(counts, device),
        tuple(chosen),
        num_prompt * len(chosen) + sum(len(_input(rows[i])) for i in chosen),
    )


def _predictions(row: Row, places: np.ndarray, is_class: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Flat rows, targets and weights of one sample; `places` are where its inputs lie, soft prompt first."""
    if is_class:
        return places[-1:], np.array([row.label], dtype=np.int64), np.ones(1, dtype=np.float32)
    chosen = np.nonzero(row.weights[1:] > 0)[0]
    asked = places[len(places) - (len(row.ids) - 1) :][chosen]
    return asked, row.ids[1:][chosen].astype(np.int64), row.weights[1:][chosen].astype(np.float32)


def flat_loss(model: FlatModel, batch: FlatBatch) -> LossSum:
    """Weighted sum of the losses of a micro-batch in nats, with gradient, and how many predictions were right.

    A prediction counts as right where no token is likelier.
    """
    loss, right_N = model.loss(model.hidden(batch.tokens), batch.targets_N, batch.weights_N)
    return LossSum(loss, int((right_N * batch.counts_N).sum()))


def flat_sequences(
    groups: Sequence[Sequence[Asked]],
    model: FlatModel,
    *,
    budget_tokens: int,
    device: torch.device,
    trunk: Trunk | None = None,
) -> Iterator[FlatSequences]:
    """Cut groups of as many sequences each into micro-batches of at most `budget_tokens` computed tokens.

    The sequences of a group stay together; what they share, and what groups share, is computed once. `trunk` as in
    `flat_batches`.
    """
    inputs = [[np.asarray(one.ids[:-1], dtype=np.int64) for one in group] for group in groups]
    least = model.settings.min_prefix_tokens if model.shares_prefixes else 0
    budget = budget_tokens if model.settings.has_packing else 0
    every = [ids for group in inputs for ids in group]
    known = trunk.places_of(every) if trunk else None
    for chosen, forest in cut_grouped_trees(inputs, budget_tokens=budget, min_prefix_tokens=least):
        layout = Layout(forest, every)
        layout.pad(-layout.length % model.settings.row_multiple, 0)
        picked = [groups[i] for i in chosen]
        batch = _flat_sequences(layout, picked, chosen, model.settings.row_multiple, device)
        yield (
            batch if known is None or trunk is None else replace(batch, tokens=trunk.known(batch.tokens, layout, known))
        )


def _flat_sequences(
    layout: Layout, groups: Sequence[Sequence[Asked]], chosen: Sequence[int], multiple: int, device: torch.device
) -> FlatSequences:
    size = len(groups[0])
    uses: list[np.ndarray] = []  # [4, U]: row asked, target, sequence, whether of the answer
    for place, (group, number) in enumerate(zip(groups, chosen, strict=True)):
        for j, one in enumerate(group):
            places = np.concatenate(layout.places[number * size + j])
            uses.append(_uses(one, places, j * len(groups) + place))
    asked, targets, sequences, answers = np.concatenate(uses, axis=1)
    pairs, inverse = np.unique(np.stack([asked, targets]), axis=1, return_inverse=True)
    pairs = np.pad(pairs, ((0, 0), (0, -pairs.shape[1] % multiple)), mode="edge")  # predictions that no one uses
    arrays = (on_device(one, device) for one in (pairs[1], inverse.reshape(-1), sequences, answers))
    targets_N, prediction_U, sequence_U, answer_U = arrays
    tokens = layout.tokens(pairs[0], 0, device)
    return FlatSequences(tokens, targets_N, prediction_U, sequence_U, answer_U > 0, tuple(chosen), size * len(groups))


def _uses(one: Asked, places: np.ndarray, sequence: int) -> np.ndarray:
    """[4, U]: flat row, target, sequence and whether of the answer, of all that a sequence predicts."""
    is_answer = one.weights[1:] > 0
    chosen = np.arange(len(one.ids) - 1) if one.asks_prompt else np.nonzero(is_answer)[0]
    targets = one.ids[1:][chosen].astype(np.int64)
    return np.stack([places[chosen], targets, np.full(len(chosen), sequence), is_answer[chosen].astype(np.int64)])
