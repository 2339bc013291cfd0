"""How the global batches of DPO, ORPO and KTO are computed: flat tokens with a pair's prompt once, or padded.

The reference is the model before its first step: its log-probabilities are computed once, so no second model is held.
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch

from foretune.config.job import TrainConfig
from foretune.data.micro import micro_batches
from foretune.models.decoder import FlatModel
from foretune.models.load import LoadedModel
from foretune.models.method_fit import needs_decoder
from foretune.models.virtual import num_virtual_tokens
from foretune.train.flat import Asked, FlatSequences, flat_pairs, flat_sequences
from foretune.train.objective import LossSum, Preference, Row, build_batch, loss_for, token_losses
from foretune.train.passes import FlatPasses, Micro, PaddedPasses, Passes, autocast
from foretune.train.preference_losses import (
    PreferenceLoss,
    Scored,
    Weights,
    dpo_loss,
    known_of,
    kto_loss,
    orpo_loss,
)
from foretune.train.trunk import Trunk

__all__ = [
    "FlatLayout",
    "Layout",
    "PaddedLayout",
    "PreferencePasses",
    "Scoring",
    "Weights",
    "desirability_weights",
    "preference_passes",
]


class Scoring(NamedTuple):
    """One micro-batch: the rows in it by number, what it computes, and the losses of its tokens when asked for."""

    chosen: Sequence[int]
    num_tokens: int
    num_pairs: int
    scored: Callable[[], Scored]


class Layout(Protocol):
    """How sequences lie in memory."""

    def cut(self, rows: Sequence[Row], budget_tokens: int, *, asks_prompt: bool = False) -> Iterator[Scoring]:
        """Micro-batches of at most `budget_tokens`; a pair is not parted. `asks_prompt`: of the better ones too."""
        ...

    @property
    def passes(self) -> Passes:
        """The passes of single sequences that this layout rests on."""
        ...


@dataclass(frozen=True)
class PaddedLayout:
    """Right-padded rectangles through the transformers class; each sequence repeats its prompt."""

    passes: PaddedPasses

    def cut(self, rows: Sequence[Row], budget_tokens: int, *, asks_prompt: bool = False) -> Iterator[Scoring]:
        """See `Layout`."""
        each = 2 if rows and rows[0].is_pair else 1
        lengths = [row.length for row in rows]
        for chosen in micro_batches(range(len(rows)), lengths, budget_tokens=budget_tokens // each):
            picked = [rows[i] for i in chosen]
            num, longest = (
                each * len(picked),
                max(lengths[i] for i in chosen) + num_virtual_tokens(self.passes.loaded.model),
            )
            yield Scoring(chosen, num * longest, num * longest**2, partial(self._scored, picked, asks_prompt))

    def _scored(self, rows: Sequence[Row], asks_prompt: bool) -> Scored:
        loaded = self.passes.loaded
        batch = build_batch(rows, self.passes.pad_id, loaded.device)
        answer_BL = batch.weights_BL > 0
        asked_BL = answer_BL.clone()
        if asks_prompt:
            asked_BL[: len(rows)] |= batch.mask_BL[: len(rows)] > 0
        with autocast(loaded, self.passes.precision):
            found = token_losses(loaded, batch.ids_BL, asked_BL)
        return Scored(found.losses_N, found.rows_N, answer_BL[:, 1:][asked_BL[:, 1:]], len(batch.ids_BL))


@dataclass(frozen=True)
class FlatLayout:
    """Flat tokens: what the two sequences of a pair share, and what rows share, is computed once."""

    passes: FlatPasses

    def cut(self, rows: Sequence[Row], budget_tokens: int, *, asks_prompt: bool = False) -> Iterator[Scoring]:
        """See `Layout`."""
        model = self.passes.model()
        groups = [_asked(row, asks_prompt) for row in rows]
        device, trunk = self.passes.loaded.device, self.passes.trunk
        for batch in flat_sequences(groups, model, budget_tokens=budget_tokens, device=device, trunk=trunk):
            num_pairs = flat_pairs(batch.tokens)
            yield Scoring(batch.chosen, len(batch.tokens.ids_T), num_pairs, partial(_flat_scored, model, batch))


def _asked(row: Row, asks_prompt: bool) -> list[Asked]:
    own = Asked(row.ids, row.weights, asks_prompt)
    return [own, Asked(_preference(row).ids, _preference(row).weights)] if row.is_pair else [own]


def _flat_scored(model: FlatModel, batch: FlatSequences) -> Scored:
    losses_N = model.token_losses(model.hidden(batch.tokens), batch.targets_N).losses_N
    return Scored(losses_N[batch.prediction_U], batch.sequence_U, batch.answer_U, batch.num_sequences)


@dataclass(frozen=True)
class PreferencePasses:
    """Whole conversations, laid out as `layout` does it, judged by `loss_of` with what their global batch shares."""

    loaded: LoadedModel
    method: str
    loss_of: PreferenceLoss
    layout: Layout

    def cut(self, rows: Sequence[Row], budget_tokens: int) -> Iterator[Micro]:
        """See `Passes`."""
        shared = self._shared(rows, budget_tokens)
        for one in self.layout.cut(rows, budget_tokens, asks_prompt=self.method == "orpo"):
            picked = [rows[i] for i in one.chosen]
            yield Micro(picked, one.num_tokens, one.num_pairs, partial(self._loss, picked, one.scored, shared))

    def _loss(self, rows: Sequence[Row], scored: Callable[[], Scored], shared: float) -> LossSum:
        return self.loss_of(scored(), known_of([_preference(row) for row in rows], shared, self.loaded.device))

    def _shared(self, rows: Sequence[Row], budget_tokens: int) -> float:
        """The one number of the global batch, so that the gradient does not depend on how it is cut."""
        if self.method == "orpo":
            return len(rows) / sum(len(row.ids) - 1 for row in rows)  # pairs per language-model token
        return self._drift(rows, budget_tokens) if self.method == "kto" else 0.0

    def _drift(self, rows: Sequence[Row], budget_tokens: int) -> float:
        """KTO's estimate of KL(model, reference), from answers to other questions, without gradient or dropout."""
        model = self.loaded.model
        was_training = model.training
        model.eval()
        moved = self.log_probabilities([_other(row) for row in rows], budget_tokens)
        model.train(was_training)
        before = [_preference(row).reference[1] for row in rows]
        return max(0.0, sum(now - then for now, then in zip(moved, before, strict=True)) / len(rows))

    @torch.no_grad()
    def log_probabilities(self, rows: Sequence[Row], budget_tokens: int) -> list[float]:
        """Log-probabilities (nats) of single sequences, as the model stands."""
        found = [0.0] * len(rows)
        for one in self.layout.cut(rows, budget_tokens):
            for i, value in zip(one.chosen, one.scored().log_probabilities().tolist(), strict=True):
                found[i] = value
        return found

    def release(self) -> None:
        """See `Passes`."""
        self.layout.passes.release()

    def prepare(self, rows: Sequence[Row], budget_tokens: int, *, folder: Path, key: Callable[[], str]) -> str:
        """See `Passes`."""
        return self.layout.passes.prepare(rows, budget_tokens, folder=folder, key=key)

    @property
    def trunk(self) -> Trunk | None:
        """See `Passes`."""
        return self.layout.passes.trunk

    @property
    def can_recompute(self) -> bool:
        """See `Passes`."""
        return self.layout.passes.can_recompute

    def recompute(self) -> None:
        """See `Passes`."""
        self.layout.passes.recompute()

    def with_reference(self, rows: Sequence[Row], budget_tokens: int) -> list[Row]:
        """Rows with the log-probabilities that the model, as it stands now, gives to both their sequences."""
        self.loaded.model.eval()
        sequences = [Row(row.ids, row.weights) for row in rows] + [_other(row) for row in rows]
        found = self.log_probabilities(sequences, budget_tokens)
        pairs = zip(rows, found[: len(rows)], found[len(rows) :], strict=True)
        return [_with(row, reference=(own, other)) for row, own, other in pairs]


def _preference(row: Row) -> Preference:
    assert row.preference is not None
    return row.preference


def _other(row: Row) -> Row:
    """The sequence that a row is compared with, as a row of its own."""
    return Row(_preference(row).ids, _preference(row).weights)


def _with(row: Row, **values: Any) -> Row:
    return row._replace(preference=_preference(row)._replace(**values))


def desirability_weights(rows: Sequence[Row]) -> Weights:
    """Weights that make good and poor answers count the same in all, where they are not (KTO paper, equation 8).

    The rarer side is raised until the sums are as 1 to 1; sums within 1 to 4/3 are left alone.
    """
    good = sum(row.preference is not None and bool(row.preference.is_desirable) for row in rows)
    poor = len(rows) - good
    if not good or not poor or 1 <= good / poor <= 4 / 3:
        return Weights()
    return Weights(poor / good, 1.0) if good < poor else Weights(1.0, good / poor)


def preference_passes(
    loaded: LoadedModel,
    train: TrainConfig,
    *,
    weights: Weights,
    precision: str,
    pad_id: int,
    flat: FlatPasses | None = None,
) -> PreferencePasses:
    """The passes of a preference method, padded where `flat` is None. Raises ConfigError on an encoder-decoder."""
    if loaded.kind != "causal":
        raise needs_decoder(f"method {train.method}", loaded.family)
    advanced = train.advanced
    losses: dict[str, PreferenceLoss] = {
        "dpo": partial(dpo_loss, beta=advanced.beta, label_smoothing=advanced.label_smoothing),
        "orpo": partial(orpo_loss, beta=advanced.beta),
        "kto": partial(kto_loss, beta=advanced.beta, weights=weights),
    }
    padded = PaddedPasses(loaded, loss_for(loaded), precision, pad_id)
    layout: Layout = PaddedLayout(padded) if flat is None else FlatLayout(flat)
    return PreferencePasses(loaded, train.method, losses[train.method], layout)
