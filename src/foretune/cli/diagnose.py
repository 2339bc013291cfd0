"""`foretune diagnose`: which failure mode a run shows, and the job that mends it."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foretune.cli.face import DEFAULT_RUNS, LATEST, Answer, Debug, Json, Run, RunsDir
from foretune.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from foretune.records.reworded import RewordedRecord, RewordedSplit

__all__ = ["command"]

NEXT_JOB = Path("next.toml")


def command(
    run: Run = LATEST,
    apply: Annotated[
        int | None,
        typer.Option(
            "--apply", min=1, metavar="N", help="Write a job, and data where rows must change, that mend cause N."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Where --apply writes the job; next.toml if not given.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Probe with 100 samples of a split, not 300.")] = False,
    no_probe: Annotated[
        bool, typer.Option("--no-probe", help="Judge by what is recorded; do not load the model.")
    ] = False,
    reword: Annotated[
        bool, typer.Option("--reword", help="Ask training samples in other words too: are they known by heart?")
    ] = False,
    model: Annotated[
        str, typer.Option("--model", metavar="URL#MODEL", help="Reword by the model of an endpoint; else by rules.")
    ] = "",
    runs_dir: RunsDir = DEFAULT_RUNS,
    json: Json = False,
    debug: Debug = False,
) -> Answer:
    """Find what went wrong, and the settings that mend it.

    Looks for 19 failure modes of data, settings and learning, each with its evidence; root causes come first.

    \b
    Examples:
      foretune diagnose
      foretune diagnose json-extract-001 --apply 1 --out next.toml
      foretune diagnose json-extract-001 --reword
    """
    from foretune import api
    from foretune.cli.show import diagnosis_shown
    from foretune.cli.under_way import watching
    from foretune.records.run import find_run

    if apply is None and out is not None:
        raise ConfigError("--out needs --apply", fix=f"foretune diagnose {run} --apply 1 --out {out}")
    if model and not reword:
        raise ConfigError("--model needs --reword", fix=f"foretune diagnose {run} --reword --model {model}")
    run_dir = find_run(runs_dir, run)
    by = (model or "rules") if reword else ""
    with watching() as watcher:
        record = api.diagnose(run_dir, runs_dir=runs_dir, probe=not no_probe, quick=quick, reword=by, watcher=watcher)
    document: dict[str, Any] = {"command": "diagnose", "run_id": run_dir.name, "diagnosis": record.as_dict()}
    shown = diagnosis_shown(record)
    if reword:
        from foretune.records.reworded import RewordedRecord

        reworded = RewordedRecord.read(run_dir)
        document["reworded"] = reworded.as_dict()
        shown = [*_reworded_shown(reworded, run_dir), "", *shown]
    if apply is None:
        number = record.first_to_apply
        advice = f"foretune diagnose {run_dir.name} --apply {number} --out next.toml"
        return Answer(document, shown, next=advice if number else f"foretune report {run_dir.name}")
    path, patch = api.next_job(run_dir, apply, out or NEXT_JOB, runs_dir=runs_dir)
    document |= {"job": str(path), "patch": patch}
    return Answer(document, [*shown, f"Wrote {path}"], next=f"foretune run {path}")


def _reworded_shown(record: RewordedRecord, run_dir: Path) -> list[RenderableType]:
    """The four figures, the surplus with its interval, what that says, and what was left out."""
    from rich.markup import escape

    from foretune.cli.tables import plain_table, warning_lines
    from foretune.records.reworded import REWORDED_ANSWERS

    table = plain_table(record.primary_metric, ">as seen", ">reworded", ">fall", ">samples")
    splits = {"training": record.train, "validation": record.validation}
    for name, split in splits.items():
        table.add_row(name, *_reworded_row(split))
    left_out = [f"{split.num_unchanged:,} {name}" for name, split in splits.items() if split.num_unchanged]
    by = "by rules" if record.by == "rules" else f"by {record.by.rpartition('#')[2]}"
    lines = [f"[dim]reworded {escape(by)}; both answers to each sample: {escape(str(run_dir / REWORDED_ANSWERS))}[/]"]
    if left_out:
        lines.append(f"[dim]left out, as no other words were found: {' and '.join(left_out)} samples[/]")
    return [table, "", escape(record.reason), *lines, *warning_lines(record.warnings)]


def _reworded_row(split: RewordedSplit) -> list[str]:
    fall = f"{split.fall:+.3f} ({split.ci_low:+.3f} to {split.ci_high:+.3f})"
    return [f"{split.seen:.3f}", f"{split.reworded:.3f}", fall, f"{split.n:,}"]


command.__name__ = "diagnose"
