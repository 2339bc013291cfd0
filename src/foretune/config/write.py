"""Write a job as TOML: only what differs from the defaults, in the order of the models."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from foretune.config.job import JobConfig

__all__ = ["job_toml", "toml_value"]

ALWAYS = ("name", "base", "seed")  # what a reader looks for first


def job_toml(job: JobConfig, *, comment: str = "", reasons: Mapping[str, str] | None = None) -> str:
    """The job as a job file that reads back to an equal job; `comment` goes on top.

    `reasons` are comments behind fields, by dotted name; such a field is written even where it is the default.
    """
    lines = [f"# {line}".rstrip() for line in comment.splitlines()]
    lines += _table(job, JobConfig(), (), reasons or {})
    return "\n".join(lines) + "\n"


def _table(model: BaseModel, default: BaseModel, path: tuple[str, ...], reasons: Mapping[str, str]) -> Iterator[str]:
    inner: list[tuple[str, BaseModel, BaseModel]] = []
    values: list[str] = []
    for name in type(model).model_fields:
        value, usual = getattr(model, name), getattr(default, name)
        if isinstance(value, BaseModel):
            inner.append((name, value, usual))
            continue
        reason = reasons.get(".".join((*path, name)), "")
        if value != usual or reason or (not path and name in ALWAYS):
            values.append(f"{name} = {toml_value(value)}{_behind(reason)}")
    if values and path:
        yield from ("", f"[{'.'.join(path)}]")
    yield from values
    for name, value, usual in inner:
        yield from _table(value, usual, (*path, name), reasons)


def _behind(reason: str) -> str:
    """A comment behind a value, on its line; TOML takes no control characters in it."""
    plain = "".join(letter if letter.isprintable() else "?" for letter in " ".join(reason.split()))
    return f"  # {plain}" if plain else ""


def toml_value(value: Any) -> str:
    """One TOML value; strings as basic strings, whose escapes are those of JSON."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(toml_value(item) for item in value)}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)
