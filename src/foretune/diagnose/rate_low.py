"""Learning rate too low: training moved the model along a straight line, and not far."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from statistics import fmean

from foretune.diagnose.behaviour import Estimate, gain, losses_of
from foretune.diagnose.evidence import LEARNED_NATS, Evidence, is_lower_better, percent, strength
from foretune.diagnose.rate import kept_skills, rate_sentence
from foretune.diagnose.settings import higher_rate, later_end
from foretune.diagnose.shape import (
    Level,
    bend,
    difference,
    efforts,
    first_level,
    halves,
    last_level,
    noise,
    trend,
)
from foretune.records.diagnosis import Cause

__all__ = ["is_straight", "too_low", "too_low_needs"]

LEAST_STEPS_TOO_LOW = 20
HALF_AS_LITTLE = 0.5  # of the statistic by what targets cost: below, a curve that hardly falls is not believed
BEYOND = 5.0  # times the effort that would take the whole loss: a learned task was learned in a fifth of the run
FACTORS = (5.0, 100.0)  # least and most by which a rate is raised at once


def too_low_needs(evidence: Evidence) -> str:
    """What is missing to judge a learning rate as too low; "" if nothing is."""
    if evidence.probes is not None and losses_of(evidence.probes, "train"):
        return ""
    return evidence.steps_missing(LEAST_STEPS_TOO_LOW)


def too_low(evidence: Evidence) -> Cause | None:
    """Targets that lost little of their cost while validation fell in a straight line, or a loss that barely falls.

    A model that learns bends its curve; one that is moved too little goes straight on (R221). Where the validations are
    too few to tell, never where the verdict is `better`.
    """
    is_better = evidence.evaluation is not None and evidence.evaluation.verdict == "better"
    probes, early = evidence.probes, _early_share(evidence)
    if probes is not None and losses_of(probes, "train") and early is not None:
        is_served = is_better and is_lower_better(probes.primary_metric)
        return None if is_served else _slow(evidence, early)
    return None if is_better else _by_what_is_left(evidence)


def is_straight(evidence: Evidence) -> bool:
    """Whether validation fell in a straight line over the learning rate spent, by three validations or more."""
    early = _early_share(evidence)
    return early is not None and early < evidence.thresholds.early_share


def _early_share(evidence: Evidence) -> float | None:
    found = halves(evidence.curves.finite_train, evidence.curves.finite_validation)
    return None if found is None else found.early_share


def _slow(evidence: Evidence, early: float) -> Cause | None:
    """The weaker of: targets still cost much of what they did, and the first half of the effort brought half of that.

    Straight is 1/2; a task that was learned has nearly all of its fall in the first half.
    """
    limits, learned = evidence.thresholds, _learned(evidence)
    if learned is None:
        return None
    straight = (1 - early) / (1 - limits.early_share)
    statistic = min(learned.below(limits.unfinished_gain), straight, 10.0)
    return _unchanged_cause(evidence, statistic, learned, early) if statistic > 0 else None


def _by_what_is_left(evidence: Evidence) -> Cause | None:
    """What the targets cost decides where it was measured."""
    learned = _learned(evidence)
    is_measured = learned is not None or bool(evidence.probes is not None and losses_of(evidence.probes, "train"))
    little = min(learned.below(evidence.thresholds.little_gain), 10.0) if learned is not None else 0.0
    by_curve = _straight(evidence) if not is_measured or little >= HALF_AS_LITTLE else None
    if by_curve is not None and by_curve.statistic >= max(1.0, little):
        return by_curve
    return _unchanged_cause(evidence, little, learned) if learned is not None and little > 0 else by_curve


def _learned(evidence: Evidence) -> Estimate | None:
    """What training took of the loss on its targets; None where there was little to take, or it is no lack of it."""
    probes = evidence.probes
    if probes is None or len(evidence.curves.finite_train) < LEAST_STEPS_TOO_LOW:
        return None
    train = losses_of(probes, "train")
    learned, kept = gain(train), kept_skills(evidence)
    if learned is None or fmean(loss.base_nats for loss in train) < LEARNED_NATS or learned.high < -0.1:
        return None
    is_broken = kept is not None and kept < evidence.thresholds.kept_skills
    return None if is_broken or _is_good(evidence) else learned


def _is_good(evidence: Evidence) -> bool:
    """Whether the fine-tuned model scores well on validation, however little it changed."""
    probes = evidence.probes
    if probes is None or probes.validation_score is None or evidence.no_scores("validation_score"):
        return False
    return probes.validation_score.ci_high >= evidence.thresholds.poor_score


def _unchanged_cause(evidence: Evidence, statistic: float, learned: Estimate, early: float | None = None) -> Cause:
    assert evidence.probes is not None
    train = losses_of(evidence.probes, "train")
    before, after = fmean(loss.base_nats for loss in train), fmean(loss.tuned_nats for loss in train)
    # On the straight part of a curve the gain is proportional to the rate.
    factor = min(FACTORS[1], max(FACTORS[0], round(BEYOND / max(learned.value, 0.01))))
    patch = higher_rate(evidence.job, factor)
    return Cause(
        mode="learning_rate_too_low",
        statistic=strength(statistic),
        evidence=(
            f"Training targets cost {before:.3f} nats a token before and {after:.3f} after "
            f"{evidence.curves.last_step} steps, {percent(1 - after / before, 1)} less (n = {len(train)}).",
            *_early_sentence(early),
            *_kept_sentence(evidence),
            *rate_sentence(evidence),
        ),
        explanation="The updates are so small that the model hardly changes.",
        fixes=(
            f"Raise the learning rate: train.learning_rate = {patch['train.learning_rate']:g}.",
            f"If that is not enough, train longer: {_setting(later_end(evidence.job, 2))}.",
        ),
        patch=patch,
    )


def _early_sentence(early: float | None) -> tuple[str, ...]:
    if early is None:
        return ()
    return (
        f"The first half of the learning rate spent brought {percent(early)} of the fall of the validation loss: a "
        "straight line is 50 %, and a model that learns bends it.",
    )


def _kept_sentence(evidence: Evidence) -> tuple[str, ...]:
    kept = kept_skills(evidence)
    return () if kept is None else (f"General skills are where they were: {percent(kept)} of before.",)


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
            *rate_sentence(evidence),
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
