"""Learning rate too high or too low, and training that diverged."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, median
from typing import NamedTuple

from foretune.diagnose.behaviour import gain, losses_of, ratio
from foretune.diagnose.evidence import (
    CERTAIN,
    LEARNED_NATS,
    LEAST_STEPS,
    Evidence,
    is_lower_better,
    percent,
    strength,
)
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
from foretune.diagnose.thresholds import Thresholds
from foretune.records.diagnosis import Cause

__all__ = ["diverged", "diverged_needs", "kept_skills", "rate_needs", "too_high", "too_low", "too_low_needs"]

LEAST_STEPS_TOO_LOW = 20
HALF_AS_LITTLE = 0.5  # of the statistic by what targets cost: below, a curve that hardly falls is not believed


def diverged_needs(evidence: Evidence) -> str:
    """What is missing to see a divergence; "" if nothing is."""
    return "" if evidence.curves.train or evidence.curves.failure else "no training loss recorded"


def rate_needs(evidence: Evidence) -> str:
    """What is missing to judge a learning rate as too high; "" if nothing is."""
    broke_down = evidence.curves.first_bad_step is not None and len(evidence.curves.finite_train) > 1
    seen = broke_down or kept_skills(evidence) is not None
    return "" if seen else evidence.steps_missing(LEAST_STEPS)


def too_low_needs(evidence: Evidence) -> str:
    """What is missing to judge a learning rate as too low; "" if nothing is."""
    if evidence.probes is not None and losses_of(evidence.probes, "train"):
        return ""
    return evidence.steps_missing(LEAST_STEPS_TOO_LOW)


def diverged(evidence: Evidence) -> Cause | None:
    """A loss or gradient that is NaN or infinite, or a run that stopped for one."""
    curves = evidence.curves
    step = curves.first_bad_step
    if step is None and curves.error != "TrainingDiverged":
        return None
    patch = {**lower_rate(evidence.job, 30), **steadier(evidence.job)}
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
    signals = [_damaged(evidence), *_curve_signals(evidence)]
    ranked = sorted((signal for signal in signals if signal is not None), key=lambda signal: -signal.statistic)
    shown = [signal for signal in ranked if signal.statistic >= 1] or ranked[:1]
    return _too_high_cause(evidence, shown) if shown else None


def _curve_signals(evidence: Evidence) -> list[_Signal | None]:
    points = evidence.curves.finite_train
    values = [point.loss for point in points]
    if not values:
        return []
    start = first_level(values)
    if len(values) < LEAST_STEPS:
        return [_broke_down(evidence, start)]
    return [
        _broke_down(evidence, start),
        _above_start(start, last_level(values), evidence.thresholds),
        _rebound(values, [point.step for point in points], start, evidence.thresholds),
        _spiky(evidence, start),
    ]


def kept_skills(evidence: Evidence) -> float | None:
    """What is left of the general skills' scores, 0..1; None where they are no rates or the base had none to lose."""
    skills = evidence.evaluation.general_skills if evidence.evaluation is not None else ()
    rates = [skill for skill in skills if not is_lower_better(skill.metric)]
    before = sum(skill.before for skill in rates)
    has_some = before > evidence.thresholds.base_skills * len(rates)
    return sum(skill.after for skill in rates) / before if has_some else None


def _damaged(evidence: Evidence) -> _Signal | None:
    """General skills collapsed, and either the task was not learned or general rows in training did not keep them.

    Narrow data alone make a model forget; what they cannot explain is left to the rate.
    """
    kept, limits = kept_skills(evidence), evidence.thresholds
    if kept is None:
        return None
    failed, words = _failed(evidence)
    statistic = min((1 - kept) / (1 - limits.kept_skills), failed)
    mixed = evidence.general_fraction
    if mixed >= limits.general_fraction:
        statistic = max(statistic, (1 - kept) / (1 - limits.kept_skills_mixed))
        words = [f"although {percent(mixed)} of training are general rows", *words]
    if not words:
        return None
    return _Signal(statistic, f"{percent(kept)} of the general skills are left; {', and '.join(words)}.", None, 30)


def _failed(evidence: Evidence) -> tuple[float, list[str]]:
    """How far the task was not learned, by its score in training or by what its targets cost, and that in words."""
    probes, limits = evidence.probes, evidence.thresholds
    failed, words = 0.0, list[str]()
    if probes is None:
        return failed, words
    if not evidence.no_scores("train_score") and probes.train_score is not None:
        failed = limits.low_score / max(probes.train_score.ci_high, 0.01)
        words.append(f"{probes.primary_metric} on training samples is {probes.train_score.value:.3f}")
    train = losses_of(probes, "train")
    worse = ratio([loss.tuned_nats for loss in train], [loss.base_nats for loss in train])
    if worse is not None:
        failed = max(failed, worse.low / limits.damaged)
        words.append(f"training targets cost {worse.value:.2f} times what they cost before")
    return failed, words


def _broke_down(evidence: Evidence, start: Level) -> _Signal | None:
    step = evidence.curves.first_bad_step
    if step is None:
        return None
    lowest = min(point.loss for point in evidence.curves.finite_train)
    sentence = f"The loss started at {start.value:.3f}, reached {lowest:.3f}, and was not a number at step {step}."
    return _Signal(10.0, sentence, step, 10)


def _above_start(start: Level, end: Level, limits: Thresholds) -> _Signal | None:
    rise = difference(end, start)
    if rise.value < 3 * rise.error or start.value <= 0:
        return None
    sentence = f"The run ends with a training loss of {end.value:.3f}, above its start of {start.value:.3f}."
    return _Signal(end.value / start.value / limits.above_start, sentence, None, 10)


def _rebound(values: Sequence[float], steps: Sequence[int], start: Level, limits: Thresholds) -> _Signal | None:
    """The largest climb of the smoothed loss above its lowest value so far, against noise measured on the logarithm."""
    curve = smoothed(without_spikes(values))
    sigma = max(relative_noise(values), relative_noise(values[len(values) // 2 :]))
    sigma /= math.sqrt(smoothing_window(len(values)))
    least = max(limits.rebound, math.expm1(min(6 * sigma, 20.0)))
    best: tuple[float, int, int] = (0.0, 0, 0)
    lowest = 0
    for index, value in enumerate(curve):
        if value < curve[lowest]:
            lowest = index
        gained = max(0.0, start.value - curve[lowest])
        threshold = max(least * curve[lowest], limits.rebound_of_fall * gained, LEARNED_NATS)
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
    found = spikes(points, evidence.thresholds.spike * start.value)
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
            *_rate_sentence(evidence),
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
    """Loss that barely falls, in a straight line, or targets that cost what they cost before (R221).

    Never where the verdict is `better`. What the targets cost decides where it was measured.
    """
    if evidence.evaluation is not None and evidence.evaluation.verdict == "better":
        return None
    little = _little_gain(evidence)
    by_curve = _straight(evidence) if little is None or little >= HALF_AS_LITTLE else None
    if by_curve is not None and by_curve.statistic >= max(1.0, little or 0.0):
        return by_curve
    return _unchanged_cause(evidence, little) if little else by_curve


def _little_gain(evidence: Evidence) -> float | None:
    """How little of the loss on training targets went, 1 at the threshold; None where it was not measured."""
    if evidence.probes is None:
        return None
    train = losses_of(evidence.probes, "train")
    learned = gain(train)
    if learned is None:
        return None
    if fmean(loss.base_nats for loss in train) < LEARNED_NATS or learned.high < -0.1 or _is_good(evidence):
        return 0.0
    if len(evidence.curves.finite_train) < LEAST_STEPS_TOO_LOW:
        return 0.0
    kept = kept_skills(evidence)
    if kept is not None and kept < evidence.thresholds.kept_skills:
        return 0.0
    return min(learned.below(evidence.thresholds.little_gain), 10.0)


def _is_good(evidence: Evidence) -> bool:
    """Whether the fine-tuned model scores well on validation, however little it changed."""
    probes = evidence.probes
    if probes is None or probes.validation_score is None or evidence.no_scores("validation_score"):
        return False
    return probes.validation_score.ci_high >= evidence.thresholds.poor_score


def _unchanged_cause(evidence: Evidence, statistic: float) -> Cause:
    assert evidence.probes is not None
    train = losses_of(evidence.probes, "train")
    before, after = fmean(loss.base_nats for loss in train), fmean(loss.tuned_nats for loss in train)
    factor = 100.0 if after > 0.96 * before else 30.0  # the gain is about proportional to so low a rate
    patch = higher_rate(evidence.job, factor)
    return Cause(
        mode="learning_rate_too_low",
        statistic=strength(statistic),
        evidence=(
            f"Training targets cost {before:.3f} nats a token before and {after:.3f} after "
            f"{evidence.curves.last_step} steps, {percent(1 - after / before, 1)} less (n = {len(train)}).",
            *_kept_sentence(evidence),
            *_rate_sentence(evidence),
        ),
        explanation="The updates are so small that the model hardly changes.",
        fixes=(
            f"Raise the learning rate: train.learning_rate = {patch['train.learning_rate']:g}.",
            f"If that is not enough, train longer: {_setting(later_end(evidence.job, 2))}.",
        ),
        patch=patch,
    )


def _kept_sentence(evidence: Evidence) -> tuple[str, ...]:
    kept = kept_skills(evidence)
    return () if kept is None else (f"General skills are where they were: {percent(kept)} of before.",)


def _rate_sentence(evidence: Evidence) -> tuple[str, ...]:
    sentence = evidence.rate_against_usual()
    return (sentence,) if sentence else ()


def _straight(evidence: Evidence) -> Cause | None:
    """The training loss barely falls, in a straight line."""
    points = evidence.curves.finite_train
    if len(points) < LEAST_STEPS_TOO_LOW:
        return None
    values = [point.loss for point in points]
    start, end = first_level(values), last_level(values)
    if start.value < LEARNED_NATS:
        return None
    fall = difference(start, end)
    if fall.value >= evidence.thresholds.curve_fall * start.value or -fall.value > 3 * fall.error:
        return None
    spent = efforts(points)
    if bend(spent, values) > evidence.thresholds.bend:
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
        statistic=strength(evidence.thresholds.curve_fall / max(fraction, 0.005)),
        evidence=(
            f"Training loss went from {start.value:.3f} to {end.value:.3f} in {evidence.curves.last_step} steps, only "
            f"{percent(fraction, 1)} lower; a single step varies by {sigma:.3f}.",
            shape,
            *_rate_sentence(evidence),
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
