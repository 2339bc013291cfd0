"""Rows of a data file, whatever its format: the line they begin on and their fields by name, read as a stream."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import importlib
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from foretune.data.faults import FaultList, short
from foretune.data.files import MAX_ROW_BYTES, DataFile, text_lines
from foretune.data.json_rows import json_rows, jsonl_rows
from foretune.data.row import Row
from foretune.errors import MissingDependency

__all__ = ["LABELLED", "Row", "read_rows"]

LABELLED = ("text", "label")  # fields of a pair of text and label files
DELIMITERS = ",\t;|"
MIN_PARAGRAPHS = 10  # a text with fewer blank-line paragraphs and many lines is read line by line
LINES_LOOKED_AT = 20_000  # that decide whether a text is read by lines or by paragraphs
MAX_RETRIES = 100  # open quotes in a CSV file whose following lines are read anew
PARQUET_BATCH = 1024  # rows


def read_rows(file: DataFile, faults: FaultList, *, max_rows: int = 0) -> Iterator[Row]:
    """Rows of a file in order, at most `max_rows` (0 = all); what is no row becomes a fault.

    Memory does not grow with the file. Raises MissingDependency for Parquet without pyarrow.
    """
    readers = {"jsonl": jsonl_rows, "json": json_rows, "csv": _csv, "parquet": _parquet, "text": _text}
    rows = _pair(file, faults) if file.kind == "pair" else readers[file.kind](file.path, faults)
    return itertools.islice(rows, max_rows) if max_rows else rows


class _Lines:
    """Lines for the CSV reader that remember where the current row began, and can be given back."""

    def __init__(self, lines: Iterator[tuple[int, str]]) -> None:
        self._lines = lines
        self.current: list[tuple[int, str]] = []

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.current.append(line)
        return line[1]

    @property
    def first(self) -> int:
        """The line on which the current row began; 0 before the first."""
        return self.current[0][0] if self.current else 0

    def give_back(self) -> None:
        """Let all lines of the current row but its first be read anew."""
        self._lines = itertools.chain(self.current[1:], self._lines)


def _csv(path: Path, faults: FaultList) -> Iterator[Row]:
    csv.field_size_limit(MAX_ROW_BYTES)
    head = next(text_lines(path, FaultList(path)), (1, ""))[1]
    lines = _Lines(text_lines(path, faults, keep_ends=True))
    reader = csv.reader(lines, delimiter=_delimiter(path, head), strict=True)
    header: list[str] = []
    num_retries = 0
    while True:
        lines.current = []
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            _add_csv_fault(lines, error, faults)
            num_retries += 1
            if num_retries <= MAX_RETRIES:
                lines.give_back()
            continue
        if not header:
            header = [name.strip() for name in values]
            if not _is_header(header, lines.first, faults):
                return
        elif len(values) == len(header):
            yield Row(lines.first, dict(zip(header, values, strict=True)), True)
        elif values:
            expected = f"{len(header)} ({', '.join(header)})"
            raw = lines.current[0][1].rstrip("\r\n")
            faults.add(lines.first, "wrong number of columns", value=str(len(values)), expected=expected, raw=raw)


def _add_csv_fault(lines: _Lines, error: csv.Error, faults: FaultList) -> None:
    fix = 'a quoted field must end in " before the next delimiter; double a " inside it'
    raw = lines.current[0][1].rstrip("\r\n") if lines.current else ""
    faults.add(lines.first, f"not valid CSV: {error}", fix=fix, raw=raw)


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
    pyarrow, parquet = _pyarrow(path)
    if path.stat().st_size == 0:
        faults.add(0, "the file is empty", expected="at least one row")
        return
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=PARQUET_BATCH):
                for values in _batch_rows(batch, number, faults):
                    number += 1
                    if values is not None:
                        yield Row(number, values, True)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        what = f"not valid Parquet: {str(error).splitlines()[0]}"
        faults.add(number, what, fix=f"download or write {path.name} again", raw="")
    if number == 0 and not faults.count:
        faults.add(0, "the file has no rows", expected="at least one row")


def _pyarrow(path: Path) -> tuple[Any, Any]:
    """The one door to pyarrow for reading."""
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise MissingDependency(f"{path}: reading Parquet needs pyarrow", fix="pip install pyarrow") from None


def _batch_rows(batch: Any, number: int, faults: FaultList) -> Iterable[dict[str, Any] | None]:
    """The rows of a batch as Python values; None for one that cannot be turned into them."""
    try:
        rows: list[dict[str, Any] | None] = batch.to_pylist()
        return rows
    except (ValueError, OverflowError):
        return [_one_row(batch, index, number + index + 1, faults) for index in range(batch.num_rows)]


def _one_row(batch: Any, index: int, line: int, faults: FaultList) -> dict[str, Any] | None:
    try:
        row: dict[str, Any] = batch.slice(index, 1).to_pylist()[0]
        return row
    except (ValueError, OverflowError) as error:
        faults.add(line, f"a value cannot be read: {str(error).splitlines()[0]}", fix="take the row out", raw="")
    return None


def _text(path: Path, faults: FaultList) -> Iterator[Row]:
    """Documents parted by blank lines; a file that has hardly any blank lines holds one document a line."""
    lines = text_lines(path, faults)
    head = list(itertools.islice(lines, LINES_LOOKED_AT))
    num_filled = sum(bool(line.strip()) for _, line in head)
    num_paragraphs = sum(1 for _ in _paragraphs(head))
    if head and not num_filled:
        faults.add(0, "the file holds only white space", expected="text")
    by_line = num_paragraphs < MIN_PARAGRAPHS <= num_filled // MIN_PARAGRAPHS
    everything = itertools.chain(head, lines)
    if by_line:
        yield from (Row(number, {"text": line}, True) for number, line in everything if line.strip())
    else:
        yield from _paragraphs(everything)


def _paragraphs(lines: Iterable[tuple[int, str]]) -> Iterator[Row]:
    current: list[str] = []
    start, num_chars = 0, 0
    for number, line in itertools.chain(lines, [(0, "")]):
        if line.strip() and num_chars <= MAX_ROW_BYTES:
            start = start if current else number
            current.append(line)
            num_chars += len(line)
        elif current:
            yield Row(start, {"text": "\n".join(current)}, True)
            current, start, num_chars = ([line], number, len(line)) if line.strip() else ([], 0, 0)


def _pair(file: DataFile, faults: FaultList) -> Iterator[Row]:
    """`x_text.txt` and `x_labels.txt` line by line; `mapping.txt` beside them names the classes."""
    if file.labels is None or not file.path.exists():
        faults.add(0, f"{file.path.name} is missing", fix=f"put {file.path.name} beside {file.labels}")
        return
    names = _label_names(file.labels.with_name("mapping.txt"), faults)
    label_faults = faults.beside(file.labels)
    num_texts = sum(1 for _ in text_lines(file.path, faults))
    num_labels = sum(1 for _ in text_lines(file.labels, label_faults))
    if faults.count or label_faults.count:
        faults.extend(label_faults)
        return
    if num_texts != num_labels:
        faults.add(0, f"{num_texts} texts", expected=f"as many as the {num_labels} labels in {file.labels.name}")
        return
    texts, labels = text_lines(file.path, faults), text_lines(file.labels, label_faults)
    for (number, text), (_, line) in zip(texts, labels, strict=True):
        label = line.strip()
        if names and label not in names:
            label_faults.add(number, "unknown label", value=short(label), expected=", ".join(names), raw=line)
            continue
        yield Row(number, dict(zip(LABELLED, (text.strip(), names.get(label, label)), strict=True)), True)
    faults.extend(label_faults)


def _label_names(path: Path, faults: FaultList) -> dict[str, str]:
    """`mapping.txt`: number, tab, name of the class, a line each; {} where there is none."""
    if not path.exists():
        return {}
    pairs = (line.split("\t", 1) for _, line in text_lines(path, faults) if line.strip())
    return {pair[0].strip(): pair[1].strip() for pair in pairs if len(pair) == 2}
