"""Catastrophic forgetting: general skills that fell while the model learned its task."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import Any, NamedTuple

from foretune.diagnose.evidence import Evidence, is_lower_better, percent, strength
from foretune.diagnose.settings import earlier_end, later_end, lower_rate
from foretune.records.diagnosis import Cause, DataStep
from foretune.records.evaluation import EvaluationRecord, SkillScore

__all__ = ["forgetting", "forgetting_needs"]

ALPHA = 0.05
LEAST_FALL = 0.03  # points of a rate, or share of a loss, below which a fall is not told
NARROW_SAMPLES = 1000
# Where general rows are added: the rate is divided by the first, by the second from a statistic of MUCH on, and the
# steps are multiplied by LONGER.
SLOWER, MUCH_SLOWER, MUCH, LONGER = 2.0, 3.0, 2.5, 1.6
GENERAL_SHARES = (0.10, 0.15, 0.20)  # of the mixture: least, best guess, most


def forgetting_needs(evidence: Evidence) -> str:
    """What is missing to judge forgetting; "" if nothing is."""
    if evidence.evaluation is None:
        return evidence.no_evaluation()
    if not evidence.evaluation.general_skills:
        return "general skills were not measured (evaluate.advanced.probe_samples = 0?)"
    return ""


class _Loss(NamedTuple):
    """One skill that fell; `statistic` is the fall over the half-width of its interval, widened for many skills."""

    skill: SkillScore
    fall: float
    statistic: float


def _losses(skills: tuple[SkillScore, ...]) -> list[_Loss]:
    """Skills whose fall is significant at 5 % over all of them together (Bonferroni), worst first."""
    normal = NormalDist()
    widening = normal.inv_cdf(1 - 0.025 / len(skills)) / normal.inv_cdf(0.975)
    losses = []
    for skill in skills:
        sign = 1.0 if is_lower_better(skill.metric) else -1.0
        fall = sign * (skill.after - skill.before)
        nearest = sign * (skill.ci_low if sign > 0 else skill.ci_high)  # end of the interval that is nearest to no loss
        half = (fall - nearest) * widening
        least = LEAST_FALL * skill.before if sign > 0 else LEAST_FALL
        if fall < least:
            continue
        losses.append(_Loss(skill, fall, fall / half if half > 0 else math.inf))
    return sorted((loss for loss in losses if _is_proven(loss, len(skills))), key=lambda loss: -loss.statistic)


def _is_proven(loss: _Loss, num_skills: int) -> bool:
    """By the evaluation's own paired test, so that both say the same; by the interval where a record has no p-value."""
    p_value = loss.skill.p_value
    return loss.statistic > 1 if p_value is None else p_value * num_skills < ALPHA


class _Mean(NamedTuple):
    """The mean fall of all skills, of their scores before (a loss: of itself), with the half-width of its interval."""

    fall: float
    half: float


def _mean_fall(skills: tuple[SkillScore, ...]) -> _Mean:
    """Skills are samples of their own, so that the variances of their changes add up."""
    falls, variances = [], []
    for skill in skills:
        sign, scale = (1.0, skill.before or 1.0) if is_lower_better(skill.metric) else (-1.0, 1.0)
        falls.append(sign * (skill.after - skill.before) / scale)
        variances.append(((skill.ci_high - skill.ci_low) / 2 / scale) ** 2)
    return _Mean(sum(falls) / len(skills), math.sqrt(sum(variances)) / len(skills))


def forgetting(evidence: Evidence) -> Cause | None:
    """General skills below where they were, one of them or all on average, beyond chance (R292); causes checked (R293).

    The statistic is the weaker of how large the fall is and how surely there is one, for the worst skill or the mean.
    """
    evaluation, limits = evidence.evaluation, evidence.thresholds
    if evaluation is None:
        return None
    losses, mean = _losses(evaluation.general_skills), _mean_fall(evaluation.general_skills)
    worst = max((min(loss.statistic, _share(loss) / limits.forgetting_fall) for loss in losses), default=0.0)
    together = max(0.0, mean.fall - mean.half) / limits.forgetting_mean_fall
    statistic = max(worst, together)
    if statistic <= 0:
        return None
    steps = _general_steps(evidence, evaluation)
    patch = (
        _gentler(evidence, statistic) if steps else {**lower_rate(evidence.job, 3), **earlier_end(evidence.job, 0.5)}
    )
    return Cause(
        mode="forgetting",
        statistic=strength(statistic),
        evidence=(
            *(_sentence(loss.skill) for loss in losses),
            *_mean_sentence(mean, len(evaluation.general_skills)),
            _task_sentence(evaluation),
            *_suspects(evidence),
        ),
        explanation=_explanation(evaluation, len(losses)),
        fixes=_fixes(evidence, patch, steps),
        patch=patch,
        data_steps=steps,
    )


def _gentler(evidence: Evidence, statistic: float) -> dict[str, Any]:
    """Beside general rows half the rate or a third, and more steps: a lower rate and fewer rows of the task need them.

    In trials on 0.99 M parameters a third of the rate without more steps kept the skills and lost the task; 2.5 times
    the steps kept the task and forgot again.
    """
    divisor = MUCH_SLOWER if statistic >= MUCH else SLOWER
    return {**lower_rate(evidence.job, divisor), **later_end(evidence.job, LONGER)}


def _general_steps(evidence: Evidence, evaluation: EvaluationRecord) -> tuple[DataStep, ...]:
    """General rows can be made for a base whose general skills are probed one by one: it was trained on our corpus."""
    own = all(not is_lower_better(skill.metric) for skill in evaluation.general_skills)
    takes_chats = evidence.job.train.method not in ("classify", "regress", "pretrain")
    if not own or not takes_chats or evidence.general_fraction >= GENERAL_SHARES[0]:
        return ()
    return (DataStep(do="add_general", why="narrow data"),)


def _share(loss: _Loss) -> float:
    """The fall in points of a rate, or as a share of a loss."""
    return loss.fall / loss.skill.before if is_lower_better(loss.skill.metric) and loss.skill.before else loss.fall


def _mean_sentence(mean: _Mean, num: int) -> tuple[str, ...]:
    if num < 2 or mean.fall <= 0:
        return ()
    low, high = 100 * (mean.fall - mean.half), 100 * (mean.fall + mean.half)
    return (f"All {num} skills together fell by {100 * mean.fall:.1f} points ({low:.1f} to {high:.1f}).",)


def _sentence(skill: SkillScore) -> str:
    if is_lower_better(skill.metric):
        return (
            f"{skill.skill}: {skill.metric} rose from {skill.before:.3g} to {skill.after:.3g} "
            f"(95 % interval of the change {skill.ci_low:+.3g} to {skill.ci_high:+.3g}, n = {skill.n})."
        )
    return (
        f"{skill.skill}: {percent(skill.before)} before, {percent(skill.after)} after (95 % interval of the change "
        f"{100 * skill.ci_low:+.0f} to {100 * skill.ci_high:+.0f} points, n = {skill.n})."
    )


def _task_change(evaluation: EvaluationRecord) -> tuple[float, float]:
    """The task's metric of the base without examples (else of the baseline), and of the fine-tuned model."""
    metric = evaluation.primary_metric
    names = [system.name for system in evaluation.systems]
    before = "base_zero_shot" if "base_zero_shot" in names else evaluation.baseline
    return evaluation.system(before).metrics[metric].value, evaluation.system(evaluation.candidate).metrics[
        metric
    ].value


def _task_is_up(evaluation: EvaluationRecord) -> bool:
    before, after = _task_change(evaluation)
    return after < before if is_lower_better(evaluation.primary_metric) else after > before


def _task_sentence(evaluation: EvaluationRecord) -> str:
    before, after = _task_change(evaluation)
    word = "got better" if _task_is_up(evaluation) else "did not get better"
    return f"The task itself {word}: {evaluation.primary_metric} {before:.3f} before, {after:.3f} after."


def _explanation(evaluation: EvaluationRecord, num_lost: int) -> str:
    num = len(evaluation.general_skills)
    lost = f"{num_lost} of {num} general skills" if num_lost else f"its {num} general skills together"
    if _task_is_up(evaluation):
        return f"The model paid for its task with abilities that it had: {lost} fell."
    return f"The model lost abilities and gained nothing for them: {lost} fell. The training damaged it."


def _suspects(evidence: Evidence) -> tuple[str, ...]:
    """The two usual causes, each checked: a high learning rate, narrow data."""
    if evidence.without_settings:
        return ()
    rate, high = evidence.learning_rate, evidence.usual_rates[1]
    verdict = "yes" if rate > high else "no"
    num = evidence.num_train_samples
    share = evidence.general_fraction
    mixed = f"{percent(share)} general examples" if share else "no general examples"
    if not num:
        narrow = f"Narrow data? Unknown, there is no plan or audit; the job mixes in {mixed}."
    else:
        word = "yes" if num < NARROW_SAMPLES else "possibly"
        narrow = f"Narrow data? {word}: {num:,} training samples of one task, {mixed} mixed in."
    return f"High learning rate? {verdict}: {evidence.rate_against_usual()}", narrow


def _fixes(evidence: Evidence, patch: Mapping[str, Any], steps: tuple[DataStep, ...]) -> tuple[str, ...]:
    num = evidence.num_train_samples
    low, best, high = (round(num * share / (1 - share)) for share in GENERAL_SHARES)
    count = f": about {best:,} beside {num:,} of the task ({low:,} to {high:,})" if num else ""
    fixes = [
        f"Lower the learning rate: train.learning_rate = {patch['train.learning_rate']:g}.",
        f"Mix general examples into the training data, 10-20 % of the mixture{count}: data.mix_path.",
    ]
    for name in ("train.epochs", "train.advanced.max_steps"):
        if name in patch:
            word = "as long as the task needs at that rate" if steps else "less"
            fixes.append(f"Train {word}: {name} = {patch[name]:g}.")
    if evidence.job.train.method == "full":
        fixes.append('Train an adapter instead of all weights: train.method = "lora".')
    return tuple(fixes)
