"""Are the command line, the job file and the records what users and scripts rely on; a change must be meant.

To accept a change: `python -m pytest tests/contract --accept` rewrites the files, and the commit says why.
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib
import json
import pkgutil
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


def check(name: str, found: Any, accept: bool) -> None:
    """Compare with the pinned file, or rewrite it."""
    path = HERE / name
    text = json.dumps(found, indent=1, sort_keys=True) + "\n"
    if accept:
        path.write_text(text, encoding="utf-8")
    pinned = json.loads(path.read_text(encoding="utf-8"))
    assert json.loads(text) == pinned, f"{name} changed; if that is meant: pytest tests/contract --accept"


@pytest.fixture
def accept(request: pytest.FixtureRequest) -> bool:
    """Whether the pinned files are to be rewritten."""
    return bool(request.config.getoption("--accept"))


def flags(command: Any, path: str = "foretune") -> dict[str, list[str]]:
    """Every command with its arguments and options."""
    found = {
        path: sorted(option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts))
    }
    for name, inner in getattr(command, "commands", {}).items():
        found |= flags(inner, f"{path} {name}")
    return found


def test_command_line(accept: bool) -> None:
    from typer.main import get_command

    from foretune.cli.main import app

    check("cli.json", flags(get_command(app)), accept)


def test_job_fields(accept: bool) -> None:
    from foretune.config import JobConfig
    from foretune.config.read import field_names

    defaults = JobConfig().model_dump(mode="json")
    found = {}
    for name in field_names():
        value: Any = defaults
        for part in name.split("."):
            value = value[part]
        found[name] = value
    check("job_fields.json", found, accept)


def test_record_schemas(accept: bool) -> None:
    from foretune import records
    from foretune.records.base import Record

    for module in pkgutil.iter_modules(records.__path__):
        importlib.import_module(f"foretune.records.{module.name}")
    found = {
        kind.__name__: kind.model_json_schema()
        for kind in Record.__subclasses__()
        if kind.__module__.startswith("foretune.records")
    }
    check("records.json", found, accept)


def test_public_functions(accept: bool) -> None:
    import inspect

    from foretune import api

    found = {
        name: str(inspect.signature(getattr(api, name)))
        for name in api.__all__
        if inspect.isfunction(getattr(api, name))
    }
    check("api.json", found, accept)


def test_first_page_of_the_job_file_is_short() -> None:
    """At most 15 fields a section, beside those under `advanced`."""
    from foretune.config.read import field_names

    plain = [name for name in field_names() if ".advanced." not in name]
    sections: dict[str, int] = {}
    for name in plain:
        section = name.rpartition(".")[0]
        sections[section] = sections.get(section, 0) + 1
    assert max(sections.values()) <= 15
