"""Intervals and decisions that stay honest however often one looks: confidence sequences and the hybrid test."""

# SPDX-License-Identifier: Apache-2.0
#
# Shapes: L looks, in order of time; a leading `...` are independent experiments.
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from foretune.errors import ConfigError
from foretune.stats.checks import FloatArray, checked_alpha

__all__ = ["MIN_DAYS", "MIN_EVENTS", "MIN_UNITS", "Decision", "SequentialPlan", "sequence_half_width", "tuned_rho2"]

MIN_UNITS = 100  # units an arm before any interval: from n = 1 the plug-in variance is 0 and 43 % are false
MIN_EVENTS = 10  # events, and non-events, of a 0/1 outcome an arm
MIN_DAYS = 7
MONITOR_SHARE = 0.2  # of alpha, spent while running; the rest at the horizon


def tuned_rho2(units: float, alpha: float = 0.05) -> float:
    """The mixture's rho^2 that makes the confidence sequence narrowest after `units` units.

    rho^2 = (-2 ln a + ln(-2 ln a + 1)) / n* (Waudby-Smith et al., arXiv:2103.06476, after its Proposition 2.5).
    """
    if units < 1:
        raise ConfigError(f"planned units are {units}, expected at least 1", fix="planned_units = 4000")
    log = -2 * math.log(checked_alpha(alpha))
    return (log + math.log(log + 1)) / units


def sequence_half_width(standard_errors: ArrayLike, units: ArrayLike, alpha: float, rho2: float) -> FloatArray:
    """Half width of the asymptotic confidence sequence: all looks together miss the truth at most at rate alpha.

    With V = n SE^2: sqrt(V * 2 (n rho^2 + 1) / (n rho)^2 * ln(sqrt(n rho^2 + 1) / alpha)), two-sided
    (arXiv:2103.06476, Proposition 2.5). `units` counts both arms. Infinite where there is no unit.
    """
    errors, n = np.asarray(standard_errors, dtype=np.float64), np.asarray(units, dtype=np.float64)
    safe = np.maximum(n, 1.0)
    grown = safe * rho2 + 1
    factor = 2 * grown / (safe * rho2) * (0.5 * np.log(grown) - math.log(checked_alpha(alpha)))
    half: FloatArray = np.where(n > 0, errors * np.sqrt(factor), np.inf)
    return half


class Decision(NamedTuple):
    """Per experiment: `sign` +1 (difference above 0), -1 (below) or 0; the index of the look that decided, -1 if none.

    `by` is 1 where the running confidence sequence decided, 2 where the test at the horizon did, else 0.
    """

    sign: NDArray[np.int64]
    look: NDArray[np.int64]
    by: NDArray[np.int64]


@dataclass(frozen=True)
class SequentialPlan:
    """How a split test is judged.

    With a horizon (`planned_days`, whole weeks): a confidence sequence at `monitor_alpha` all the time and one fixed
    test at the rest of alpha on the data up to the horizon (hybrid). Without: the confidence sequence at alpha alone,
    which takes 1.7 to 1.8 times the units for the same power. `planned_units` counts both arms.
    """

    planned_units: int
    planned_days: int | None = None
    alpha: float = 0.05
    min_days: int = MIN_DAYS

    def __post_init__(self) -> None:
        checked_alpha(self.alpha)
        days = self.planned_days
        if days is not None and (days < MIN_DAYS or days % 7):
            fix = f"planned_days = {max(MIN_DAYS, math.ceil(days / 7) * 7)}"
            raise ConfigError(f"planned_days is {days}, expected whole weeks, at least {MIN_DAYS} days", fix=fix)

    @property
    def monitor_alpha(self) -> float:
        """Level of the confidence sequence."""
        return self.alpha if self.planned_days is None else MONITOR_SHARE * self.alpha

    @property
    def final_alpha(self) -> float:
        """Level of the test at the horizon; 0 without one."""
        return 0.0 if self.planned_days is None else self.alpha - self.monitor_alpha

    @property
    def rho2(self) -> float:
        """Tuned to half of the planned units, where an early decision is worth most."""
        return tuned_rho2(max(1.0, self.planned_units / 2), self.monitor_alpha)

    def running_half_width(
        self, standard_errors: ArrayLike, units: ArrayLike, *, one_sided: bool = False
    ) -> FloatArray:
        """Half width at any look; one-sided bounds spend the whole level on one side."""
        level = min(2 * self.monitor_alpha, 0.999) if one_sided else self.monitor_alpha
        return sequence_half_width(standard_errors, units, level, self.rho2)

    def final_half_width(self, standard_errors: ArrayLike, *, one_sided: bool = False) -> FloatArray:
        """Half width of the fixed interval at the horizon."""
        level = self.final_alpha if one_sided else self.final_alpha / 2
        half: FloatArray = np.asarray(standard_errors, dtype=np.float64) * normal_quantile(1 - level)
        return half

    def decide(
        self, values: ArrayLike, errors: ArrayLike, units: ArrayLike, days: ArrayLike, horizon: int | None = None
    ) -> Decision:
        """Decide from the estimates (..., L) at each look; `days` (L,) full days since the start, not decreasing.

        `horizon` is the index of the look with the fixed test, chosen by date and units and never by the outcome;
        looks after it decide nothing. Looks before `min_days` never decide; nor does an infinite error.
        """
        last = None if horizon is None else horizon + 1
        value, error = (np.asarray(given, dtype=np.float64)[..., :last] for given in (values, errors))
        half = self.running_half_width(error, np.asarray(units, dtype=np.float64)[..., :last])
        crossed = (np.abs(value) > half) & (np.asarray(days, dtype=np.float64)[:last] >= self.min_days)
        first = np.where(crossed.any(axis=-1), crossed.argmax(axis=-1), -1) if value.shape[-1] else np.array(-1)
        by = (first >= 0).astype(np.int64)
        if horizon is not None:
            final = np.abs(value[..., horizon]) > self.final_half_width(error[..., horizon])
            at_horizon = final & (first < 0)
            first, by = np.where(at_horizon, horizon, first), np.where(at_horizon, 2, by)
        if not value.shape[-1]:
            return Decision(np.array(0), np.array(-1), np.array(0))
        chosen = np.take_along_axis(np.sign(value), np.maximum(first, 0)[..., None], axis=-1)[..., 0]
        return Decision(np.where(first >= 0, chosen, 0).astype(np.int64), first.astype(np.int64), by)


def normal_quantile(level: Any) -> Any:
    """Quantile of the standard normal."""
    from scipy.special import ndtri

    return ndtri(level)
