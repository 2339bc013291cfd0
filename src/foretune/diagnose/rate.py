"""Learning rate too high or too low, and training that diverged."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from foretune.diagnose.evidence import CERTAIN, LEARNED_NATS, LEAST_STEPS, Evidence, percent, strength
from foretune.diagnose.settings import higher_rate, later_end, lower_rate, steadier
from foretune.diagnose.shape import (
    Level,
    bend,
    difference,
    efforts,
    first_level,
    last_level,
    noise,
    relative_noise,
    smoothed,
    smoothing_window,
    spikes,
    trend,
    without_spikes,
)
from foretune.records.diagnosis import Cause

__all__ = ["diverged", "diverged_needs", "rate_needs", "too_high", "too_low", "too_low_needs"]

LEAST_STEPS_TOO_LOW = 20
ABOVE_START = 1.1  # last loss over first loss
LEAST_REBOUND = 0.25  # climb above the lowest smoothed loss, as a share of it
LEAST_REBOUND_OF_FALL = 0.2  # ... and as a share of what had been gained
SPIKE_OF_START = 0.5  # height of a spike as a share of the first loss
LEAST_FALL = 0.1  # of the first loss; a run that learned falls by more
BENT = 1.5  # standard errors of an exponential part beside the straight one


def diverged_needs(evidence: Evidence) -> str:
    """What is missing to see a divergence; "" if nothing is."""
    return "" if evidence.curves.train or evidence.curves.failure else "no training loss recorded"


def rate_needs(evidence: Evidence) -> str:
    """What is missing to judge a learning rate as too high; "" if nothing is."""
    broke_down = evidence.curves.first_bad_step is not None and len(evidence.curves.finite_train) > 1
    return "" if broke_down else evidence.steps_missing(LEAST_STEPS)


def too_low_needs(evidence: Evidence) -> str:
    """What is missing to judge a learning rate as too low; "" if nothing is."""
    return evidence.steps_missing(LEAST_STEPS_TOO_LOW)


def diverged(evidence: Evidence) -> Cause | None:
    """A loss or gradient that is NaN or infinite, or a run that stopped for one."""
    curves = evidence.curves
    step = curves.first_bad_step
    if step is None and curves.error != "TrainingDiverged":
        return None
    patch = {**lower_rate(evidence.job, 10), **steadier(evidence.job)}
    if evidence.job.train.advanced.precision == "bf16":
        patch["train.advanced.precision"] = "fp32"
    finite = curves.finite_train
    before = f"The last finite loss was {finite[-1].loss:.3f} at step {finite[-1].step}." if finite else ""
    at = f"At step {step} the loss or the gradient is not a number." if step is not None else curves.failure
    return Cause(
        mode="diverged",
        statistic=CERTAIN,
        evidence=tuple(line for line in (at, before, evidence.rate_against_usual()) if line),
        explanation="Training broke down and its weights are useless from there on."
        if finite
        else "The very first loss is not a number, so the learning rate cannot be the only reason: look for samples "
        "without trained tokens, damaged base weights or too narrow arithmetic.",
        fixes=(
            f"Lower the learning rate: train.learning_rate = {patch['train.learning_rate']:g}.",
            "Longer warm-up and gradient clipping at 1.",
            'Compute in fp32: train.advanced.precision = "fp32".',
            "Audit the data: foretune audit.",
        ),
        patch=patch,
        step=step,
    )


class _Signal(NamedTuple):
    """One sign of a learning rate that is too high; `statistic` is 1 at its threshold."""

    statistic: float
    sentence: str
    step: int | None
    divisor: float


def too_high(evidence: Evidence) -> Cause | None:
    """Loss that falls and then explodes, ends above its start, spikes, or becomes NaN after a good start (R220)."""
    points = evidence.curves.finite_train
    values = [point.loss for point in points]
    start = first_level(values)
    steps = [point.step for point in points]
    signals = [
        _broke_down(evidence, start),
        _above_start(start, last_level(values)) if len(values) >= LEAST_STEPS else None,
        _rebound(values, steps, start) if len(values) >= LEAST_STEPS else None,
        _spiky(evidence, start) if len(values) >= LEAST_STEPS else None,
    ]
    found = sorted((s for s in signals if s is not None and s.statistic >= 1), key=lambda s: -s.statistic)
    return _too_high_cause(evidence, found) if found else None


def _broke_down(evidence: Evidence, start: Level) -> _Signal | None:
    step = evidence.curves.first_bad_step
    if step is None:
        return None
    lowest = min(point.loss for point in evidence.curves.finite_train)
    sentence = f"The loss started at {start.value:.3f}, reached {lowest:.3f}, and was not a number at step {step}."
    return _Signal(10.0, sentence, step, 10)


def _above_start(start: Level, end: Level) -> _Signal | None:
    rise = difference(end, start)
    if rise.value < 3 * rise.error or start.value <= 0:
        return None
    sentence = f"The run ends with a training loss of {end.value:.3f}, above its start of {start.value:.3f}."
    return _Signal(end.value / start.value / ABOVE_START, sentence, None, 10)


def _rebound(values: Sequence[float], steps: Sequence[int], start: Level) -> _Signal | None:
    """The largest climb of the smoothed loss above its lowest value so far, against noise measured on the logarithm."""
    curve = smoothed(without_spikes(values))
    sigma = max(relative_noise(values), relative_noise(values[len(values) // 2 :]))
    sigma /= math.sqrt(smoothing_window(len(values)))
    least = max(LEAST_REBOUND, math.expm1(min(6 * sigma, 20.0)))
    best: tuple[float, int, int] = (0.0, 0, 0)
    lowest = 0
    for index, value in enumerate(curve):
        if value < curve[lowest]:
            lowest = index
        gained = max(0.0, start.value - curve[lowest])
        threshold = max(least * curve[lowest], LEAST_REBOUND_OF_FALL * gained, LEARNED_NATS)
        best = max(best, ((value - curve[lowest]) / threshold, lowest, index))
    statistic, low, high = best
    middle = smoothing_window(len(values)) // 2
    sentence = (
        f"The smoothed training loss fell to {curve[low]:.3f} by step {steps[low + middle]} "
        f"and climbed back to {curve[high]:.3f} by step {steps[high + middle]}."
    )
    return _Signal(statistic, sentence, steps[low + middle], 10)


def _spiky(evidence: Evidence, start: Level) -> _Signal | None:
    points = evidence.curves.finite_train
    found = spikes(points, SPIKE_OF_START * start.value)
    if not found:
        return None
    highest = max(found, key=lambda point: point.loss)
    sentence = (
        f"{len(found)} of {len(points)} steps are spikes above their neighbours, "
        f"the highest at step {highest.step} with a loss of {highest.loss:.3f}."
    )
    return _Signal(len(found) / max(3.0, 0.01 * len(points)), sentence, found[0].step, 3)


def _too_high_cause(evidence: Evidence, signals: list[_Signal]) -> Cause:
    divisor = max(signal.divisor for signal in signals)
    patch = {**lower_rate(evidence.job, divisor), **steadier(evidence.job)}
    return Cause(
        mode="learning_rate_too_high",
        statistic=strength(signals[0].statistic),
        evidence=(
            *(signal.sentence for signal in signals),
            *_gradient_sentence(evidence),
            evidence.rate_against_usual(),
        ),
        explanation="The updates are too large: they throw the weights past what they should have reached, and the "
        "model loses what it had learned.",
        fixes=(
            f"Lower the learning rate {divisor:g} times: train.learning_rate = {patch['train.learning_rate']:g}.",
            "Warm up over a tenth of the steps: train.advanced.warmup_fraction = 0.1.",
            "Clip gradients: train.advanced.max_grad_norm = 1.",
        ),
        patch=patch,
        step=signals[0].step,
    )


def _gradient_sentence(evidence: Evidence) -> tuple[str, ...]:
    norms = [point.grad_norm for point in evidence.curves.finite_train if point.grad_norm is not None]
    if len(norms) < LEAST_STEPS or median(norms) <= 0:
        return ()
    ratio = max(norms) / median(norms)
    return (f"The gradient norm peaked at {max(norms):.3g}, {ratio:.3g} times its median.",)


def too_low(evidence: Evidence) -> Cause | None:
    """Loss that barely falls, in a straight line; never where the verdict is `better` (R221)."""
    points = evidence.curves.finite_train
    values = [point.loss for point in points]
    start, end = first_level(values), last_level(values)
    if start.value < LEARNED_NATS or (evidence.evaluation and evidence.evaluation.verdict == "better"):
        return None
    fall = difference(start, end)
    if fall.value >= LEAST_FALL * start.value or -fall.value > 3 * fall.error:
        return None
    spent = efforts(points)
    if bend(spent, values) > BENT:
        return None
    slope = trend(spent, values, noise(values))
    return _too_low_cause(evidence, start, end, is_flat=-slope.value < 3 * slope.error)


def _too_low_cause(evidence: Evidence, start: Level, end: Level, is_flat: bool) -> Cause:
    fraction = max(0.0, (start.value - end.value) / start.value)
    patch = higher_rate(evidence.job)
    sigma = noise([point.loss for point in evidence.curves.finite_train])
    shape = (
        "That fall is within the noise: the curve is flat."
        if is_flat
        else "The curve is straight over the learning rate spent; a model that learns bends it."
    )
    return Cause(
        mode="learning_rate_too_low",
        statistic=strength(LEAST_FALL / max(fraction, 0.005)),
        evidence=(
            f"Training loss went from {start.value:.3f} to {end.value:.3f} in {evidence.curves.last_step} steps, only "
            f"{percent(fraction, 1)} lower; a single step varies by {sigma:.3f}.",
            shape,
            evidence.rate_against_usual(),
        ),
        explanation="The updates are so small that the model hardly changes.",
        fixes=(
            f"Raise the learning rate: train.learning_rate = {patch['train.learning_rate']:g}.",
            f"If that is not enough, train longer: {_setting(later_end(evidence.job, 2))}.",
        ),
        patch=patch,
    )


def _setting(patch: dict[str, object]) -> str:
    return ", ".join(f"{name} = {value:g}" for name, value in patch.items())
