"""PPI++: many judge scores made honest by a few human labels of the same answers."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from foretune.errors import ScoreError
from foretune.stats.checks import checked_alpha, checked_scores

__all__ = ["MIN_LABELS", "JudgedMean", "judged_mean"]

MIN_LABELS = 100  # blind human labels a verdict; with fewer the t interval is only a sketch


class JudgedMean(NamedTuple):
    """The mean human score with its interval. `weight`: 0 where the judge adds nothing, up to 1.

    `p_value` is two-sided for a mean of 0; `human_low`, `human_high` what the human labels alone would say.
    `calibrated` is false with fewer than 100 labels: then it must not decide.
    """

    value: float
    ci_low: float
    ci_high: float
    p_value: float
    weight: float
    human_low: float
    human_high: float
    num_labels: int
    calibrated: bool


def judged_mean(
    human: ArrayLike, judge_of_labelled: ArrayLike, judge_of_rest: ArrayLike, alpha: float = 0.05
) -> JudgedMean:
    """The mean of human scores over all answers, from n labelled ones and N that only the judge has scored.

    mean(Y) + w (mean f over N - mean f over n), w = Cov(Y, f) / ((1 + n/N) Var f), cut to 0..1; variance
    Var(Y - w f) / n + w^2 Var(f) / N, with t of n - 1 degrees of freedom (Angelopoulos et al., arXiv:2311.01453).
    The labelled answers must be a random draw of all. Raises ScoreError where there are under 3 labels.
    """
    from scipy.special import stdtr, stdtrit

    labels = checked_scores(human, "human")
    judged, rest = checked_scores(judge_of_labelled, "judge"), checked_scores(judge_of_rest, "judge")
    n, others = labels.size, rest.size
    if judged.size != n or n < 3:
        raise ScoreError(
            f"{n} human labels and {judged.size} judge scores of them, expected the same answers, at least 3",
            fix="label at least 100 answers drawn at random",
        )
    spread = float(np.concatenate([judged, rest]).var(ddof=1))
    weight = float(np.cov(labels, judged)[0, 1]) / ((1 + n / others) * spread) if spread > 0 else 0.0
    weight = min(1.0, max(0.0, weight))
    value = float(labels.mean()) + weight * float(rest.mean() - judged.mean())
    variance = float((labels - weight * judged).var(ddof=1)) / n
    variance += weight**2 * (float(rest.var(ddof=1)) if others > 1 else 0.0) / others
    quantile, error = -float(stdtrit(n - 1, checked_alpha(alpha) / 2)), math.sqrt(variance)
    alone = quantile * float(labels.std(ddof=1)) / math.sqrt(n)
    p_value = 2 * float(stdtr(n - 1, -abs(value) / error)) if error > 0 else float(value == 0)
    mean = float(labels.mean())
    return JudgedMean(
        value, value - quantile * error, value + quantile * error, p_value, weight, mean - alone, mean + alone, n,
        n >= MIN_LABELS,
    )  # fmt: skip
