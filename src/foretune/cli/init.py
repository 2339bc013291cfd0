"""`foretune init`: a job file, from a template with its data or from one's own rows with chosen settings."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import shlex
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foretune.cli.face import Answer, Debug, Json, Settings, parsed_settings
from foretune.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from foretune.plan.auto import AutoJob

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
        Path | None, typer.Argument(metavar="FOLDER", help="Where to write; named after template or data if not given.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data", metavar="FILE", help="Your own rows, in place of a template: settings are chosen for them."
        ),
    ] = None,
    base: Annotated[
        str | None, typer.Option("--base", metavar="BASE", help="With --data: a model folder or Hugging Face id.")
    ] = None,
    rows: Annotated[int | None, typer.Option("--rows", min=10, help="Samples to write.", show_default=False)] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the generated data, or of the job.")] = 0,
    settings: Settings = None,
    list_all: Annotated[bool, typer.Option("--list", help="List templates and use cases, and write nothing.")] = False,
    json: Json = False,
    debug: Debug = False,
) -> Answer:
    """Write a job file, from a template or for your own rows.

    Nothing that exists is overwritten; your rows stay where they are.

    \b
    Examples:
      foretune init --list
      foretune init json-extract
      foretune init sentiment mood --rows 500
      foretune init --data tickets.jsonl
      foretune init --data rows.csv --base models/qwen mine
      foretune init --data rows.csv --set data.target_field=reply
    """
    if list_all:
        return _listed()
    if data is not None:
        return _from_data(data, _only_folder(data, template, folder, rows), base, seed, parsed_settings(settings))
    if base is not None or settings:
        given = f"--base {base}" if base is not None else f"--set {(settings or [''])[0]}"
        raise ConfigError(f"{given} goes with --data", fix="change it in the job.toml of the template")
    if not template:
        what = "neither a template nor your own rows are named"
        raise ConfigError(what, fix="foretune init --data FILE, or foretune init --list   # shows what there is")
    return _from_template(template, folder, rows, seed)


def _from_template(template: str, folder: Path | None, rows: int | None, seed: int) -> Answer:
    from rich.markup import escape

    from foretune import api
    from foretune.config.examples import example_named

    job = api.init(template, folder, num_rows=rows, seed=seed)
    files = sorted(str(path) for path in job.parent.rglob("*") if path.is_file())
    document = {"command": "init", "template": template, "job": str(job), "files": files, "seed": seed}
    shown = [f"Wrote {name}" for name in files]
    example = example_named(template)
    if example is None:
        return Answer(document, shown, next=f"foretune run {job}")
    shown += [f"Now put your rows into {job.parent / 'data' / template}.jsonl, such as", escape(f"  {example.row}")]
    return Answer(document, shown, next=f"foretune audit {job}")


# --- own rows -------------------------------------------------------------------------------------------------------


def _only_folder(data: str, first: str, second: Path | None, rows: int | None) -> Path | None:
    """The one word that may stand beside --data: the folder. Raises ConfigError for a template, and for --rows."""
    if second is not None or first in _templates():
        what = f"template {first} and --data {data}: a job starts from one of them"
        raise ConfigError(what, fix=f"foretune init {first}, or foretune init {shlex.join(['--data', data])} FOLDER")
    if rows is not None:
        raise ConfigError(f"--rows {rows} is for generated data; with --data all rows are used", fix="leave --rows out")
    return Path(first) if first else None


def _from_data(data: str, folder: Path | None, base: str | None, seed: int, settings: dict[str, Any]) -> Answer:
    from foretune import api

    job, auto = api.init_from_data(data, folder, base=base or api.EMBEDDED, seed=seed, settings=settings)
    plan = auto.fit.plan
    document: dict[str, Any] = {
        "command": "init",
        "data": data,
        "job": str(job),
        "files": [str(job)],
        "seed": seed,
        "num_rows": auto.num_rows,
        "form": auto.form,
        "choices": [choice._asdict() for choice in auto.choices],
        "notes": list(auto.notes),
        "warnings": list(auto.warnings),
        "fits": auto.fit.fits,
        "would_fit": {"device": auto.fit.device, "base": auto.fit.base},
        "train_seconds": plan.train_seconds.model_dump(),
        "peak_memory_gb": plan.peak_memory_gb.model_dump(),
        "available_memory_gb": plan.available_memory_gb,
    }
    name = shlex.quote(str(job))
    then = f"foretune plan {name}" + ("" if auto.fit.fits or not auto.fit.device else " --choices smallest")
    return Answer(document, _shown(data, job, auto), next=then)


def _shown(data: str, job: Path, auto: AutoJob) -> list[RenderableType]:
    """What was read, every choice with its reason, and what came of looking at this machine."""
    from rich.markup import escape

    from foretune.cli.show import plain_table, shown_value, warning_lines

    table = plain_table("setting", "value", "why")
    table.columns[0].no_wrap = True
    for choice in auto.choices:
        table.add_row(choice.name.rpartition(".")[2], escape(shown_value(choice.value)), escape(choice.reason))
    return [
        f"Read {escape(data)}: {auto.num_rows:,} rows, {escape(auto.form)}",
        f"Wrote {escape(str(job))}",
        "",
        table,
        "",
        *_fit_lines(data, auto),
        *(f"[dim]note: {escape(note)}[/]" for note in auto.notes),
        *warning_lines(auto.warnings),
    ]


def _fit_lines(data: str, auto: AutoJob) -> list[str]:
    """How long training will take here, or that it does not fit and what would."""
    from rich.markup import escape

    from foretune.units import show_range

    plan, fit = auto.fit.plan, auto.fit
    memory = (
        f"{plan.peak_memory_gb.low:.1f}-{plan.peak_memory_gb.high:.1f} GB of {plan.available_memory_gb:.1f} GB free"
    )
    if fit.fits:
        return [f"Expected here: training {show_range(plan.train_seconds.low, plan.train_seconds.high)}, {memory}"]
    lines = [f"[bold red]It does not fit here[/]: it takes {memory}."]
    if fit.device:
        lines.append(f"The smallest priced device that holds it: {escape(fit.device)}.")
    if fit.base:
        again = shlex.join(["foretune", "init", "--data", data, "--base", fit.base, "ANOTHER_FOLDER"])
        lines.append(f"A base that fits here: {escape(again)}")
    return lines


# --- list -----------------------------------------------------------------------------------------------------------


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
