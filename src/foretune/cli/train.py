"""`foretune train`: fit the model of a job, as a process of its own."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Annotated

import typer

from foretune.cli.face import (
    DEFAULT_RUNS,
    Answer,
    Debug,
    Job,
    Json,
    MaxCost,
    MaxHours,
    RunsDir,
    Seed,
    Settings,
    SkipAdvice,
    Yes,
    parsed_settings,
)
from foretune.errors import ConfigError

__all__ = ["command"]


def command(
    job: Job,
    detach: Annotated[bool, typer.Option("--detach", help="Return once training has started.")] = False,
    foreground: Annotated[bool, typer.Option("--foreground", help="Train in this process, for a debugger.")] = False,
    smoke: Annotated[bool, typer.Option("--smoke", help="Two steps on 200 rows: does it work at all?")] = False,
    yes: Yes = False,
    max_cost: MaxCost = None,
    max_hours: MaxHours = None,
    skip_advice: SkipAdvice = None,
    settings: Settings = None,
    seed: Seed = None,
    runs_dir: RunsDir = DEFAULT_RUNS,
    json: Json = False,
    debug: Debug = False,
) -> Answer:
    """Fit the model of a job, without evaluating it.

    Ctrl-C once stops with a checkpoint, twice aborts.

    \b
    Examples:
      foretune train job.toml
      foretune train job.toml --smoke
      foretune train job.toml --detach --json
    """
    from foretune import api
    from foretune.cli import under_way
    from foretune.config import resolve_job

    if detach and foreground:
        raise ConfigError("--detach and --foreground exclude each other", fix="give one of them")
    flags = parsed_settings(settings, seed=seed, plan__max_cost_usd=max_cost, plan__max_hours=max_hours)
    with under_way.watching() as watcher:
        outcome = api.train(
            resolve_job(job, flags),
            source=job,
            runs_dir=runs_dir,
            watcher=watcher,
            approve=under_way.approval(yes=yes),
            detach=detach,
            foreground=foreground,
            smoke=smoke,
            skip_advice=skip_advice,
        )
    return under_way.answer("train", outcome)


command.__name__ = "train"
