"""All that a run folder holds, read once; what is missing or damaged is noted, never fatal."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from foretune.diagnose import Curves, read_curves
from foretune.errors import DataError
from foretune.records.audit import AuditRecord
from foretune.records.base import Record
from foretune.records.dataset import DatasetRecord
from foretune.records.diagnosis import DiagnosisRecord
from foretune.records.evaluation import ANSWERS_FILE, Answer, EvaluationRecord
from foretune.records.plan import PlanRecord
from foretune.records.ratings import RatingsRecord
from foretune.records.run import JOB_FILE, ResolvedRecord, RunState, run_state
from foretune.records.training import TrainingRecord

__all__ = ["RunFolder", "read_run_folder"]

R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class RunFolder:
    """The records of a run; None where one is missing. `problems` names what could not be read."""

    path: Path
    state: RunState
    resolved: ResolvedRecord | None
    plan: PlanRecord | None
    dataset: DatasetRecord | None
    audit: AuditRecord | None
    training: TrainingRecord | None
    evaluation: EvaluationRecord | None
    diagnosis: DiagnosisRecord | None
    curves: Curves
    answers: tuple[Answer, ...]
    job_text: str
    problems: tuple[str, ...] = field(default=())
    ratings: RatingsRecord | None = None

    @property
    def run_id(self) -> str:
        """The id of the run: the name of its folder, where nothing else says it."""
        return self.resolved.run_id if self.resolved else self.path.resolve().name

    @property
    def seed(self) -> int | None:
        """The seed of the run, if it is known."""
        if self.training is not None:
            return self.training.seed
        value = self.resolved.job.get("seed") if self.resolved else None
        return value if isinstance(value, int) else None


def read_run_folder(run_dir: str | Path) -> RunFolder:
    """Read every record that is there."""
    folder, problems = Path(run_dir), list[str]()

    def read(kind: type[R]) -> R | None:
        return _tried(lambda: kind.read(folder), problems) if kind.exists(folder) else None

    training, ratings = read(TrainingRecord), read(RatingsRecord)
    return RunFolder(
        path=folder,
        state=run_state(folder),
        resolved=read(ResolvedRecord),
        plan=read(PlanRecord),
        dataset=read(DatasetRecord),
        audit=read(AuditRecord),
        training=training,
        evaluation=read(EvaluationRecord),
        diagnosis=read(DiagnosisRecord),
        curves=_tried(lambda: read_curves(folder), []) or Curves(),
        answers=_read_answers(folder, problems),
        job_text=_text(folder / JOB_FILE),
        problems=tuple(problems),
        ratings=ratings,
    )


T = TypeVar("T")


def _tried(read: Callable[[], T], problems: list[str]) -> T | None:
    try:
        return read()
    except DataError as error:
        problems.append(error.what)
        return None


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _read_answers(folder: Path, problems: list[str]) -> tuple[Answer, ...]:
    """The answers; lines that do not parse (a torn last one) are counted as a problem."""
    answers, bad = [], 0
    for line in _text(folder / ANSWERS_FILE).split("\n"):
        if not line.strip():
            continue
        try:
            answers.append(Answer.model_validate(json.loads(line)))
        except (json.JSONDecodeError, ValidationError):
            bad += 1
    if bad:
        problems.append(f"{ANSWERS_FILE}: {bad} lines cannot be read and are left out")
    return tuple(answers)
