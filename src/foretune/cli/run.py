"""`foretune run`: the journey of a job, from its data to a verdict and a report."""

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
    ReuseTest,
    RunsDir,
    Seed,
    Settings,
    SkipAdvice,
    Yes,
    parsed_settings,
)

__all__ = ["command"]


def command(
    job: Job,
    detach: Annotated[bool, typer.Option("--detach", help="Return once the plan stands; the rest goes on.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Stop after the plan; train nothing.")] = False,
    yes: Yes = False,
    max_cost: MaxCost = None,
    max_hours: MaxHours = None,
    reuse_test: ReuseTest = False,
    skip_advice: SkipAdvice = None,
    settings: Settings = None,
    seed: Seed = None,
    runs_dir: RunsDir = DEFAULT_RUNS,
    json: Json = False,
    debug: Debug = False,
) -> Answer:
    """Go from data to a verdict and a report.

    Collects, audits, plans, trains, evaluates and diagnoses, with a gate after each. Training is a process of its own;
    Ctrl-C once stops it with a checkpoint, twice aborts.

    \b
    Examples:
      foretune run job.toml
      foretune run job.toml --detach --max-hours 2
      foretune run job.toml --dry-run --set train.epochs=2 --json
    """
    from foretune import api
    from foretune.cli import under_way
    from foretune.config import resolve_job

    flags = parsed_settings(settings, seed=seed, plan__max_cost_usd=max_cost, plan__max_hours=max_hours)
    resolved = resolve_job(job, flags)
    with under_way.watching() as watcher:
        outcome = api.run(
            resolved,
            source=job,
            runs_dir=runs_dir,
            watcher=watcher,
            approve=under_way.approval(yes=yes),
            reuse_test=reuse_test,
            dry_run=dry_run,
            detach=detach,
            at_end=under_way.report_writer(),
            skip_advice=skip_advice,
        )
    return under_way.answer("run", outcome)


command.__name__ = "run"
