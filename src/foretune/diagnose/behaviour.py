"""Numbers that say what a fine-tuned model does, with intervals: what it learned, by what, and where it fails."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Literal, NamedTuple

from foretune.records.evidence import EvidenceRecord, SampleLoss, Score

__all__ = [
    "LEAST_SAMPLES",
    "Estimate",
    "difference",
    "floor_nats",
    "gain",
    "information",
    "losses_of",
    "quantile",
    "ratio",
    "repeated_fraction",
    "unlikeness",
]

LEAST_SAMPLES = 12  # samples for a mean with an interval
Z = 1.96
FLOOR = 0.05  # quantile of the losses that counts as their floor
LEAST_NATS = 0.05  # between floor and the loss after another input
Split = Literal["train", "validation"]


class Estimate(NamedTuple):
    """A value with its 95 % interval over `n` samples."""

    value: float
    low: float
    high: float
    n: int

    def above(self, level: float) -> float:
        """The lower end over `level`; 0 where it is negative."""
        return max(0.0, self.low) / level

    def below(self, level: float) -> float:
        """`level` over the upper end: 1 where the upper end is at it, more where it lies below."""
        return level / max(self.high, level / 100)


def losses_of(probes: EvidenceRecord, split: Split) -> list[SampleLoss]:
    """The losses of one split."""
    return [loss for loss in probes.losses if loss.split == split]


def ratio(over: Sequence[float], under: Sequence[float]) -> Estimate | None:
    """Mean of `over` by mean of `under`, paired, with the delta method's interval; None for too few samples.

    Cochran, Sampling Techniques (1977), section 6.4.
    """
    n = len(over)
    if n < LEAST_SAMPLES or fmean(under) <= 1e-6:
        return None
    base = fmean(under)
    value = fmean(over) / base
    spread = sum((a - value * b) ** 2 for a, b in zip(over, under, strict=True)) / (n - 1)
    half = Z * math.sqrt(spread / n) / base
    return Estimate(value, value - half, value + half, n)


def gain(losses: Sequence[SampleLoss], *, last: bool = False) -> Estimate | None:
    """How much of the base's loss on the targets is gone, 0..1 (negative: worse); `last`: of their last tenth."""
    if last:
        known = [loss for loss in losses if loss.base_nats_last is not None and loss.tuned_nats_last is not None]
        pairs = [(loss.tuned_nats_last or 0.0, loss.base_nats_last or 0.0) for loss in known]
    else:
        pairs = [(loss.tuned_nats, loss.base_nats) for loss in losses]
    left = ratio([pair[0] for pair in pairs], [pair[1] for pair in pairs])
    return None if left is None else Estimate(1 - left.value, 1 - left.high, 1 - left.low, left.n)


def information(losses: Sequence[SampleLoss]) -> Estimate | None:
    """What a target's own input takes from its loss, of its loss after another sample's input; 0: unrelated."""
    known = [loss for loss in losses if loss.given_others is not None]
    left = ratio([loss.tuned_nats for loss in known], [loss.given_others or 0.0 for loss in known])
    return None if left is None else Estimate(1 - left.value, 1 - left.high, 1 - left.low, left.n)


def floor_nats(losses: Sequence[SampleLoss]) -> float:
    """What even the best learned targets cost: some tokens stay dear to any model. A low quantile, for robustness."""
    return quantile([loss.tuned_nats for loss in losses], FLOOR)


def unlikeness(loss: SampleLoss, other_nats: float, floor: float) -> float:
    """A target's loss after its own input over that after another's, both above `floor`: 0 learned, 1 unrelated."""
    return (loss.tuned_nats - floor) / max(other_nats - floor, LEAST_NATS)


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of the values lie, between neighbours by line."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def difference(first: Score, second: Score) -> Estimate:
    """first - second of two independent scores, by their intervals' half-widths (Newcombe 1998, method 10)."""
    value = first.value - second.value
    low = value - math.hypot(first.value - first.ci_low, second.ci_high - second.value)
    high = value + math.hypot(first.ci_high - first.value, second.value - second.ci_low)
    return Estimate(value, low, high, min(first.n, second.n))


def repeated_fraction(losses: Sequence[SampleLoss]) -> float:
    """Share of samples with the losses of an earlier one to four digits: equal samples, seen without the data."""
    keys = {(round(loss.base_nats, 4), round(loss.tuned_nats, 4)) for loss in losses}
    return 1 - len(keys) / len(losses) if losses else 0.0
