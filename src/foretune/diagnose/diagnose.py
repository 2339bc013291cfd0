"""The verb: every failure mode checked against the evidence of a run, strongest first, each with a patch."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from foretune.config.job import JobConfig
from foretune.diagnose.evidence import Evidence, gather
from foretune.diagnose.forgetting import forgetting, forgetting_needs
from foretune.diagnose.overfitting import overfitting, overfitting_needs
from foretune.diagnose.rate import diverged, diverged_needs, rate_needs, too_high, too_low, too_low_needs
from foretune.diagnose.underfitting import underfitting, underfitting_needs
from foretune.records.diagnosis import Cause, DiagnosisRecord, Mode

__all__ = ["diagnose", "next_patch"]


class _Check(NamedTuple):
    """How one mode is judged: what is missing for it, the check, and the modes that explain it away."""

    needs: Callable[[Evidence], str]
    cause: Callable[[Evidence], Cause | None]
    upstream: tuple[Mode, ...] = ()


# In causal order: a check comes after the modes that would explain its signs.
CHECKS: dict[Mode, _Check] = {
    "diverged": _Check(diverged_needs, diverged),
    "learning_rate_too_high": _Check(rate_needs, too_high),
    "learning_rate_too_low": _Check(too_low_needs, too_low, ("diverged", "learning_rate_too_high")),
    "overfitting": _Check(overfitting_needs, overfitting, ("diverged", "learning_rate_too_high")),
    "underfitting": _Check(
        underfitting_needs,
        underfitting,
        ("diverged", "learning_rate_too_high", "learning_rate_too_low", "overfitting"),
    ),
    "forgetting": _Check(forgetting_needs, forgetting),
}


def diagnose(job: JobConfig, *, run_dir: str | Path) -> DiagnosisRecord:
    """Judge a run by its records, write `diagnosis.json`, and return it; no causes means that nothing was found.

    Raises NotFound where the run has neither a loss curve nor an evaluation, DataError where a record is damaged.
    """
    folder = Path(run_dir)
    record = judge(gather(job, folder))
    record.write(folder)
    return record


def judge(evidence: Evidence) -> DiagnosisRecord:
    """The diagnosis of given evidence. A mode that another one explains is not claimed, and named as not checked."""
    causes: dict[Mode, Cause] = {}
    checked: list[Mode] = []
    not_checked: dict[str, str] = {}
    for mode, check in CHECKS.items():
        reason = check.needs(evidence) or _explained(check, causes)
        if reason:
            not_checked[mode] = reason
            continue
        checked.append(mode)
        cause = check.cause(evidence)
        if cause is not None:
            causes[mode] = cause
    ranked = sorted(causes.values(), key=lambda cause: -cause.statistic)
    return DiagnosisRecord(
        run_id=evidence.run_id, causes=tuple(ranked), checked=tuple(checked), not_checked=not_checked
    )


def _explained(check: _Check, causes: dict[Mode, Cause]) -> str:
    found = [mode.replace("_", " ") for mode in check.upstream if mode in causes]
    return f"its signs would be explained by: {', '.join(found)}" if found else ""


def next_patch(record: DiagnosisRecord) -> dict[str, Any]:
    """All settings to change for the next run; where two causes disagree, the stronger one decides."""
    patch: dict[str, Any] = {}
    for cause in reversed(record.causes):
        patch.update(cause.patch)
    return patch
