"""`foretune init`: a job file and its data from a template."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from foretune.cli.face import Answer, Debug, Json
from foretune.errors import ConfigError

__all__ = ["command"]


def _templates(incomplete: str = "") -> list[str]:
    from foretune.api import TEMPLATES
    from foretune.config.examples import examples

    names = [*TEMPLATES, *(example.name for example in examples())]
    return [name for name in names if name.startswith(incomplete)]


def command(
    template: Annotated[
        str,
        typer.Argument(
            metavar="TEMPLATE",
            help="json-extract, sentiment, support-chat, news-summary or a use case of --list.",
            autocompletion=_templates,
            show_default=False,
        ),
    ] = "",
    folder: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", help="Where to write; the template's name if not given.")
    ] = None,
    rows: Annotated[int | None, typer.Option("--rows", min=10, help="Samples to write.", show_default=False)] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the generated data.")] = 0,
    list_all: Annotated[bool, typer.Option("--list", help="List templates and use cases, and write nothing.")] = False,
    json: Json = False,
    debug: Debug = False,
) -> Answer:
    """Write a job file and its data from a template.

    Nothing that exists is overwritten.

    \b
    Examples:
      foretune init --list
      foretune init json-extract
      foretune init sentiment mood --rows 500
    """
    from rich.markup import escape

    from foretune import api
    from foretune.config.examples import example_named

    if list_all:
        return _listed()
    if not template:
        raise ConfigError("no template is named", fix="foretune init --list   # shows what there is")
    job = api.init(template, folder, num_rows=rows, seed=seed)
    files = sorted(str(path) for path in job.parent.rglob("*") if path.is_file())
    document = {"command": "init", "template": template, "job": str(job), "files": files, "seed": seed}
    shown = [f"Wrote {name}" for name in files]
    example = example_named(template)
    if example is None:
        return Answer(document, shown, next=f"foretune run {job}")
    shown += [f"Now put your rows into {job.parent / 'data' / template}.jsonl, such as", escape(f"  {example.row}")]
    return Answer(document, shown, next=f"foretune audit {job}")


def _listed() -> Answer:
    """Templates with data, and use cases that wait for yours."""
    from rich.markup import escape

    from foretune import api
    from foretune.cli.show import plain_table
    from foretune.config import read_job
    from foretune.config.examples import examples

    table = plain_table("template", "metric", "what it is for")
    listed: list[dict[str, str]] = []
    for name in api.TEMPLATES:
        path = Path(str(resources.files("foretune.config") / "templates" / f"{name}.toml"))
        goal = path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
        metric = read_job(path).evaluate.primary_metric
        listed.append({"name": name, "goal": goal, "metric": metric, "data": "generated"})
    for one in examples():
        listed.append({"name": one.name, "goal": one.goal, "metric": one.metric, "data": "yours", "why": one.why})
    for row in listed:
        data = "" if row["data"] == "generated" else " [dim](your data)[/]"
        table.add_row(row["name"], row["metric"], escape(row["goal"]) + data)
    return Answer({"command": "init", "templates": listed}, [table], next="foretune init json-extract")


command.__name__ = "init"
