"""`foretune runs`: list, show, watch, resume and stop runs."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foretune.cli import lineage, why
from foretune.cli.face import (
    DEFAULT_RUNS,
    LATEST,
    Answer,
    Debug,
    Json,
    ReuseTest,
    Run,
    RunsDir,
    Yes,
    help_without_command,
)

if TYPE_CHECKING:
    from foretune.api import RunInfo

__all__ = ["app"]

app = typer.Typer(
    help="List, show, watch, resume and stop runs.", callback=help_without_command, invoke_without_command=True
)


@app.command("list")
def list_command(runs_dir: RunsDir = DEFAULT_RUNS, json: Json = False, debug: Debug = False) -> Answer:
    """List every run with its state and verdict, oldest first.

    \b
    Examples:
      foretune runs list
      foretune runs list --json
    """
    from foretune import api
    from foretune.cli.show import runs_table

    found = api.runs(runs_dir)
    document = {"command": "runs list", "runs_dir": str(runs_dir), "runs": [_plain(info) for info in found]}
    if not found:
        return Answer(document, [f"no runs in {runs_dir}"], next="foretune init json-extract")
    return Answer(document, [runs_table(found)], next=f"foretune runs show {found[-1].run_id}")


@app.command("show")
def show_command(
    run: Run = LATEST, runs_dir: RunsDir = DEFAULT_RUNS, json: Json = False, debug: Debug = False
) -> Answer:
    """Show one run: its state, what decides, its curve, its verdict.

    \b
    Examples:
      foretune runs show
      foretune runs show json-extract-001 --json
    """
    from foretune import api
    from foretune.cli import show
    from foretune.cli.under_way import records_of
    from foretune.records.evaluation import EvaluationRecord
    from foretune.records.run import ResolvedRecord, find_run
    from foretune.records.training import TrainingRecord

    run_dir = find_run(runs_dir, run)
    info, resolved, records = api.run_info(run_dir), ResolvedRecord.read(run_dir), records_of(run_dir)
    document = {
        "command": "runs show",
        "run": _plain(info),
        "resolved": resolved.as_dict(),
        **{name: record.as_dict() for name, record in records.items()},
    }
    facts = {
        "state": info.state,
        "base": info.base,
        "method": info.method,
        "decided by": resolved.primary_metric or "–",
        "created": info.created,
        "folder": str(run_dir),
    }
    shown: list[Any] = [show.facts_table(facts, title=f"run {info.run_id}"), *_curve(run_dir, records)]
    training, evaluation = records.get("training"), records.get("evaluation")
    if isinstance(training, TrainingRecord):
        shown += ["", *show.training_shown(training)]
    if isinstance(evaluation, EvaluationRecord):
        shown += ["", *show.evaluation_shown(evaluation)]
    return Answer(document, shown, next=_next(info))


@app.command("watch")
def watch_command(
    run: Run = LATEST, runs_dir: RunsDir = DEFAULT_RUNS, json: Json = False, debug: Debug = False
) -> Answer:
    """Follow a run until it ends; Ctrl-C leaves, and the run goes on.

    \b
    Examples:
      foretune runs watch
      foretune runs watch json-extract-001
    """
    from foretune import api
    from foretune.cli import under_way
    from foretune.records.run import find_run

    run_dir = find_run(runs_dir, run)
    with under_way.watching("Ctrl-C leaves, the run goes on") as watcher:
        outcome = api.watch(run_dir, runs_dir=runs_dir, watcher=watcher)
    return under_way.answer("runs watch", outcome)


@app.command("resume")
def resume_command(
    run: Run = LATEST,
    detach: Annotated[bool, typer.Option("--detach", help="Return at once; the run goes on by itself.")] = False,
    yes: Yes = False,
    reuse_test: ReuseTest = False,
    nproc: Annotated[
        int | None,
        typer.Option("--nproc", min=1, metavar="N", help="Processes that share every update.", show_default=False),
    ] = None,
    runs_dir: RunsDir = DEFAULT_RUNS,
    json: Json = False,
    debug: Debug = False,
) -> Answer:
    """Go on with a stopped, killed or only planned run.

    Finished stages are kept; training goes on at its last checkpoint.

    \b
    Examples:
      foretune runs resume
      foretune runs resume json-extract-001 --detach
    """
    from foretune import api
    from foretune.cli import under_way
    from foretune.cli.sweep_shown import with_sweep
    from foretune.records.run import find_run

    run_dir = find_run(runs_dir, run)
    with under_way.watching() as watcher:
        outcome = api.resume(
            run_dir,
            runs_dir=runs_dir,
            watcher=watcher,
            approve=under_way.approval(yes=yes),
            reuse_test=reuse_test,
            detach=detach,
            at_end=under_way.report_writer(),
            num_processes=nproc,
        )
    return with_sweep(under_way.answer("runs resume", outcome), run_dir)


@app.command("stop")
def stop_command(
    run: Run = LATEST,
    abort: Annotated[bool, typer.Option("--abort", help="End it now, without a checkpoint.")] = False,
    runs_dir: RunsDir = DEFAULT_RUNS,
    json: Json = False,
    debug: Debug = False,
) -> Answer:
    """Stop a run; training writes a checkpoint first.

    \b
    Examples:
      foretune runs stop
      foretune runs stop json-extract-001 --abort
    """
    from foretune import api
    from foretune.records.run import find_run

    run_dir = find_run(runs_dir, run)
    stopped = api.stop(run_dir, runs_dir=runs_dir, abort=abort)
    document = {"command": "runs stop", "run_id": run_dir.name, "stopped": stopped}
    info = api.run_info(run_dir)
    what = "was not under way" if not stopped else "came to its end" if info.state == "trained" else "stopped"
    return Answer(document, [f"run {run_dir.name} {what}"], next=_next(info))


def _plain(info: RunInfo) -> dict[str, Any]:
    return {**asdict(info), "run_dir": str(info.run_dir)}


def _curve(run_dir: Path, records: dict[str, Any]) -> list[str]:
    """The loss so far from the event log, where training has left no record yet."""
    from foretune.cli.show import sparkline
    from foretune.records.events import read_events

    if "training" in records:
        return []
    losses = [event["loss"] for event in read_events(run_dir) if event["kind"] == "step"]
    known = [float(loss) for loss in losses if loss is not None]
    return [f"[dim]loss so far[/] {sparkline(known)} {known[-1]:.3f}"] if known else []


def _next(info: RunInfo) -> str:
    from foretune.records.dataset import DatasetRecord

    name = info.run_id
    if info.state == "training" or info.stage:
        return f"foretune runs watch {name}"
    if info.state == "evaluated":
        return f"foretune report {name}"
    if info.state == "failed":
        return f"foretune runs why {name}"
    if info.state == "trained":
        return f"foretune {'evaluate' if DatasetRecord.exists(info.run_dir) else 'chat'} {name}"
    return f"foretune runs resume {name}"


app.command("lineage")(lineage.command)
app.command("why")(why.command)
