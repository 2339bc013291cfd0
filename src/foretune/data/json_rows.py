"""Rows of JSONL files and of JSON arrays, as a stream: one object a line, or one array of any size."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from foretune.data.faults import FaultList, short
from foretune.data.files import MAX_ROW_BYTES, add_too_long, text_chunks, text_lines
from foretune.data.row import Row

__all__ = ["json_rows", "jsonl_rows"]

MAX_OBJECT_CHARS = 256_000_000  # of an object that wraps the rows: it is read whole, an array or JSONL is not
MAX_PENDING = 4 * MAX_ROW_BYTES  # characters of an array's element that are waited for
ONE_ROW = ("messages", "conversations", "contents")  # a file that is one object with one of these is one row
_SKIPPED = re.compile(r"[ \t\r\n,]*")
_SPACE = re.compile(r"[ \t\r\n]*")
_HALVES = re.compile(r"\\u[dD]")  # how JSON spells halves of surrogate pairs
_BROKEN = object()
# NaN and Infinity are no JSON, but Python writes them: they count as null.
_DECODER = json.JSONDecoder(parse_constant=lambda _: None)


def jsonl_rows(path: Path, faults: FaultList) -> Iterator[Row]:
    """One object a line; a file that begins with `[` is read as an array."""
    scan = _DECODER.scan_once  # type: ignore[attr-defined]  # of the standard library, though not of its stubs
    for number, line in text_lines(path, faults):
        if line[:1] == "{":
            try:
                value, end = scan(line, 0)
            except (ValueError, RecursionError, StopIteration):
                value, end = _parsed(line, number, faults), len(line)
            if end != len(line) and line[end:].strip():
                value = _parsed(line, number, faults)
            if value is not _BROKEN:
                yield Row(number, value, "\\u" not in line or not _HALVES.search(line))
        elif not line.strip():
            continue
        elif number == 1 and line.lstrip().startswith("["):
            yield from json_rows(path, faults)
            return
        else:
            value = _parsed(line, number, faults)
            if value is not _BROKEN:
                yield from _row(number, value, faults)


def _row(line: int, value: Any, faults: FaultList) -> Iterator[Row]:
    if isinstance(value, dict):
        yield Row(line, value)
    else:
        expected = 'an object such as {"messages": [...]}'
        faults.add(line, "not a JSON object", value=short(value), expected=expected, raw=short(value, 1000))


def _parsed(text: str, line: int, faults: FaultList) -> Any:
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        _add_json_fault(error, text, line, faults)
    return _BROKEN


def _add_json_fault(error: ValueError | RecursionError, text: str, line: int, faults: FaultList) -> None:
    """What is wrong with the JSON, and where; `text` begins on `line`."""
    is_one_line = "\n" not in text.strip()
    raw = text if is_one_line else ""
    if not isinstance(error, json.JSONDecodeError):
        what = "the JSON is nested too deeply" if isinstance(error, RecursionError) else f"not valid JSON: {error}"
        faults.add(line, what, fix="take this row out", raw=raw)
        return
    value = short(text[max(error.pos - 20, 0) : error.pos + 20])
    fix = "one JSON object a line; keys and texts in double quotes, line breaks inside a text as \\n"
    what = error.msg
    if text[: error.pos].rstrip().endswith(",") and text[error.pos : error.pos + 1] in "}]":
        what, fix = "a comma before the closing bracket", "take the last comma out"
    elif error.msg == "Extra data" and text[error.pos :].strip() == ",":
        what, fix = "a comma behind the object", "take the comma at the end of the line out"
    where = f"at column {error.colno}" if is_one_line else f"at line {line - 1 + error.lineno}"
    at = line if is_one_line else line - 1 + error.lineno
    faults.add(at, f"not valid JSON {where}: {what}", value=value, fix=fix, raw=raw)


def json_rows(path: Path, faults: FaultList) -> Iterator[Row]:
    """A JSON array of objects, or an object that holds one (`{"data": [...]}`), or JSONL under the wrong name."""
    buffer = _Buffer(text_chunks(path, faults))
    buffer.skip(_SPACE)
    if buffer.at_end:
        if not faults.count:
            faults.add(0, "the file holds only white space", expected="at least one row")
        return
    if buffer.text[buffer.at] == "[":
        buffer.at += 1
        yield from _elements(buffer, faults)
    elif _is_jsonl(path):
        yield from jsonl_rows(path, faults)
    else:
        yield from _object(buffer, faults)


class _Buffer:
    """A window on a long text: `at` is the place reached in `text`, `line` the line of the file there."""

    def __init__(self, chunks: Iterator[str]) -> None:
        self._chunks = chunks
        self.text = ""
        self.at = 0
        self.line = 1
        self._counted = 0

    def more(self) -> bool:
        """Read on; what lies before `at` is dropped. False at the end of the file."""
        chunk = next(self._chunks, None)
        if chunk is None:
            return False
        self.count_lines()
        self.text = self.text[self.at :] + chunk
        self.at = self._counted = 0
        return True

    def read_all(self, limit: int) -> bool:
        """Read the rest of the file, if the whole has at most `limit` characters; returns whether it has."""
        chunks = [self.text]
        length = len(self.text)
        for chunk in self._chunks:
            chunks.append(chunk)
            length += len(chunk)
            if length > limit:
                return False
        self.text = "".join(chunks)
        return length <= limit

    def count_lines(self) -> None:
        """Bring `line` up to `at`."""
        self.line += self.text.count("\n", self._counted, self.at)
        self._counted = self.at

    def skip(self, pattern: re.Pattern[str]) -> None:
        """Move `at` behind what the pattern matches, however long that is."""
        while True:
            found = pattern.match(self.text, self.at)
            self.at = found.end() if found else self.at
            if self.at < len(self.text) or not self.more():
                return

    @property
    def at_end(self) -> bool:
        """Whether nothing is left of the file."""
        return self.at >= len(self.text)


def _elements(buffer: _Buffer, faults: FaultList) -> Iterator[Row]:
    """The elements of the array that was just opened, each with the line on which it begins."""
    num_elements = 0
    while True:
        buffer.skip(_SKIPPED)
        buffer.count_lines()
        if buffer.at_end:
            if not faults.count:
                fix = "write the file again; it is cut off"
                faults.add(buffer.line, "the array is not closed", expected="a ] at its end", fix=fix, raw="")
            return
        if buffer.text[buffer.at] == "]":
            break
        value, end = _element(buffer, faults)
        if value is _BROKEN:
            return
        num_elements += 1
        length, text = end - buffer.at, buffer.text
        if length > MAX_ROW_BYTES:
            add_too_long(faults, buffer.line, length)
        elif isinstance(value, dict):
            yield Row(buffer.line, value, not _HALVES.search(text, buffer.at, end))
        else:
            yield from _row(buffer.line, value, faults)
        buffer.at = end
    if num_elements == 0:
        faults.add(0, "the array is empty", expected="at least one row")


def _element(buffer: _Buffer, faults: FaultList) -> tuple[Any, int]:
    """The element at the buffer's place and where it ends; reads on until it is whole."""
    while True:
        try:
            value, end = _DECODER.raw_decode(buffer.text, buffer.at)
            if end < len(buffer.text) or isinstance(value, dict) or not buffer.more():
                return value, end
        except (ValueError, RecursionError) as error:
            pending = len(buffer.text) - buffer.at
            if pending > MAX_PENDING:
                add_too_long(faults, buffer.line, pending)
                return _BROKEN, 0
            if not _may_be_cut(error, buffer.text) or not buffer.more():
                _add_json_fault(_moved(error, buffer.at), buffer.text[buffer.at :], buffer.line, faults)
                return _BROKEN, 0


def _may_be_cut(error: ValueError | RecursionError, text: str) -> bool:
    """Whether the text may only have been too short to parse: the error is an open text or lies near its end."""
    if not isinstance(error, json.JSONDecodeError):
        return False
    return error.msg.startswith(("Unterminated", "Invalid \\")) or error.pos >= len(text) - 20


def _moved(error: ValueError | RecursionError, start: int) -> ValueError | RecursionError:
    """The same error in the text from `start` on."""
    if not isinstance(error, json.JSONDecodeError):
        return error
    return json.JSONDecodeError(error.msg, error.doc[start:], error.pos - start)


def _is_jsonl(path: Path) -> bool:
    """Whether the first line is an object of its own, and another line follows."""
    filled = (line for _, line in text_lines(path, FaultList(path)) if line.strip())
    first = next(filled, "")
    try:
        return isinstance(_DECODER.decode(first), dict) and next(filled, None) is not None
    except (ValueError, RecursionError):
        return False


def _object(buffer: _Buffer, faults: FaultList) -> Iterator[Row]:
    """An object around the rows, or one that is itself the only row."""
    if not buffer.read_all(MAX_OBJECT_CHARS):
        value = f"{MAX_OBJECT_CHARS / 1e6:.0f} MB and more"
        expected = "one object a line, or one array of objects"
        faults.add(0, "one object around all the rows is too large to read", value=value, expected=expected, raw="")
        return
    if faults.count:
        return
    text = buffer.text
    value = _parsed(text, buffer.line, faults)
    if value is _BROKEN:
        return
    names = [key for key, rows in value.items() if isinstance(rows, list)] if isinstance(value, dict) else []
    if names and names[0] in ONE_ROW:
        yield Row(1, value)
        return
    place = _array_of(names[0], text) if len(names) == 1 else None
    if place is None:
        shown = list(value) if isinstance(value, dict) else value
        faults.add(0, "not an array of rows", value=short(shown), expected="[{...}, {...}], or one object a line")
        return
    buffer.at = place.end()
    yield from _elements(buffer, faults)


def _array_of(name: str, text: str) -> re.Match[str] | None:
    spellings = "|".join(re.escape(json.dumps(name, ensure_ascii=ascii)) for ascii in (True, False))
    return re.search(rf"(?:{spellings})\s*:\s*\[", text)
