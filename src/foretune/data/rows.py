"""Rows of a data file, whatever its format: the line they begin on and their fields by name."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from foretune.data.faults import FaultList, short
from foretune.data.files import MAX_ROW_BYTES, DataFile, add_too_long, text_lines
from foretune.errors import MissingDependency

__all__ = ["LABELLED", "Row", "read_rows"]

LABELLED = ("text", "label")  # fields of a pair of text and label files
DELIMITERS = ",\t;|"
MIN_PARAGRAPHS = 10  # a text with fewer blank-line paragraphs and many lines is read line by line


class Row(NamedTuple):
    """One row: `line` is where it begins in the file (for Parquet, the row number); raw text has a field `text`."""

    line: int
    fields: dict[str, Any]


def read_rows(file: DataFile, faults: FaultList, *, max_rows: int = 0) -> Iterator[Row]:
    """Rows of a file in order, at most `max_rows` (0 = all); what is no row becomes a fault.

    Raises MissingDependency for Parquet without pyarrow.
    """
    readers = {"jsonl": _jsonl, "json": _json, "csv": _csv, "parquet": _parquet, "text": _text}
    rows = _pair(file, faults) if file.kind == "pair" else readers[file.kind](file.path, faults)
    return itertools.islice(rows, max_rows) if max_rows else rows


def _jsonl(path: Path, faults: FaultList) -> Iterator[Row]:
    for number, line in text_lines(path, faults):
        if not line.strip():
            continue
        if number == 1 and line.lstrip().startswith("["):
            yield from _json(path, faults)
            return
        value = _parsed(line, number, faults)
        if value is not _BROKEN:
            yield from _row(number, value, faults)


def _row(line: int, value: Any, faults: FaultList) -> Iterator[Row]:
    if isinstance(value, dict):
        yield Row(line, value)
    else:
        faults.add(line, "not a JSON object", value=short(value), expected='an object such as {"messages": [...]}')


_BROKEN = object()


def _parsed(text: str, line: int, faults: FaultList) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        _add_json_fault(error, text, line, faults)
    return _BROKEN


def _add_json_fault(error: json.JSONDecodeError | RecursionError, text: str, line: int, faults: FaultList) -> None:
    if isinstance(error, RecursionError):
        faults.add(line, "the JSON is nested too deeply", fix="take this row out")
        return
    value = short(text[max(error.pos - 20, 0) : error.pos + 20])
    fix = "one JSON object a line; keys and texts in double quotes, line breaks inside a text as \\n"
    is_one_line = "\n" not in text.strip()
    where = f"at column {error.colno}" if is_one_line else f"at line {error.lineno}"
    faults.add(line if is_one_line else error.lineno, f"not valid JSON {where}: {error.msg}", value=value, fix=fix)


def _json(path: Path, faults: FaultList) -> Iterator[Row]:
    """A JSON array of objects, or an object that holds one (`{"data": [...]}`), or JSONL under the wrong name."""
    before = len(faults.faults)
    lines = [line for _, line in text_lines(path, faults, keep_ends=True, max_bytes=0)]
    if len(faults.faults) > before or not lines:
        return
    text = "".join(lines)
    if text.lstrip().startswith("["):
        yield from _elements(text, text.index("["), faults)
    elif len(lines) > 1 and _is_object(lines[0]):
        yield from _jsonl(path, faults)
    else:
        yield from _inner_array(text, faults)


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _inner_array(text: str, faults: FaultList) -> Iterator[Row]:
    value = _parsed(text, 0, faults)
    if value is _BROKEN:
        return
    names = [key for key, rows in value.items() if isinstance(rows, list)] if isinstance(value, dict) else []
    place = re.search(re.escape(json.dumps(names[0])) + r"\s*:\s*\[", text) if len(names) == 1 else None
    if place is None:
        shown = list(value) if isinstance(value, dict) else value
        faults.add(0, "not an array of rows", value=short(shown), expected="[{...}, {...}], or one object a line")
        return
    yield from _elements(text, place.end() - 1, faults)


def _elements(text: str, start: int, faults: FaultList) -> Iterator[Row]:
    """The elements of the array that opens at `start`, each with the line on which it begins."""
    decoder = json.JSONDecoder()
    position, line, counted, num_elements = start + 1, 1, 0, 0
    while True:
        begin = _SKIPPED.match(text, position).end()  # type: ignore[union-attr]
        line += text.count("\n", counted, begin)
        counted = begin
        if text[begin : begin + 1] == "]":
            break
        try:
            value, position = decoder.raw_decode(text, begin)
        except (json.JSONDecodeError, RecursionError) as error:
            _add_json_fault(error, text, line, faults)
            return
        num_elements += 1
        if position - begin > MAX_ROW_BYTES:
            add_too_long(faults, line, position - begin)
        else:
            yield from _row(line, value, faults)
    if num_elements == 0:
        faults.add(0, "the array is empty", expected="at least one row")


_SKIPPED = re.compile(r"[ \t\r\n,]*")


class _Lines:
    """Lines for the CSV reader that remember on which line of the file the current row began."""

    def __init__(self, lines: Iterator[tuple[int, str]]) -> None:
        self._lines = lines
        self.first = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        number, text = next(self._lines)
        self.first = self.first or number
        return text


def _csv(path: Path, faults: FaultList) -> Iterator[Row]:
    csv.field_size_limit(MAX_ROW_BYTES)
    head = next(text_lines(path, FaultList(path)), (1, ""))[1]
    lines = _Lines(text_lines(path, faults, keep_ends=True))
    reader = csv.reader(lines, delimiter=_delimiter(path, head), strict=True)
    header: list[str] = []
    while True:
        lines.first = 0
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            fix = 'a quoted field must end in " before the next delimiter; double a " inside it'
            faults.add(lines.first, f"not valid CSV: {error}", fix=fix)
            continue
        if not header:
            header = [name.strip() for name in values]
            if not _is_header(header, lines.first, faults):
                return
        elif len(values) == len(header):
            yield Row(lines.first, dict(zip(header, values, strict=True)))
        elif values:
            expected = f"{len(header)} ({', '.join(header)})"
            faults.add(lines.first, "wrong number of columns", value=str(len(values)), expected=expected)


def _is_header(header: list[str], line: int, faults: FaultList) -> bool:
    is_good = len(set(header)) == len(header) and "" not in header
    if not is_good:
        fix = "begin the file with a line that names each column once"
        faults.add(line, "column names are missing or repeated", value=short(header), fix=fix)
    return is_good


def _delimiter(path: Path, head: str) -> str:
    """Tab for .tsv, else whichever of , tab ; | stands most often in the header."""
    if ".tsv" in path.suffixes:
        return "\t"
    return max(DELIMITERS, key=head.count)


def _parquet(path: Path, faults: FaultList) -> Iterator[Row]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingDependency(f"{path}: reading Parquet needs pyarrow", fix="pip install pyarrow") from None
    if path.stat().st_size == 0:
        faults.add(0, "the file is empty", expected="at least one row")
        return
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                for values in batch.to_pylist():
                    number += 1
                    yield Row(number, values)
    except (pyarrow.ArrowException, OSError) as error:
        faults.add(
            number, f"not valid Parquet: {str(error).splitlines()[0]}", fix=f"download or write {path.name} again"
        )
    if number == 0 and not faults.faults:
        faults.add(0, "the file has no rows", expected="at least one row")


def _text(path: Path, faults: FaultList) -> Iterator[Row]:
    """Documents parted by blank lines; a file that has hardly any blank lines holds one document a line."""
    lines = list(text_lines(path, faults))
    paragraphs: list[Row] = []
    current: list[str] = []
    start = 0
    for number, line in [*lines, (0, "")]:
        if line.strip():
            start = start if current else number
            current.append(line)
        elif current:
            paragraphs.append(Row(start, {"text": "\n".join(current)}))
            current = []
    filled = [Row(number, {"text": line}) for number, line in lines if line.strip()]
    if lines and not filled:
        faults.add(0, "the file holds only white space", expected="text")
    yield from filled if len(paragraphs) < MIN_PARAGRAPHS <= len(filled) // MIN_PARAGRAPHS else paragraphs


def _pair(file: DataFile, faults: FaultList) -> Iterator[Row]:
    """`x_text.txt` and `x_labels.txt` line by line; `mapping.txt` beside them names the classes."""
    if file.labels is None or not file.path.exists():
        faults.add(0, f"{file.path.name} is missing", fix=f"put {file.path.name} beside {file.labels}")
        return
    names = _label_names(file.labels.with_name("mapping.txt"), faults)
    label_faults = FaultList(file.labels)
    texts = list(text_lines(file.path, faults))
    labels = [(number, line.strip()) for number, line in text_lines(file.labels, label_faults)]
    faults.faults += label_faults.faults
    if faults.faults:
        return
    if len(texts) != len(labels):
        faults.add(0, f"{len(texts)} texts", expected=f"as many as the {len(labels)} labels in {file.labels.name}")
        return
    for (number, text), (_, label) in zip(texts, labels, strict=True):
        if names and label not in names:
            label_faults.add(number, "unknown label", value=short(label), expected=", ".join(names))
            continue
        yield Row(number, dict(zip(LABELLED, (text.strip(), names.get(label, label)), strict=True)))
    faults.faults += label_faults.faults


def _label_names(path: Path, faults: FaultList) -> dict[str, str]:
    """`mapping.txt`: number, tab, name of the class, a line each; {} where there is none."""
    if not path.exists():
        return {}
    pairs = (line.split("\t", 1) for _, line in text_lines(path, faults) if line.strip())
    return {pair[0].strip(): pair[1].strip() for pair in pairs if len(pair) == 2}
