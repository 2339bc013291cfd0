"""`foretune train`: fit the model of a job, as a process of its own."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from foretune.api import Sweep

__all__ = ["CONTEXT_SETTINGS", "command"]

CONTEXT_SETTINGS = {"allow_extra_args": True}  # --sweep lr=1e-4,2e-4 rank=8,16: more words of the sweep


def command(
    context: typer.Context,
    job: Job,
    detach: Annotated[bool, typer.Option("--detach", help="Return once training has started.")] = False,
    foreground: Annotated[bool, typer.Option("--foreground", help="Train in this process, for a debugger.")] = False,
    smoke: Annotated[bool, typer.Option("--smoke", help="Two steps on 200 rows: does it work at all?")] = False,
    yes: Yes = False,
    max_cost: MaxCost = None,
    max_hours: MaxHours = None,
    skip_advice: SkipAdvice = None,
    settings: Settings = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option("--sweep", metavar="NAME=A,B", help="Try these values, keep the best; may be repeated."),
    ] = None,
    sweep_samples: Annotated[
        int, typer.Option("--sweep-samples", min=0, metavar="N", help="Draw N settings; 0 = every combination.")
    ] = 0,
    sweep_eta: Annotated[
        int, typer.Option("--sweep-eta", metavar="N", help="Of N settings, one goes on to the next rung.")
    ] = 3,
    sampler: Annotated[
        str, typer.Option("--sampler", metavar="NAME", help="Who chooses the settings: auto, or optuna.")
    ] = "auto",
    nproc: Annotated[int, typer.Option("--nproc", min=1, metavar="N", help="Processes that share every update.")] = 1,
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
      foretune train job.toml --sweep lr=1e-4,2e-4,4e-4 rank=8,16
      foretune train job.toml --nproc 2
    """
    from foretune import api
    from foretune.cli import under_way
    from foretune.cli.sweep_shown import with_sweep
    from foretune.config import resolve_job

    job, sweep = _job_and_sweep([str(job), *context.args], sweep)
    if detach and foreground:
        raise ConfigError("--detach and --foreground exclude each other", fix="give one of them")
    if nproc > 1 and (foreground or sweep):
        other = "--sweep" if sweep else "--foreground"
        raise ConfigError(f"--nproc {nproc} and {other} exclude each other", fix="leave one of them out")
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
            num_processes=nproc,
            sweep=_sweep(sweep, sweep_eta, sweep_samples, sampler),
        )
    return with_sweep(under_way.answer("train", outcome), outcome.run_dir)


def _job_and_sweep(words: list[str], sweep: list[str] | None) -> tuple[Path, list[str] | None]:
    """The job file among the words of the command line; others like rank=8,16 belong to a sweep."""
    more = [word for word in words if sweep and "=" in word and not Path(word).exists()]
    jobs = [word for word in words if word not in more]
    if len(jobs) != 1:
        got = f"the words {', '.join(jobs)}" if jobs else "none"
        fix = (
            "add the job file: job.toml" if sweep else "--set train.rank=8 sets a field, --sweep rank=8,16 tries values"
        )
        raise ConfigError(f"train takes one job file, got {got}", fix=fix)
    return Path(jobs[0]), [*sweep, *more] if sweep else sweep


def _sweep(texts: list[str] | None, eta: int, num_samples: int, sampler: str) -> Sweep | None:
    from foretune import api

    if sampler not in ("auto", "optuna"):
        raise ConfigError(f"--sampler {sampler}: expected auto or optuna", fix="--sampler optuna")
    if not texts and sampler != "auto":
        raise ConfigError(f"--sampler {sampler} without --sweep has nothing to choose", fix="--sweep lr=1e-5..1e-3")
    if not texts:
        return None
    return api.Sweep(texts, eta=eta, num_samples=num_samples, sampler="optuna" if sampler == "optuna" else "auto")


command.__name__ = "train"
