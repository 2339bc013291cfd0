"""Underfitting: training stopped while the model still learned, or came to rest far from done."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import NamedTuple

from foretune.diagnose.behaviour import gain, losses_of
from foretune.diagnose.evidence import LEARNED_NATS, LEAST_STEPS, Evidence, is_lower_better, percent, strength
from foretune.diagnose.settings import larger_rank, later_end
from foretune.diagnose.shape import Level, difference, effort_at, efforts, first_level, halves, last_level, noise, trend
from foretune.diagnose.thresholds import Thresholds
from foretune.records.diagnosis import Cause

__all__ = ["is_short", "underfitting", "underfitting_needs"]

LEAST_LEFT = 0.05  # nats a token: below, what still falls is nothing
SHORT_MOST = 10.0  # cap of the statistic of a short run
SMALL_GAP = (1.25, 0.1)  # validation at most this many times training loss, plus nats: nothing learned by heart


def underfitting_needs(evidence: Evidence) -> str:
    """What is missing to judge underfitting; "" if nothing is."""
    scored = not evidence.no_scores("train_score", "validation_score")
    return evidence.steps_missing(2 if scored else LEAST_STEPS)


class _Progress(NamedTuple):
    """How far the training loss came and whether it still moves, over effort (see `efforts`)."""

    start: Level
    end: Level
    late_fall: Level  # over the last quarter of the effort
    validation_falls: bool | None  # None: not measured

    @property
    def fall(self) -> Level:
        return difference(self.start, self.end)

    @property
    def fall_fraction(self) -> float:
        return self.fall.value / self.start.value

    @property
    def late_share(self) -> float:
        return self.late_fall.value / max(self.fall.value, 1e-9)


def _progress(evidence: Evidence) -> _Progress:
    train = evidence.curves.finite_train
    spent = efforts(train)
    values = [point.loss for point in train]
    late = [index for index, share in enumerate(spent) if share >= 2 / 3]
    slope = trend([spent[i] for i in late], [values[i] for i in late], noise(values))
    late_fall = Level(-slope.value / 4, slope.error / 4)
    return _Progress(first_level(values), last_level(values), late_fall, _validation_falls(evidence, spent))


def _validation_falls(evidence: Evidence, spent: list[float]) -> bool | None:
    """Whether validation loss fell by 1 % or more over the last quarter of the effort."""
    points = evidence.curves.finite_validation
    train = evidence.curves.finite_train
    earlier = [point.loss for point in points if effort_at(point.step, train, spent) <= 0.75]
    return points[-1].loss < 0.99 * min(earlier) if earlier and points else None


def underfitting(evidence: Evidence) -> Cause | None:
    """Stopped while still learning, at rest far from done, or after very few steps with a poor score.

    By the curves never where the verdict is `better`.
    """
    short = _short(evidence)
    by_curve = _by_curve(evidence)
    if short > 0 and (by_curve is None or short >= by_curve.statistic):
        return _unfinished_cause(evidence, _progress(evidence), short, longer=_longer(evidence))
    return by_curve


def is_short(evidence: Evidence) -> bool:
    """Whether the run had so few optimizer steps that it cannot have learned much."""
    return 0 < len(evidence.curves.finite_train) <= evidence.thresholds.few_steps


def _short(evidence: Evidence) -> float:
    """The weaker of: few steps, and poor scores on training and validation or a validation loss that still fell."""
    probes, limits = evidence.probes, evidence.thresholds
    if probes is None or evidence.no_scores("train_score", "validation_score"):
        return 0.0
    assert probes.train_score is not None and probes.validation_score is not None
    best = max(probes.train_score.value, probes.validation_score.value)
    found = halves(evidence.curves.finite_train, evidence.curves.finite_validation)
    falls = 0.0 if found is None or found.end < LEAST_LEFT else found.late_fall / limits.late_fall
    unfinished = max(limits.poor_score / max(best, 0.01), falls)
    return min(limits.few_steps / max(len(evidence.curves.finite_train), 1), unfinished, SHORT_MOST)


def _by_curve(evidence: Evidence) -> Cause | None:
    verdict = evidence.evaluation.verdict if evidence.evaluation else None
    if verdict == "better" or _scores_well(evidence) or evidence.steps_missing(LEAST_STEPS):
        return None
    progress = _progress(evidence)
    if progress.end.value < LEARNED_NATS:
        return None
    unfinished = _unfinished(progress, evidence.thresholds, judged_short=verdict in ("not_better", "worse"))
    exhausted = _exhausted(evidence, progress)
    if max(unfinished, exhausted) <= 0:
        return None
    if unfinished >= min(1.0, exhausted):
        return _unfinished_cause(evidence, progress, unfinished)
    return _exhausted_cause(evidence, progress, exhausted)


def _scores_well(evidence: Evidence) -> bool:
    """Whether validation scores may be good enough, or training's loss is mostly gone, by the probes."""
    probes, limits = evidence.probes, evidence.thresholds
    if probes is None:
        return False
    score = probes.validation_score if not evidence.no_scores("validation_score") else None
    if score is not None and score.ci_high >= limits.poor_score:
        return True
    learned = gain(losses_of(probes, "train"))
    return learned is not None and learned.low > limits.moderate_gain


def _unfinished(progress: _Progress, limits: Thresholds, judged_short: bool) -> float:
    late = progress.late_fall
    if progress.validation_falls is False or progress.fall.value <= 2 * progress.fall.error:
        return 0.0
    if late.value < 3 * late.error or (progress.fall_fraction > limits.little_fall and not judged_short):
        return 0.0
    return progress.late_share / limits.late_share


def _exhausted(evidence: Evidence, progress: _Progress) -> float:
    """Flat, no gap to validation, little learned, and judged no better than the best prompt."""
    evaluation, validation = evidence.evaluation, evidence.curves.finite_validation
    if evaluation is None or evaluation.verdict not in ("not_better", "worse") or not validation:
        return 0.0
    if is_lower_better(evaluation.primary_metric):
        return 0.0
    value = evaluation.system(evaluation.candidate).metrics[evaluation.primary_metric].value
    if (
        value >= evidence.thresholds.good_score
        or min(point.loss for point in validation) > SMALL_GAP[0] * progress.end.value + SMALL_GAP[1]
    ):
        return 0.0
    return evidence.thresholds.little_fall / max(progress.fall_fraction, 0.01)


def _longer(evidence: Evidence) -> float:
    """How many times as long a short run should be: three times the steps that count as few, at least twice as long."""
    num = max(len(evidence.curves.finite_train), 1)
    return max(2.0, float(round(3 * evidence.thresholds.few_steps / num)))


def _unfinished_cause(evidence: Evidence, progress: _Progress, statistic: float, longer: float = 2.0) -> Cause:
    job = evidence.job
    patch = {**later_end(job, longer), **({} if is_short(evidence) else larger_rank(job))}
    return Cause(
        mode="underfitting",
        statistic=strength(statistic),
        evidence=(
            *_steps_sentence(evidence),
            *_falling_sentence(progress, evidence.thresholds),
            _fall_sentence(progress),
            *_verdict_sentence(evidence),
        ),
        explanation="Training stopped before the model had learned what the data can teach it.",
        fixes=_underfitting_fixes(patch),
        patch=patch,
    )


def _falling_sentence(progress: _Progress, limits: Thresholds) -> tuple[str, ...]:
    if progress.late_share < limits.late_share:
        return ()
    both = "training and validation loss were" if progress.validation_falls else "training loss was"
    share = percent(progress.late_share) if progress.late_share <= 1 else "all"  # no whole fall to be a share of
    return (f"At the end {both} still falling: {share} of the fall came in the last quarter.",)


def _steps_sentence(evidence: Evidence) -> tuple[str, ...]:
    if not is_short(evidence):
        return ()
    return (f"Training had {len(evidence.curves.finite_train)} optimizer steps.",)


def _exhausted_cause(evidence: Evidence, progress: _Progress, statistic: float) -> Cause:
    patch = larger_rank(evidence.job) or later_end(evidence.job, 2)
    return Cause(
        mode="underfitting",
        statistic=strength(statistic),
        evidence=(
            _fall_sentence(progress),
            "Training and validation loss have both come to rest close together, so it is not memory that is missing.",
            *_verdict_sentence(evidence),
        ),
        explanation="The model has learned what it can with this capacity, and that is not enough for the task. If a "
        "larger rank does not help either, the base model is too small or the inputs do not hold the answer.",
        fixes=(*_underfitting_fixes(patch), "Try a larger base model (base = ...)."),
        patch=patch,
    )


def _fall_sentence(progress: _Progress) -> str:
    return (
        f"Training loss went from {progress.start.value:.3f} to {progress.end.value:.3f}, "
        f"{percent(abs(progress.fall_fraction))} {'lower' if progress.fall.value >= 0 else 'higher'}."
    )


def _verdict_sentence(evidence: Evidence) -> tuple[str, ...]:
    evaluation = evidence.evaluation
    if evaluation is None:
        return ()
    metric = evaluation.primary_metric
    tuned = evaluation.system(evaluation.candidate).metrics[metric].value
    prompted = evaluation.system(evaluation.baseline).metrics[metric].value
    prompts = "of the most frequent answer" if evaluation.baseline == "constant" else "with the best prompt"
    whose = "of the base model" if is_lower_better(metric) else prompts
    return (f"On the {evaluation.split} split {metric} is {tuned:.3f}, against {prompted:.3f} {whose}.",)


def _underfitting_fixes(patch: dict[str, object]) -> tuple[str, ...]:
    words = {
        "train.epochs": "Train longer",
        "train.advanced.max_steps": "Train longer",
        "train.rank": "Larger rank",
        "train.advanced.num_prompt_tokens": "Longer soft prompt",
    }
    return tuple(f"{words[name]}: {name} = {value:g}." for name, value in patch.items())
