"""Learning rate too high, and training that diverged."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from foretune.diagnose.behaviour import losses_of, ratio
from foretune.diagnose.evidence import (
    CERTAIN,
    LEARNED_NATS,
    LEAST_STEPS,
    Evidence,
    is_lower_better,
    percent,
    strength,
)
from foretune.diagnose.settings import lower_rate, steadier
from foretune.diagnose.shape import (
    Level,
    difference,
    first_level,
    last_level,
    relative_noise,
    smoothed,
    smoothing_window,
    spikes,
    without_spikes,
)
from foretune.diagnose.thresholds import Thresholds
from foretune.records.diagnosis import Cause
from foretune.stats.intervals import wilson

__all__ = ["climbing", "diverged", "diverged_needs", "kept_skills", "rate_needs", "rate_sentence", "too_high"]


def diverged_needs(evidence: Evidence) -> str:
    """What is missing to see a divergence; "" if nothing is."""
    return "" if evidence.curves.train or evidence.curves.failure else "no training loss recorded"


def rate_needs(evidence: Evidence) -> str:
    """What is missing to judge a learning rate as too high; "" if nothing is."""
    broke_down = evidence.curves.first_bad_step is not None and len(evidence.curves.finite_train) > 1
    seen = broke_down or kept_skills(evidence) is not None
    return "" if seen else evidence.steps_missing(LEAST_STEPS)


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


def climbing(evidence: Evidence) -> Cause | None:
    """The same while training goes on: the first steps drove the loss up, at a rate above the usual ones.

    At the end of a run this says little, for a loss that climbs may come down again; on the way it is worth a look.
    """
    values = [point.loss for point in evidence.curves.finite_train]
    if len(values) < LEAST_STEPS or evidence.learning_rate <= evidence.usual_rates[1]:
        return None
    curve = without_spikes(values)
    start, highest = curve[0], max(curve[2:-2])
    if start <= 0:
        return None
    step = evidence.curves.finite_train[curve.index(highest)].step
    sentence = f"The training loss began at {start:.3f} and stood at {highest:.3f} around step {step}."
    signal = _Signal(highest / start / evidence.thresholds.climb, sentence, step, 10)
    return _too_high_cause(evidence, [signal])


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

    Narrow data alone make a model forget; what they cannot explain is left to the rate. A few general rows, seen over
    and over, are learned by heart and keep nothing, so that only many of them speak against the rate.
    """
    kept, limits = kept_skills(evidence), evidence.thresholds
    if kept is None:
        return None
    lost = _lost_for_sure(evidence)
    failed, words = _failed(evidence)
    statistic = min(lost / (1 - limits.kept_skills), failed)
    mixed = evidence.general_fraction
    if mixed >= limits.general_fraction and _num_general(evidence) >= limits.general_rows:
        statistic = max(statistic, lost / (1 - limits.kept_skills_mixed))
        words = [f"although {percent(mixed)} of training are general rows", *words]
    if not words:
        return None
    return _Signal(statistic, f"{percent(kept)} of the general skills are left; {', and '.join(words)}.", None, 30)


def _lost_for_sure(evidence: Evidence) -> float:
    """Share of the general samples answered right before that are not now: lower end of its interval (Wilson 1927)."""
    skills = evidence.evaluation.general_skills if evidence.evaluation is not None else ()
    rates = [skill for skill in skills if not is_lower_better(skill.metric)]
    before, after = (round(sum(getattr(skill, when) * skill.n for skill in rates)) for when in ("before", "after"))
    return 1 - wilson(min(after, before), before).high if before else 0.0


def _num_general(evidence: Evidence) -> float:
    """How many different general rows training mixed in."""
    share = min(evidence.general_fraction, 0.99)
    return evidence.num_train_samples * share / (1 - share)


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
            *rate_sentence(evidence),
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


def rate_sentence(evidence: Evidence) -> tuple[str, ...]:
    """Where the learning rate lies against the usual range; () where settings are hidden."""
    sentence = evidence.rate_against_usual()
    return (sentence,) if sentence else ()
