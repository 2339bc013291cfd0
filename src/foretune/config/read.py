"""Read job files: every fault at once with its line, and where each value came from."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from foretune.config.job import JobConfig
from foretune.errors import ConfigError, Fault, NotFound

__all__ = [
    "Origin",
    "ResolvedJob",
    "field_names",
    "job_schema",
    "parsed_value",
    "read_job",
    "resolve_job",
    "user_config_path",
]

Origin = Literal["flag", "environment", "project", "user", "default"]
ENV_PREFIX = "FORETUNE_"


@dataclass(frozen=True)
class ResolvedJob:
    """A job with the origin of every value; `folder` is what relative paths in it are relative to."""

    job: JobConfig
    origins: dict[str, Origin]
    folder: Path


def job_schema() -> dict[str, Any]:
    """JSON Schema of the job file, for editors and forms."""
    return JobConfig.model_json_schema()


def field_names(model: type[BaseModel] = JobConfig, prefix: str = "") -> Iterator[str]:
    """Every settable field as a dotted name, in the order of the models: `train.advanced.alpha`."""
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from field_names(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def user_config_path() -> Path:
    """The user's own defaults: `$XDG_CONFIG_HOME/foretune/defaults.toml`."""
    home = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(home) / "foretune" / "defaults.toml"


def read_job(path: str | Path) -> JobConfig:
    """The job in `path` alone, without environment or user defaults. Raises ConfigError, NotFound."""
    file = Path(path)
    return _validated(_read_toml(file), {}, file)


def resolve_job(
    path: str | Path | None,
    flags: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
) -> ResolvedJob:
    """The job with flags over environment over project file over user file over defaults.

    `flags` maps dotted field names to values. Raises ConfigError with every fault, NotFound.
    """
    project = Path(path) if path is not None else None
    user = user_config_path()
    layers: list[tuple[Origin, dict[str, Any]]] = [
        ("user", _flatten(_read_toml(user)) if user.is_file() else {}),
        ("project", _flatten(_read_toml(project)) if project is not None else {}),
        ("environment", _from_environment(os.environ if env is None else env)),
        ("flag", {name: value for name, value in (flags or {}).items() if value is not None}),
    ]
    values: dict[str, Any] = {}
    origins: dict[str, Origin] = dict.fromkeys(field_names(), "default")
    for origin, layer in layers:
        for name, value in layer.items():
            values[name] = value
            if value != {}:
                origins[name] = origin
    job = _validated(_nest(values), origins, project)
    return ResolvedJob(job, origins, project.parent if project is not None else Path.cwd())


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFound(f"no job file {path}", fix="foretune init json-extract   # writes one from a template") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as UTF-8 text ({error})", fix=f"check the file {path}") from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}", fix="see https://toml.io; strings need quotes") from None


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *parents, last = name.split(".")
        node = tree
        for parent in parents:
            child = node.setdefault(parent, {})
            if not isinstance(child, dict):
                child = node[parent] = {}
            node = child
        if value != {}:
            node[last] = value
        else:
            node.setdefault(last, {})  # an empty table sets nothing, but its name is checked
    return tree


def _from_environment(env: Mapping[str, str]) -> dict[str, Any]:
    """`FORETUNE_TRAIN__EPOCHS=2` sets `train.epochs`; other FORETUNE_ variables are not settings."""
    found = {}
    for name in field_names():
        text = env.get(ENV_PREFIX + name.upper().replace(".", "__"))
        if text is not None:
            found[name] = parsed_value(text)
    return found


def parsed_value(text: str) -> Any:
    """A value typed on a command line or in the environment: TOML where it is TOML, else the text."""
    try:
        return tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        return text


def _validated(tree: dict[str, Any], origins: Mapping[str, Origin], path: Path | None) -> JobConfig:
    try:
        return JobConfig.model_validate(tree)
    except ValidationError as error:
        faults = tuple(_fault(item, origins, path) for item in error.errors())
    lines = "\n".join(f"  {fault}" for fault in faults)
    where = str(path) if path is not None else "the settings"
    raise ConfigError(
        f"{len(faults)} {'fault' if len(faults) == 1 else 'faults'} in {where}:\n{lines}",
        fix="foretune config schema   # lists every field",
    )


def _fault(item: Any, origins: Mapping[str, Origin], path: Path | None) -> Fault:
    location = [str(part) for part in item["loc"] if not isinstance(part, int)]
    name = ".".join(location)
    origin = origins.get(name, "project")
    file = {"flag": f"--set {name}", "environment": ENV_PREFIX + name.upper().replace(".", "__")}.get(
        origin, str(user_config_path() if origin == "user" else path or "settings")
    )
    line = _line_of(path, location) if origin == "project" and path is not None else 0
    if item["type"] == "extra_forbidden":
        return Fault(file, line, f"unknown key `{name}`", fix=_did_you_mean(location))
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "value_error" and isinstance(item["input"], dict):  # of several fields together: a sentence
        return Fault(file, line, f"`{name}`: {message}" if name else message)
    if item["type"] == "tuple_type":
        message = f"a list, such as [{json.dumps(item['input'], default=str)}]"[:80]
    shown = "" if isinstance(item["input"], dict) else json.dumps(item["input"], default=str)[:80]
    return Fault(
        file, line, f"`{name}`" if name else "the job", value=shown, expected=message[:1].lower() + message[1:]
    )


def _did_you_mean(location: list[str]) -> str:
    parent: type[BaseModel] = JobConfig
    for part in location[:-1]:
        field = parent.model_fields.get(part)
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            break
        parent = field.annotation
    close = difflib.get_close_matches(location[-1], parent.model_fields, n=1, cutoff=0.6)
    if close:
        return f"did you mean `{close[0]}`?"
    elsewhere = difflib.get_close_matches(location[-1], [n.rpartition(".")[2] for n in field_names()], n=1, cutoff=0.75)
    if elsewhere:
        full = next(n for n in field_names() if n.rpartition(".")[2] == elsewhere[0])
        return f"did you mean `{full}`?"
    return f"known here: {', '.join(parent.model_fields)}"


def _line_of(path: Path, location: list[str]) -> int:
    """The line of a key, found in the text: the table header first, then the key; 0 if it is not found."""
    table, key = location[:-1], location[-1] if location else ""
    current: list[str] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        header = re.match(r"\s*\[([^\[\]]+)\]", line)
        if header:
            current = [part.strip().strip("\"'") for part in header.group(1).split(".")]
            if current == location:
                return number
            continue
        name = re.match(r"\s*([A-Za-z0-9_\-.\"']+)\s*=", line)
        if name and [*current, *name.group(1).replace('"', "").split(".")] == [*table, key]:
            return number
    return 0
