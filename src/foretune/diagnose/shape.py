"""Numbers that describe a noisy curve: levels, trends and spikes, each with its own uncertainty."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean, median
from typing import NamedTuple

from foretune.records.training import CurvePoint

__all__ = [
    "Halves",
    "Level",
    "bend",
    "difference",
    "effort_at",
    "efforts",
    "first_level",
    "halves",
    "last_level",
    "level",
    "noise",
    "relative_noise",
    "smoothed",
    "smoothing_window",
    "spikes",
    "trend",
    "without_spikes",
]

STILL = 0.01  # of a loss: what moves less stands still
ENDS = 0.1  # of the effort: how near its ends the first and the last validation must lie
MAD_TO_SIGMA = 1.4826  # median absolute deviation of a normal distribution -> standard deviation


class Level(NamedTuple):
    """A mean and its standard error."""

    value: float
    error: float


def noise(values: Sequence[float], *, robust: bool = False) -> float:
    """Standard deviation of a curve around its trend, from first differences; `robust` ignores spikes."""
    changes = [b - a for a, b in pairwise(values)]
    if not changes:
        return 0.0
    if robust:
        usual = median(changes)
        return MAD_TO_SIGMA * median(abs(change - usual) for change in changes) / math.sqrt(2)
    return math.sqrt(fmean(change * change for change in changes) / 2)


def relative_noise(values: Sequence[float]) -> float:
    """Standard deviation of the logarithm of a curve around its trend, spikes ignored."""
    return noise([math.log(max(value, 1e-9)) for value in values], robust=True)


def level(values: Sequence[float], sigma: float) -> Level:
    """Mean of `values` with its standard error; `sigma` is the noise of one value. Needs at least one value."""
    return Level(fmean(values), sigma / math.sqrt(len(values)))


def difference(first: Level, second: Level) -> Level:
    """first - second."""
    return Level(first.value - second.value, math.hypot(first.error, second.error))


def first_level(values: Sequence[float]) -> Level:
    """Where a curve starts: its first 3 % of points, at least 2 and at most 10."""
    return level(values[: min(10, max(2, len(values) * 3 // 100))], noise(values))


def last_level(values: Sequence[float]) -> Level:
    """Where a curve ends: its last tenth, at least 5 points."""
    return level(values[-max(5, len(values) // 10) :], noise(values))


def efforts(points: Sequence[CurvePoint]) -> list[float]:
    """Share of the run's summed learning rate spent by each point, 0 to 1.

    Progress is about proportional to the summed learning rate, so a cosine schedule does not bend a curve drawn over
    it. Steps take its place where learning rates were not logged.
    """
    rates = [max(0.0, point.learning_rate or 0.0) for point in points]
    if not any(rates):
        rates = [1.0] * len(points)
    total, spent, result = sum(rates), 0.0, []
    for rate in rates:
        spent += rate
        result.append(spent / total)
    return result


def trend(x: Sequence[float], y: Sequence[float], sigma: float) -> Level:
    """Least-squares slope of y over x; 0 with infinite error where x does not vary."""
    x_mean = fmean(x)
    spread = sum((value - x_mean) ** 2 for value in x)
    if spread <= 0:
        return Level(0.0, math.inf)
    y_mean = fmean(y)
    slope = sum((a - x_mean) * (b - y_mean) for a, b in zip(x, y, strict=True)) / spread
    return Level(slope, sigma / math.sqrt(spread))


def bend(x: Sequence[float], y: Sequence[float]) -> float:
    """How surely a falling curve bends: the largest t of a part exp(-k x) beside a straight line, k = 5, 15, 45."""
    sigma = noise(y)
    best = 0.0
    for k in (5.0, 15.0, 45.0):
        rest = without_line(x, [math.exp(-k * value) for value in x])
        size = sum(value * value for value in rest)
        if size > 0 and sigma > 0:
            best = max(best, sum(a * b for a, b in zip(rest, y, strict=True)) / (sigma * math.sqrt(size)))
    return best


def without_line(x: Sequence[float], y: Sequence[float]) -> list[float]:
    """The residuals of y from its least-squares line over x."""
    slope, x_mean, y_mean = trend(x, y, 0.0).value, fmean(x), fmean(y)
    return [b - y_mean - slope * (a - x_mean) for a, b in zip(x, y, strict=True)]


def smoothed(values: Sequence[float]) -> list[float]:
    """Running means over `smoothing_window` points, whole windows only: that many less one values fewer."""
    window = smoothing_window(len(values))
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    return [(high - low) / window for low, high in zip(sums, sums[window:], strict=False)]


def without_spikes(values: Sequence[float]) -> list[float]:
    """Running median of five: what stands alone or in pairs is gone, steps and slopes stay."""
    return [median(values[max(0, index - 2) : index + 3]) for index in range(len(values))]


def smoothing_window(num_points: int) -> int:
    """How many points `smoothed` averages: a twentieth, 3 to 50."""
    return min(50, max(3, num_points // 20))


def spikes(points: Sequence[CurvePoint], least_height: float) -> list[CurvePoint]:
    """Points that stand above the medians of the 10 before and of the 10 after by `least_height` and by 5 deviations.

    The noise is that of the logarithm: batches of a model that has learned little differ by more. Where a curve begins
    it is high without being a spike.
    """
    values = [point.loss for point in points]
    least_ratio = math.exp(min(5 * relative_noise(values), 20.0))
    found = []
    for index, point in enumerate(points):
        sides = (values[max(0, index - 10) : index], values[index + 1 : index + 11])
        near = [median(side) for side in sides if side]
        if index and near and point.loss > max(max(near) + least_height, max(near) * least_ratio):
            found.append(point)
    return found


def effort_at(step: int, points: Sequence[CurvePoint], spent: Sequence[float]) -> float:
    """The effort spent at `step`; `spent` is what `efforts` gave for `points`."""
    index = bisect_right([point.step for point in points], step) - 1
    return spent[index] if index >= 0 else 0.0


class Halves(NamedTuple):
    """The validation loss at the start, halfway through the effort, and at the end."""

    start: float
    middle: float
    end: float

    @property
    def early_share(self) -> float:
        """The share of the whole fall that came in the first half: 1/2 on a straight line.

        A loss that stands still counts as straight, one that rose as done.
        """
        fall = self.start - self.end
        if abs(fall) < STILL * self.start:
            return 0.5
        return (self.start - self.middle) / fall if fall > 0 else 1.0

    @property
    def late_fall(self) -> float:
        """The share of the loss that was left halfway and that the second half took; negative where it rose."""
        return (self.middle - self.end) / max(self.middle, 1e-9)


def halves(train: Sequence[CurvePoint], validation: Sequence[CurvePoint]) -> Halves | None:
    """The validation loss over the effort; None for fewer than three validations or none at its ends."""
    if len(validation) < 3 or not train:
        return None
    spent = efforts(train)
    x, y = [effort_at(point.step, train, spent) for point in validation], [point.loss for point in validation]
    if x[0] > ENDS or x[-1] < 1 - ENDS:
        return None
    high = next(index for index, value in enumerate(x) if value >= 0.5)
    low = max(0, high - 1)
    share = (0.5 - x[low]) / (x[high] - x[low]) if x[high] > x[low] else 0.0
    return Halves(y[0], y[low] + share * (y[high] - y[low]), y[-1])
