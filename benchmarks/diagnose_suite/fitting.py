"""A coordinate search over the thresholds of `diagnose`, on the development half alone."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from diagnose_suite.pack import Recorded
from diagnose_suite.scoring import Scores, Seen, scores, seen
from foretune.diagnose.thresholds import DEFAULT, Thresholds

__all__ = ["fitted", "objective"]

FACTORS = (0.35, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.4, 1.7, 2.0, 2.8)
ROUNDS = 2
FALSE_ALARM = 1.5  # weight of a false alarm, of a fault that is not named first
HIDDEN = 0.3  # weight of a run judged without its settings
UNLISTED = 0.5  # a fault that is not even listed, beyond not being first
FRACTIONS = (
    "_fraction",
    "probability",
    "learned",
    "cost",
    "likelihood",
    "form",
    "content",
    "score",
    "fall",
    "auc",
    "skills",
    "gain",
    "ignorance",
    "information",
)


def objective(runs: Sequence[Recorded], thresholds: Thresholds) -> float:
    """What a setting of the thresholds is worth on these runs: 0 where every run is judged right, else less."""
    judged = [(seen(run, thresholds), seen(run, thresholds, without_settings=True)) for run in runs]
    return round(sum(_points(shown) + HIDDEN * _points(hidden) for shown, hidden in judged), 6)


def _points(one: Seen) -> float:
    """Of one run: 0 where all is right. Faults without effect count nothing either way."""
    if one.run.is_fault:
        if not one.run.counts:
            return 0.0
        return -(not one.is_right) - UNLISTED * (not one.is_listed)
    return -FALSE_ALARM * (not one.is_right)


def fitted(runs: Sequence[Recorded], start: Thresholds = DEFAULT) -> dict[str, Any]:
    """Thresholds that name most faults for the fewest false alarms: the search's steps, and before against after.

    Each threshold in turn takes the middle of the factors that do best, so that it keeps clear of both sides.
    """
    found, best = start, objective(runs, start)
    steps: list[dict[str, Any]] = []
    for _ in range(ROUNDS):
        before = best
        for name, value in asdict(start).items():
            if not isinstance(value, float):
                continue
            found, best, step = _tuned(runs, found, best, name)
            steps += [step] if step else []
        if best == before:
            break
    return {
        "before": _summary(scores(runs, start)),
        "after": _summary(scores(runs, found)),
        "steps": steps,
        "thresholds": {name: value for name, value in asdict(found).items() if value != getattr(start, name)},
    }


def _tuned(
    runs: Sequence[Recorded], found: Thresholds, best: float, name: str
) -> tuple[Thresholds, float, dict[str, Any] | None]:
    """One threshold at the middle of its best factors; unchanged where every factor does as well, or none better.

    Where the present value is among the best, it moves only if others bound it on both sides and it lies at an edge.
    """
    value = getattr(found, name)
    tried = {factor: objective(runs, _with(found, name, _scaled(name, value, factor))) for factor in FACTORS}
    most = max(tried.values())
    row = _row([factor for factor, worth in tried.items() if worth == most])
    is_bounded = row[0] > FACTORS[0] and row[-1] < FACTORS[-1]
    is_inside = 1.0 in row and row[0] < 1.0 < row[-1]
    factor = FACTORS[(FACTORS.index(row[0]) + FACTORS.index(row[-1])) // 2]
    if factor == 1.0 or (most <= best and (is_inside or not is_bounded)):
        return found, best, None
    moved = _with(found, name, _scaled(name, value, factor))
    step = {"name": name, "from": value, "to": getattr(moved, name), "best": [row[0], row[-1]], "points": most}
    return moved, most, step


def _with(thresholds: Thresholds, name: str, value: float) -> Thresholds:
    changed: dict[str, Any] = {name: value}
    return replace(thresholds, **changed)


def _row(factors: Sequence[float]) -> list[float]:
    """The longest row of neighbours among these factors."""
    rows: list[list[float]] = []
    for factor in factors:
        if rows and FACTORS.index(factor) == FACTORS.index(rows[-1][-1]) + 1:
            rows[-1].append(factor)
        else:
            rows.append([factor])
    return max(rows, key=len)


def _scaled(name: str, value: float, factor: float) -> float:
    scaled = float(f"{value * factor:.2g}")
    return min(0.99, scaled) if any(word in name for word in FRACTIONS) else scaled


def _summary(found: Scores) -> dict[str, str]:
    return {
        "first": str(found.top1),
        "listed": str(found.listed),
        "without_settings": str(found.without_settings),
        "false_alarms": str(found.false_alarms),
    }
