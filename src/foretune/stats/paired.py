"""Candidate against baseline on the same samples: picks the paired test and gives the one result."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from foretune.errors import ScoreError
from foretune.stats.bootstrap import DRAWS, MetricOfSums, resample
from foretune.stats.checks import (
    FloatArray,
    IntArray,
    ScoreRange,
    checked_alpha,
    checked_binary,
    checked_scores,
    group_codes,
    score_limits,
)
from foretune.stats.paired_binary import McNemar
from foretune.stats.paired_tests import (
    IdenticalDifferences,
    MeanDifference,
    PairedTest,
    ResampledDifference,
    SignFlip,
)
from foretune.stats.power import Spread, samples_needed, visible_difference

__all__ = [
    "MARGIN",
    "PairedResult",
    "compare_paired",
    "compare_paired_metric",
    "paired_result",
    "paired_test",
    "settling_difference",
]

MARGIN = 0.02  # difference of practical importance: 2 points of a score in 0..1
T_SAMPLES = 30  # from here the mean of graded differences is near enough to normal
T_GROUPS = 15


@dataclass(frozen=True)
class PairedResult:
    """Candidate minus baseline over the same `n` samples; fractions where the scores are in 0..1.

    `ci_low` to `ci_high` has confidence 1 - `alpha`, where `alpha` is already divided by `look`, and `p_value` is
    already multiplied by it. `lower_bound` is the one-sided bound at `alpha`, for non-inferiority.
    `smallest_visible_difference`: the true difference that these samples show with 80 % power. `n_needed`: samples
    that settle the verdict with 80 % power if the true difference is the one seen; None where none would.
    `span`: highest minus lowest possible score.
    """

    value: float
    ci_low: float
    ci_high: float
    p_value: float
    n: int
    method: str
    smallest_visible_difference: float
    n_needed: int | None
    lower_bound: float
    alpha: float
    look: int
    num_units: int
    min_units: int
    spread: Spread
    span: float


def compare_paired(
    baseline_scores: ArrayLike,
    candidate_scores: ArrayLike,
    kind: Literal["binary", "graded"] = "binary",
    groups: Sequence[Hashable] | None = None,
    alpha: float = 0.05,
    look: int = 1,
    *,
    margin: float = MARGIN,
    score_range: ScoreRange | None = (0.0, 1.0),
) -> PairedResult:
    """Compare two systems' scores of the same samples, in the same order.

    Binary: McNemar's exact unconditional test with Tango's interval. Graded: paired t from 30 samples on, below it
    sign-flip permutation (exact up to 20). Groups (conversation, document, customer, repeats of one sample):
    cluster-robust t from 15 groups on, below it the wild-cluster sign flip. `look`: how many times this test split has
    been opened; alpha is divided by it. `margin` is the difference of practical importance that `n_needed` looks at;
    `score_range` the lowest and highest possible score, None where that is not known.
    Raises ScoreError naming the row of a score that is missing, NaN or out of range.
    """
    if kind == "binary":
        baseline, candidate = checked_binary(baseline_scores, "baseline"), checked_binary(candidate_scores, "candidate")
        score_range = (0.0, 1.0)
    else:
        baseline = checked_scores(baseline_scores, "baseline", score_range)
        candidate = checked_scores(candidate_scores, "candidate", score_range)
    if baseline.size != candidate.size:
        raise ScoreError(
            f"{baseline.size} baseline and {candidate.size} candidate scores, expected the same samples for both",
            fix="score both systems on the same split",
        )
    low, high = score_limits(score_range, baseline, candidate)
    codes = group_codes(groups, baseline.size)
    test = paired_test(candidate - baseline, codes, kind, high - low)
    return paired_result(test, baseline.size, high - low, checked_alpha(alpha, look), look, margin)


def compare_paired_metric(
    baseline_rows: FloatArray,
    candidate_rows: FloatArray,
    metric: MetricOfSums,
    groups: Sequence[Hashable] | None = None,
    alpha: float = 0.05,
    look: int = 1,
    *,
    margin: float = MARGIN,
    draws: int = DRAWS,
    seed: int = 0,
    span: float = 1.0,
) -> PairedResult:
    """Compare a metric that is no mean (macro-F1, corpus BLEU) on the same samples by the paired bootstrap with t.

    Rows are (n, K) sufficient statistics per sample, `metric` maps their sums (B, K) to B values. Samples, or whole
    groups, are drawn for both systems together; with fewer than 60 of them the paired jackknife with t decides.
    """
    if baseline_rows.shape != candidate_rows.shape:
        raise ScoreError(
            f"statistics of shape {baseline_rows.shape} and {candidate_rows.shape}, expected the same samples for both",
            fix="score both systems on the same split with the same labels",
        )
    columns = baseline_rows.shape[1]

    def difference(sums: FloatArray) -> FloatArray:
        return metric(sums[:, columns:]) - metric(sums[:, :columns])

    rows = np.concatenate([baseline_rows, candidate_rows], axis=1)
    resampled = resample(rows, difference, groups=groups, draws=draws, seed=seed)
    n = rows.shape[0]
    return paired_result(ResampledDifference(resampled, n, span), n, span, checked_alpha(alpha, look), look, margin)


def settling_difference(value: float, margin: float) -> float:
    """How far the difference seen is from a verdict: from 0 (better) or from the margin (not better), the farther."""
    return max(value, margin - value)


def paired_test(differences: FloatArray, codes: IntArray, kind: str, span: float) -> PairedTest:
    """The test that fits differences of this kind; `codes` numbers each sample's group."""
    sums: FloatArray = np.bincount(codes, weights=differences).astype(np.float64)
    sizes: FloatArray = np.bincount(codes).astype(np.float64)
    grouped = bool((sizes > 1).any())
    if kind == "binary" and not grouped:
        return McNemar(int((differences < 0).sum()), int((differences > 0).sum()), differences.size)
    means = sums / sizes
    if np.ptp(means) <= 1e-12 * max(1.0, float(np.abs(means).max())):
        return IdenticalDifferences(float(means[0]), sums.size, differences.size, span)
    if sums.size < (T_GROUPS if grouped else T_SAMPLES):
        return SignFlip(sums, sizes)
    return MeanDifference(sums, sizes)


def paired_result(test: PairedTest, n: int, span: float, alpha: float, look: int, margin: float) -> PairedResult:
    """What a test says at the level `alpha`, which is already divided by `look`."""
    low, high = test.interval(alpha)
    bound, _ = test.interval(min(2 * alpha, 0.999))
    needed = samples_needed(test.spread, settling_difference(test.value, margin), alpha)
    floor = math.ceil(test.min_units * n / test.num_units)
    return PairedResult(
        value=test.value,
        ci_low=max(low, -span),
        ci_high=min(high, span),
        p_value=min(1.0, test.p_value * look),
        n=n,
        method=test.method,
        smallest_visible_difference=min(visible_difference(test.spread, n, alpha), span),
        n_needed=None if needed is None else max(needed, floor),
        lower_bound=max(bound, -span),
        alpha=alpha,
        look=look,
        num_units=test.num_units,
        min_units=test.min_units,
        spread=test.spread,
        span=span,
    )
