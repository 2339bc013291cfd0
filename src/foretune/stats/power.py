"""How small a difference n paired samples can show, and how many samples a given difference takes."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from statistics import NormalDist
from typing import Literal, NamedTuple

from foretune.errors import ScoreError

__all__ = [
    "EXPECTED_DISCORDANCE",
    "POWER",
    "Spread",
    "expected_visible_difference",
    "samples_for_noninferiority",
    "samples_needed",
    "visible_difference",
]

POWER = 0.8
EXPECTED_DISCORDANCE = 0.2  # before anything is measured: one of two systems alone is right on a fifth of the samples


class Spread(NamedTuple):
    """How much the paired differences scatter.

    `discordance`: share of samples where exactly one of two 0/1 systems is right (psi); `variance`: of a sample's
    difference, inflated by the design effect where samples come in groups.
    """

    kind: Literal["discordance", "variance"]
    value: float


def visible_difference(spread: Spread, n: int, alpha: float = 0.05, power: float = POWER) -> float:
    """The true difference that n samples show with the given power: (z_(1-alpha/2) + z_power) sqrt(spread / n).

    About 2.8 sqrt(psi / n) at alpha 0.05 and power 0.8.
    """
    if n < 1:
        raise ScoreError(f"n is {n}, expected at least 1 sample")
    return (_z(1 - alpha / 2) + _z(power)) * math.sqrt(spread.value / n)


def expected_visible_difference(n: int) -> float:
    """The smallest difference of two 0/1 systems that n test samples will show, fraction, before any answer is seen.

    `visible_difference` at alpha 0.05 for a discordance of one in five; 50 samples show 18 points, 200 show 9.
    """
    return min(1.0, visible_difference(Spread("discordance", EXPECTED_DISCORDANCE), n))


def samples_needed(spread: Spread, difference: float, alpha: float = 0.05, power: float = POWER) -> int | None:
    """Paired samples that show a true `difference` with the given power; None where the difference is 0.

    Binary: n = (z_(1-alpha/2) sqrt(psi) + z_power sqrt(psi - d^2))^2 / d^2, where psi is at least |d|; graded and
    grouped: n = (z_(1-alpha/2) + z_power)^2 variance / d^2 (Miller, arXiv:2411.00640).
    """
    size = abs(difference)
    if size == 0:
        return None
    if spread.kind == "discordance":
        psi = max(spread.value, size)
        root = _z(1 - alpha / 2) * math.sqrt(psi) + _z(power) * math.sqrt(max(psi - size * size, 0.0))
    else:
        root = (_z(1 - alpha / 2) + _z(power)) * math.sqrt(spread.value)
    return max(1, math.ceil((root / size) ** 2 - 1e-9))


def samples_for_noninferiority(spread: Spread, margin: float, alpha: float = 0.05, power: float = POWER) -> int:
    """Paired samples that prove an unchanged model not worse by `margin`: (z_(1-alpha) + z_power)^2 spread / margin^2.

    One-sided; 6.18 psi / margin^2 at alpha 0.05 and power 0.8.
    """
    if margin <= 0:
        raise ScoreError(f"margin is {margin}, expected a positive margin", fix="margin = 0.02")
    return max(1, math.ceil(((_z(1 - alpha) + _z(power)) / margin) ** 2 * spread.value - 1e-9))


def _z(level: float) -> float:
    return NormalDist().inv_cdf(level)
