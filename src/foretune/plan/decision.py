"""The decision before training: the advice as it stands, recorded in the run, and the gate that asks for it."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import dataclasses
import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from foretune import __version__
from foretune.errors import GateRefused
from foretune.plan.advice import Advice
from foretune.plan.answer import forecast_of_plan
from foretune.plan.measurements import measured_in, measured_situation
from foretune.plan.methods import TRAINED_OPTIONS
from foretune.plan.project import Project, outlook, read_project
from foretune.records.decision import DecisionRecord
from foretune.records.plan import PlanRecord
from foretune.records.run import JOB_FILE, ResolvedRecord

__all__ = ["PROJECT_FILE", "check_decision", "decide", "decision_note"]

PROJECT_FILE = "project.toml"
AGAINST = "advised against"
Decision = Literal["follows", "against", "unasked", "skipped"]


def decide(plan: PlanRecord, *, run_dir: Path, folder: Path, skipped_because: str | None = None) -> DecisionRecord:
    """Record what is advised for a planned run, from `project.toml` in the job's `folder` where there is one.

    What was measured in the run (failures.json, learning_curve.json) takes the place of what nobody said.

    `skipped_because` is the reason given with --skip-advice: the advice is recorded all the same. Raises ConfigError
    on a faulty project file.
    """
    file = folder / PROJECT_FILE
    project = read_project(file) if file.is_file() else Project()
    known = measured_situation(project.situation, measured_in(run_dir, project))
    project = dataclasses.replace(project, situation=known)
    epochs = plan.num_steps * plan.micro_batch_size * plan.grad_accum_steps / max(1, plan.num_train_samples)
    around = outlook(project, forecast_of_plan(plan), num_examples=plan.num_train_samples, epochs=epochs)
    verdict = _verdict(around.advice)
    record = DecisionRecord(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        foretune_version=__version__,
        decision=_decision(verdict, is_asked=file.is_file(), skipped_because=skipped_because),
        reason=skipped_because or "",
        chosen=around.advice.chosen,
        sentence=around.advice.sentence,
        verdict=verdict,
        missing=around.advice.missing,
        project_file=str(file) if file.is_file() else "",
        project_sha256=hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "",
        outlook=around.as_dict(),
    )
    record.write(run_dir)
    return record


def check_decision(run_dir: Path) -> DecisionRecord:
    """The recorded decision of a run. Raises GateRefused where there is none: training asks first whether to train."""
    if not DecisionRecord.exists(run_dir):
        raise GateRefused(
            f"run {run_dir.name} has no decision: should it be trained at all?",
            fix=f"foretune run {_job_file(run_dir)} records the advice first, or --skip-advice 'why'",
        )
    return DecisionRecord.read(run_dir)


def _job_file(run_dir: Path) -> str:
    return ResolvedRecord.read(run_dir).job_file if ResolvedRecord.exists(run_dir) else JOB_FILE


def decision_note(record: DecisionRecord) -> str:
    """One line for whoever watches the run."""
    if record.decision == "skipped":
        return f"advice skipped: {record.reason}"
    if record.decision == "against":
        return f"trained against the advice; better first: {record.sentence}"
    if record.decision == "unasked":
        return f"advice, from the data alone: {record.sentence}; the whole question: foretune plan --questions"
    return f"advice: {record.sentence}"


def _verdict(advice: Advice) -> str:
    """How training stands in the advice."""
    wanted = advice.chosen if advice.chosen in TRAINED_OPTIONS else "fine-tune"
    return next(option.verdict for option in advice.options if option.id == wanted)


def _decision(verdict: str, *, is_asked: bool, skipped_because: str | None) -> Decision:
    if skipped_because is not None:
        return "skipped"
    if not is_asked:
        return "unasked"
    return "against" if verdict == AGAINST else "follows"
