"""`foretune init`: a job file and its data from a template."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foretune.cli.face import Answer, Debug, Json

__all__ = ["command"]


def _templates(incomplete: str = "") -> list[str]:
    from foretune.api import TEMPLATES

    return [name for name in TEMPLATES if name.startswith(incomplete)]


def command(
    template: Annotated[
        str,
        typer.Argument(
            metavar="TEMPLATE",
            help="json-extract, sentiment, support-chat or news-summary.",
            autocompletion=_templates,
            show_default=False,
        ),
    ],
    folder: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", help="Where to write; the template's name if not given.")
    ] = None,
    rows: Annotated[int | None, typer.Option("--rows", min=10, help="Samples to write.", show_default=False)] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the generated data.")] = 0,
    json: Json = False,
    debug: Debug = False,
) -> Answer:
    """Write a job file and its data from a template.

    Nothing that exists is overwritten.

    \b
    Examples:
      foretune init json-extract
      foretune init sentiment mood --rows 500
    """
    from foretune import api

    job = api.init(template, folder, num_rows=rows, seed=seed)
    files = sorted(str(path) for path in job.parent.rglob("*") if path.is_file())
    document = {"command": "init", "template": template, "job": str(job), "files": files, "seed": seed}
    return Answer(document, [f"Wrote {name}" for name in files], next=f"foretune run {job}")


command.__name__ = "init"
