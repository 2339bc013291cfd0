"""Sample-ratio mismatch: whether the arms of a split test got the share of units that was configured."""

# SPDX-License-Identifier: Apache-2.0
#
# Shapes: S strata (times of one allocation), K variants, L looks.
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from foretune.errors import ConfigError, ScoreError
from foretune.stats.checks import FloatArray

__all__ = ["ALARM_P", "RatioCheck", "daily_ratio_check", "expected_counts", "ratio_p_values"]

ALARM_P = 0.0009  # at every daily look: 0.8 % false alarms in 28 days
MIN_UNITS = 100


class RatioCheck(NamedTuple):
    """The smallest daily p-value and its day (from 1), the p-value of all units, and whether any day alarms."""

    p_value: float
    smallest_p: float
    day: int
    alarm: bool


def ratio_p_values(counts_LSK: ArrayLike, shares_SK: ArrayLike) -> FloatArray:
    """Chi-squared p-values (L,) of the counts of units at each look against the configured shares.

    Each stratum has its own shares; observed minus expected is summed over strata with the multinomial covariance, so
    one stratum gives Pearson's test. 1 where there are under 100 units. Raises ConfigError on shares that do not add
    up to 1.
    """
    counts, shares = np.asarray(counts_LSK, dtype=np.float64), np.asarray(shares_SK, dtype=np.float64)
    if (shares < 0).any() or not np.allclose(shares.sum(axis=-1), 1.0):
        raise ConfigError(
            f"shares are {shares.tolist()}, expected to add up to 1", fix="shares = {base = 0.5, tuned = 0.5}"
        )
    if (counts < 0).any() or not np.isfinite(counts).all():
        raise ScoreError("a count of units is negative or missing, expected 0 or more")
    totals = counts.sum(axis=-1, keepdims=True)
    gap = (counts - totals * shares).sum(axis=-2)
    each = np.einsum("sk,kj->skj", shares, np.eye(shares.shape[-1])) - np.einsum("sk,sj->skj", shares, shares)
    covariance = np.einsum("ls,skj->lkj", totals[..., 0], each)
    return _chi2_p_values(gap, covariance, totals.sum(axis=(-2, -1)))


def daily_ratio_check(counts_LSK: ArrayLike, shares_SK: ArrayLike, alarm_p: float = ALARM_P) -> RatioCheck:
    """Check the cumulative counts at the end of every day. An alarm of any day stays."""
    p_values = ratio_p_values(counts_LSK, shares_SK)
    if not p_values.size:
        return RatioCheck(1.0, 1.0, 0, False)
    day = int(p_values.argmin())
    smallest = float(p_values[day])
    return RatioCheck(float(p_values[-1]), smallest, day + 1, smallest < alarm_p)


def _chi2_p_values(gap_LK: FloatArray, covariance_LKK: FloatArray, units_L: FloatArray) -> FloatArray:
    from scipy.special import chdtrc

    used_LK = np.diagonal(covariance_LKK, axis1=-2, axis2=-1) > 0
    freedom = used_LK.sum(axis=-1) - 1
    inverse = np.linalg.pinv(covariance_LKK, hermitian=True)
    square = np.einsum("lk,lkj,lj->l", gap_LK, inverse, gap_LK)
    p_values = np.where(freedom >= 1, chdtrc(np.maximum(freedom, 1), np.maximum(square, 0.0)), 1.0)
    p_values = np.where((~used_LK & (np.abs(gap_LK) > 0)).any(axis=-1), 0.0, p_values)  # units where the share is 0
    enough: FloatArray = np.where(units_L < MIN_UNITS, 1.0, p_values)
    return enough


def expected_counts(counts_SK: Sequence[Sequence[float]], shares_SK: Sequence[Sequence[float]]) -> list[float]:
    """Units a variant should have (K,), given the totals of each stratum."""
    counts, shares = np.asarray(counts_SK, dtype=np.float64), np.asarray(shares_SK, dtype=np.float64)
    return [float(value) for value in (counts.sum(axis=1, keepdims=True) * shares).sum(axis=0)]
