"""Overfitting: the model learns its training samples by heart."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import NamedTuple

from foretune.config.derive import MANY_EPOCHS, suggest_epochs
from foretune.diagnose.behaviour import difference as score_difference
from foretune.diagnose.behaviour import losses_of
from foretune.diagnose.evidence import LEAST_STEPS, Evidence, percent, strength
from foretune.diagnose.settings import earlier_end, more_regularised, smaller_rank
from foretune.diagnose.shape import Level, difference, last_level, level, noise
from foretune.diagnose.thresholds import Thresholds
from foretune.diagnose.unseen import held_out_score
from foretune.records.diagnosis import Cause

__all__ = ["Gap", "learned_by_heart", "overfitting", "overfitting_needs"]

LEAST_COSTS = 5  # samples a split whose targets were measured
UNHARMED = 0.9  # cap of what curves say where training samples score no better than validation's
FEW_SAMPLES = 500  # below: soft prompts overfit less than adapters


def overfitting_needs(evidence: Evidence) -> str:
    """What is missing to judge overfitting; "" if nothing is."""
    if learned_by_heart(evidence) is not None or _by_words(evidence) > 0:
        return ""
    num = len(evidence.curves.finite_validation)
    return f"needs 3 validations, the run has {num}" if num < 3 else evidence.steps_missing(LEAST_STEPS)


class _Turn(NamedTuple):
    """Where validation stopped improving, and what happened to both losses since."""

    step: int
    lowest: float
    num_later: int
    end: float  # validation at the end
    rise: float  # in nats
    threshold: float  # rise that counts
    train_before: Level
    train_end: Level

    @property
    def train_fall(self) -> Level:
        return difference(self.train_before, self.train_end)

    @property
    def train_fall_fraction(self) -> float:
        return self.train_fall.value / self.train_before.value

    @property
    def gap_ratio(self) -> float:
        return self.end / max(self.train_end.value, 1e-9)


def _turn(evidence: Evidence, slack: float = 0.0) -> _Turn:
    """The turn at the first validation within `slack` (a fraction) of the lowest."""
    validation = evidence.curves.finite_validation
    values = [point.loss for point in validation]
    lowest = min(values)
    index = next(i for i, value in enumerate(values) if value <= lowest * (1 + slack))
    later = values[index + 1 :]
    end = fmean(later[-3:]) if later else lowest
    limits = evidence.thresholds
    share = limits.curve_rise if len(later) >= 2 else 2 * limits.curve_rise
    wobble = noise(values[: index + 1], robust=True) if index >= 4 else 0.0
    train = evidence.curves.finite_train
    sigma = noise([point.loss for point in train])
    by_distance = sorted(train, key=lambda point: abs(point.step - validation[index].step))
    near = [point.loss for point in by_distance[: max(5, len(train) // 10)]]
    return _Turn(
        step=validation[index].step,
        lowest=lowest,
        num_later=len(later),
        end=end,
        rise=end - lowest,
        threshold=max(share * lowest, limits.curve_rise_nats, min(3 * wobble, 4 * share * lowest)),
        train_before=level(near, sigma),
        train_end=last_level([point.loss for point in train]),
    )


class Gap(NamedTuple):
    """Training samples against held-out ones under the fine-tuned model.

    `by_loss`: what targets cost more, 1 at its threshold. `score`: how much better training samples score, None where
    that was not measured. `is_even`: it was, and the difference is too small to matter.
    """

    by_loss: float
    score: float | None
    sentences: tuple[str, ...]
    is_even: bool = False

    def above(self, least: float) -> float:
        """The statistic where scores apart by `least` matter: 1 at the weaker of both thresholds."""
        return self.by_loss if self.score is None else min(self.by_loss, max(0.0, self.score) / least)


def learned_by_heart(evidence: Evidence) -> Gap | None:
    """How much better training samples do than held-out ones, in loss and, where it was measured, in score.

    What targets cost proves the gap, as it tells even a dozen samples apart; the score says whether it matters.
    """
    probes, limits = evidence.probes, evidence.thresholds
    if probes is None:
        return None
    train = [loss.tuned_nats for loss in losses_of(probes, "train")]
    validation = [loss.tuned_nats for loss in losses_of(probes, "validation")]
    if min(len(train), len(validation)) < LEAST_COSTS:
        return None
    dearer, ratio = _dearer(validation, train), fmean(validation) / max(fmean(train), 0.01)
    by_loss = min(max(0.0, dearer) / limits.loss_gap_nats, ratio / limits.loss_ratio)
    told = f"Targets cost {fmean(train):.3f} nats a token in training and {fmean(validation):.3f} in validation."
    if evidence.no_scores("train_score", "validation_score"):
        return Gap(by_loss, None, (told,))
    assert probes.train_score is not None
    held_out = held_out_score(evidence)
    gap = score_difference(probes.train_score, held_out)
    scores = (
        f"{probes.primary_metric} is {probes.train_score.value:.3f} on training samples and "
        f"{held_out.value:.3f} on held-out ones (difference {gap.low:+.3f} to {gap.high:+.3f})."
    )
    is_even = gap.low <= 0 and gap.high <= limits.even_scores
    return Gap(by_loss, gap.value, (scores, told), is_even)


def _dearer(first: Sequence[float], second: Sequence[float]) -> float:
    """Lower end of the 95 % interval of the difference of two means (Welch 1947)."""
    from scipy.stats import t

    parts = [stdev(values) ** 2 / len(values) for values in (first, second)]
    whole = sum(parts)
    if whole == 0:
        return fmean(first) - fmean(second)
    freedom = whole**2 / sum(part**2 / (len(values) - 1) for part, values in zip(parts, (first, second), strict=True))
    return fmean(first) - fmean(second) - float(t.ppf(0.975, freedom)) * math.sqrt(whole)


def overfitting(evidence: Evidence) -> Cause | None:
    """Training loss falls on while validation rises or stands far above (R255), or training samples do far better.

    Where inputs were reworded, that counts too: what is answered as seen alone was learned by heart (R296).
    """
    found, reworded, by_words = _by_losses(evidence), evidence.reworded, _by_words(evidence)
    if reworded is None:
        return found
    if found is None:
        gap = learned_by_heart(evidence)
        told = Gap(0.0, None, (*(gap.sentences if gap is not None else ()), reworded.reason))
        return _gap_cause(evidence, by_words, told, None) if by_words > 0 else None
    statistic = max(found.statistic, strength(by_words))
    return found.model_copy(update={"statistic": statistic, "evidence": (*found.evidence, reworded.reason)})


def _by_words(evidence: Evidence) -> float:
    """Where other words prove that samples were learned by heart: 1 = it matters, 0 = not proven.

    It matters by how much further training samples fall than validation's, or by how much better they score as seen.
    """
    reworded = evidence.reworded
    if reworded is None or reworded.finding != "by_heart":
        return 0.0
    gap = learned_by_heart(evidence)
    better = gap.score if gap is not None and gap.score is not None else 0.0
    return max(reworded.surplus.value, better) / evidence.thresholds.score_gap


def _by_losses(evidence: Evidence) -> Cause | None:
    """By the curves, and by how much better training samples do than held-out ones."""
    gap, by_curve = learned_by_heart(evidence), None
    if len(evidence.curves.finite_validation) >= 3 and not evidence.steps_missing(LEAST_STEPS):
        by_curve = _by_curve(evidence)
    if gap is None:
        return by_curve
    by_gap = gap.above(evidence.thresholds.score_gap)
    if by_curve is not None:
        statistic = min(by_curve.statistic, UNHARMED) if gap.is_even else by_curve.statistic
        evidence_lines = (*by_curve.evidence, *gap.sentences)
        by_curve = by_curve.model_copy(update={"statistic": statistic, "evidence": evidence_lines})
        if statistic >= by_gap:
            return by_curve
    return _gap_cause(evidence, by_gap, gap, by_curve) if by_gap > 0 else None


def _by_curve(evidence: Evidence) -> Cause | None:
    limits = evidence.thresholds
    turn, rest = _turn(evidence), _turn(evidence, slack=limits.plateau)
    rising = turn.rise / turn.threshold if _train_falls_on(turn) or _train_is_done(turn, limits) else 0.0
    resting = _plateau(rest, limits) if _train_falls_on(rest) else 0.0
    if max(rising, resting) <= 0:
        return None
    return _overfitting_cause(evidence, turn if rising >= 1 else rest, max(rising, resting))


def _share_to_keep(evidence: Evidence) -> float:
    """The share of training to keep where no curve tells: three times the usual passes, at most half."""
    epochs = evidence.job.train.epochs
    usual = 3.0 * suggest_epochs(evidence.num_train_samples or FEW_SAMPLES)
    return 0.5 if evidence.job.train.advanced.max_steps else min(0.5, usual / epochs)


def _gap_cause(evidence: Evidence, statistic: float, gap: Gap, by_curve: Cause | None) -> Cause:
    """The gap alone, with what the curves add where they say the same."""
    if by_curve is not None and by_curve.statistic >= 1:
        return by_curve.model_copy(update={"statistic": strength(statistic)})
    job = evidence.job
    narrower = smaller_rank(job) if job.train.epochs <= MANY_EPOCHS else {}  # else it is the passes, not the capacity
    patch = {**earlier_end(job, _share_to_keep(evidence)), **more_regularised(job), **narrower}
    return Cause(
        mode="overfitting",
        statistic=strength(statistic),
        evidence=gap.sentences,
        explanation="The model learns its training samples by heart: it gets better on what it has seen and not on "
        "what it has not.",
        fixes=_overfitting_fixes(evidence, patch, None, evidence.num_train_samples),
        patch=patch,
    )


def _train_falls_on(turn: _Turn) -> bool:
    fall = turn.train_fall
    return turn.num_later > 0 and fall.value > max(0.02 * turn.train_before.value, 2.5 * fall.error)


def _train_is_done(turn: _Turn, limits: Thresholds) -> bool:
    """Training loss rests far below validation: there was nothing left to learn by heart."""
    fall = turn.train_fall
    return turn.num_later > 0 and fall.value > -2 * fall.error and turn.gap_ratio >= limits.loss_ratio


def _plateau(turn: _Turn, limits: Thresholds) -> float:
    """Strength of "validation stands still while training falls on": the weakest of its three conditions."""
    gap = turn.end - turn.train_end.value
    if turn.num_later < 2:
        return 0.0
    return min(
        turn.gap_ratio / limits.loss_ratio,
        gap / limits.loss_gap_nats,
        turn.train_fall_fraction / limits.plateau_train_fall,
    )


def _overfitting_cause(evidence: Evidence, turn: _Turn, statistic: float) -> Cause:
    job, num = evidence.job, evidence.num_train_samples
    share = turn.step / max(1, evidence.curves.planned_steps, evidence.curves.last_step)
    patch = {**earlier_end(job, share), **more_regularised(job), **smaller_rank(job)}
    ratio = turn.end / turn.lowest
    moved = f"rose from its minimum {turn.lowest:.3f} at step {turn.step} to {turn.end:.3f}, {ratio:.2f} times it"
    stood = f"has not improved since step {turn.step}: {turn.lowest:.3f} there, {turn.end:.3f} at the end"
    return Cause(
        mode="overfitting",
        statistic=strength(statistic),
        evidence=(
            f"Validation loss {moved if turn.rise >= turn.threshold else stood}.",
            _train_sentence(turn),
            f"At the end validation loss is {turn.gap_ratio:.1f} times training loss.",
        ),
        explanation="The model learns its training samples by heart: it gets better on what it has seen and not on "
        f"what it has not. The checkpoint of step {turn.step} is the one to keep; what came after was wasted.",
        fixes=_overfitting_fixes(evidence, patch, turn.step, num),
        patch=patch,
        step=turn.step,
    )


def _train_sentence(turn: _Turn) -> str:
    if not _train_falls_on(turn):
        return f"Training loss stayed low in that time: {turn.train_end.value:.3f} at the end."
    return (
        f"Training loss fell on by {percent(turn.train_fall_fraction)} in that time, "
        f"from {turn.train_before.value:.3f} to {turn.train_end.value:.3f}."
    )


def _overfitting_fixes(evidence: Evidence, patch: dict[str, object], step: int | None, num: int) -> tuple[str, ...]:
    now = f": {num:,} training samples now, aim for {2 * num:,}" if num else ""
    fixes = [f"More data is the best cure{now}; rephrased inputs count, copies do not."]
    for name in ("train.epochs", "train.advanced.max_steps"):
        if name in patch:
            best = "" if step is None else f"; validation was best at step {step}"
            fixes.append(f"Train less: {name} = {patch[name]:g}{best}.")
    if "train.advanced.weight_decay" in patch:
        fixes.append(f"Higher weight decay: train.advanced.weight_decay = {patch['train.advanced.weight_decay']:g}.")
    if "train.advanced.dropout" in patch:
        fixes.append(f"Higher LoRA dropout: train.advanced.dropout = {patch['train.advanced.dropout']:g}.")
    if "train.rank" in patch:
        fixes.append(f"Smaller rank: train.rank = {patch['train.rank']}.")
    if 0 < num < FEW_SAMPLES and evidence.job.train.method in ("lora", "full"):
        fixes.append(f'With only {num} training samples, try soft prompts: train.method = "prompt".')
    return tuple(fixes)
