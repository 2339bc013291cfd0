"""What every command shares: its options, its answer and how answers and errors are printed."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json as json_module
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from foretune.errors import ConfigError, DataError, ForetuneError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = [
    "DEFAULT_RUNS",
    "LATEST",
    "Answer",
    "Debug",
    "Job",
    "Json",
    "MaxCost",
    "MaxHours",
    "ReuseTest",
    "Run",
    "RunsDir",
    "Seed",
    "Settings",
    "SkipAdvice",
    "Yes",
    "console",
    "help_without_command",
    "job_words",
    "parsed_settings",
    "print_answer",
    "print_error",
    "wants",
]

Json = Annotated[
    bool,
    typer.Option("--json", envvar="FORETUNE_JSON", help="Print one JSON document on stdout, all else on stderr."),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
RunsDir = Annotated[
    Path, typer.Option("--runs-dir", metavar="FOLDER", envvar="FORETUNE_RUNS_DIR", help="Where run folders live.")
]
Job = Annotated[Path, typer.Argument(metavar="JOB", help="Job file, such as job.toml.", show_default=False)]
Run = Annotated[str, typer.Argument(metavar="RUN", help="Run id, run folder, or `latest`.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Set a field, such as train.epochs=2; may be repeated."),
]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Seed of every random choice.", show_default=False)]

Yes = Annotated[bool, typer.Option("-y", "--yes", help="Agree to the price without being asked.")]
MaxCost = Annotated[
    float | None, typer.Option("--max-cost", min=0.0, metavar="USD", help="Refuse, or stop, beyond this cost.")
]
MaxHours = Annotated[
    float | None, typer.Option("--max-hours", min=0.0, metavar="HOURS", help="Refuse, or stop, beyond this time.")
]
ReuseTest = Annotated[
    bool, typer.Option("--reuse-test", help="Open the sealed test split although it was opened before.")
]
SkipAdvice = Annotated[
    str | None,
    typer.Option("--skip-advice", metavar="WHY", help="Do not ask whether to train at all; WHY is recorded."),
]

DEFAULT_RUNS = Path("runs")  # records.run.DEFAULT_RUNS_DIR, without its imports: --help must be quick
LATEST = "latest"
MIN_COLUMNS = 80


@dataclass(frozen=True)
class Answer:
    """What a command found: `document` for machines, `shown` for people, `next` the command to run next."""

    document: dict[str, Any]
    shown: Sequence[RenderableType] = ()
    next: str = ""
    exit_code: int = 0


def wants(flag: str, arguments: Sequence[str]) -> bool:
    """Whether the common flag `--json` or `--debug` is set, known even where parsing fails."""
    given = arguments[: arguments.index("--")] if "--" in arguments else arguments
    variable = os.environ.get(f"FORETUNE_{flag.strip('-').upper()}", "")
    return flag in given or variable.lower() in ("1", "true", "yes", "on")


def help_without_command(context: typer.Context) -> None:
    """The callback of a group: its help where no command is given."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit


def console(file: TextIO) -> Console:
    """A console on `file`: as wide as the terminal, 80 columns where there is none, no colour under NO_COLOR."""
    from rich.console import Console

    width = None if file.isatty() or "COLUMNS" in os.environ else MIN_COLUMNS
    return Console(file=file, width=width, highlight=False, soft_wrap=False, emoji=False)


def parsed_settings(settings: Sequence[str] | None, **flags: Any) -> dict[str, Any]:
    """`["train.epochs=2"]` as `{"train.epochs": 2}`; `flags` have dots written as `__` and None left out."""
    from foretune.config.read import parsed_value

    values: dict[str, Any] = {}
    wrong = []
    for setting in settings or ():
        name, sign, text = setting.partition("=")
        if not sign or not name.strip():
            wrong.append(setting)
            continue
        values[name.strip()] = parsed_value(text.strip())
    if wrong:
        raise ConfigError(f"--set {wrong[0]}: expected NAME=VALUE", fix="for example --set train.epochs=2")
    values.update({name.replace("__", "."): value for name, value in flags.items() if value is not None})
    return values


def job_words(job: str, settings: Mapping[str, Any]) -> str:
    """A job and the settings given with it, as they stand in the next command line."""
    words = [
        f"{name}={value if isinstance(value, str) else json_module.dumps(value)}" for name, value in settings.items()
    ]
    return shlex.join([job, *(word for setting in words for word in ("--set", setting))])


def print_answer(answer: Answer, *, as_json: bool, stdout: TextIO) -> None:
    """One JSON document on `stdout`, or the tables for people and the `Next:` line."""
    if as_json:
        document = {"schema_version": 1, **answer.document, "next": answer.next}
        stdout.write(json_module.dumps(document, indent=2, ensure_ascii=False, default=str) + "\n")
        stdout.flush()
        return
    out = console(stdout)
    for item in answer.shown:
        out.print(item, soft_wrap=bool(getattr(item, "no_wrap", False)))
    if answer.next:
        out.print(f"\n[bold]Next:[/] {_escaped(answer.next)}", soft_wrap=True)


def print_error(error: ForetuneError, *, as_json: bool, stdout: TextIO) -> int:
    """The error as what, every fault, and the fix; its exit code."""
    faults = sorted(error.faults, key=lambda f: (f.file, f.line)) if isinstance(error, DataError) else []
    if as_json:
        shown = {"type": type(error).__name__, "what": error.what, "fix": error.fix, "exit_code": error.exit_code}
        document = {"schema_version": 1, "error": {**shown, "faults": [vars(fault) for fault in faults]}}
        stdout.write(json_module.dumps(document, indent=2, ensure_ascii=False) + "\n")
        stdout.flush()
    err = console(sys.stderr)
    err.print(f"[bold red]error:[/] {_escaped(error.what)}", soft_wrap=True)
    for fault in () if "\n" in error.what else (fault for fault in faults if str(fault) not in error.what):
        err.print(f"  {_escaped(str(fault))}", soft_wrap=True)
    if error.fix:
        err.print(f"[bold]fix:[/] {_escaped(error.fix)}", soft_wrap=True)
    return error.exit_code


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
