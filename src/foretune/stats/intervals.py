"""Confidence intervals for one system: Wilson for rates, t for means, BCa bootstrap for what is not a mean."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from foretune.errors import ScoreError
from foretune.stats.bootstrap import DRAWS, MetricOfSums, resample
from foretune.stats.checks import FloatArray, ScoreRange, checked_alpha, checked_scores, score_limits

__all__ = ["Interval", "bca_interval", "t_mean", "wilson"]


class Interval(NamedTuple):
    """A metric over `n` samples and where it lies with confidence 1 - alpha."""

    value: float
    low: float
    high: float
    n: int
    method: str


def wilson(successes: int, n: int, alpha: float = 0.05) -> Interval:
    """Wilson's score interval for a rate, fractions in 0..1 (Wilson 1927; scipy's `proportion_ci(method="wilson")`).

    Raises ScoreError where there is no sample or the count lies outside 0..n.
    """
    from scipy.special import ndtri

    if n < 1 or not 0 <= successes <= n:
        raise ScoreError(
            f"{successes} successes of {n} samples, expected 0 <= successes <= n and n >= 1",
            fix="check that the split holds samples: foretune audit",
        )
    z = -float(ndtri(checked_alpha(alpha) / 2))
    rate = successes / n
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return Interval(rate, low, high, n, "wilson")


def t_mean(scores: ArrayLike, alpha: float = 0.05, score_range: ScoreRange | None = (0.0, 1.0)) -> Interval:
    """Student's t interval for the mean of graded scores, cut to `score_range`.

    Scores that are all the same carry no variance; then the interval is that of `unseen_share`. With
    `score_range=None` the possible range is guessed from the scores seen.
    """
    from scipy.special import stdtrit

    values = checked_scores(scores, "sample", score_range)
    limits = score_limits(score_range, values)
    n, mean = values.size, float(values.mean())
    if np.ptp(values) == 0:
        share = unseen_share(n, checked_alpha(alpha))
        low, high = mean - share * (mean - limits[0]), mean + share * (limits[1] - mean)
        return Interval(mean, low, high, n, "identical scores")
    half = -float(stdtrit(n - 1, checked_alpha(alpha) / 2)) * float(values.std(ddof=1)) / math.sqrt(n)
    return Interval(mean, max(mean - half, limits[0]), min(mean + half, limits[1]), n, "t")


def unseen_share(n: int, alpha: float) -> float:
    """The largest share of samples that may be unlike the n seen, which are all alike: 1 - (alpha/2)^(1/n).

    The exact (Clopper-Pearson) upper bound for 0 of n; about 3.7 / n at alpha = 0.05.
    """
    return float(1 - (alpha / 2) ** (1 / n))


def bca_interval(
    rows: FloatArray,
    metric: MetricOfSums,
    alpha: float = 0.05,
    *,
    groups: Sequence[Hashable] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    score_range: ScoreRange = (0.0, 1.0),
) -> Interval:
    """Interval for a metric of sums over samples (macro-F1, corpus BLEU), resampling samples or whole groups.

    `rows` is (n, K), one row of sufficient statistics a sample; `metric` maps sums of shape (B, K) to B values.
    Bias-corrected and accelerated bootstrap (Efron 1987), or the jackknife with t under 60 units;
    fully decided metrics (every draw the same) get the interval of `unseen_share`.
    """
    resampled = resample(rows, metric, groups=groups, draws=draws, seed=seed)
    level = checked_alpha(alpha)
    if resampled.is_constant:
        share, value = unseen_share(resampled.num_units, level), resampled.value
        low, high = value - share * (value - score_range[0]), value + share * (score_range[1] - value)
    else:
        low, high = resampled.interval(level)
    return Interval(
        resampled.value, max(low, score_range[0]), min(high, score_range[1]), rows.shape[0], resampled.method
    )
