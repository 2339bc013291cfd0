"""The records of a half as values to judge, from run folders or from one small file; and that file written."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import lzma
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diagnose_suite.cases import ACCEPTED, HEALTHY, LONG_PROMPT
from diagnose_suite.halves import HALVES
from diagnose_suite.kept import CASE_FILE, job_of
from foretune.config.job import JobConfig
from foretune.diagnose.curves import Curves
from foretune.diagnose.evidence import Evidence, gather
from foretune.evaluate.probe_sets import skill_language
from foretune.records.evaluation import EvaluationRecord
from foretune.records.evidence import EvidenceRecord
from foretune.records.training import CurvePoint

__all__ = ["PACKED", "SEVERITIES", "Recorded", "pack", "read_folder", "read_packed", "severity_of"]

# The fall of the statistic that the fault spoils, in points of 100: below the first it has no effect.
SEVERITIES = ((0.02, "none"), (0.05, "mild"), (0.15, "medium"))
WITHOUT_TWIN = ("leakage", "shift")  # whose effect shows within the run
DIGITS = 4
EFFECT_DIGITS = 6  # a fall of 0.95 to 0.90 is one of 0.05, and counts
LOSS_DIGITS = 3  # of one sample's losses, by far the largest part
PACKED = Path(__file__).parents[1] / "results" / "diagnose_evidence.jsonl.xz"


@dataclass(frozen=True)
class Recorded:
    """One finished run: what was planted, what it cost against its twin, and what a diagnosis sees."""

    half: str
    name: str
    label: str
    task: str
    base: str
    method: str
    seed: int
    notes: dict[str, Any]
    effect: float | None  # points of 100 lost against the twin; None for runs without a fault
    evidence: Evidence

    @property
    def is_fault(self) -> bool:
        """Whether a fault was planted."""
        return self.label in ACCEPTED

    @property
    def severity(self) -> str:
        """none, mild, medium or severe; "" for runs without a fault."""
        return "" if self.effect is None else severity_of(self.effect)

    @property
    def counts(self) -> bool:
        """Whether the fault did medium or severe harm, so that not naming it is a miss."""
        return self.severity in ("medium", "severe")


def severity_of(effect: float) -> str:
    """The class of a fall, 0..1."""
    return next((name for limit, name in SEVERITIES if round(effect, EFFECT_DIGITS) < limit), "severe")


# --- from folders ---------------------------------------------------------------------------------------------------


def read_folder(out: Path) -> list[Recorded]:
    """Every finished run of a folder whose twin is finished too, with its effect against that."""
    told = {path.parent: json.loads(path.read_text(encoding="utf-8")) for path in sorted(out.glob(f"*/{CASE_FILE}"))}
    evidence = {folder: _seen(folder) for folder in told}
    twins = {_place(one): evidence[folder] for folder, one in told.items() if one["label"] in (HEALTHY, LONG_PROMPT)}
    runs = [(one, evidence[folder], twins.get(_twin(one))) for folder, one in told.items()]
    return [_recorded(one, seen, twin) for one, seen, twin in runs if twin is not None or not _needs_twin(one)]


def _seen(folder: Path) -> Evidence:
    return gather(job_of(folder), folder)


def _place(told: dict[str, Any]) -> tuple[Any, ...]:
    names = ("task", "base", "method", "seed")
    return (told["label"], told["number"]) if told["label"] == LONG_PROMPT else tuple(told[name] for name in names)


def _twin(told: dict[str, Any]) -> tuple[Any, ...]:
    return (LONG_PROMPT, told["number"]) if told["label"] == "prompt_loss" else _place(told)


def _needs_twin(told: dict[str, Any]) -> bool:
    return told["label"] in ACCEPTED and told["label"] not in WITHOUT_TWIN


def _recorded(told: dict[str, Any], evidence: Evidence, twin: Evidence | None) -> Recorded:
    effect = _effect(told["label"], evidence, twin) if told["label"] in ACCEPTED else None
    names = ("label", "task", "base", "method", "seed", "notes")
    name = f"{told['label']}-{told['number']:03d}"
    half = next(half for half, plan in HALVES.items() if told["task"] in plan.all_tasks)
    return Recorded(**{one: told[one] for one in names}, half=half, name=name, effect=effect, evidence=evidence)


def _effect(label: str, evidence: Evidence, twin: Evidence | None) -> float:
    """Points of 100 lost against the twin, of what this fault spoils; of two faults within the run itself."""
    evaluation, probes = evidence.evaluation, evidence.probes
    if evaluation is None:
        return 1.0  # training broke off
    if label == "leakage":  # what is reported beyond what rows that training never saw score
        clean = probes.validation_score if probes is not None else None
        return 0.0 if clean is None else _metric(evaluation) - clean.value
    if label == "shift":
        shift = probes.shift if probes is not None else None
        production = shift.score_production if shift is not None else None
        return 0.0 if production is None else _metric(evaluation) - production.value
    assert twin is not None and twin.evaluation is not None
    if label == "forgetting":
        return _skills(twin.evaluation) - _skills(evaluation)
    if label == "language_loss":
        return _skills(twin.evaluation, "es") - _skills(evaluation, "es")
    return _metric(twin.evaluation) - _metric(evaluation)


def _metric(record: EvaluationRecord) -> float:
    return record.system(record.candidate).metrics[record.primary_metric].value


def _skills(record: EvaluationRecord, language: str = "") -> float:
    """The mean of the general skills, of all of them or of those in one language."""
    skills = [one for one in record.general_skills if not language or skill_language(one.skill) == language]
    return sum(one.after for one in skills) / max(1, len(skills))


# --- one small file -------------------------------------------------------------------------------------------------


def pack(folders: Iterable[Path], target: Path) -> int:
    """Write what a diagnosis reads of every run of the folders into one compressed file; its size in bytes.

    Halves that the file has and the folders have not stay as they are.
    """
    runs = [run for out in folders for run in read_folder(out)]
    kept = [line for line in _lines(target) if json.loads(line)["half"] not in {run.half for run in runs}]
    lines = [*kept, *(json.dumps(_packed(run), separators=(",", ":")) for run in runs)]
    target.write_bytes(lzma.compress("\n".join(lines).encode(), preset=9 | lzma.PRESET_EXTREME))
    return target.stat().st_size


def read_packed(path: Path) -> list[Recorded]:
    """The runs of a packed file."""
    return [_unpacked(json.loads(line)) for line in _lines(path)]


def _lines(path: Path) -> list[str]:
    return lzma.decompress(path.read_bytes()).decode().splitlines() if path.is_file() else []


def _packed(run: Recorded) -> dict[str, Any]:
    seen = run.evidence
    told = {one: getattr(run, one) for one in ("half", "name", "label", "task", "base", "method", "seed", "notes")}
    return {
        **told,
        "effect": None if run.effect is None else round(run.effect, EFFECT_DIGITS),
        "job": _packed_job(seen.job, run.base),
        "curves": _packed_curves(seen.curves),
        "evaluation": None if seen.evaluation is None else _packed_evaluation(seen.evaluation),
        "probes": None if seen.probes is None else _packed_probes(seen.probes),
    }


def _packed_job(job: JobConfig, base: str) -> dict[str, Any]:
    """The job without the folders of the machine that it ran on."""
    whole = job.model_dump(mode="json", exclude_defaults=True)
    if job.base != base:
        whole["base"] = base
    if job.data.mix_path:
        whole["data"]["mix_path"] = Path(job.data.mix_path).name
    return whole


def _packed_curves(curves: Curves) -> dict[str, Any]:
    points = {
        name: [[p.step, _short(p.loss), _short(p.learning_rate), _short(p.grad_norm)] for p in getattr(curves, name)]
        for name in ("train", "validation")
    }
    rest = {name: getattr(curves, name) for name in ("planned_steps", "error", "failure", "fix", "stop_reason")}
    return {**points, **rest}


def _packed_evaluation(record: EvaluationRecord) -> dict[str, Any]:
    whole = record.model_dump(mode="json", exclude_defaults=True)
    for name in ("confusion", "warnings", "prompt_choices", "claims", "gates", "similarity"):
        whole.pop(name, None)
    for system in whole["systems"]:
        system["prompt"] = ""
        system["metrics"] = {name: system["metrics"][name] for name in (record.primary_metric,)}
    return _short(whole)  # type: ignore[no-any-return]


def _packed_probes(record: EvidenceRecord) -> dict[str, Any]:
    whole = record.model_dump(mode="json", exclude={"losses"}, exclude_defaults=True)
    for one in whole.get("templates", ()):
        one["template_sha256"] = one["template_sha256"][:8]
    names = [name for name in type(record.losses[0]).model_fields if name != "sample_id"] if record.losses else []
    columns = {name: [_short(getattr(loss, name), LOSS_DIGITS) for loss in record.losses] for name in names}
    return {**_short(whole), "losses": columns}


def _short(value: Any, digits: int = DIGITS) -> Any:
    """Numbers with a few digits; order between them is kept."""
    if isinstance(value, float):
        return float(f"{value:.{digits}g}")
    if isinstance(value, dict):
        return {name: _short(inner, digits) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_short(inner, digits) for inner in value]
    return value


def _unpacked(line: dict[str, Any]) -> Recorded:
    names = ("half", "name", "label", "task", "base", "method", "seed", "notes", "effect")
    evaluation, probes = line["evaluation"], line["probes"]
    evidence = Evidence(
        job=JobConfig.model_validate(line["job"]),
        run_id=line["name"],
        curves=_unpacked_curves(line["curves"]),
        evaluation=None if evaluation is None else EvaluationRecord.model_validate(evaluation),
        probes=None if probes is None else _unpacked_probes(probes),
    )
    return Recorded(**{name: line[name] for name in names}, evidence=evidence)


def _unpacked_curves(line: dict[str, Any]) -> Curves:
    train, validation = (
        tuple(CurvePoint(step=p[0], loss=p[1], learning_rate=p[2], grad_norm=p[3]) for p in line.pop(name))
        for name in ("train", "validation")
    )
    return Curves(train, validation, **line)


def _unpacked_probes(line: dict[str, Any]) -> EvidenceRecord:
    columns = line.pop("losses")
    losses = [
        {"sample_id": str(at), **dict(zip(columns, row, strict=True))}
        for at, row in enumerate(zip(*columns.values(), strict=True))
    ]
    return EvidenceRecord.model_validate({**line, "losses": losses})


def by_label(runs: Iterable[Recorded]) -> dict[str, list[Recorded]]:
    """The runs of each label."""
    found: dict[str, list[Recorded]] = {}
    for run in runs:
        found.setdefault(run.label, []).append(run)
    return found
