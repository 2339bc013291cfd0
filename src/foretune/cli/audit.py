"""`foretune audit`: what is wrong with the data of a job, or of one file."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from foretune.cli.face import Answer, Debug, Json, Settings, job_words, parsed_settings
from foretune.errors import DataError

__all__ = ["command"]


def command(
    job_or_file: Annotated[
        str,
        typer.Argument(metavar="JOB|FILE", help="Job file (*.toml), data file or hf:owner/name.", show_default=False),
    ],
    settings: Settings = None,
    rejected: Annotated[
        Path | None, typer.Option("--rejected", metavar="FILE", help="Put faulty rows here with reasons, and go on.")
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write it as a page too.")] = None,
    json: Json = False,
    debug: Debug = False,
) -> Answer:
    """Check the data of a job, of one file, or of a data set of the hub.

    Looks for broken rows, duplicates, leaks between splits and answers that are cut off; exit code 3 where one of
    them is an error.

    \b
    Examples:
      foretune audit job.toml
      foretune audit data.jsonl --html audit.html
      foretune audit reviews.csv --set data.target_field=label
      foretune audit rows.jsonl --rejected rejected.jsonl
      foretune audit hf:rajpurkar/squad_v2::validation
    """
    from foretune import api
    from foretune.cli.show import audit_shown, warning_lines

    at_end = _page_writer(html, job_or_file) if html is not None else None
    values = parsed_settings(settings)
    dataset, record = api.audited(job_or_file, settings=values, rejected=rejected, at_end=at_end)
    document = {
        "command": "audit",
        "path": job_or_file,
        "audit": record.as_dict(),
        "num_rejected": dataset.num_rejected,
        "warnings": list(dataset.warnings),
        "sources": [source.model_dump(mode="json") for source in dataset.sources],
    }
    is_job = job_or_file.endswith(".toml")
    words = job_words(job_or_file, values)
    then = f"foretune plan {words}" if is_job else "foretune init json-extract   # a job file to adapt"
    if record.num_errors:
        then = f"foretune audit {words}   # again, once the errors are mended"
    code = DataError.exit_code if record.num_errors else 0
    page = [f"\nWrote {html}"] if html is not None else []
    return Answer(document, [*warning_lines(dataset.warnings), *audit_shown(record), *page], next=then, exit_code=code)


def _page_writer(html: Path, name: str) -> Callable[[Path], object]:
    """Writes the page of an audit from its run folder."""

    def write(run_dir: Path) -> object:
        from foretune.ui.data_page import write_audit_page

        return write_audit_page(run_dir, html, name=name, run_id="latest" if name.endswith(".toml") else "")

    return write


command.__name__ = "audit"
