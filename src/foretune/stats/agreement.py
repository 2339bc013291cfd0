"""How far annotators agree beyond chance: Krippendorff's alpha and Cohen's kappa."""

# SPDX-License-Identifier: Apache-2.0
#
# Alpha: Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), by its coincidence matrix; any number of
# annotators, gaps allowed. Kappa: Cohen (1960); weighted: Cohen (1968). The marks 0.8 and 0.667 are Krippendorff's.
from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from foretune.errors import DataError

__all__ = ["Agreement", "Level", "agreement", "cohen_kappa", "krippendorff_alpha"]

Level = Literal["nominal", "ordinal", "interval"]
Value = str | float
Votes = Mapping[str, Mapping[str, Value]]  # item -> annotator -> value
RELIABLE, TENTATIVE = 0.8, 2 / 3
NUM_RESAMPLES = 1000
Floats = NDArray[np.float64]


class Agreement(NamedTuple):
    """Agreement of several annotators; None where it has no meaning because all gave one and the same value.

    `low` and `high` are the 95 % bootstrap interval over items, `percent` the share of pairs of answers that are equal,
    `kappas` by pair of annotators, `by_value` alpha of one value against all others, `confused` the pairs of values
    most often given to one item, with how often.
    """

    alpha: float | None
    low: float | None
    high: float | None
    percent: float
    num_items: int
    num_answers: int
    kappas: dict[tuple[str, str], float | None]
    by_value: dict[str, float | None]
    confused: tuple[tuple[str, str, int], ...]

    @property
    def verdict(self) -> str:
        """What the figure means, in one sentence."""
        if self.alpha is None:
            return "everybody gave the same answer to every item: agreement says nothing"
        if self.alpha >= RELIABLE:
            return f"alpha {self.alpha:.2f}: reliable"
        if self.alpha >= TENTATIVE:
            return f"alpha {self.alpha:.2f}: good for tentative conclusions; sharpen the guidelines (0.80 is reliable)"
        pair = f", above all between {self.confused[0][0]!r} and {self.confused[0][1]!r}" if self.confused else ""
        return f"alpha {self.alpha:.2f}: not reliable (below 0.67); the guidelines leave too much open{pair}"


def agreement(votes: Votes, *, level: Level = "nominal", order: Sequence[Value] = (), seed: int = 0) -> Agreement:
    """How far the annotators agree on the items that two or more of them answered.

    `order` gives the order of ordinal values (default: sorted). Raises DataError where no item has two answers, or a
    value is not on the scale.
    """
    table = _Table(votes, level, order)
    alpha = _alpha(table.counts, table.distance)
    low, high = _interval(table, seed) if alpha is not None else (None, None)
    annotators = sorted({name for given in votes.values() for name in given})
    kappas = {pair: _pair_kappa(votes, *pair, level, order) for pair in itertools.combinations(annotators, 2)}
    shared = {pair: kappa for pair, kappa in kappas.items() if _shared(votes, *pair)}
    by_value = {
        str(value): _alpha(_against_rest(table.counts, index), 1 - np.eye(2))
        for index, value in enumerate(table.values)
    }
    pairs = _coincidences(table.counts)
    return Agreement(
        alpha,
        low,
        high,
        float(np.trace(pairs) / pairs.sum()),
        len(table.counts),
        int(table.counts.sum()),
        shared,
        by_value if level == "nominal" else {},
        _confused(table),
    )


def krippendorff_alpha(votes: Votes, *, level: Level = "nominal", order: Sequence[Value] = ()) -> float | None:
    """Alpha alone; None where all answers are one value. Raises DataError as `agreement` does."""
    table = _Table(votes, level, order)
    return _alpha(table.counts, table.distance)


def cohen_kappa(
    first: Sequence[Value],
    second: Sequence[Value],
    *,
    weights: Literal["none", "linear", "quadratic"] = "none",
    order: Sequence[Value] = (),
) -> float | None:
    """Kappa of two annotators over the same items; None where chance alone would agree always.

    Weighted kappa takes the distance of values in `order` (default: sorted). Raises DataError for unequal lengths.
    """
    if len(first) != len(second) or not first:
        raise DataError(f"kappa needs the same items twice, got {len(first)} and {len(second)} answers")
    values = _scale({*first, *second}, order)
    index = {value: number for number, value in enumerate(values)}
    joint = np.zeros((len(values), len(values)))
    for a, b in zip(first, second, strict=True):
        joint[index[a], index[b]] += 1 / len(first)
    steps = np.abs(np.subtract.outer(np.arange(len(values)), np.arange(len(values)))).astype(float)
    cost = {"none": (steps > 0).astype(float), "linear": steps, "quadratic": steps**2}[weights]
    expected = float((np.outer(joint.sum(1), joint.sum(0)) * cost).sum())
    return None if expected == 0 else 1 - float((joint * cost).sum()) / expected


class _Table:
    """Answers as counts: one row an item with two or more answers, one column a value; and how far values differ."""

    def __init__(self, votes: Votes, level: Level, order: Sequence[Value]) -> None:
        rows = [list(given.values()) for given in votes.values() if len(given) > 1]
        if not rows:
            raise DataError("no item has answers of two annotators", fix="give some items to more than one of them")
        if level == "interval":
            rows = [[_number(value) for value in row] for row in rows]
        self.values = _scale({value for row in rows for value in row}, order if level == "ordinal" else ())
        index = {value: number for number, value in enumerate(self.values)}
        self.counts: Floats = np.zeros((len(rows), len(self.values)))
        for number, row in enumerate(rows):
            for value in row:
                self.counts[number, index[value]] += 1
        self.distance = _distance(self.counts.sum(0), self.values, level)


def _scale(values: set[Any], order: Sequence[Value]) -> list[Value]:
    """The values in order: as given, else numbers by size and texts by the alphabet."""
    if order:
        strange = sorted(map(str, values - set(order)))
        if strange:
            listed = ", ".join(map(str, order))
            raise DataError(f"{strange[0]!r} is not on the scale, expected one of {listed}", fix="mend the answer")
        return list(order)
    return sorted(values, key=lambda value: (isinstance(value, str), value))


def _number(value: Value) -> float:
    try:
        return float(value)
    except ValueError:
        raise DataError(f"{value!r} is no number, which the interval level needs", fix='level = "nominal"') from None


def _distance(totals: Floats, values: Sequence[Value], level: Level) -> Floats:
    """Squared differences between values, by level of measurement."""
    if level == "nominal":
        return np.asarray(1 - np.eye(len(values)), dtype=np.float64)
    if level == "interval":
        numbers = np.array([float(value) for value in values])
        return np.asarray(np.subtract.outer(numbers, numbers) ** 2, dtype=np.float64)
    middle = np.cumsum(totals) - totals / 2
    return np.asarray(np.subtract.outer(middle, middle) ** 2, dtype=np.float64)


def _alpha(counts: Floats, distance: Floats) -> float | None:
    observed, expected = _disagreement(counts, distance)
    return None if expected == 0 else float(1 - observed / expected)


def _disagreement(counts: Floats, distance: Floats) -> tuple[float, float]:
    """Observed and expected disagreement over the rows of an item table."""
    sizes = counts.sum(1)
    total = sizes.sum()
    within = np.einsum("ic,ck,ik->i", counts, distance, counts) / (sizes - 1)
    pooled = counts.sum(0)
    return float(within.sum() / total), float(pooled @ distance @ pooled / (total * (total - 1)))


def _interval(table: _Table, seed: int) -> tuple[float, float]:
    """Percentile interval of alpha over resampled items; values differ as in the whole table."""
    counts, distance = table.counts, table.distance
    sizes = counts.sum(1)
    within = np.einsum("ic,ck,ik->i", counts, distance, counts) / (sizes - 1)
    draws = np.random.default_rng(seed).multinomial(len(counts), [1 / len(counts)] * len(counts), size=NUM_RESAMPLES)
    totals = draws @ sizes
    pooled = draws @ counts
    expected = np.einsum("bc,ck,bk->b", pooled, distance, pooled) / (totals * (totals - 1))
    whole = expected > 0
    alphas = 1 - (draws @ within / totals)[whole] / expected[whole]
    low, high = np.percentile(alphas, [2.5, 97.5])
    return float(low), float(high)


def _coincidences(counts: Floats) -> Floats:
    """Pairs of answers within items, each item weighted by its number of answers."""
    pairs = counts[:, :, None] * counts[:, None, :] - counts[:, :, None] * np.eye(counts.shape[1])
    return np.asarray((pairs / (counts.sum(1) - 1)[:, None, None]).sum(0), dtype=np.float64)


def _against_rest(counts: Floats, index: int) -> Floats:
    one = counts[:, index]
    return np.stack([one, counts.sum(1) - one], axis=1)


def _confused(table: _Table, limit: int = 5) -> tuple[tuple[str, str, int], ...]:
    found: Counter[tuple[str, str]] = Counter()
    for row in table.counts:
        given = [str(table.values[index]) for index in np.flatnonzero(row)]
        found.update(itertools.combinations(given, 2))
    ranked = sorted(found.items(), key=lambda entry: (-entry[1], entry[0]))
    return tuple((a, b, count) for (a, b), count in ranked[:limit])


def _shared(votes: Votes, a: str, b: str) -> list[tuple[Value, Value]]:
    return [(given[a], given[b]) for given in votes.values() if a in given and b in given]


def _pair_kappa(votes: Votes, a: str, b: str, level: Level, order: Sequence[Value]) -> float | None:
    shared = _shared(votes, a, b)
    if not shared:
        return None
    weights: Literal["none", "linear"] = "none" if level == "nominal" else "linear"
    first, second = zip(*shared, strict=True)
    if level == "interval":
        first, second = tuple(map(_number, first)), tuple(map(_number, second))
    return cohen_kappa(first, second, weights=weights, order=order if level == "ordinal" else ())
