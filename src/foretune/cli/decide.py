"""`foretune decide`: should we fine-tune at all, gate by gate, each with what it measured."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foretune.cli.face import DEFAULT_RUNS, Answer, Debug, Json, RunsDir, Seed, Settings, Yes, parsed_settings
from foretune.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from foretune.journey import Measure
    from foretune.records.procedure import ProcedureRecord

__all__ = ["command", "procedure_shown"]

USUAL = "baseline,failures"
MARKS = {"pass": "[green]pass[/]", "stop": "[red]stop[/]", "unknown": "[yellow]unknown[/]"}


def command(
    job: Annotated[
        str | None, typer.Argument(metavar="JOB", help="Job file, run id or `latest`; none = the project file alone.")
    ] = None,
    project: Annotated[
        Path | None, typer.Option("--project", metavar="FILE", help="Target, stakes, agreement; else project.toml.")
    ] = None,
    measure: Annotated[
        str, typer.Option("--measure", metavar="LIST", help="What to measure: baseline,failures,curve or none.")
    ] = USUAL,
    yes: Yes = False,
    settings: Settings = None,
    seed: Seed = None,
    runs_dir: RunsDir = DEFAULT_RUNS,
    json: Json = False,
    debug: Debug = False,
) -> Answer:
    """Should we fine-tune at all? Five gates, each measured.

    Measurable, prompted baseline, kind of failure, learning curve, money: the first gate that stops decides. The test
    split stays sealed; what is not measured stays unknown, with the command that measures it.

    \b
    Examples:
      foretune decide job.toml
      foretune decide job.toml --project project.toml
      foretune decide latest --measure curve
      foretune decide --project project.toml
    """
    wanted = _wanted(measure)
    if job is None:
        return _only_project(project)
    return _measured(job, wanted, project, runs_dir, yes=yes, flags=parsed_settings(settings, seed=seed))


command.__name__ = "decide"


def _wanted(measure: str) -> tuple[Measure, ...]:
    from foretune.journey import MEASURES

    names = [name.strip() for name in measure.split(",") if name.strip() and name.strip() != "none"]
    wrong = [name for name in names if name not in MEASURES]
    if wrong:
        raise ConfigError(f"--measure {wrong[0]}: expected {', '.join(MEASURES)} or none", fix=f"--measure {USUAL}")
    return tuple(name for name in MEASURES if name in names)


def _only_project(project: Path | None) -> Answer:
    """The gates over what a project file says alone."""
    from foretune.plan.measurements import gather
    from foretune.plan.procedure import procedure
    from foretune.plan.project import read_project

    if project is None:
        raise ConfigError(
            "neither a job nor a project is given", fix="foretune decide job.toml, or --project project.toml"
        )
    record = procedure(gather(read_project(project)))
    return Answer(
        {"command": "decide", "procedure": record.as_dict()}, procedure_shown(record), next=record.next_command
    )


def _measured(
    job: str, wanted: tuple[Measure, ...], project: Path | None, runs_dir: Path, *, yes: bool, flags: dict[str, object]
) -> Answer:
    from foretune import journey
    from foretune.cli.under_way import approval, report_writer, watching
    from foretune.config import resolve_job
    from foretune.records.run import find_run

    is_job = Path(job).is_file()
    if not is_job and flags:
        raise ConfigError(f"{job} is a run, whose settings stand", fix="leave --set and --seed out, or give a job file")
    if not is_job and job.endswith(".toml"):
        resolve_job(Path(job), flags)  # says what is wrong with it
    given = resolve_job(Path(job), flags) if is_job else find_run(runs_dir, job)
    with watching() as watcher:
        record = journey.decide(
            given,
            measure=wanted,
            project=project,
            runs_dir=runs_dir,
            source=Path(job) if is_job else None,
            watcher=watcher,
            approve=approval(yes=yes),
            at_end=report_writer(),
        )
    document = {"command": "decide", "run_id": record.run_id, "procedure": record.as_dict()}
    return Answer(document, procedure_shown(record), next=_next(record))


def _next(record: ProcedureRecord) -> str:
    """The journey goes on in the same run folder; what is to be measured is measured there too."""
    if record.action is None:
        first, _, options = record.next_command.partition(" --measure ")
        return f"foretune decide {record.run_id} --measure {options}" if options else first
    return f"foretune runs resume {record.run_id}" if not record.stops_training else record.next_command


def procedure_shown(record: ProcedureRecord) -> list[RenderableType]:
    """The answer, the gates with their numbers, the three numbers that decided, and the pre-mortem."""
    from rich.markup import escape

    from foretune.cli.show import plain_table

    name = record.action or "not decided yet"
    sentence = record.sentence.removeprefix(f"{name}: ").removeprefix("not decided: ")
    shown: list[RenderableType] = [f"[bold]{name}[/]: {escape(sentence)}", ""]
    table = plain_table("gate", "", "what was found")
    for gate in record.gates:
        command = f"\n[dim]{escape(gate.command)}[/]" if gate.command and gate.status != "pass" else ""
        table.add_row(gate.name, MARKS[gate.status], escape(gate.sentence) + command)
    shown.append(table)
    if record.expected:
        scores = ", ".join(f"{action} {score:.1%}" for action, score in record.expected.items())
        shown += ["", f"[dim]expected scores: {escape(scores)}[/]"]
    if record.action is not None and record.numbers:
        three = ", ".join(f"{key} {_number(key, value)}" for key, value in record.numbers.items())
        shown += ["", f"Decided by: {escape(three)}"]
    if record.pre_mortem:
        shown += ["", "What would change it:", *(f"   {escape(line)}" for line in record.pre_mortem)]
    return shown


def _number(key: str, value: float | None) -> str:
    """A count or days as they are, all else as percent."""
    if value is None:
        return "unknown"
    is_count = key in ("labelled samples", "failures", "payback days")
    if is_count:
        return f"{value:,.0f}"
    return f"{value:.2f}" if key == "human agreement" else f"{value:.1%}"
