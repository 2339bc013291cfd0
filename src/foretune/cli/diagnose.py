"""`foretune diagnose`: which failure mode a run shows, and the job that mends it."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foretune.cli.face import DEFAULT_RUNS, LATEST, Answer, Debug, Json, Run, RunsDir
from foretune.errors import ConfigError

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
    """
    from foretune import api
    from foretune.cli.show import diagnosis_shown
    from foretune.cli.under_way import watching
    from foretune.records.run import find_run

    if apply is None and out is not None:
        raise ConfigError("--out needs --apply", fix=f"foretune diagnose {run} --apply 1 --out {out}")
    run_dir = find_run(runs_dir, run)
    with watching() as watcher:
        record = api.diagnose(run_dir, runs_dir=runs_dir, probe=not no_probe, quick=quick, watcher=watcher)
    document = {"command": "diagnose", "run_id": run_dir.name, "diagnosis": record.as_dict()}
    shown = diagnosis_shown(record)
    if apply is None:
        number = record.first_to_apply
        advice = f"foretune diagnose {run_dir.name} --apply {number} --out next.toml"
        return Answer(document, shown, next=advice if number else f"foretune report {run_dir.name}")
    path, patch = api.next_job(run_dir, apply, out or NEXT_JOB, runs_dir=runs_dir)
    document |= {"job": str(path), "patch": patch}
    return Answer(document, [*shown, f"Wrote {path}"], next=f"foretune run {path}")


command.__name__ = "diagnose"
