"""Which cause explains which: faults of data and setup before faults of learning, and these before their signs."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Mapping

from foretune.config.derive import MANY_EPOCHS
from foretune.diagnose.evidence import Evidence
from foretune.diagnose.rate_low import is_straight
from foretune.diagnose.tokens import lengths_differ
from foretune.diagnose.underfitting import is_short
from foretune.records.diagnosis import Cause, Mode

__all__ = ["EXPLAINS", "LEARNING", "explained"]

# What weights that were thrown about show, whatever the data are like.
OF_BROKEN_WEIGHTS: tuple[Mode, ...] = (
    "overfitting",
    "underfitting",
    "learning_rate_too_low",
    "forgetting",
    "language_loss",
    "missing_end",
    "style_without_substance",
    "label_noise",
    "unrelated_targets",
)
# A cause and what follows from it, upstream causes first. Pairs that could go either way stand in both directions;
# `_holds` settles them by what the run shows.
EXPLAINS: dict[Mode, tuple[Mode, ...]] = {
    "diverged": (
        *OF_BROKEN_WEIGHTS,
        "template_mismatch",
        "loss_on_prompt",
    ),
    "learning_rate_too_high": (
        *OF_BROKEN_WEIGHTS,
        "truncated_targets",
        "too_little_data",
    ),
    "template_mismatch": (
        "learning_rate_too_high",
        "missing_end",
        "truncated_targets",
        "underfitting",
        "learning_rate_too_low",
        "style_without_substance",
        "unrelated_targets",
        "label_noise",
        "overfitting",
        "too_little_data",
        "wrong_base",
        "loss_on_prompt",
        "forgetting",
    ),
    "truncated_targets": (
        "missing_end",
        "unrelated_targets",
        "too_little_data",
        "style_without_substance",
        "underfitting",
        "overfitting",
        "label_noise",
        "learning_rate_too_low",
    ),
    "missing_end": (
        "underfitting",
        "style_without_substance",
        "forgetting",
        "label_noise",
        "unrelated_targets",
        "loss_on_prompt",
        "too_little_data",
        "overfitting",
    ),
    "loss_on_prompt": (
        "underfitting",
        "overfitting",
        "forgetting",
        "truncated_targets",
        "unrelated_targets",
        "label_noise",
        "style_without_substance",
        "learning_rate_too_low",
    ),
    "wrong_base": (
        "learning_rate_too_high",
        "learning_rate_too_low",
        "underfitting",
        "style_without_substance",
        "unrelated_targets",
        "too_little_data",
        "label_noise",
        "overfitting",
    ),
    "duplicates": ("overfitting", "too_little_data", "label_noise", "unrelated_targets", "style_without_substance"),
    "unrelated_targets": (
        "label_noise",
        "style_without_substance",
        "underfitting",
        "learning_rate_too_low",
        "overfitting",
        "too_little_data",
    ),
    "label_noise": ("overfitting", "underfitting", "style_without_substance", "too_little_data"),
    "leakage": (),
    "distribution_shift": (),
    "learning_rate_too_low": (
        "underfitting",
        "missing_end",
        "style_without_substance",
        "unrelated_targets",
        "label_noise",
    ),
    "underfitting": ("label_noise", "unrelated_targets", "style_without_substance", "missing_end"),
    "style_without_substance": ("underfitting",),
    "too_little_data": ("overfitting", "underfitting", "style_without_substance", "forgetting"),
    "overfitting": ("too_little_data", "style_without_substance", "forgetting"),
    "language_loss": ("forgetting",),
    "forgetting": ("language_loss",),
}

# Faults of data and setup are shown before faults of learning, however strong these are: they are what to mend first.
LEARNING: frozenset[Mode] = frozenset(
    {
        "learning_rate_too_low",
        "style_without_substance",
        "too_little_data",
        "overfitting",
        "underfitting",
        "language_loss",
        "forgetting",
    }
)
FEW_ROWS = 50  # different training samples; hosted services of fine-tuning ask for 50 to 100
# Signs of pairs that say nothing, which a model also shows that has not learned yet.
UNLEARNED: frozenset[Mode] = frozenset({"label_noise", "unrelated_targets", "style_without_substance", "missing_end"})
# What may be a fault of the targets themselves, which then no other cause explains.
LENGTHS: frozenset[Mode] = frozenset({"truncated_targets", "missing_end"})


def explained(causes: Mapping[Mode, Cause], evidence: Evidence) -> dict[Mode, tuple[Mode, ...]]:
    """For each cause the causes among `causes` that explain it. Of two that could explain each other, one does."""
    found: dict[Mode, tuple[Mode, ...]] = {}
    for mode in causes:
        found[mode] = tuple(
            other for other in EXPLAINS if other in causes and mode in EXPLAINS[other] and _holds(other, mode, evidence)
        )
    return found


def _holds(cause: Mode, effect: Mode, evidence: Evidence) -> bool:
    """Settles the pairs that could go either way, by what the run shows."""
    if {cause, effect} == {"overfitting", "too_little_data"}:
        return (cause == "overfitting") == _is_passes(evidence)
    if effect == "forgetting" and cause in ("overfitting", "too_little_data"):
        return _has_few_rows(evidence)
    if "underfitting" in (cause, effect) and {cause, effect} & UNLEARNED:
        return (cause == "underfitting") == is_short(evidence)
    if {cause, effect} == {"forgetting", "language_loss"}:
        return (cause == "language_loss") == _one_language_alone(evidence)
    if {cause, effect} == {"unrelated_targets", "learning_rate_too_low"}:
        return (cause == "learning_rate_too_low") == is_straight(evidence)
    if effect in LENGTHS and cause not in LENGTHS:
        return not lengths_differ(evidence)
    return True


def _is_passes(evidence: Evidence) -> bool:
    """More passes than usual over rows enough: then it is the passes and not the rows that are too many."""
    if _has_few_rows(evidence):
        return False
    return evidence.without_settings or evidence.job.train.epochs > MANY_EPOCHS


def _has_few_rows(evidence: Evidence) -> bool:
    """So few samples that a model learns them by heart in however many passes, and forgets what they do not show."""
    rows = evidence.rows.num_distinct if evidence.rows is not None else evidence.num_train_samples
    return 0 < rows < FEW_ROWS


def _one_language_alone(evidence: Evidence) -> bool:
    """Whether another language kept its skills."""
    languages = evidence.probes.languages if evidence.probes is not None else ()
    falls = [
        one.base_score - one.tuned_score
        for one in languages
        if one.base_score is not None and one.tuned_score is not None
    ]
    return len(falls) > 1 and min(falls) < 0.5 * evidence.thresholds.language_fall
