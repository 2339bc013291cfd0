"""What `run`, `train`, `runs resume` and `runs watch` share: watching, asking for the price, and the answer."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foretune.cli.face import Answer
from foretune.errors import ConfigError, ForetuneError, GateRefused
from foretune.units import show_usd

if TYPE_CHECKING:
    from rich.console import RenderableType

    from foretune.cli.progress import ConsoleWatcher
    from foretune.journey import Outcome
    from foretune.records.base import Record
    from foretune.records.plan import PlanRecord

__all__ = ["answer", "approval", "records_of", "report_writer", "watching"]

INTERRUPTED = 130


@contextmanager
def watching(ctrl_c: str = "Ctrl-C stops it with a checkpoint") -> Iterator[ConsoleWatcher]:
    """A watcher on stderr that leaves a clean screen; `ctrl_c` says what that key does to training."""
    from foretune.cli.progress import ConsoleWatcher

    watcher = ConsoleWatcher(ctrl_c)
    try:
        yield watcher
    except ForetuneError:
        watcher.failed()
        raise
    finally:
        watcher.close()


def approval(*, yes: bool) -> Callable[[PlanRecord], None]:
    """Asks before money is spent: never when it costs nothing or `yes`; without a terminal it refuses, never hangs."""

    def approve(plan: PlanRecord) -> None:
        cost = plan.cost_usd
        if yes or cost.expected <= 0:
            return
        price = f"{show_usd(cost.low)} to {show_usd(cost.high)}"
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise ConfigError(f"this will cost {price} and there is no terminal to ask on", fix="-y to agree")
        print(f"This will cost {price}. Start? [y/N] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise GateRefused(f"not started: {price} was not agreed to", fix="-y to agree")

    return approve


def report_writer() -> Callable[[Path], object]:
    """Writes the report of a run folder."""

    def write(run_dir: Path) -> object:
        from foretune.ui.report import write_report

        return write_report(run_dir)

    return write


def records_of(run_dir: Path) -> dict[str, Record]:
    """Every record that a run has, by stage."""
    from foretune.records.audit import AuditRecord
    from foretune.records.dataset import DatasetRecord
    from foretune.records.diagnosis import DiagnosisRecord
    from foretune.records.evaluation import EvaluationRecord
    from foretune.records.plan import PlanRecord
    from foretune.records.training import TrainingRecord

    kinds: dict[str, type[Record]] = {
        "dataset": DatasetRecord,
        "audit": AuditRecord,
        "plan": PlanRecord,
        "training": TrainingRecord,
        "evaluation": EvaluationRecord,
        "diagnosis": DiagnosisRecord,
    }
    return {name: kind.read(run_dir) for name, kind in kinds.items() if kind.exists(run_dir)}


def answer(command: str, outcome: Outcome) -> Answer:
    """The answer of a command that took a run some way."""
    from foretune.records.run import run_state

    run_dir = outcome.run_dir
    records = records_of(run_dir)
    document: dict[str, Any] = {
        "command": command,
        "run_id": run_dir.name,
        "run_dir": str(run_dir),
        "outcome": outcome.state,
        "state": run_state(run_dir),
        "report": str(run_dir / "report.html") if (run_dir / "report.html").is_file() else None,
        **{name: record.as_dict() for name, record in records.items() if name != "dataset"},
    }
    code = INTERRUPTED if outcome.interrupted else 0
    return Answer(document, _shown(outcome, records), next=_next(outcome, records), exit_code=code)


def _shown(outcome: Outcome, records: dict[str, Record]) -> list[RenderableType]:
    from foretune.cli import show
    from foretune.records.diagnosis import DiagnosisRecord
    from foretune.records.evaluation import EvaluationRecord
    from foretune.records.plan import PlanRecord
    from foretune.records.training import TrainingRecord

    name = outcome.run_dir.name
    if outcome.state == "running":
        return [f"run {name} goes on by itself; closing this terminal does not touch it"]
    if outcome.state == "stopped":
        return [f"run {name} stopped with a checkpoint"]
    training, evaluation = records.get("training"), records.get("evaluation")
    diagnosis, plan = records.get("diagnosis"), records.get("plan")
    if isinstance(plan, PlanRecord) and not training:
        return [*show.plan_shown(plan), f"run {name} is planned, not trained"]
    shown: list[RenderableType] = []
    if isinstance(evaluation, EvaluationRecord):
        shown += [*show.evaluation_shown(evaluation), ""]
    if isinstance(training, TrainingRecord):
        shown += [f"[bold]run {name}[/]", *show.training_shown(training, with_warnings=False)]
    if isinstance(diagnosis, DiagnosisRecord):
        shown += ["", *show.diagnosis_shown(diagnosis)]
    if (outcome.run_dir / "report.html").is_file():
        shown += ["", f"Report: {outcome.run_dir / 'report.html'}"]
    return shown


def _next(outcome: Outcome, records: dict[str, Record]) -> str:
    from foretune.records.dataset import DatasetRecord
    from foretune.records.diagnosis import DiagnosisRecord

    name = outcome.run_dir.name
    if outcome.state == "running":
        return f"foretune runs watch {name}"
    if outcome.state == "stopped" or "training" not in records:
        return f"foretune runs resume {name}"
    if "evaluation" not in records:
        verb = "evaluate" if DatasetRecord.exists(outcome.run_dir) else "chat"  # token shards have no samples to ask
        return f"foretune {verb} {name}"
    diagnosis = records.get("diagnosis")
    if isinstance(diagnosis, DiagnosisRecord) and diagnosis.first_to_apply:
        return f"foretune diagnose {name} --apply {diagnosis.first_to_apply} --out next.toml"
    return f"foretune chat {name} --compare-base"
