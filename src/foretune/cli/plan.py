"""`foretune plan`: what training a job will take, before anything is spent."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Annotated

import typer

from foretune.cli.face import Answer, Debug, Job, Json, Seed, Settings, parsed_settings

__all__ = ["command"]


def command(
    job: Job,
    probe: Annotated[bool, typer.Option("--probe", help="Measure a few real steps on this machine first.")] = False,
    settings: Settings = None,
    seed: Seed = None,
    json: Json = False,
    debug: Debug = False,
) -> Answer:
    """Predict parameters, memory, time and cost.

    Trains nothing and leaves nothing behind.

    \b
    Examples:
      foretune plan job.toml
      foretune plan job.toml --probe --set train.method=full
    """
    from foretune import api
    from foretune.cli.show import plan_shown
    from foretune.config import resolve_job

    record = api.plan(resolve_job(job, parsed_settings(settings, seed=seed)), probe=probe)
    document = {"command": "plan", "job": str(job), "plan": record.as_dict()}
    then = f"foretune run {job}" if record.fits else f"foretune plan {job} --set train.advanced.micro_batch_size=1"
    return Answer(document, plan_shown(record), next=then)


command.__name__ = "plan"
