"""Pairwise comparisons: strengths by Bradley and Terry, win rates, and preference pairs to train on."""

# SPDX-License-Identifier: Apache-2.0
#
# Bradley and Terry (1952): P(a beats b) = 1 / (1 + exp(s_b - s_a)). A tie counts as half a win for each. A weak normal
# prior keeps the strength of one who won or lost everything finite.
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from foretune.errors import DataError

__all__ = ["Comparison", "Outcome", "Strength", "bradley_terry", "first_shown_share"]

Outcome = Literal["a", "b", "tie"]
PRIOR_PRECISION = 0.05
MAX_STEPS = 100


class Comparison(NamedTuple):
    """Two variants on one item; `outcome` says which was better, `a` was shown first."""

    a: str
    b: str
    outcome: Outcome


class Strength(NamedTuple):
    """How strong a variant is: log-odds against the average one with a 95 % interval, and its plain win rate."""

    name: str
    strength: float
    low: float
    high: float
    win_rate: float
    num_comparisons: int


def bradley_terry(
    comparisons: Iterable[Comparison], *, prior_precision: float = PRIOR_PRECISION
) -> tuple[Strength, ...]:
    """Strengths of all variants, the strongest first; their mean is 0.

    Raises DataError where there is nothing to compare, or, without a prior, where some variant never lost to or never
    won against the others, so that its strength has no bound.
    """
    listed = list(comparisons)
    names = sorted({name for one in listed for name in (one.a, one.b)})
    if len(names) < 2:
        raise DataError(f"{len(names)} variant in {len(listed)} comparisons, expected two or more")
    wins = _wins(listed, names)
    if prior_precision <= 0 and not _is_connected(wins):
        raise DataError(
            "a group of variants won or lost everything against the rest", fix="keep the prior, or ask more"
        )
    strengths, errors = _fitted(wins, prior_precision)
    met = wins + wins.T
    found = [
        Strength(
            name,
            float(strengths[i]),
            float(strengths[i] - 1.96 * errors[i]),
            float(strengths[i] + 1.96 * errors[i]),
            float(wins[i].sum() / met[i].sum()),
            int(met[i].sum()),
        )
        for i, name in enumerate(names)
    ]
    return tuple(sorted(found, key=lambda one: (-one.strength, one.name)))


def first_shown_share(comparisons: Iterable[Comparison]) -> float:
    """Share of decided comparisons that the first shown won; far from 0.5 means that annotators follow the order."""
    decided = [one.outcome == "a" for one in comparisons if one.outcome != "tie"]
    if not decided:
        raise DataError("every comparison is a tie", fix="ask for a decision, or for fewer ties")
    return sum(decided) / len(decided)


def _wins(comparisons: Sequence[Comparison], names: Sequence[str]) -> NDArray[np.float64]:
    index = {name: number for number, name in enumerate(names)}
    wins = np.zeros((len(names), len(names)))
    for one in comparisons:
        if one.a == one.b:
            raise DataError(f"{one.a!r} is compared with itself", fix="take the comparison out")
        share = {"a": 1.0, "b": 0.0, "tie": 0.5}.get(one.outcome)
        if share is None:
            raise DataError(f"outcome {one.outcome!r}, expected a, b or tie", fix="mend the answer")
        wins[index[one.a], index[one.b]] += share
        wins[index[one.b], index[one.a]] += 1 - share
    return wins


def _is_connected(wins: NDArray[np.float64]) -> bool:
    """Whether every variant reaches every other by wins."""
    reach = np.eye(len(wins)) + (wins > 0)
    for _ in range(len(wins).bit_length()):
        reach = ((reach @ reach) > 0).astype(float)
    return bool((reach > 0).all())


def _fitted(wins: NDArray[np.float64], precision: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Strengths with mean 0 and their standard errors, by Newton's method."""
    num = len(wins)
    met = wins + wins.T
    strengths = np.zeros(num)
    centre = np.ones((num, num)) / num  # fixes the level, which the data leave open
    for _ in range(MAX_STEPS):
        chance = 1 / (1 + np.exp(np.subtract.outer(-strengths, -strengths)))  # that row beats column
        slope = (wins - met * chance).sum(1) - precision * strengths
        weight = met * chance * (1 - chance)
        curvature = np.diag(weight.sum(1) + precision) - weight
        step = np.linalg.solve(curvature + centre, slope)
        strengths = strengths + np.clip(step, -2, 2)
        strengths -= strengths.mean()
        if np.abs(step).max() < 1e-10:
            break
    spread = np.diag(np.linalg.inv(curvature + centre) - centre / (1 + precision))
    return strengths, np.sqrt(np.maximum(spread, 0))
