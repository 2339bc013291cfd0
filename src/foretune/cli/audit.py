"""`foretune audit`: what is wrong with the data of a job, or of one file."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foretune.cli.face import Answer, Debug, Json, Settings, parsed_settings
from foretune.errors import DataError

__all__ = ["command"]


def command(
    job_or_file: Annotated[
        Path, typer.Argument(metavar="JOB|FILE", help="Job file (*.toml) or data file.", show_default=False)
    ],
    settings: Settings = None,
    json: Json = False,
    debug: Debug = False,
) -> Answer:
    """Check the data of a job, or of one file.

    Looks for broken rows, duplicates, leaks between splits and answers that are cut off; exit code 3 where one of
    them is an error.

    \b
    Examples:
      foretune audit job.toml
      foretune audit data.jsonl --json
      foretune audit reviews.csv --set data.target_field=label
    """
    from foretune import api
    from foretune.cli.show import audit_shown

    record = api.audit(job_or_file, settings=parsed_settings(settings))
    document = {"command": "audit", "path": str(job_or_file), "audit": record.as_dict()}
    is_job = job_or_file.suffix == ".toml"
    then = f"foretune plan {job_or_file}" if is_job else "foretune init json-extract   # a job file to adapt"
    if record.num_errors:
        then = f"foretune audit {job_or_file}   # again, once the errors are mended"
    code = DataError.exit_code if record.num_errors else 0
    return Answer(document, audit_shown(record), next=then, exit_code=code)


command.__name__ = "audit"
