"""`foretune diagnose`: which failure mode a run shows, and the job that mends it."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foretune.cli.face import DEFAULT_RUNS, LATEST, Answer, Debug, Json, Run, RunsDir
from foretune.errors import ConfigError

__all__ = ["command"]


def command(
    run: Run = LATEST,
    apply: Annotated[
        int | None, typer.Option("--apply", min=1, metavar="N", help="Write a job with the settings of cause N.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Where --apply writes the job.")] = None,
    runs_dir: RunsDir = DEFAULT_RUNS,
    json: Json = False,
    debug: Debug = False,
) -> Answer:
    """Find what went wrong, and the settings that mend it.

    Looks for over- and underfitting, a wrong learning rate, forgetting and divergence, each with its evidence.

    \b
    Examples:
      foretune diagnose
      foretune diagnose json-extract-001 --apply 1 --out next.toml
    """
    from foretune import api
    from foretune.cli.show import diagnosis_shown
    from foretune.records.run import find_run

    if (apply is None) != (out is None):
        raise ConfigError("--apply and --out belong together", fix="foretune diagnose RUN --apply 1 --out next.toml")
    run_dir = find_run(runs_dir, run)
    record = api.diagnose(run_dir, runs_dir=runs_dir)
    document = {"command": "diagnose", "run_id": run_dir.name, "diagnosis": record.as_dict()}
    shown = diagnosis_shown(record)
    if apply is None or out is None:
        advice = f"foretune diagnose {run_dir.name} --apply 1 --out next.toml"
        return Answer(document, shown, next=advice if record.causes else f"foretune report {run_dir.name}")
    path, patch = api.next_job(run_dir, apply, out, runs_dir=runs_dir)
    document |= {"job": str(path), "patch": patch}
    return Answer(document, [*shown, f"Wrote {path}"], next=f"foretune run {path}")


command.__name__ = "diagnose"
