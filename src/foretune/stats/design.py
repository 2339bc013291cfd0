"""How many users and days a split test takes."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from typing import NamedTuple

from foretune.errors import ConfigError
from foretune.stats.checks import checked_alpha
from foretune.stats.power import POWER
from foretune.stats.sequential import MIN_DAYS, normal_quantile

__all__ = ["HYBRID_FACTOR", "LONG_DAYS", "SplitDesign", "plan_split", "units_per_arm"]

HYBRID_FACTOR = 1.07  # units of the hybrid test over a fixed one, for the same power
SEQUENCE_FACTOR = 1.8  # of the confidence sequence alone
LONG_DAYS = 42


class SplitDesign(NamedTuple):
    """What a split test needs: units an arm and whole weeks; `advice` where that takes over 42 days."""

    units_per_arm: int
    days: int
    advice: str


def units_per_arm(
    baseline: float, difference: float, *, deviation: float | None = None, alpha: float = 0.05, power: float = POWER
) -> int:
    """Units in each of two equal arms for a fixed test.

    A rate (fraction): (z_(1-alpha/2) sqrt(2 p q) + z_power sqrt(p0 q0 + p1 q1))^2 / d^2 with p the mean rate; with
    `deviation`, the standard deviation of a mean per user: 2 (z + z)^2 s^2 / d^2.
    """
    outer, inner = float(normal_quantile(1 - checked_alpha(alpha) / 2)), float(normal_quantile(power))
    if difference == 0:
        raise ConfigError("the difference to be seen is 0, expected another number", fix="smallest_effect = 0.02")
    if deviation is not None:
        return math.ceil(2 * ((outer + inner) * deviation / difference) ** 2 - 1e-9)
    other = baseline + difference
    if not (0 < baseline < 1 and 0 <= other <= 1):
        raise ConfigError(f"rates are {baseline:g} and {other:g}, expected fractions from 0 to 1", fix="baseline = 0.3")
    middle = (baseline + other) / 2
    root = outer * math.sqrt(2 * middle * (1 - middle))
    root += inner * math.sqrt(baseline * (1 - baseline) + other * (1 - other))
    return math.ceil((root / difference) ** 2 - 1e-9)


def plan_split(
    baseline: float,
    difference: float,
    units_per_day: float,
    *,
    deviation: float | None = None,
    share: float = 0.5,
    alpha: float = 0.05,
    power: float = POWER,
    variance_removed: float = 0.0,
    fixed_horizon: bool = True,
) -> SplitDesign:
    """Plan a test: `units_per_day` new users a day, `share` of them in the candidate, the rest in the baseline.

    `variance_removed` is what CUPED takes away (rho^2). Days are whole weeks, never under 7.
    """
    if not (units_per_day > 0 and 0 < share < 1 and 0 <= variance_removed < 1):
        got = f"{units_per_day:g} units a day, share {share:g}, variance removed {variance_removed:g}"
        raise ConfigError(f"{got}: expected units > 0, a share between 0 and 1, and 0 <= variance < 1")
    balanced = units_per_arm(baseline, difference, deviation=deviation, alpha=alpha, power=power)
    factor = (HYBRID_FACTOR if fixed_horizon else SEQUENCE_FACTOR) * (1 - variance_removed)
    per_arm = math.ceil(balanced * factor)
    total = 2 * per_arm * (0.25 / (share * (1 - share)))
    days = max(MIN_DAYS, 7 * math.ceil(total / (7 * units_per_day) - 1e-9))
    return SplitDesign(per_arm, days, _advice(days))


def _advice(days: int) -> str:
    if days <= LONG_DAYS:
        return ""
    return (
        f"{days} days is longer than {LONG_DAYS}: look for a larger difference, use a pre-period (CUPED), take a more "
        "sensitive leading metric, or settle for the offline verdict"
    )
