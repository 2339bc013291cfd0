"""Global batches as flat tokens: a token tree of shared prefixes, cut to a token budget, and the loss over it.

A global batch keeps its samples; only how they lie in memory changes. Losses are sums, and the loop divides by the
weight of the whole global batch, so the gradient does not depend on the cut.
"""

# SPDX-License-Identifier: Apache-2.0
#
# Shapes: T tokens, N predictions (classification: samples).
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from foretune.data.token_tree import Piece, cut_trees, with_soft_prompt
from foretune.models.decoder import FlatModel, FlatTokens
from foretune.models.flat_attention import Segment
from foretune.train.objective import LossSum, Row

__all__ = ["FlatBatch", "flat_batches", "flat_loss"]


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


def flat_batches(
    rows: Sequence[Row], model: FlatModel, *, budget_tokens: int, device: torch.device
) -> Iterator[FlatBatch]:
    """Cut the samples of one global batch into micro-batches of at most `budget_tokens` computed tokens.

    A sample longer than the budget is a micro-batch of its own. Samples that share a prefix lie together.
    """
    is_class = rows[0].label >= 0
    num_prompt = model.num_prompt_tokens
    inputs = [
        with_soft_prompt(np.asarray(row.ids if is_class else row.ids[:-1], dtype=np.int64), num_prompt) for row in rows
    ]
    least = model.settings.min_prefix_tokens if model.shares_prefixes else 0
    budget = budget_tokens if model.settings.has_packing else 0
    for chosen, forest in cut_trees(inputs, budget_tokens=budget, min_prefix_tokens=least):
        yield _flat_batch(forest, chosen, rows, inputs, num_prompt, model.settings.row_multiple, device)


class _Layout:
    """Pieces laid out depth first: ids, positions, segments, and where each sample's tokens lie."""

    def __init__(self, forest: Sequence[Piece], inputs: Sequence[np.ndarray]) -> None:
        self.ids: list[np.ndarray] = []
        self.positions: list[np.ndarray] = []
        self.segments: list[Segment] = []
        self.places: dict[int, list[np.ndarray]] = {}
        self.length = 0
        for piece in forest:
            self._lay(piece, inputs)

    def pad(self, num: int, some_id: int) -> None:
        """A segment of its own that nothing is asked of."""
        if num:
            self.ids.append(np.full(num, some_id))
            self.positions.append(np.arange(num))
            self.segments.append(Segment(self.length, self.length + num, self.length + num))
            self.length += num

    def _lay(self, piece: Piece, inputs: Sequence[np.ndarray]) -> None:
        start, num = self.length, piece.end - piece.begin
        self.length += num
        self.ids.append(inputs[piece.members[0]][piece.begin : piece.end])
        self.positions.append(np.arange(piece.begin, piece.end))
        for member in piece.members:
            self.places.setdefault(member, []).append(np.arange(start, start + num))
        index = len(self.segments)
        self.segments.append(Segment(start, start + num, start + num))
        for child in piece.children:
            self._lay(child, inputs)
        self.segments[index] = Segment(start, start + num, self.length)


def _flat_batch(
    forest: Sequence[Piece],
    chosen: Sequence[int],
    rows: Sequence[Row],
    inputs: Sequence[np.ndarray],
    num_prompt: int,
    multiple: int,
    device: torch.device,
) -> FlatBatch:
    layout = _Layout(forest, inputs)
    layout.pad(-layout.length % multiple, num_prompt)
    is_class = rows[0].label >= 0
    ids = np.concatenate(layout.ids) - num_prompt
    ids[ids < 0] = -1 - num_prompt - ids[ids < 0]  # soft-prompt row i is id -1 - i
    predictions = [_predictions(rows[i], np.concatenate(layout.places[i]), is_class) for i in chosen]
    asked, targets, weights = (np.concatenate(parts) for parts in zip(*predictions, strict=True))
    pairs, inverse, counts = np.unique(np.stack([asked, targets]), axis=1, return_inverse=True, return_counts=True)
    summed = np.bincount(inverse.reshape(-1), weights=weights, minlength=pairs.shape[1]).astype(np.float32)
    spare = -pairs.shape[1] % multiple  # predictions without weight
    pairs = np.pad(pairs, ((0, 0), (0, spare)), mode="edge")
    summed, counts = np.pad(summed, (0, spare)), np.pad(counts, (0, spare))
    tokens = FlatTokens(
        torch.from_numpy(ids).to(device),
        torch.from_numpy(np.concatenate(layout.positions)).to(device),
        tuple(layout.segments),
        torch.from_numpy(pairs[0].copy()).to(device),
    )
    return FlatBatch(
        tokens,
        torch.from_numpy(pairs[1].copy()).to(device),
        torch.from_numpy(summed).to(device),
        torch.from_numpy(counts).to(device),
        tuple(chosen),
        sum(len(inputs[i]) for i in chosen),
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
