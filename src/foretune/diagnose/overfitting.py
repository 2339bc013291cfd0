"""Overfitting: the model learns its training samples by heart."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from statistics import fmean
from typing import NamedTuple

from foretune.diagnose.evidence import LEAST_STEPS, Evidence, percent, strength
from foretune.diagnose.settings import earlier_end, more_regularised, smaller_rank
from foretune.diagnose.shape import Level, difference, last_level, level, noise
from foretune.records.diagnosis import Cause

__all__ = ["overfitting", "overfitting_needs"]

LEAST_RISE = 0.05  # of the lowest validation loss, over at least two later validations
LEAST_RISE_NATS = 0.02
GAP_RATIO = 1.5  # validation over training loss: moderate overfitting from here
LEAST_GAP_NATS = 0.1
PLATEAU = 0.01  # validation stands still where it gains no more than this fraction
PLATEAU_TRAIN_FALL = 0.15  # training loss falls on by this share while validation stands still
FEW_SAMPLES = 500  # below: soft prompts overfit less than adapters


def overfitting_needs(evidence: Evidence) -> str:
    """What is missing to judge overfitting; "" if nothing is."""
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
    share = LEAST_RISE if len(later) >= 2 else 2 * LEAST_RISE
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
        threshold=max(share * lowest, LEAST_RISE_NATS, min(3 * wobble, 4 * share * lowest)),
        train_before=level(near, sigma),
        train_end=last_level([point.loss for point in train]),
    )


def overfitting(evidence: Evidence) -> Cause | None:
    """Training loss falls on while validation rises from its minimum, or stands still far above (R255)."""
    turn, rest = _turn(evidence), _turn(evidence, slack=PLATEAU)
    rising = turn.rise / turn.threshold if _train_falls_on(turn) or _train_is_done(turn) else 0.0
    resting = _plateau(rest) if _train_falls_on(rest) else 0.0
    if max(rising, resting) < 1:
        return None
    return _overfitting_cause(evidence, turn if rising >= 1 else rest, max(rising, resting))


def _train_falls_on(turn: _Turn) -> bool:
    fall = turn.train_fall
    return turn.num_later > 0 and fall.value > max(0.02 * turn.train_before.value, 2.5 * fall.error)


def _train_is_done(turn: _Turn) -> bool:
    """Training loss rests far below validation: there was nothing left to learn by heart."""
    fall = turn.train_fall
    return turn.num_later > 0 and fall.value > -2 * fall.error and turn.gap_ratio >= GAP_RATIO


def _plateau(turn: _Turn) -> float:
    """Strength of "validation stands still while training falls on": the weakest of its three conditions."""
    gap = turn.end - turn.train_end.value
    if turn.num_later < 2:
        return 0.0
    return min(turn.gap_ratio / GAP_RATIO, gap / LEAST_GAP_NATS, turn.train_fall_fraction / PLATEAU_TRAIN_FALL)


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


def _overfitting_fixes(evidence: Evidence, patch: dict[str, object], step: int, num: int) -> tuple[str, ...]:
    now = f": {num:,} training samples now, aim for {2 * num:,}" if num else ""
    fixes = [f"More data is the best cure{now}; rephrased inputs count, copies do not."]
    for name in ("train.epochs", "train.advanced.max_steps"):
        if name in patch:
            fixes.append(f"Train less: {name} = {patch[name]:g}; validation was best at step {step}.")
    if "train.advanced.weight_decay" in patch:
        fixes.append(f"Higher weight decay: train.advanced.weight_decay = {patch['train.advanced.weight_decay']:g}.")
    if "train.advanced.dropout" in patch:
        fixes.append(f"Higher LoRA dropout: train.advanced.dropout = {patch['train.advanced.dropout']:g}.")
    if "train.rank" in patch:
        fixes.append(f"Smaller rank: train.rank = {patch['train.rank']}.")
    if 0 < num < FEW_SAMPLES and evidence.job.train.method in ("lora", "full"):
        fixes.append(f'With only {num} training samples, try soft prompts: train.method = "prompt".')
    return tuple(fixes)
