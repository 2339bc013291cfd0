"""Samples of data files as a stream: checked row by row, in memory that does not grow with the file."""

# SPDX-License-Identifier: Apache-2.0
#
# for sample in stream_samples("big.jsonl"): ...           # raises DataError at the end if rows were faulty
# with RejectedRows("rejected.jsonl") as rejected:
#     for sample in stream_samples("big.jsonl", rejected=rejected): ...   # faulty rows are put aside instead
#
# Ids are not made unique across the file: that would need all of them in memory. `read_samples` does it.
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from foretune.data.content import Content, row_content
from foretune.data.dialect import KNOWN_FORMS, LOOKED_AT, PREFERENCES, Dialect, recognise
from foretune.data.faults import FaultList, RejectedRows, fault_error, short
from foretune.data.files import DataFile, find_files
from foretune.data.row import Row
from foretune.data.rows import read_rows
from foretune.data.samples import Message, Sample
from foretune.errors import DataError

__all__ = ["EMPTY_SHARE", "FieldNames", "FileStream", "raise_faults", "stream_samples"]

EMPTY_SHARE = 0.01  # a larger share of empty answers is a fault of the file, a smaller one is left out with a warning
SHOWN_PLACES = 5
KEPT_EMPTY = 10_000  # places of empty answers that are remembered
TOKENISED = ("input_ids", "labels")


@dataclass(frozen=True, slots=True)
class FieldNames:
    """What the job says about the rows: their task, a system message for all, and names of fields."""

    task: str = "auto"
    system: str = ""
    input_field: str = ""
    target_field: str = ""
    group_field: str = ""


class _Empty(NamedTuple):
    """A row whose answer is empty."""

    line: int
    which: str


class FileStream:
    """The samples of one file, read once; afterwards it tells what was found.

    `num_rows` counts rows that could be parsed, `faults` holds what was wrong. With `rejected`, faulty rows and rows
    with an empty answer are put aside there, and reading goes on.
    """

    def __init__(
        self, file: DataFile, fields: FieldNames, *, max_rows: int = 0, rejected: RejectedRows | None = None
    ) -> None:
        self.file = file
        self.fields = fields
        self.faults = FaultList(file.path, rejected)
        self.dialect: Dialect | None = None
        self.num_rows = 0
        self.num_empty = 0
        self._max_rows = max_rows
        self._rejects = rejected is not None
        self._empty: list[_Empty] = []

    @property
    def format(self) -> str:
        """What was recognised, as it is told to the user: `jsonl: messages`."""
        return f"{self.file.kind}: {self.dialect.shown}" if self.dialect else self.file.kind

    def samples(self) -> Iterator[Sample]:
        """The good rows in order. Raises MissingDependency."""
        rows = read_rows(self.file, self.faults, max_rows=self._max_rows)
        head = list(
            read_rows(self.file, FaultList(self.file.path), max_rows=min(self._max_rows or LOOKED_AT, LOOKED_AT))
        )
        if head:
            self.dialect = _dialect(head, _fields_of(self.file, self.fields), self.faults)
        if self.dialect is None:
            self._find_no_rows(rows, head)
            return
        yield from self._good(rows, self.dialect)
        if not self._rejects:
            self._settle_empty()

    def _find_no_rows(self, rows: Iterator[Row], head: Sequence[Row]) -> None:
        """Note what is wrong with a file none of whose rows can be used."""
        if head:
            return
        self.num_rows = sum(1 for _ in rows)
        if not self.faults.count:
            self.faults.add(0, "the file has no rows", expected="at least one row", raw="")

    def _good(self, rows: Iterator[Row], dialect: Dialect) -> Iterator[Sample]:
        path, fields, faults = self.file.path, self.fields, self.faults
        name, stem, has_group = path.name, path.stem, bool(fields.group_field)
        for row in rows:
            self.num_rows += 1
            content = row_content(row, dialect, faults)
            group = _group(row, fields.group_field, faults) if has_group else ""
            if content is None or (has_group and not group):
                continue
            if not content.is_filled:
                which = _blank_answer(content.messages) or _blank_answer(content.rejected)
                if which:
                    self._add_empty(row, which)
                    continue
            yield _sample(row, content, group, fields, name, stem)

    def _add_empty(self, row: Row, which: str) -> None:
        """An empty answer: put aside, or remembered until their share of the file is known."""
        self.num_empty += 1
        if self._rejects:
            self._add_empty_fault(row.line, which)
        elif len(self._empty) < KEPT_EMPTY:
            self._empty.append(_Empty(row.line, which))

    def _add_empty_fault(self, line: int, which: str) -> None:
        fix = "write the answer that is to be learned, or take the row out"
        self.faults.add(line, f"the answer is empty ({which})", value="''", expected="text", fix=fix)

    def _settle_empty(self) -> None:
        """A few empty answers among many rows are left out; more of them are faults."""
        if self.num_empty > EMPTY_SHARE * self.num_rows:
            for line, which in self._empty:
                self._add_empty_fault(line, which)
            self.faults.count += self.num_empty - len(self._empty)
            self._empty = []

    @property
    def warnings(self) -> list[str]:
        """What was left out without being a fault, once the file is read."""
        if not self._empty:
            return []
        name = self.file.path.name
        places = ", ".join(f"{name}:{line}" for line, _ in self._empty[:SHOWN_PLACES])
        more = ", ..." if self.num_empty > SHOWN_PLACES else ""
        return [
            f"{self.num_empty} of {self.num_rows} rows have an empty answer and are left out: {places}{more}",
        ]


def stream_samples(
    path: str | Path,
    *,
    task: str = "auto",
    system: str = "",
    input_field: str = "",
    target_field: str = "",
    group_field: str = "",
    max_rows: int = 0,
    rejected: RejectedRows | None = None,
) -> Iterator[Sample]:
    """The samples of a file or folder one by one, with the options of `read_samples`; `max_rows` is of each file.

    Without `rejected` faults are raised as one DataError behind the last good sample; with it they are written there.
    Raises NotFound, MissingDependency, and DataError also where no row at all is good.
    """
    fields = FieldNames(task, system, input_field, target_field, group_field)
    streams: list[FileStream] = []
    num_good = 0
    for file in find_files(Path(path)):
        stream = FileStream(file, fields, max_rows=max_rows, rejected=rejected)
        streams.append(stream)
        for sample in stream.samples():
            num_good += 1
            yield sample
    raise_faults(streams, str(path), num_good=num_good, is_rejecting=rejected is not None)


def raise_faults(streams: Sequence[FileStream], what: str, *, num_good: int, is_rejecting: bool) -> None:
    """Raise DataError for the faults of files that were read; where they are put aside, only if nothing is good."""
    count = sum(stream.faults.count for stream in streams)
    if count and (not is_rejecting or not num_good):
        faults = [fault for stream in streams for fault in stream.faults.faults]
        error = fault_error(faults, what, count=count)
        if num_good:
            error.fix += '; or go on with the good rows: data.advanced.on_fault = "reject", --rejected FILE'
        raise error
    if not num_good:
        raise DataError(f"no samples in {what}", fix="add rows that have an answer")


def _fields_of(file: DataFile, fields: FieldNames) -> FieldNames:
    """Files of bare text have no names that the job could name."""
    if file.kind not in ("text", "pair"):
        return fields
    task = "text" if file.kind == "text" and fields.task == "auto" else fields.task
    return replace(fields, input_field="", target_field="", task=task)


def _dialect(rows: Sequence[Row], fields: FieldNames, faults: FaultList) -> Dialect | None:
    found = recognise(rows, task=fields.task, input_field=fields.input_field, target_field=fields.target_field)
    form = found.form if found else ""
    if found is None or (form == "text" and fields.task not in ("auto", "any", "text")):
        _add_unknown(rows, fields, found, faults)
        return None
    is_preference = form in PREFERENCES or bool(found.flag_field)
    if is_preference and fields.task not in ("preference", "any"):
        value = short(list(rows[0].fields))
        fix = 'set data.task = "preference", or keep the better answers: foretune data convert --keep-better'
        faults.add(rows[0].line, f"{found.shown}, where answers to learn are expected", value=value, fix=fix, raw="")
        return None
    if fields.task == "preference" and not is_preference:
        expected = "chosen + rejected, or true/false for each answer"
        faults.add(rows[0].line, f"{found.shown}, where preferences are expected", expected=expected, raw="")
        return None
    return found


def _add_unknown(rows: Sequence[Row], fields: FieldNames, found: Dialect | None, faults: FaultList) -> None:
    """Say that the form of a file is not known, or that raw text was found where answers are needed."""
    keys = short(list(rows[0].fields))
    what = "raw text has no answers to learn" if found else "the form of the rows is not known"
    fix = "name the fields: data.input_field and data.target_field"
    if all(name in rows[0].fields for name in TOKENISED):
        what, fix = "the rows are tokenised already", "give the texts; foretune makes tokens and loss mask itself"
    elif found is not None:
        fix = 'set data.task = "text" to learn from raw text'
    elif fields.task == "text":
        fix = "name the field with the text: data.input_field"
    faults.add(rows[0].line, what, value=keys, expected=KNOWN_FORMS, fix=fix, raw="")


def _sample(row: Row, content: Content, group: str, fields: FieldNames, name: str, stem: str) -> Sample:
    messages, used, source = content.messages, content.used, row.fields
    rest: dict[str, Any] = {}
    if not used.issuperset(source):
        for key, value in source.items():
            if key not in used and key != "id" and key != fields.group_field and value is not None and value != "":
                rest[key] = value if isinstance(value, (str, int, float, bool)) else _plain(value)
    if content.meta:
        rest |= content.meta
    if fields.system and messages and messages[0].role != "system":
        messages = (Message("system", fields.system), *messages)
    own = source.get("id")
    ident = str(own) if isinstance(own, (str, int)) and own != "" else f"{stem}-{row.line}"
    place = f"{name}:{row.line}"
    if not content.tools and not content.rejected and content.desirable is None:
        return Sample(ident, messages, content.text, group, place, rest)
    rejected = content.rejected
    if fields.system and rejected and rejected[0].role != "system":
        rejected = (Message("system", fields.system), *rejected)
    return Sample(ident, messages, content.text, group, place, rest, content.tools, rejected, content.desirable)


def _plain(value: Any) -> Any:
    """Only JSON values; what Parquet brings beyond them (dates, bytes) as text."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)


def _group(row: Row, name: str, faults: FaultList) -> str:
    if row.fields.get(name) in (None, ""):
        fix = "fill it in, or clear data.group_field"
        faults.add(row.line, f"no group: field `{name}` is missing or empty", value=short(list(row.fields)), fix=fix)
        return ""
    return str(row.fields[name])


def _blank_answer(messages: Sequence[Message]) -> str:
    """Which answer is empty, or ""."""
    for number, message in enumerate(messages, start=1):
        if message.role == "assistant" and not message.content.strip() and not message.tool_calls:
            return f"message {number}"
    return ""
