"""Write what the code knows into the pages: the map, options, fields, records and errors; `--check` only compares.

A page says where: what stands between `<!-- begin KIND ARGUMENT -->` and `<!-- end -->` is written by this script.
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import argparse
import ast
import importlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "foretune"
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
BLOCK = re.compile(r"(<!-- begin (\w+) ?(.*?) -->\n).*?(<!-- end -->)", re.DOTALL)
LAYERS = (
    ("faces", ("cli", "ui", "api", "journey", "steps")),
    ("stages", ("plan", "collect", "audit", "train", "evaluate", "diagnose", "compare", "publish", "serve", "monitor")),
    ("machinery", ("backends", "engine", "models", "data", "stats")),
    ("ground", ("config", "records", "hardware", "errors", "units", "log")),
)


def sentence(path: Path) -> str:
    """The first sentence of a module."""
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def code_map(_: str) -> Iterator[str]:
    """Every package and top-level module with its first sentence, layer by layer: imports only run down."""
    for layer, names in LAYERS:
        yield from ("", f"**{layer}**", "", "| | |", "|---|---|")
        for name in names:
            package = SOURCE / name / "__init__.py"
            module = SOURCE / f"{name}.py"
            if package.is_file():
                yield f"| `{name}/` | {sentence(package)} |"
            elif module.is_file():
                yield f"| `{name}.py` | {sentence(module)} |"
    yield ""


def options(argument: str) -> Iterator[str]:
    """The arguments and options of a command, from the command line itself."""
    from typer.main import get_command

    from foretune.cli.main import app

    command: Any = get_command(app)
    for name in argument.split():
        command = command.commands[name]
    yield from ("| option | what it does |", "|---|---|")
    for parameter in command.params:
        is_option = parameter.opts[0].startswith("-")
        shown = ", ".join(parameter.opts) if is_option else parameter.metavar
        value = f" {parameter.metavar}" if is_option and parameter.metavar else ""
        yield f"| `{shown}{value}` | {cell(getattr(parameter, 'help', '') or '')} |"


def fields(argument: str) -> Iterator[str]:
    """The fields of one section of the job file; `.` is the top level."""
    from foretune.config import JobConfig
    from foretune.config.write import toml_value

    model: Any = JobConfig
    for part in argument.split(".") if argument != "." else ():
        model = model.model_fields[part].annotation
    prefix = "" if argument == "." else f"{argument}."
    yield from ("| field | default | what it is |", "|---|---|---|")
    for name, info in model.model_fields.items():
        if hasattr(info.annotation, "model_fields"):
            continue
        yield f"| `{prefix}{name}` | `{toml_value(info.default)}` | {cell(info.description or '')} |"


def record(argument: str) -> Iterator[str]:
    """The fields of a record with their types."""
    module, _, name = argument.partition(":")
    kind = getattr(importlib.import_module(f"foretune.records.{module}"), name)
    yield from (
        f"`{kind.file_name}`: {(kind.__doc__ or '').partition(chr(10))[0]}",
        "",
        "| field | type |",
        "|---|---|",
    )
    for field, info in kind.model_fields.items():
        yield f"| `{field}` | `{cell(type_name(info.annotation))}` |"


def type_name(annotation: Any) -> str:
    """A type as one would write it, without modules."""
    text = (
        annotation.__name__ if isinstance(annotation, type) and not hasattr(annotation, "__args__") else str(annotation)
    )
    return re.sub(r"\b(?:[a-z_]+\.)+(?=[A-Z])", "", text).replace("typing.", "")


def errors(_: str) -> Iterator[str]:
    """Every error with its exit code and what it means."""
    from foretune import errors as module

    kinds = [getattr(module, name) for name in module.__all__ if name != "Fault"]
    yield from ("| exit code | error | what it means |", "|---|---|---|")
    for kind in sorted(kinds, key=lambda kind: (kind.exit_code, kind.__name__)):
        yield f"| {kind.exit_code} | `{kind.__name__}` | {cell((kind.__doc__ or '').partition(chr(10))[0])} |"


def cell(text: str) -> str:
    """Text that does not break a table."""
    return text.replace("|", "\\|").replace("\n", " ")


KINDS: dict[str, Callable[[str], Iterator[str]]] = {
    "map": code_map,
    "options": options,
    "fields": fields,
    "record": record,
    "errors": errors,
}


def written(text: str) -> str:
    """A page with every block written anew."""

    def block(found: re.Match[str]) -> str:
        head, kind, argument, tail = found.groups()
        return head + "\n".join(KINDS[kind](argument.strip())) + "\n" + tail

    return BLOCK.sub(block, text)


def main() -> int:
    """Write every page, or say which is not up to date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a page is not up to date")
    check = parser.parse_args().check
    stale = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if (new := written(text)) != text:
            stale.append(page.relative_to(ROOT))
            if not check:
                page.write_text(new, encoding="utf-8")
    for page in stale:
        print(f"{page}: {'not up to date; run: make docs' if check else 'written'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
