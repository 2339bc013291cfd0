"""Read samples from files of any known format, and report every fault of a file at once."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from foretune.data.dialect import KNOWN_FORMS, Content, Dialect, recognise, row_content
from foretune.data.faults import FaultList, fault_error, short
from foretune.data.files import DataFile, file_hash, find_files
from foretune.data.rows import Row, read_rows
from foretune.data.samples import Message, Sample
from foretune.errors import DataError, Fault

__all__ = ["ReadData", "SourceFile", "read_files", "read_samples", "task_of"]

EMPTY_SHARE = 0.01  # a larger share of empty answers is a fault of the file, a smaller one is left out with a warning
MAX_CLASSES = 100
MIN_PER_CLASS = 5
MAX_LABEL_CHARS = 40
SHOWN_PLACES = 5


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file that was read."""

    path: Path
    sha256: str
    format: str
    num_rows: int


@dataclass(frozen=True, slots=True)
class ReadData:
    """Samples in the order of the files; `format` says what was recognised, `task` is chat, classify or text.

    `num_rows` counts all rows read, also those left out (each named in `warnings`).
    """

    samples: list[Sample]
    format: str
    num_rows: int
    warnings: tuple[str, ...]
    task: str
    sources: tuple[SourceFile, ...]


@dataclass(frozen=True, slots=True)
class _Fields:
    """Which fields the job names."""

    task: str
    system: str
    input_field: str
    target_field: str
    group_field: str


def read_samples(
    path: str | Path,
    *,
    task: str = "auto",
    system: str = "",
    input_field: str = "",
    target_field: str = "",
    group_field: str = "",
    max_rows: int = 0,
) -> ReadData:
    """Samples of a file, or of every data file in a folder.

    Formats: OpenAI messages, prompt/completion and its like, Alpaca, ShareGPT, text with a label, raw text; as JSONL,
    JSON, CSV, TSV, Parquet, plain text, or TweetEval's `*_text.txt` with `*_labels.txt`; `.gz` of the text formats.
    `system` is put before samples that have no system message. Raises NotFound, MissingDependency, or DataError with
    every fault of every file.
    """
    return read_files(
        find_files(Path(path)),
        task=task,
        system=system,
        input_field=input_field,
        target_field=target_field,
        group_field=group_field,
        max_rows=max_rows,
    )


def read_files(
    files: Sequence[DataFile],
    *,
    task: str = "auto",
    system: str = "",
    input_field: str = "",
    target_field: str = "",
    group_field: str = "",
    max_rows: int = 0,
) -> ReadData:
    """As `read_samples`, of files that `find_files` named."""
    fields = _Fields(task, system, input_field, target_field, group_field)
    samples: list[Sample] = []
    faults: list[Fault] = []
    warnings: list[str] = []
    sources: list[SourceFile] = []
    for file in files:
        left = max_rows - sum(source.num_rows for source in sources) if max_rows else 0
        if max_rows and left <= 0:
            break
        if file.labels is not None and not file.path.exists() and len(files) > 1:
            warnings.append(f"{file.labels.name} is left out: there is no {file.path.name} beside it")
            continue
        found = FaultList(file.path)
        samples += _file_samples(file, fields, left, found, warnings, sources)
        faults += found.faults
    if faults:
        raise fault_error(faults, str(files[0].path if len(files) == 1 else files[0].path.parent))
    samples = _with_unique_ids(samples, warnings)
    resolved = _resolved_task(samples, sources, task)
    shown = ", ".join(dict.fromkeys(source.format for source in sources))
    return ReadData(samples, shown, sum(s.num_rows for s in sources), tuple(warnings), resolved, tuple(sources))


def _file_samples(
    file: DataFile, fields: _Fields, max_rows: int, faults: FaultList, warnings: list[str], sources: list[SourceFile]
) -> list[Sample]:
    rows = list(read_rows(file, faults, max_rows=max_rows))
    if not rows:
        if not faults.faults:
            faults.add(0, "the file has no rows", expected="at least one row")
        return []
    task = "text" if file.kind == "text" else fields.task
    names = ("", "") if file.kind in ("text", "pair") else (fields.input_field, fields.target_field)
    dialect = recognise(rows, task=task, input_field=names[0], target_field=names[1])
    if dialect is None or (fields.task == "chat" and dialect.form == "text"):
        _add_unknown_form(rows, fields, dialect, faults)
        return []
    sources.append(SourceFile(file.path, file_hash(file.path), f"{file.kind}: {dialect.shown}", len(rows)))
    return _samples(file.path, rows, dialect, fields, faults, warnings)


def _add_unknown_form(rows: Sequence[Row], fields: _Fields, dialect: Dialect | None, faults: FaultList) -> None:
    keys = short(list(rows[0].fields), 200)
    if {"chosen", "rejected"} <= set(rows[0].fields):
        faults.add(rows[0].line, "preference pairs cannot be trained on", value=keys, expected=KNOWN_FORMS)
        return
    what = "raw text has no answers" if dialect is not None else "the form of the rows is not known"
    fix = "name the fields: data.input_field and data.target_field"
    if dialect is not None:
        fix = 'set data.task = "text" to learn from raw text'
    elif fields.task == "text":
        fix = "name the field with the text: data.input_field"
    faults.add(rows[0].line, what, value=keys, expected=KNOWN_FORMS, fix=fix)


def _samples(
    path: Path, rows: Sequence[Row], dialect: Dialect, fields: _Fields, faults: FaultList, warnings: list[str]
) -> list[Sample]:
    samples: list[Sample] = []
    empty: list[tuple[int, str]] = []
    num_ignored_weights = 0
    for row in rows:
        content = row_content(row, dialect, faults)
        group = _group(row, fields.group_field, faults)
        if content is None:
            continue
        blank = _blank_answer(content)
        if blank:
            empty.append((row.line, blank))
            continue
        num_ignored_weights += _has_zero_weight(row, dialect)
        samples.append(_sample(path, row, content, group, fields))
    _settle_empty(empty, len(rows), path, faults, warnings)
    if num_ignored_weights:
        warnings.append(f"{path.name}: `weight: 0` is not supported; {num_ignored_weights} such answers carry loss")
    return samples


def _sample(path: Path, row: Row, content: Content, group: str, fields: _Fields) -> Sample:
    used = {*content.used, "id", fields.group_field}
    rest = {key: value for key, value in row.fields.items() if key not in used and value not in (None, "")}
    messages = content.messages
    if fields.system and messages and messages[0].role != "system":
        messages = (Message("system", fields.system), *messages)
    own = row.fields.get("id")
    name = str(own) if isinstance(own, str | int) and str(own) else f"{path.stem}-{row.line}"
    meta = {**rest, **content.meta}
    return Sample(name, messages, content.text, group, f"{path.name}:{row.line}", _plain(meta))


def _plain(meta: dict[str, Any]) -> dict[str, Any]:
    """Only JSON values; what Parquet brings beyond them (dates, bytes) as text."""
    plain = (str, int, float, bool, list, dict)
    return {key: value if isinstance(value, plain) else str(value) for key, value in meta.items()}


def _group(row: Row, name: str, faults: FaultList) -> str:
    if not name:
        return ""
    if row.fields.get(name) in (None, ""):
        fix = "fill it in, or clear data.group_field"
        faults.add(row.line, f"no group: field `{name}` is missing or empty", value=short(list(row.fields)), fix=fix)
        return ""
    return str(row.fields[name])


def _blank_answer(content: Content) -> str:
    """Which answer is empty, or ""."""
    blanks = (i for i, m in enumerate(content.messages, start=1) if m.role == "assistant" and not m.content.strip())
    first = next(blanks, 0)
    return f"message {first}" if first else ""


def _has_zero_weight(row: Row, dialect: Dialect) -> bool:
    if dialect.form != "messages":
        return False
    return any(isinstance(message, dict) and message.get("weight") == 0 for message in row.fields[dialect.input_field])


def _settle_empty(
    empty: Sequence[tuple[int, str]], num_rows: int, path: Path, faults: FaultList, warnings: list[str]
) -> None:
    """A few empty answers among many rows are left out and named; more of them are faults."""
    if not empty:
        return
    if len(empty) > EMPTY_SHARE * num_rows:
        for line, which in empty:
            fix = "write the answer that is to be learned, or take the row out"
            faults.add(line, f"the answer is empty ({which})", value="''", expected="text", fix=fix)
        return
    places = ", ".join(f"{path.name}:{line}" for line, _ in empty[:SHOWN_PLACES])
    more = ", ..." if len(empty) > SHOWN_PLACES else ""
    warnings.append(f"{len(empty)} of {num_rows} rows have an empty answer and are left out: {places}{more}")


def _with_unique_ids(samples: list[Sample], warnings: list[str]) -> list[Sample]:
    counts = Counter(sample.id for sample in samples)
    repeated = [name for name, count in counts.items() if count > 1]
    if not repeated:
        return samples
    seen: Counter[str] = Counter()
    result = []
    for sample in samples:
        seen[sample.id] += 1
        number = seen[sample.id]
        result.append(sample if number == 1 else replace(sample, id=f"{sample.id}#{number}"))
    num_extra = sum(counts[name] - 1 for name in repeated)
    shown = ", ".join(map(repr, repeated[:SHOWN_PLACES]))
    warnings.append(f"{num_extra} rows repeat an id ({shown}); they got new ones: #2, #3, ...")
    return _with_unique_ids(result, []) if len({s.id for s in result}) < len(result) else result


def _resolved_task(samples: Sequence[Sample], sources: Sequence[SourceFile], task: str) -> str:
    num_text = sum(sample.is_text for sample in samples)
    if 0 < num_text < len(samples):
        formats = ", ".join(f"{source.path.name}: {source.format}" for source in sources)
        raise DataError(f"conversations and raw text together: {formats}", fix="put them into two folders and jobs")
    if num_text:
        return "text"
    if task != "auto":
        return task
    is_labelled = all("labelled text" in source.format for source in sources)
    return "classify" if is_labelled or task_of(samples) == "classify" else "chat"


def task_of(samples: Sequence[Sample]) -> str:
    """chat, classify or text, told from the samples: classes are few, short, on one line, and repeat."""
    if samples and all(sample.is_text for sample in samples):
        return "text"
    counts = Counter(sample.target for sample in samples)
    is_few = 2 <= len(counts) <= MAX_CLASSES and len(samples) >= MIN_PER_CLASS * len(counts)
    is_short = all(len(t) <= MAX_LABEL_CHARS and "\n" not in t and not t.startswith(("{", "[")) for t in counts)
    is_single = all(sum(m.role == "assistant" for m in sample.messages) == 1 for sample in samples)
    return "classify" if is_few and is_short and is_single else "chat"
