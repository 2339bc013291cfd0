"""The verb: every failure mode checked against the evidence of a run, root causes first, each with what mends it."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from foretune.config.job import JobConfig
from foretune.diagnose.causal import LEARNING, explained
from foretune.diagnose.evidence import Evidence, gather
from foretune.diagnose.forgetting import forgetting, forgetting_needs
from foretune.diagnose.held_out import distribution_shift, leakage, leakage_needs, shift_needs
from foretune.diagnose.language import language_loss, language_needs
from foretune.diagnose.overfitting import overfitting, overfitting_needs
from foretune.diagnose.pairs import (
    duplicates,
    duplicates_needs,
    label_noise,
    noise_needs,
    unrelated_needs,
    unrelated_targets,
)
from foretune.diagnose.rate import diverged, diverged_needs, rate_needs, too_high
from foretune.diagnose.rate_low import too_low, too_low_needs
from foretune.diagnose.substance import (
    base_needs,
    little_data_needs,
    style_needs,
    style_without_substance,
    too_little_data,
    wrong_base,
)
from foretune.diagnose.thresholds import DEFAULT, Thresholds
from foretune.diagnose.tokens import (
    end_needs,
    loss_on_prompt,
    missing_end,
    prompt_needs,
    template_mismatch,
    template_needs,
    truncated_targets,
    truncation_needs,
)
from foretune.diagnose.underfitting import underfitting, underfitting_needs
from foretune.records.diagnosis import Cause, DiagnosisRecord, Mode

__all__ = ["CHECKS", "diagnose", "judge", "next_patch"]


class _Check(NamedTuple):
    """How one mode is judged: what is missing for it, and the check; its statistic is below 1 where it is not found."""

    needs: Callable[[Evidence], str]
    cause: Callable[[Evidence], Cause | None]


CHECKS: dict[Mode, _Check] = {
    "diverged": _Check(diverged_needs, diverged),
    "learning_rate_too_high": _Check(rate_needs, too_high),
    "template_mismatch": _Check(template_needs, template_mismatch),
    "truncated_targets": _Check(truncation_needs, truncated_targets),
    "missing_end": _Check(end_needs, missing_end),
    "loss_on_prompt": _Check(prompt_needs, loss_on_prompt),
    "wrong_base": _Check(base_needs, wrong_base),
    "duplicates": _Check(duplicates_needs, duplicates),
    "unrelated_targets": _Check(unrelated_needs, unrelated_targets),
    "label_noise": _Check(noise_needs, label_noise),
    "leakage": _Check(leakage_needs, leakage),
    "distribution_shift": _Check(shift_needs, distribution_shift),
    "learning_rate_too_low": _Check(too_low_needs, too_low),
    "style_without_substance": _Check(style_needs, style_without_substance),
    "too_little_data": _Check(little_data_needs, too_little_data),
    "overfitting": _Check(overfitting_needs, overfitting),
    "underfitting": _Check(underfitting_needs, underfitting),
    "language_loss": _Check(language_needs, language_loss),
    "forgetting": _Check(forgetting_needs, forgetting),
}


def diagnose(job: JobConfig, *, run_dir: str | Path) -> DiagnosisRecord:
    """Judge a run by its records, write `diagnosis.json`, and return it; no causes means that nothing was found.

    Raises NotFound where the run has neither a loss curve nor an evaluation, DataError where `training.json`,
    `audit.json` or `plan.json` is damaged; a damaged `evaluation.json` or `evidence.json` leaves its modes unchecked.
    """
    folder = Path(run_dir)
    record = judge(gather(job, folder))
    record.write(folder)
    return record


def judge(evidence: Evidence, *, thresholds: Thresholds = DEFAULT, without_settings: bool = False) -> DiagnosisRecord:
    """The diagnosis of given evidence: root causes first, then what follows from them.

    In both, faults of data and setup come before faults of learning, each strongest first.
    `without_settings` hides the job's rates and epochs, token counts and template hashes from every check.
    """
    seen = replace(evidence, thresholds=thresholds, without_settings=without_settings)
    measured: dict[Mode, Cause] = {}
    statistics: dict[str, float] = {}
    not_checked: dict[str, str] = {}
    for mode, check in CHECKS.items():
        reason = check.needs(seen)
        if reason:
            not_checked[mode] = reason
            continue
        cause = check.cause(seen)
        statistics[mode] = cause.statistic if cause is not None else 0.0
        if cause is not None and cause.statistic >= 1:
            measured[mode] = cause
    return DiagnosisRecord(
        run_id=evidence.run_id,
        causes=_ranked(measured, seen),
        checked=tuple(statistics),
        not_checked=not_checked,
        statistics=statistics,
        without_settings=without_settings,
    )


def _ranked(causes: dict[Mode, Cause], evidence: Evidence) -> tuple[Cause, ...]:
    by = explained(causes, evidence)
    marked = [cause.model_copy(update={"explained_by": by[mode]}) for mode, cause in causes.items()]
    return tuple(sorted(marked, key=lambda cause: (not cause.is_root, cause.mode in LEARNING, -cause.statistic)))


def next_patch(record: DiagnosisRecord) -> dict[str, Any]:
    """All settings to change for the next run, of the root causes; where two disagree, the stronger one decides."""
    patch: dict[str, Any] = {}
    for cause in reversed(record.roots):
        patch.update(cause.patch)
    return patch
