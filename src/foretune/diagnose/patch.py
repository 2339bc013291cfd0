"""Change settings in the text of a job file and keep everything else of it, comments included."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import copy
import difflib
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from foretune.config.read import field_names
from foretune.errors import ConfigError

__all__ = ["apply_patch"]

Key = tuple[str, ...]


def apply_patch(job_toml_text: str, patch: Mapping[str, Any]) -> str:
    """The job file with the dotted settings of `patch` changed; comments, order and spacing stay.

    A setting that is not in the file goes into its table, which is added where it is missing. A file written so
    unusually that this cannot be done line by line is written anew without its comments. Raises ConfigError for text
    that is not TOML and for unknown settings.
    """
    _check_names(patch)
    wanted = _parsed(job_toml_text)
    for name, value in patch.items():
        _set_in(wanted, tuple(name.split(".")), value)
    text = _line_by_line(job_toml_text, patch)
    return text if _is(text, wanted) else _written(wanted)


def _line_by_line(text: str, patch: Mapping[str, Any]) -> str:
    """The text with each setting changed in its line; "" where a line is beyond this reader."""
    lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n") if text else []
    try:
        for name, value in patch.items():
            lines = _changed(lines, tuple(name.split(".")), value)
    except ValueError:  # a line that this reader does not understand, in a file that is valid
        return ""
    return "\n".join(lines) + "\n" if lines else ""


def _check_names(patch: Mapping[str, Any]) -> None:
    known = list(field_names())
    unknown = [name for name in patch if name not in known]
    if unknown:
        close = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f"did you mean `{close[0]}`?" if close else "foretune config schema   # lists every field"
        raise ConfigError(f"unknown setting `{unknown[0]}` in the patch", fix=hint)


def _parsed(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the job file is not valid TOML: {error}", fix="foretune config show JOB") from None


def _is(text: str, wanted: Mapping[str, Any]) -> bool:
    try:
        return tomllib.loads(text) == wanted
    except tomllib.TOMLDecodeError:
        return False


def _set_in(tree: dict[str, Any], key: Key, value: Any) -> None:
    for part in key[:-1]:
        child = tree.setdefault(part, {})
        if not isinstance(child, dict):
            child = tree[part] = {}
        tree = child
    tree[key[-1]] = list(value) if isinstance(value, tuple) else value


@dataclass(frozen=True)
class _Entry:
    """`key = value` on lines `start` to `end` (exclusive); `table` is the header it stands under."""

    start: int
    end: int
    table: Key
    key: Key  # full path
    head: str  # the text up to and including "= "
    value: Any
    comment: str


@dataclass(frozen=True)
class _Layout:
    """Where tables and entries stand in the text; `tables` maps a header to its line (the root to -1)."""

    entries: tuple[_Entry, ...]
    tables: dict[Key, int]

    def end_of(self, table: Key) -> int:
        """The line after the last entry of a table, or after its header."""
        ends = [entry.end for entry in self.entries if entry.table == table]
        return max(ends, default=self.tables[table] + 1)


def _layout(lines: Sequence[str]) -> _Layout:
    table: Key = ()
    tables: dict[Key, int] = {(): -1}
    entries: list[_Entry] = []
    number = 0
    while number < len(lines):
        line = lines[number].strip()
        if line.startswith("["):
            table = _key_of(line.split("]")[0].lstrip("["))
            tables[table] = number
        elif line and not line.startswith("#"):
            entry = _entry(lines, number, table)
            entries.append(entry)
            number = entry.end
            continue
        number += 1
    return _Layout(tuple(entries), tables)


def _key_of(text: str) -> Key:
    """The parts of a dotted, perhaps quoted key."""
    parts: list[str] = []
    node: Any = tomllib.loads(f"{text} = 0")
    while isinstance(node, dict):
        part, node = next(iter(node.items()))
        parts.append(part)
    return tuple(parts)


def _entry(lines: Sequence[str], start: int, table: Key) -> _Entry:
    """The entry that begins on line `start`; its value may go over several lines."""
    match = re.match(r"""(\s*(?:"[^"]*"|'[^']*'|[^=#"'])+=\s*)""", lines[start])
    head = match[1] if match else ""
    rest = lines[start][len(head) :]
    for end in range(start + 1, len(lines) + 1):
        text = "\n".join([rest, *lines[start + 1 : end]])
        if _value_of(text) is not None:
            value, comment = _split_comment(text)
            return _Entry(start, end, table, (*table, *_key_of(head.strip().rstrip("="))), head, value, comment)
    raise ValueError(f"line {start + 1} cannot be read: {lines[start]}")


def _value_of(text: str) -> Any:
    """The one TOML value in `text`, or None."""
    try:
        tree = tomllib.loads(f"v = {text}")
    except tomllib.TOMLDecodeError:
        return None
    return tree["v"] if len(tree) == 1 else None


def _split_comment(text: str) -> tuple[Any, str]:
    """A value and the comment behind it: the first `#` before which the value is already whole."""
    for match in re.finditer(r"\s*#", text):
        value = _value_of(text[: match.start()])
        if value is not None:
            return value, text[match.start() :]
    return _value_of(text), ""


def _changed(lines: list[str], key: Key, value: Any) -> list[str]:
    layout = _layout(lines)
    for entry in layout.entries:
        if entry.key == key:
            return _replaced(lines, entry, value)
        if entry.key == key[: len(entry.key)] and isinstance(entry.value, dict):
            inline = copy.deepcopy(entry.value)
            _set_in(inline, key[len(entry.key) :], value)
            return _replaced(lines, entry, inline)
    return _inserted(lines, layout, key, value)


def _replaced(lines: list[str], entry: _Entry, value: Any) -> list[str]:
    return [*lines[: entry.start], f"{entry.head}{_shown(value)}{entry.comment}", *lines[entry.end :]]


def _inserted(lines: list[str], layout: _Layout, key: Key, value: Any) -> list[str]:
    table, name = key[:-1], key[-1]
    if table in layout.tables:
        place = layout.end_of(table)
        return [*lines[:place], f"{name} = {_shown(value)}", *lines[place:]]
    for entry in layout.entries:  # the table is written with dotted keys: advanced.dropout = 0.1
        if entry.key[:-1] == table:
            dotted = ".".join(key[len(entry.table) :])
            return [*lines[: entry.end], f"{dotted} = {_shown(value)}", *lines[entry.end :]]
    gap = [""] if lines and lines[-1].strip() else []
    return [*lines, *gap, f"[{'.'.join(table)}]", f"{name} = {_shown(value)}"]


def _shown(value: Any) -> str:
    """A value as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return re.sub(r"e([+-])0*(\d)", lambda match: f"e{match[1].replace('+', '')}{match[2]}", repr(value))
    if isinstance(value, list | tuple):
        return f"[{', '.join(_shown(item) for item in value)}]"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{name} = {_shown(item)}" for name, item in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _written(tree: Mapping[str, Any], path: Key = ()) -> str:
    """A whole file: plain values first, then one table after another."""
    plain = {name: value for name, value in tree.items() if not isinstance(value, Mapping)}
    lines = [f"[{'.'.join(path)}]"] if path and plain else []
    lines += [f"{name} = {_shown(value)}" for name, value in plain.items()]
    tables = [_written(value, (*path, name)) for name, value in tree.items() if isinstance(value, Mapping)]
    return "\n".join(part for part in ["\n".join(lines) + "\n" if lines else "", *tables] if part)
