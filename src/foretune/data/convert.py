"""Write samples as a file of any form, and convert a file from one form to another without loss."""

# SPDX-License-Identifier: Apache-2.0
#
# Every row is proved by reading it back before it is written. Tables (CSV, TSV, Parquet) hold nested meta as JSON text,
# and CSV holds every meta value as text.
from __future__ import annotations

import csv
import importlib
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, BinaryIO

from foretune.data.compress import open_binary
from foretune.data.faults import RejectedRows
from foretune.data.files import MAX_ROW_BYTES, kind_of
from foretune.data.samples import Sample
from foretune.data.stream import stream_samples
from foretune.data.write import FORMS, proved_row
from foretune.errors import ConfigError, DataError, Fault, MissingDependency
from foretune.records.base import write_error

__all__ = ["Written", "convert", "write_samples"]

PARQUET_ROWS = 10_000  # in a row group
PREFERENCE_FORMS = ("preference", "openai_dpo", "kto")
Fields = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Written:
    """A file that was written: `num_refused` samples could not be held by the form and were put aside."""

    path: Path
    form: str
    num_rows: int
    num_refused: int = 0


def convert(
    source: str | Path,
    target: str | Path,
    *,
    to: str,
    task: str = "any",
    system: str = "",
    input_field: str = "",
    target_field: str = "",
    group_field: str = "",
    rejected: RejectedRows | None = None,
    keep_better: bool = False,
) -> Written:
    """Read a file or folder and write it as `to` (one of FORMS), row by row.

    The ending of `target` says how: .jsonl, .json, .csv, .tsv or .parquet; the text formats also .gz, .bz2, .xz, .zst.
    With `keep_better`, preference data give their better answers to a form that holds one answer, and answers judged
    bad are left out. Raises DataError for faulty rows and for rows that the form cannot hold, unless `rejected` takes
    them; NotFound, ConfigError, MissingDependency.
    """
    samples = stream_samples(
        source,
        task=task,
        system=system,
        input_field=input_field,
        target_field=target_field,
        group_field=group_field,
        rejected=rejected,
    )
    if keep_better and to not in PREFERENCE_FORMS:
        samples = (replace(s, rejected=(), desirable=None) for s in samples if s.desirable is not False)
    return write_samples(samples, target, form=to, rejected=rejected)


def write_samples(
    samples: Iterable[Sample], path: str | Path, *, form: str = "messages", rejected: RejectedRows | None = None
) -> Written:
    """Write samples as a file of `form`; the file appears only when it is whole.

    Raises as `convert` does, DataError at the first sample that the form cannot hold unless `rejected` takes it.
    """
    target = Path(path)
    writers: dict[str, Callable[[Iterator[Fields], Path], int]] = {
        "jsonl": _write_jsonl,
        "json": _write_json,
        "csv": _write_csv,
        "parquet": _write_parquet,
    }
    kind = kind_of(target)
    if kind not in writers:
        what = f"{target}: cannot tell from its name how to write it"
        raise ConfigError(what, fix="use an ending of .jsonl, .json, .csv, .tsv or .parquet")
    if form not in FORMS:
        raise ConfigError(f"unknown form {form!r}, expected {', '.join(FORMS)}", fix="choose one of these forms")
    refused: list[str] = []
    temporary = target.with_name(f".writing-{os.getpid()}-{target.name}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        num_rows = writers[kind](_rows(samples, form, kind, refused, rejected), temporary)
        os.replace(temporary, target)
    except OSError as error:
        raise write_error(target, error) from error
    finally:
        temporary.unlink(missing_ok=True)
    return Written(target, form, num_rows, len(refused))


def _rows(
    samples: Iterable[Sample], form: str, kind: str, refused: list[str], rejected: RejectedRows | None
) -> Iterator[Fields]:
    for sample in samples:
        try:
            row = proved_row(sample, form)
            yield _table_row(row, sample, form, kind) if kind in ("csv", "parquet") else row
        except DataError as error:
            if rejected is None:
                raise
            refused.append(sample.id)
            file, _, line = sample.place.rpartition(":")
            fault = Fault(file or sample.place, int(line) if line.isdigit() else 0, error.what, fix=error.fix)
            rejected.add(fault, json.dumps(sample.to_json(), ensure_ascii=False))


def _table_row(row: Fields, sample: Sample, form: str, kind: str) -> Fields:
    """The row with values that a table can hold; refused where its content would not come back."""
    own = set(row) - set(sample.meta) - {"tools"}
    nested = sorted(name for name in own if isinstance(row[name], list | dict))
    if kind == "csv":
        readable = {"messages", "conversations", "contents", "systemInstruction"}
        if set(nested) - readable:
            place = sample.place or sample.id
            raise DataError(f"{place}: CSV cannot hold the list in {form} `{nested[0]}`", fix="write .jsonl instead")
        if any(isinstance(value, str) and "\0" in value for value in row.values()):
            raise DataError(f"{sample.place or sample.id}: CSV cannot hold a NUL byte", fix="write .jsonl instead")
        return {
            name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            for name, value in row.items()
        }
    return {
        name: json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) and name not in own else value
        for name, value in row.items()
    }


def _line(row: Fields) -> bytes:
    try:
        data = json.dumps(row, ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n"
    except (ValueError, TypeError) as error:
        raise DataError(f"sample {row.get('id')}: cannot be written as JSON ({error})", fix="take it out") from None
    if len(data) > MAX_ROW_BYTES:
        what = f"sample {row.get('id')}: {len(data) / 1e6:.1f} MB, expected at most {MAX_ROW_BYTES / 1e6:.0f} MB a row"
        raise DataError(what, fix="split it, or take it out")
    return data


def _write_jsonl(rows: Iterator[Fields], path: Path) -> int:
    with open_binary(path, "wb") as file:
        return _put(file, map(_line, rows))


def _put(file: BinaryIO, pieces: Iterable[bytes]) -> int:
    num_pieces = 0
    for piece in pieces:
        file.write(piece)
        num_pieces += 1
    return num_pieces


def _write_json(rows: Iterator[Fields], path: Path) -> int:
    with open_binary(path, "wb") as file:
        file.write(b"[\n")
        num_rows = _put(file, ((b",\n" if number else b"") + _line(row)[:-1] for number, row in enumerate(rows)))
        file.write(b"\n]\n")
    return num_rows


def _write_csv(rows: Iterator[Fields], path: Path) -> int:
    """Twice through the rows, by way of a temporary file: the header names every column that any row has."""
    with tempfile.TemporaryFile() as spool, open_binary(path, "wb") as file:
        columns = _spooled(rows, spool)
        text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        delimiter = "\t" if ".tsv" in path.suffixes else ","
        writer = csv.DictWriter(
            text, columns, restval="", delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="\n"
        )
        num_rows = 0
        if columns:
            writer.writeheader()
        for line in spool:
            writer.writerow(json.loads(line))
            num_rows += 1
        text.flush()
        text.detach()
    return num_rows


def _spooled(rows: Iterator[Fields], spool: IO[bytes]) -> list[str]:
    """Put the rows into a temporary file, and go back to its beginning; returns their columns in order."""
    columns: dict[str, None] = {}
    for row in rows:
        columns |= dict.fromkeys(row)
        spool.write(_line(row))
    spool.seek(0)
    return list(columns)


def _write_parquet(rows: Iterator[Fields], path: Path) -> int:
    """Twice through the rows, by way of a temporary file: the columns' types fit every row."""
    pyarrow, parquet = _pyarrow(path)
    num_rows = 0
    with tempfile.TemporaryFile() as spool:
        columns = _spooled(rows, spool)
        try:
            schemas = [pyarrow.table(_columns(batch, columns)).schema for batch in _batches(spool)]
            schema = pyarrow.unify_schemas(schemas or [pyarrow.schema([])], promote_options="permissive")
            spool.seek(0)
            with parquet.ParquetWriter(path, schema) as writer:
                for batch in _batches(spool):
                    writer.write_table(pyarrow.table(_columns(batch, columns), schema=schema))
                    num_rows += len(batch)
        except (pyarrow.ArrowException, OverflowError) as error:
            what = f"{path.name}: the rows do not fit into one table: {str(error).splitlines()[0]}"
            raise DataError(what, fix="write .jsonl instead, which takes rows of any shape") from None
    return num_rows


def _columns(batch: list[Fields], columns: list[str]) -> dict[str, list[Any]]:
    return {name: [row.get(name) for row in batch] for name in columns}


def _pyarrow(path: Path) -> tuple[Any, Any]:
    """The one door to pyarrow for writing."""
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise MissingDependency(f"{path}: writing Parquet needs pyarrow", fix="pip install pyarrow") from None


def _batches(spool: IO[bytes]) -> Iterator[list[Fields]]:
    batch: list[Fields] = []
    for line in spool:
        batch.append(json.loads(line))
        if len(batch) == PARQUET_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch
