"""Diagnosis, data, reproduction and warnings as the templates lay them out."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dataclasses import dataclass

from foretune.diagnose import SYMPTOMS, Symptom, apply_patch
from foretune.records.audit import AuditRecord
from foretune.records.diagnosis import Cause, DiagnosisRecord
from foretune.records.training import TrainingRecord
from foretune.ui.audited import AuditView, audit_view
from foretune.ui.portrait import read_rows
from foretune.ui.run_folder import RunFolder
from foretune.ui.settings import longest_row

__all__ = [
    "CauseView",
    "badges",
    "data_view",
    "diagnosis_view",
    "reproduction",
    "symptom_rows",
    "unchecked",
    "warning_list",
]


@dataclass(frozen=True)
class CauseView:
    """One cause with its name, the names of what explains it, its patch as lines of a job file, and what rows it drops.

    `number` is that of `--apply`, 0 where it has nothing to apply.
    """

    cause: Cause
    name: str
    follows: str
    patch: str
    rows: tuple[str, ...]
    number: int


def diagnosis_view(record: DiagnosisRecord) -> list[CauseView]:
    """The causes in their order, root causes first."""
    return [_cause_view(cause, number) for number, cause in enumerate(record.causes, start=1)]


def _cause_view(cause: Cause, number: int) -> CauseView:
    return CauseView(
        cause=cause,
        name=cause.mode.replace("_", " ").capitalize(),
        follows=" and ".join(mode.replace("_", " ") for mode in cause.explained_by),
        patch=apply_patch("", cause.patch).strip(),
        rows=tuple(step.sentence for step in cause.data_steps),
        number=number if cause.can_apply else 0,
    )


def unchecked(record: DiagnosisRecord) -> list[tuple[str, str]]:
    """What could not be judged, as (modes, reason), one entry a reason."""
    modes: dict[str, list[str]] = {}
    for mode, why in record.not_checked.items():
        modes.setdefault(why, []).append(mode.replace("_", " "))
    return [(", ".join(names), why) for why, names in modes.items()]


def symptom_rows(record: DiagnosisRecord | None) -> list[tuple[Symptom, str, str]]:
    """The table of symptoms with what this run shows: (row, class, words)."""
    rows = []
    for symptom in SYMPTOMS:
        if record is not None and any(cause.mode == symptom.mode for cause in record.causes):
            rows.append((symptom, "lost", "found"))
        elif record is not None and symptom.mode in record.checked:
            rows.append((symptom, "gained", "not found"))
        else:
            reason = record.not_checked.get(symptom.mode, "") if record is not None else ""
            rows.append((symptom, "open", f"not checked{': ' + reason if reason else ''}"))
    return rows


def badges(run: RunFolder) -> list[tuple[str, str]]:
    """What the diagnosis says of the curves, as (class, words): each cause found, or that there is none (R253)."""
    if run.diagnosis is None:
        return [("open", "not diagnosed yet")] if run.curves.train else []
    found = [("lost", cause.mode.replace("_", " ")) for cause in run.diagnosis.roots]
    return found or [("gained", "nothing found")]


def data_view(run: RunFolder) -> AuditView | None:
    """The data as the audit found it; None where neither `dataset.json` nor `audit.json` is there.

    The rows themselves are shown where the stored version of the data still lies beside the run.
    """
    if run.dataset is None and run.audit is None:
        return None
    version = run.dataset.version if run.dataset else ""
    audit = run.audit or AuditRecord(dataset_version=version, num_samples=0, findings=())
    rows = read_rows(run.path) if run.dataset else None
    limit = longest_row(run, rows.tokenizer if rows else None)
    return audit_view(audit, run.dataset, rows, max_seq_len=limit, run_id=run.run_id)


@dataclass(frozen=True)
class Reproduction:
    """The commands, the job file, and everything that pins the result."""

    commands: tuple[str, ...]
    job_text: str
    pins: tuple[tuple[str, str], ...]


def reproduction(run: RunFolder) -> Reproduction:
    """How to get the same result again."""
    pins: list[tuple[str, str]] = []
    if run.seed is not None:
        pins.append(("Seed", str(run.seed)))
    if run.training is not None:
        pins += [("Base model", run.training.base), ("Base weights SHA-256", run.training.base_sha256)]
    version = run.dataset.version if run.dataset else run.training.dataset_version if run.training else ""
    if version:
        pins.append(("Data set version", version))
    if run.training is not None:
        pins += _training_pins(run.training)
    elif run.resolved is not None:
        pins.append(("foretune", run.resolved.foretune_version))
    return Reproduction(("foretune run job.toml",), run.job_text.strip(), tuple(pins))


def _training_pins(record: TrainingRecord) -> list[tuple[str, str]]:
    pins = [("foretune", record.foretune_version)]
    pins += [(name, version) for name, version in record.versions.items() if name != "foretune"]
    pins.append(("Device", f"{record.device}, {record.precision}"))
    return pins + [(f"{name} SHA-256", value) for name, value in record.artefact_sha256.items()]


def warning_list(run: RunFolder) -> list[tuple[str, str]]:
    """Every warning of every stage, with the stage that gave it."""
    found = [("report", problem) for problem in run.problems]
    for stage, record in (
        ("data", run.dataset),
        ("plan", run.plan),
        ("train", run.training),
        ("evaluate", run.evaluation),
    ):
        found += [(stage, warning) for warning in record.warnings] if record is not None else []
    return found
