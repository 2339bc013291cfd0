"""The difference of two variants in split traffic: by user, stratified by allocation, with delta method and CUPED."""

# SPDX-License-Identifier: Apache-2.0
#
# Shapes: U units; a unit is one user within one stratum (time of one allocation).
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from foretune.stats.checks import FloatArray, IntArray
from foretune.stats.cuped import adjusted_outcome
from foretune.stats.sequential import MIN_EVENTS, MIN_UNITS

__all__ = ["Effect", "Units", "estimate", "estimate_rare"]


@dataclass(frozen=True)
class Units:
    """Sums per unit: `total_U` of the outcome and `weight_U` of what it is divided by (rows with it, or 1).

    `arm_U` is 0 for the baseline and 1 for the candidate; `covariate_U` the outcome before the split, NaN if unknown.
    """

    user_U: IntArray
    stratum_U: IntArray
    arm_U: IntArray
    total_U: FloatArray
    weight_U: FloatArray
    covariate_U: FloatArray | None = None
    is_binary: bool = False


class Effect(NamedTuple):
    """Candidate minus baseline; `standard_error` is infinite until there is enough for an interval."""

    value: float
    standard_error: float
    baseline_mean: float
    candidate_mean: float
    baseline_units: int
    candidate_units: int
    variance_removed: float = 0.0

    @property
    def num_units(self) -> int:
        """Units of both arms."""
        return self.baseline_units + self.candidate_units

    @property
    def has_interval(self) -> bool:
        """Whether there are 100 units an arm, and 10 events and non-events of a 0/1 outcome."""
        return math.isfinite(self.standard_error)


def estimate(units: Units) -> Effect:
    """The difference of means (ratios of sums), within strata, weighted by n1 n0 / (n1 + n0), clustered by user.

    A ratio is linearised in each stratum and arm: R + (y - R x) / mean x (delta method, Deng et al., KDD 2018); one
    user in several strata is one cluster. Differences between times never enter, so a ramp cannot fake an effect.
    """
    units = _with_both_arms(_with_weight(units))
    counts = np.bincount(units.arm_U, minlength=2)
    if not units.arm_U.size:
        return Effect(0.0, math.inf, math.nan, math.nan, int(counts[0]), int(counts[1]))
    cell = 2 * units.stratum_U + units.arm_U
    values, removed = _linearised(units, cell), 0.0
    if units.covariate_U is not None:
        values, _, removed = adjusted_outcome(values, units.covariate_U, cell)
    value, error, means = _stratified(values, units, cell)
    if not _enough(units, counts):
        error = math.inf
    return Effect(value, error, means[0], means[1], int(counts[0]), int(counts[1]), removed)


def estimate_rare(units: Units) -> Effect:
    """Like `estimate`, but a 0/1 outcome needs no ten events: its error has a pseudo-event and non-event an arm.

    For guards, whose events are rare when all is well and all in one arm when it is not (Agresti and Caffo 2000).
    """
    effect = estimate(units)
    if not units.is_binary or min(effect.baseline_units, effect.candidate_units) < MIN_UNITS:
        return effect
    seen = _with_both_arms(_with_weight(units))
    count = np.bincount(seen.arm_U, minlength=2) + 2.0
    events = np.bincount(seen.arm_U, weights=seen.total_U / seen.weight_U, minlength=2) + 1.0
    rate = events / count
    floor = math.sqrt(float((rate * (1 - rate) / count).sum()))
    plain = _stratified(_linearised(seen, 2 * seen.stratum_U + seen.arm_U), seen, 2 * seen.stratum_U + seen.arm_U)[1]
    return effect._replace(standard_error=max(plain, floor))


def _with_weight(units: Units) -> Units:
    return _kept(units, units.weight_U > 0)


def _with_both_arms(units: Units) -> Units:
    """Without the strata in which one arm has no unit: they say nothing of a difference."""
    if not units.arm_U.size:
        return units
    size = int(units.stratum_U.max()) + 1
    both = np.bincount(units.stratum_U, weights=units.arm_U == 0, minlength=size) > 0
    both &= np.bincount(units.stratum_U, weights=units.arm_U == 1, minlength=size) > 0
    return units if both.all() else _kept(units, both[units.stratum_U])


def _kept(units: Units, keep: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Units:
    if keep.all():
        return units
    past = None if units.covariate_U is None else units.covariate_U[keep]
    return Units(
        units.user_U[keep],
        units.stratum_U[keep],
        units.arm_U[keep],
        units.total_U[keep],
        units.weight_U[keep],
        past,
        units.is_binary,
    )


def _linearised(units: Units, cell: IntArray) -> FloatArray:
    """One number a unit, whose plain mean over a cell is the cell's ratio of sums."""
    count = np.maximum(np.bincount(cell), 1)
    weight = np.bincount(cell, weights=units.weight_U)
    ratio = np.bincount(cell, weights=units.total_U) / np.where(weight > 0, weight, 1.0)
    mean_weight = np.where(weight > 0, weight / count, 1.0)
    centred = (units.total_U - ratio[cell] * units.weight_U) / mean_weight[cell]
    linear: FloatArray = ratio[cell] + centred
    return linear


def _stratified(values: FloatArray, units: Units, cell: IntArray) -> tuple[float, float, tuple[float, float]]:
    cells = 2 * (int(units.stratum_U.max()) + 1)
    count = np.bincount(cell, minlength=cells).astype(np.float64)
    means = np.bincount(cell, weights=values, minlength=cells) / np.maximum(count, 1)
    pairs, mean_pairs = count.reshape(-1, 2), means.reshape(-1, 2)
    weight = pairs.prod(axis=1) / np.maximum(pairs.sum(axis=1), 1)
    weight = weight / weight.sum()
    per_unit = np.where(units.arm_U == 1, 1.0, -1.0) * weight[units.stratum_U] / count[cell] * (values - means[cell])
    _, index = np.unique(units.user_U, return_inverse=True)
    by_user = np.bincount(index, weights=per_unit * np.sqrt(count / np.maximum(count - 1, 1))[cell])
    error = math.sqrt(float(by_user @ by_user))  # Welch's, where there is one stratum and one row a user
    baseline, candidate = (float(value) for value in weight @ mean_pairs)
    return candidate - baseline, error, (baseline, candidate)


def _enough(units: Units, counts: IntArray) -> bool:
    if counts.min() < MIN_UNITS:
        return False
    if not units.is_binary:
        return True
    events = np.bincount(units.arm_U, weights=units.total_U, minlength=2)
    others = np.bincount(units.arm_U, weights=units.weight_U - units.total_U, minlength=2)
    return bool(min(events.min(), others.min()) >= MIN_EVENTS)
