"""`foretune config`: the JSON Schema of the job file, and where each value of a job comes from."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from foretune.cli.face import Answer, Debug, Json, Seed, Settings, help_without_command, job_words, parsed_settings

__all__ = ["app"]

app = typer.Typer(
    help="Every field of the job file, and where each value comes from.",
    callback=help_without_command,
    invoke_without_command=True,
)


@app.command()
def schema(json: Json = False, debug: Debug = False) -> Answer:
    """Print the JSON Schema of the job file, for editors and forms.

    \b
    Examples:
      foretune config schema --json > job.schema.json
      foretune config schema
    """
    from foretune.cli.show import fields_table
    from foretune.config import job_schema

    if json:
        return Answer(job_schema())
    return Answer({}, [fields_table()], next="foretune config schema --json > job.schema.json   # for your editor")


@app.command()
def show(
    job: Annotated[Path | None, typer.Argument(metavar="JOB", help="Job file; without it the defaults.")] = None,
    origin: Annotated[bool, typer.Option("--origin", help="Also say where each value comes from.")] = False,
    settings: Settings = None,
    seed: Seed = None,
    json: Json = False,
    debug: Debug = False,
) -> Answer:
    """Show every setting of a job after flags, environment, job file, user file and defaults.

    \b
    Examples:
      foretune config show job.toml
      foretune config show job.toml --origin --set train.epochs=2
    """
    from foretune.api import settings_of
    from foretune.cli.show import settings_table
    from foretune.config import resolve_job

    given = parsed_settings(settings, seed=seed)
    resolved = resolve_job(job, given)
    values = settings_of(resolved.job.model_dump(mode="json"))
    document: dict[str, Any] = {"command": "config show", "job": str(job) if job else None, "settings": values}
    if origin:
        document["origins"] = dict(resolved.origins)
    return Answer(
        document,
        [settings_table(values, resolved.origins if origin else None)],
        next=f"foretune plan {job_words(str(job), given)}" if job else "foretune init json-extract",
    )
