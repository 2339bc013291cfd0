"""The paired tests themselves: each knows its value, p-value, spread and the interval at any level."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Protocol

import numpy as np

from foretune.stats.bootstrap import Resampled
from foretune.stats.checks import FloatArray
from foretune.stats.intervals import unseen_share
from foretune.stats.power import Spread

__all__ = [
    "IdenticalDifferences",
    "MeanDifference",
    "PairedTest",
    "ResampledDifference",
    "SignFlip",
]

EXACT_UNITS = 20  # all 2^20 sign flips are enumerated up to here
FLIPS = 19_999  # seeded sign flips above it


class PairedTest(Protocol):
    """What every paired test answers. `value` is candidate minus baseline, `num_units` the independent pairs."""

    @property
    def value(self) -> float: ...
    @property
    def p_value(self) -> float: ...
    @property
    def method(self) -> str: ...
    @property
    def spread(self) -> Spread: ...
    @property
    def num_units(self) -> int: ...
    @property
    def min_units(self) -> int:
        """Units without which this test can prove nothing at the usual level."""
        ...

    def interval(self, alpha: float) -> tuple[float, float]: ...


@lru_cache(maxsize=2)
def _drawn_subsets(num_units: int, seed: int) -> FloatArray:
    """(B, G) seeded non-empty subsets of the units, as 0 and 1."""
    chosen = np.random.default_rng(seed).random((FLIPS, num_units)) < 0.5
    return chosen[chosen.any(axis=1)].astype(np.float64)


@dataclass(frozen=True)
class MeanDifference:
    """Mean of paired differences with Student's t: over samples, or cluster-robust (CR1, t(G-1)) over groups.

    `sums` and `sizes` are (G,): each unit's summed difference and number of samples. For the mean, CR1 is
    SE^2 = G/(G-1) sum_g (sums_g - sizes_g * mean)^2 / n^2, which for groups of one is the paired t.
    """

    sums: FloatArray
    sizes: FloatArray
    min_units: int = 2

    @property
    def value(self) -> float:
        """Mean difference over samples."""
        return float(self.sums.sum() / self.sizes.sum())

    @property
    def num_units(self) -> int:
        """Groups, or samples."""
        return self.sums.size

    @property
    def method(self) -> str:
        """Paired t, or its cluster-robust form."""
        grouped = bool((self.sizes > 1).any())
        return f"cluster-robust t (CR1, {self.num_units} groups)" if grouped else "paired t"

    @property
    def spread(self) -> Spread:
        """n SE^2."""
        residuals = self.sums - self.sizes * self.value
        squares = float(residuals @ residuals)
        return Spread("variance", self.num_units / (self.num_units - 1) * squares / float(self.sizes.sum()))

    @property
    def standard_error(self) -> float:
        """Of `value`."""
        return math.sqrt(self.spread.value / float(self.sizes.sum()))

    @property
    def p_value(self) -> float:
        """Two-sided p of t with G-1 degrees of freedom."""
        from scipy.special import stdtr

        return min(1.0, 2 * float(stdtr(self.num_units - 1, -abs(self.value) / self.standard_error)))

    def interval(self, alpha: float) -> tuple[float, float]:
        """Mean plus and minus t SE."""
        from scipy.special import stdtrit

        half = -float(stdtrit(self.num_units - 1, alpha / 2)) * self.standard_error
        return self.value - half, self.value + half


@dataclass(frozen=True)
class SignFlip:
    """Permutation of the differences' signs, by sample or by whole group (wild-cluster), with its inverted interval.

    Under a true difference t the flips of sums - sizes * t are equally likely. A flip of the set S is at least as
    large as what was seen exactly if mean_S <= t, where mean_S is the difference averaged over S; so the ends of the
    interval are order statistics of these means (Hartigan 1969), and interval and p-value never disagree. With fewer
    than 6 units nothing is significant at 5 %: the ends are infinite.
    """

    sums: FloatArray
    sizes: FloatArray
    seed: int = 0
    min_units: int = 6

    @property
    def value(self) -> float:
        """Mean difference over samples."""
        return MeanDifference(self.sums, self.sizes).value

    @property
    def num_units(self) -> int:
        """Groups, or samples."""
        return self.sums.size

    @property
    def spread(self) -> Spread:
        """As for t."""
        return MeanDifference(self.sums, self.sizes).spread

    @property
    def method(self) -> str:
        """Whether groups or samples are flipped, and how many ways."""
        how = "exact" if self.num_units <= EXACT_UNITS else f"{FLIPS} draws"
        grouped = bool((self.sizes > 1).any())
        return f"wild-cluster sign flip ({how}, {self.num_units} groups)" if grouped else f"sign flip ({how})"

    @property
    def p_value(self) -> float:
        """Two-sided: twice the smaller share of flips (the unflipped one counted) at least as far out."""
        means, slack = self._subset_means, self._slack
        low = 1 + int((means <= slack).sum())
        high = 1 + int((means >= -slack).sum())
        return min(1.0, 2 * min(low, high) / (means.size + 1))

    def interval(self, alpha: float) -> tuple[float, float]:
        """Every difference that the two-sided test at `alpha` does not reject."""
        means = self._subset_means
        rank = int((means.size + 1) * alpha / 2 + 1e-9)
        if rank == 0:
            return -math.inf, math.inf
        ends = np.partition(means, [rank - 1, means.size - rank])
        return self._without_rounding(ends[rank - 1]), self._without_rounding(ends[means.size - rank])

    def _without_rounding(self, end: float) -> float:
        return 0.0 if abs(end) <= self._slack else float(end)

    @cached_property
    def _subset_means(self) -> FloatArray:
        if self.num_units > EXACT_UNITS:
            drawn = _drawn_subsets(self.num_units, self.seed) @ np.stack([self.sums, self.sizes], axis=1)
            means: FloatArray = drawn[:, 0] / drawn[:, 1]
            return means
        sums, sizes = np.zeros(1), np.zeros(1)
        for unit_sum, unit_size in zip(self.sums, self.sizes, strict=True):
            sums = np.concatenate([sums, sums + unit_sum])
            sizes = np.concatenate([sizes, sizes + unit_size])
        exact: FloatArray = sums[1:] / sizes[1:]
        return exact

    @property
    def _slack(self) -> float:
        """Sums that differ by rounding alone are ties."""
        return 1e-12 * float(np.abs(self.sums).max())


@dataclass(frozen=True)
class IdenticalDifferences:
    """Every difference is the same, so they say nothing of their own spread.

    The share of samples that may differ is at most `unseen_share`, and each by at most `span` (highest minus lowest
    possible score): the interval leaves room for that. p is that of the exact sign test.
    """

    value: float
    num_units: int
    n: int
    span: float
    method: str = "identical differences"
    min_units: int = 2

    @property
    def p_value(self) -> float:
        """2^(1-G), or 1 where nothing differs."""
        return 1.0 if self.value == 0 else 2.0 ** (1 - self.num_units)

    @property
    def spread(self) -> Spread:
        """One pseudo-difference each way, as in Bonett-Price, for every group as a whole."""
        return Spread("variance", 2 * self.span**2 / (self.num_units + 2) * self.n / self.num_units)

    def interval(self, alpha: float) -> tuple[float, float]:
        """Value moved toward -span and +span by the unseen share."""
        share = unseen_share(self.num_units, alpha)
        return self.value - share * (self.value + self.span), self.value + share * (self.span - self.value)


@dataclass(frozen=True)
class ResampledDifference:
    """Difference of a metric that is not a mean, by the paired bootstrap: its standard error, with t(G-1).

    A difference of two like systems is as good as symmetric, so that BCa's corrections only add their own noise: of
    equals at a macro-F1 of .93 BCa calls 7.0 % different for a nominal 5 %, this 4.7 %, with the same power.
    """

    resampled: Resampled
    n: int
    span: float
    min_units: int = 2

    @property
    def value(self) -> float:
        """Candidate's metric minus the baseline's."""
        return self.resampled.value

    @property
    def num_units(self) -> int:
        """Groups, or samples."""
        return self.resampled.num_units

    @property
    def method(self) -> str:
        """Paired bootstrap with t, or paired jackknife where units are few."""
        if self.resampled.is_constant or not self.resampled.draws_B.size:
            return f"paired {self.resampled.method}"
        return f"paired bootstrap with t ({self.resampled.draws_B.size} draws)"

    @property
    def p_value(self) -> float:
        """Two-sided p of t with G-1 degrees of freedom."""
        from scipy.special import stdtr

        if self.resampled.is_constant:
            return self._identical.p_value
        return min(1.0, 2 * float(stdtr(self.num_units - 1, -abs(self.value) / self._standard_error)))

    @property
    def spread(self) -> Spread:
        """n SE^2."""
        if self.resampled.is_constant:
            return self._identical.spread
        return Spread("variance", self.n * self._standard_error**2)

    def interval(self, alpha: float) -> tuple[float, float]:
        """Value plus and minus t SE."""
        from scipy.special import stdtrit

        if self.resampled.is_constant:
            return self._identical.interval(alpha)
        half = -float(stdtrit(self.num_units - 1, alpha / 2)) * self._standard_error
        return self.value - half, self.value + half

    @property
    def _standard_error(self) -> float:
        """Of the draws, which scatter too little by sqrt(G / (G-1)); else the jackknife's."""
        units = self.num_units
        expansion = math.sqrt(units / (units - 1)) if self.resampled.draws_B.size else 1.0
        return expansion * self.resampled.standard_error

    @property
    def _identical(self) -> IdenticalDifferences:
        return IdenticalDifferences(self.value, self.num_units, self.n, self.span)
