"""DPO, ORPO and KTO as functions of what the sequences of a batch are worth to the model, however that was computed.

DPO: Rafailov et al. 2023, arXiv 2305.18290, with label smoothing by Chowdhury et al. 2024, arXiv 2403.00409 ("robust").
ORPO: Hong et al. 2024, arXiv 2403.07691. KTO: Ethayarajh et al. 2024, arXiv 2402.01306.
"""

# SPDX-License-Identifier: Apache-2.0
#
# Shapes: B rows (pairs count once), S sequences (of pairs the better ones, then the worse in the same order), U tokens
# asked for, of all sequences.
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from foretune.train.objective import LossSum, Preference

__all__ = ["Known", "PreferenceLoss", "Scored", "Weights", "dpo_loss", "known_of", "kto_loss", "orpo_loss"]

LOG_HALF = -math.log(2)
LEAST_CERTAIN = -1e-6  # an average log-probability closer to 0 has no odds in fp32


class Scored(NamedTuple):
    """The loss (nats, with gradient) of each token asked for, the sequence it is of, and whether it is its answer's."""

    losses_U: Tensor
    sequence_U: Tensor
    answer_U: Tensor
    num_sequences: int

    def summed(self, values_U: Tensor) -> Tensor:
        """Sums over the tokens of each sequence, [S], in fp64.

        A margin is a small difference of such sums: of 800 nats fp32 keeps only 6e-5, 1e-5 of a loss.
        """
        zeros_S = values_U.new_zeros(self.num_sequences, dtype=torch.float64)
        return zeros_S.index_add(0, self.sequence_U, values_U.double())

    def log_probabilities(self) -> Tensor:
        """Log-probability (nats) of each sequence's answer, [S]."""
        return self.summed(-self.losses_U * self.answer_U)


class Known(NamedTuple):
    """What a batch brings along: log-probabilities before training [S], which answers are good [B] (kto), and the one
    number that its global batch shares."""

    reference_S: Tensor
    desirable_B: Tensor
    shared: float


PreferenceLoss = Callable[[Scored, Known], LossSum]


class Weights(NamedTuple):
    """What good and poor answers count in KTO."""

    desirable: float = 1.0
    undesirable: float = 1.0


EVEN = Weights()


def known_of(preferences: Sequence[Preference], shared: float, device: torch.device) -> Known:
    """What the rows of a batch know; rows that are judged alone have one sequence each."""
    reference = [one.reference[0] for one in preferences]
    if preferences[0].is_desirable is None:
        reference += [one.reference[1] for one in preferences]
    desirable = torch.tensor([bool(one.is_desirable) for one in preferences], device=device)
    return Known(torch.tensor(reference, dtype=torch.float64, device=device), desirable, shared)


def _judged(losses_B: Tensor, margins_B: Tensor) -> LossSum:
    """The loss with what is logged: how far rewards are apart (nats x beta), and how many the right way round."""
    margins_B = margins_B.detach()
    right = int((margins_B > 0).sum())
    return LossSum(
        losses_B.sum().float(), right, {"reward_margin": float(margins_B.sum()), "reward_accuracy": float(right)}
    )


def dpo_loss(scored: Scored, known: Known, *, beta: float, label_smoothing: float = 0.0) -> LossSum:
    """-log sigmoid(beta x margin) a pair, the margin being how much more the model moved to the better answer.

    With `label_smoothing` e (share of pairs that are the wrong way round) the unbiased loss of the paper on it.
    """
    better_B, worse_B = (scored.log_probabilities() - known.reference_S).chunk(2)
    margins_B = beta * (better_B - worse_B)
    losses_B = -functional.logsigmoid(margins_B)
    if label_smoothing:
        swapped_B = -functional.logsigmoid(-margins_B)
        losses_B = ((1 - label_smoothing) * losses_B - label_smoothing * swapped_B) / (1 - 2 * label_smoothing)
    return _judged(losses_B, margins_B)


def orpo_loss(scored: Scored, known: Known, *, beta: float) -> LossSum:
    """Language-model loss of the better conversations plus beta x -log sigmoid(log odds ratio) a pair; no reference.

    The language-model loss counts every token of the better conversation, prompt included, and is averaged over the
    global batch's tokens: `known.shared` is its pairs per such token.
    """
    counts_S = scored.summed(scored.answer_U.to(scored.losses_U.dtype))
    better_B, worse_B = (scored.log_probabilities() / counts_S).chunk(2)
    language = (scored.losses_U * (scored.sequence_U < scored.num_sequences // 2)).sum() * known.shared
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


def kto_loss(scored: Scored, known: Known, *, beta: float, weights: Weights = EVEN) -> LossSum:
    """1 - sigmoid(beta x (moved - drift)) a good answer, 1 - sigmoid(beta x (drift - moved)) a poor one.

    `known.shared` is the drift: how far the model has moved on answers to other questions, in nats, at least 0.
    """
    moved_B = scored.log_probabilities() - known.reference_S
    signs_B = torch.where(known.desirable_B, 1.0, -1.0)
    counts_B = torch.where(known.desirable_B, weights.desirable, weights.undesirable)
    losses_B = counts_B * (1 - torch.sigmoid(beta * signs_B * (moved_B - known.shared)))
    return _judged(losses_B, beta * signs_B * moved_B)
