"""Global batches as flat tokens: a token tree of shared prefixes, cut to a token budget, and the loss over it.

A global batch keeps its samples; only how they lie in memory changes. Losses are sums, and the loop divides by the
weight of the whole global batch, so the gradient does not depend on the cut.
"""

# SPDX-License-Identifier: Apache-2.0
#
# Shapes: T tokens, N predictions (classification: samples).
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

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
    num_samples: int
    num_repeated_tokens: int  # tokens of the samples, each sample for itself

    @property
    def num_tokens(self) -> int:
        """Tokens that are computed."""
        return len(self.tokens.ids_T)


@dataclass
class _Piece:
    """Tokens [begin, end) of the samples `members`, which share all tokens before `end`."""

    members: list[int]
    begin: int
    end: int
    children: list[_Piece] = field(default_factory=list)


def flat_batches(
    rows: Sequence[Row], model: FlatModel, *, budget_tokens: int, device: torch.device
) -> Iterator[FlatBatch]:
    """Cut the samples of one global batch into micro-batches of at most `budget_tokens` computed tokens.

    A sample longer than the budget is a micro-batch of its own. Samples that share a prefix lie together.
    """
    is_class = rows[0].label >= 0
    prompt = -1 - np.arange(model.num_prompt_tokens)
    inputs = [np.concatenate([prompt, row.ids if is_class else row.ids[:-1]]).astype(np.int64) for row in rows]
    least = model.settings.min_prefix_tokens if model.shares_prefixes else 0
    for chosen in _cuts(inputs, least, budget_tokens if model.settings.has_packing else 0):
        forest = _forest(chosen, inputs, least)
        yield _flat_batch(forest, chosen, rows, inputs, is_class, device)


def _common(first: np.ndarray, second: np.ndarray) -> int:
    """Length of the common prefix."""
    num = min(len(first), len(second))
    differ = first[:num] != second[:num]
    return int(differ.argmax()) if differ.any() else num


def _cuts(inputs: Sequence[np.ndarray], least: int, budget_tokens: int) -> Iterator[list[int]]:
    """Samples in token order, so that neighbours share most, cut where the next would pass the budget."""
    order = sorted(range(len(inputs)), key=lambda i: (inputs[i].tolist(), i)) if least else list(range(len(inputs)))
    chosen: list[int] = []
    for index in order:
        if chosen and _num_tokens(_forest([*chosen, index], inputs, least)) > budget_tokens:
            yield chosen
            chosen = []
        chosen.append(index)
    if chosen:
        yield chosen


def _num_tokens(pieces: Sequence[_Piece]) -> int:
    """Tokens that the trees compute."""
    return sum(piece.end - piece.begin + _num_tokens(piece.children) for piece in pieces)


def _forest(order: Sequence[int], inputs: Sequence[np.ndarray], least: int) -> list[_Piece]:
    """Token trees of samples in token order: a shared piece has at least `least` tokens (0: nothing is shared)."""
    if not least:
        return [_Piece([i], 0, len(inputs[i])) for i in order]
    shared = [_common(inputs[a], inputs[b]) for a, b in pairwise(order)]
    return _pieces(list(order), shared, 0, inputs, least)


def _pieces(order: list[int], shared: list[int], begin: int, inputs: Sequence[np.ndarray], least: int) -> list[_Piece]:
    """Pieces from token `begin` on of samples that are equal before it; `shared[i]` is common to i and i + 1."""
    if len(order) == 1:
        return [_Piece(order, begin, len(inputs[order[0]]))] if len(inputs[order[0]]) > begin else []
    common = min(shared)
    if common - begin >= least:
        return [_Piece(order, begin, common, _pieces(order, shared, common, inputs, least))]
    pieces: list[_Piece] = []
    start = 0
    for stop in [*(i + 1 for i, num in enumerate(shared) if num == common), len(order)]:
        pieces += _pieces(order[start:stop], shared[start : stop - 1], begin, inputs, least)
        start = stop
    return pieces


class _Layout:
    """Pieces laid out depth first: ids, positions, segments, and where each sample's tokens lie."""

    def __init__(self, forest: Sequence[_Piece], inputs: Sequence[np.ndarray]) -> None:
        self.ids: list[np.ndarray] = []
        self.positions: list[np.ndarray] = []
        self.segments: list[Segment] = []
        self.places: dict[int, list[np.ndarray]] = {}
        self.length = 0
        for piece in forest:
            self._lay(piece, inputs)

    def _lay(self, piece: _Piece, inputs: Sequence[np.ndarray]) -> None:
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
    forest: Sequence[_Piece],
    chosen: Sequence[int],
    rows: Sequence[Row],
    inputs: Sequence[np.ndarray],
    is_class: bool,
    device: torch.device,
) -> FlatBatch:
    layout = _Layout(forest, inputs)
    predictions = [_predictions(rows[i], np.concatenate(layout.places[i]), is_class) for i in chosen]
    asked, targets, weights = (np.concatenate(parts) for parts in zip(*predictions, strict=True))
    pairs, inverse, counts = np.unique(np.stack([asked, targets]), axis=1, return_inverse=True, return_counts=True)
    summed = np.bincount(inverse.reshape(-1), weights=weights, minlength=pairs.shape[1]).astype(np.float32)
    tokens = FlatTokens(
        torch.from_numpy(np.concatenate(layout.ids)).to(device),
        torch.from_numpy(np.concatenate(layout.positions)).to(device),
        tuple(layout.segments),
        torch.from_numpy(pairs[0].copy()).to(device),
    )
    return FlatBatch(
        tokens,
        torch.from_numpy(pairs[1].copy()).to(device),
        torch.from_numpy(summed).to(device),
        torch.from_numpy(counts).to(device),
        len(chosen),
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
