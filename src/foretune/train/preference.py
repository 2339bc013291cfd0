"""Preference training: DPO, ORPO and KTO as losses of a batch, and how their global batches are computed.

DPO: Rafailov et al. 2023, arXiv 2305.18290, with label smoothing by Chowdhury et al. 2024, arXiv 2403.00409 ("robust").
ORPO: Hong et al. 2024, arXiv 2403.07691. KTO: Ethayarajh et al. 2024, arXiv 2402.01306. The reference is the model
before its first step: its log-probabilities are computed once, so no second model is held.
"""

# SPDX-License-Identifier: Apache-2.0
#
# Shapes: B rows (pairs count once), L tokens.
from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from foretune.config.job import TrainConfig
from foretune.data.micro import micro_batches
from foretune.errors import ConfigError
from foretune.models.load import LoadedModel
from foretune.models.virtual import num_virtual_tokens
from foretune.train.objective import Batch, LossFunction, LossSum, Preference, Row, build_batch, token_losses
from foretune.train.passes import Micro, autocast

__all__ = [
    "PreferencePasses",
    "Weights",
    "desirability_weights",
    "dpo_loss",
    "kto_loss",
    "log_probabilities",
    "orpo_loss",
    "preference_passes",
]

LOG_HALF = -math.log(2)
LEAST_CERTAIN = -1e-6  # an average log-probability closer to 0 has no odds in fp32


class Weights(NamedTuple):
    """What good and poor answers count in KTO."""

    desirable: float = 1.0
    undesirable: float = 1.0


EVEN = Weights()


def log_probabilities(loaded: LoadedModel, batch: Batch) -> Tensor:
    """Log-probability (nats) of what each sequence of a batch is to learn, given what stands before: [sequences]."""
    found = token_losses(loaded, batch.ids_BL, batch.weights_BL > 0)
    return _sums(-found.losses_N, found.rows_N, len(batch.ids_BL))


def _sums(values_N: Tensor, rows_N: Tensor, num_rows: int) -> Tensor:
    return values_N.new_zeros(num_rows).index_add(0, rows_N, values_N)


def _judged(losses_B: Tensor, margins_B: Tensor) -> LossSum:
    """The loss with what is logged: how far rewards are apart (nats x beta), and how many the right way round."""
    margins_B = margins_B.detach()
    right = int((margins_B > 0).sum())
    return LossSum(losses_B.sum(), right, {"reward_margin": float(margins_B.sum()), "reward_accuracy": float(right)})


def dpo_loss(loaded: LoadedModel, batch: Batch, *, beta: float, label_smoothing: float = 0.0) -> LossSum:
    """-log sigmoid(beta x margin) a pair, the margin being how much more the model moved to the better answer.

    With `label_smoothing` e (share of pairs that are the wrong way round) the unbiased loss of the paper on it.
    """
    assert batch.reference_B is not None
    moved_B = log_probabilities(loaded, batch) - batch.reference_B
    better_B, worse_B = moved_B.chunk(2)
    margins_B = beta * (better_B - worse_B)
    losses_B = -functional.logsigmoid(margins_B)
    if label_smoothing:
        swapped_B = -functional.logsigmoid(-margins_B)
        losses_B = ((1 - label_smoothing) * losses_B - label_smoothing * swapped_B) / (1 - 2 * label_smoothing)
    return _judged(losses_B, margins_B)


def orpo_loss(loaded: LoadedModel, batch: Batch, *, beta: float) -> LossSum:
    """Language-model loss of the better conversations plus beta x -log sigmoid(log odds ratio) a pair; no reference.

    The language-model loss counts every token of the better conversation, prompt included, and is averaged over the
    global batch's tokens: `batch.shared` is its pairs per such token.
    """
    num_pairs = len(batch.ids_BL) // 2
    answer_BL = batch.weights_BL > 0
    better_B1 = torch.arange(len(batch.ids_BL), device=answer_BL.device)[:, None] < num_pairs
    asked_BL = answer_BL | (better_B1 & (batch.mask_BL > 0))
    found = token_losses(loaded, batch.ids_BL, asked_BL)
    answer_N = answer_BL[:, 1:][asked_BL[:, 1:]].to(found.losses_N.dtype)
    counts_B = answer_BL[:, 1:].sum(dim=1)
    means_B = _sums(-found.losses_N * answer_N, found.rows_N, len(batch.ids_BL)) / counts_B
    language = (found.losses_N * (found.rows_N < num_pairs)).sum() * batch.shared
    better_B, worse_B = means_B.chunk(2)
    ratios_B = functional.logsigmoid(_log_odds(better_B) - _log_odds(worse_B))
    judged = _judged(-beta * ratios_B, beta * (better_B - worse_B))
    return judged._replace(loss=judged.loss + language)


def _log_odds(mean_B: Tensor) -> Tensor:
    """log(p / (1 - p)) of log p, without losing what is near 0 or 1."""
    mean_B = mean_B.float().clamp(max=LEAST_CERTAIN)
    certain_B = mean_B > LOG_HALF
    rest_B = torch.where(
        certain_B,
        torch.log(-torch.expm1(torch.where(certain_B, mean_B, mean_B.new_tensor(LOG_HALF)))),
        torch.log1p(-torch.exp(torch.where(certain_B, mean_B.new_tensor(LOG_HALF), mean_B))),
    )
    return mean_B - rest_B


def kto_loss(loaded: LoadedModel, batch: Batch, *, beta: float, weights: Weights = EVEN) -> LossSum:
    """1 - sigmoid(beta x (moved - drift)) a good answer, 1 - sigmoid(beta x (drift - moved)) a poor one.

    `batch.shared` is the drift: how far the model has moved on answers to other questions, in nats, at least 0.
    """
    assert batch.reference_B is not None and batch.desirable_B is not None
    moved_B = log_probabilities(loaded, batch) - batch.reference_B
    signs_B = torch.where(batch.desirable_B, 1.0, -1.0)
    counts_B = torch.where(batch.desirable_B, weights.desirable, weights.undesirable)
    losses_B = counts_B * (1 - torch.sigmoid(beta * signs_B * (moved_B - batch.shared)))
    return _judged(losses_B, beta * signs_B * moved_B)


@dataclass(frozen=True)
class PreferencePasses:
    """Padded rectangles of whole conversations through `loss_of`; rows get to know what their global batch shares."""

    loaded: LoadedModel
    method: str
    loss_of: LossFunction
    precision: str
    pad_id: int

    def cut(self, rows: Sequence[Row], budget_tokens: int) -> Iterator[Micro]:
        """See `Passes`: a pair is two sequences of the budget."""
        shared = self._shared(rows, budget_tokens)
        for chosen in self._cut(rows, budget_tokens):
            picked = [_with(rows[i], shared=shared) for i in chosen]
            num_sequences = len(picked) * (2 if picked[0].is_pair else 1)
            longest = max(row.length for row in picked) + num_virtual_tokens(self.loaded.model)
            yield Micro(picked, num_sequences * longest, num_sequences * longest**2, partial(self._loss, picked))

    def _cut(self, rows: Sequence[Row], budget_tokens: int) -> Iterator[list[int]]:
        budget = budget_tokens // 2 if rows and rows[0].is_pair else budget_tokens
        return micro_batches(range(len(rows)), [row.length for row in rows], budget_tokens=budget)

    def _loss(self, rows: Sequence[Row]) -> LossSum:
        batch = build_batch(rows, self.pad_id, self.loaded.device)
        with autocast(self.loaded, self.precision):
            return self.loss_of(self.loaded, batch)

    def _shared(self, rows: Sequence[Row], budget_tokens: int) -> float:
        """The one number of the global batch, so that the gradient does not depend on how it is cut."""
        if self.method == "orpo":
            return len(rows) / sum(len(row.ids) - 1 for row in rows)
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
        for chosen in self._cut(rows, budget_tokens):
            batch = build_batch([rows[i] for i in chosen], self.pad_id, self.loaded.device)
            with autocast(self.loaded, self.precision):
                values = log_probabilities(self.loaded, batch).tolist()
            for i, value in zip(chosen, values, strict=True):
                found[i] = value
        return found

    def release(self) -> None:
        """Nothing was changed."""

    def with_reference(self, rows: Sequence[Row], budget_tokens: int) -> list[Row]:
        """Rows with the log-probabilities that the model, as it stands now, gives to both their sequences."""
        self.loaded.model.eval()
        own = self.log_probabilities([Row(row.ids, row.weights) for row in rows], budget_tokens)
        others = self.log_probabilities([_other(row) for row in rows], budget_tokens)
        return [_with(row, reference=both) for row, both in zip(rows, zip(own, others, strict=True), strict=True)]


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
    loaded: LoadedModel, train: TrainConfig, *, weights: Weights, precision: str, pad_id: int
) -> PreferencePasses:
    """The passes of a preference method. Raises ConfigError on an encoder-decoder."""
    if loaded.kind != "causal":
        raise ConfigError(
            f"method {train.method} needs a decoder-only model, got a {loaded.kind} model", fix='train.method = "lora"'
        )
    advanced = train.advanced
    losses: dict[str, LossFunction] = {
        "dpo": partial(dpo_loss, beta=advanced.beta, label_smoothing=advanced.label_smoothing),
        "orpo": partial(orpo_loss, beta=advanced.beta),
        "kto": partial(kto_loss, beta=advanced.beta, weights=weights),
    }
    return PreferencePasses(loaded, train.method, losses[train.method], precision, pad_id)
