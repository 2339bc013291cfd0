"""Diagnosis, data, reproduction and warnings as the templates lay them out."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from foretune.diagnose import SYMPTOMS, Symptom, apply_patch
from foretune.records.audit import AuditRecord, TokenStats
from foretune.records.diagnosis import Cause, DiagnosisRecord
from foretune.records.training import TrainingRecord
from foretune.ui.charts import histogram
from foretune.ui.run_folder import RunFolder

__all__ = ["data_view", "diagnosis_view", "reproduction", "symptom_rows", "warning_list"]


def diagnosis_view(record: DiagnosisRecord) -> list[tuple[Cause, str, str]]:
    """Each cause with its name and its patch as lines of the job file."""
    return [
        (cause, cause.mode.replace("_", " ").capitalize(), apply_patch("", cause.patch).strip())
        for cause in record.causes
    ]


def symptom_rows(record: DiagnosisRecord | None) -> list[tuple[Symptom, str, str]]:
    """The table of symptoms with what this run shows: (row, class, words)."""
    rows = []
    for symptom in SYMPTOMS:
        if not symptom.mode:
            rows.append((symptom, "open", f"not measured: needs {symptom.needs}"))
        elif record is not None and any(cause.mode == symptom.mode for cause in record.causes):
            rows.append((symptom, "lost", "found"))
        elif record is not None and symptom.mode in record.checked:
            rows.append((symptom, "gained", "not found"))
        else:
            reason = record.not_checked.get(symptom.mode, "") if record is not None else ""
            rows.append((symptom, "open", f"not checked{': ' + reason if reason else ''}"))
    return rows


@dataclass(frozen=True)
class DataView:
    """Splits, lengths and findings of the data set."""

    splits: tuple[tuple[str, str, str], ...]  # name, samples, hash
    lengths: tuple[tuple[str, tuple[str, ...]], ...]  # split, figures in the order of the table's head
    histogram: Markup | None
    longest: str


def data_view(run: RunFolder) -> DataView | None:
    """The data summary; None where neither `dataset.json` nor `audit.json` is there."""
    if run.dataset is None and run.audit is None:
        return None
    splits = run.dataset.splits if run.dataset else {}
    chart, longest = _token_histogram(run.audit)
    return DataView(
        splits=tuple((name, f"{split.num_samples:,}", split.sha256[:12]) for name, split in splits.items()),
        lengths=tuple(_length_row(name, stats) for name, stats in run.audit.tokens.items()) if run.audit else (),
        histogram=chart,
        longest=longest,
    )


def _length_row(split: str, stats: TokenStats) -> tuple[str, tuple[str, ...]]:
    figures = [stats.mean, stats.p50, stats.p95, stats.max, stats.answer_mean, stats.answer_max]
    cut = "0" if stats.truncated_fraction == 0 else f"{100 * stats.truncated_fraction:.2g} %"
    return split, (*(f"{figure:,.0f}" for figure in figures), cut)


def _token_histogram(audit: AuditRecord | None) -> tuple[Markup | None, str]:
    stats = audit.tokens.get("train") if audit else None
    if stats is None or not any(stats.histogram):
        return None, ""
    label = f"Training sample lengths: half up to {stats.p50:.0f} tokens, the longest {stats.max}"
    return histogram(stats.histogram, stats.max, "tokens", label), f"{stats.max:,}"


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
