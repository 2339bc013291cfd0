"""What production asks: the queries of a request log, of any data file, or of a plain list, one a row."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from foretune.collect.log_shapes import exchange_of, feedback_of
from foretune.data.faults import FaultList, fault_error
from foretune.data.files import DataFile, find_files, text_lines
from foretune.data.formats import read_samples
from foretune.data.rows import read_rows
from foretune.data.samples import Message, Sample
from foretune.errors import DataError

__all__ = ["read_production"]

QUERY_FIELDS = ("query", "prompt", "question", "instruction", "input", "text", "message", "content", "utterance")


def read_production(path: str | Path) -> list[Sample]:
    """The queries of production as samples; those of failed requests count, feedback does not.

    Reads request logs (our gateway's, OpenAI style, Langfuse), every form of training data, rows with a query under
    any usual name and no answer, and text with a query on each line. Other fields of a row stay in `meta`, to slice by.
    Raises NotFound, and DataError where a row holds no query.
    """
    place = Path(path)
    files = find_files(place)
    logged = [_samples(file, _exchange_query) for file in files]
    if not any(queries is None for queries in logged):
        return [sample for queries in logged for sample in queries or ()]
    try:
        return _lines(files) or read_samples(place, task="any").samples
    except DataError as error:
        named = [_samples(file, _named_query) for file in files]
        if any(queries is None for queries in named):
            raise error from None
        return [sample for queries in named for sample in queries or ()]


def _lines(files: Sequence[DataFile]) -> list[Sample]:
    """Text files with a query on each line; [] where the files are others."""
    if any(file.kind != "text" for file in files):
        return []
    faults = [FaultList(file.path) for file in files]
    pairs = zip(files, faults, strict=True)
    found = [
        _sample(file, number, line, {}) for file, listed in pairs for number, line in text_lines(file.path, listed)
    ]
    if any(listed.count for listed in faults):
        raise fault_error([fault for listed in faults for fault in listed.faults], str(files[0].path.parent))
    return [sample for sample in found if sample.input_text.strip()]


def _samples(file: DataFile, query_of: Callable[[Mapping[str, Any]], str]) -> list[Sample] | None:
    """The queries of one file; None where it has none, or some row holds none."""
    faults = FaultList(file.path)
    samples: list[Sample] = []
    for row in read_rows(file, faults):
        if feedback_of(row.fields) is not None:
            continue
        query = query_of(row.fields)
        if not query:
            return None
        sample = _sample(file, row.line, query, dict(_plain_fields(row.fields)))
        own = row.fields.get("id")
        samples.append(replace(sample, id=str(own)) if isinstance(own, (str, int)) and own != "" else sample)
    return None if faults.count else samples or None


def _sample(file: DataFile, line: int, query: str, meta: dict[str, Any]) -> Sample:
    name = f"{file.path.stem}-{line}"
    return Sample(name, (Message("user", query),), place=f"{file.path.name}:{line}", meta=meta)


def _exchange_query(fields: Mapping[str, Any]) -> str:
    exchange = exchange_of(fields)
    return exchange.query if exchange is not None else ""


def _named_query(fields: Mapping[str, Any]) -> str:
    values = (fields.get(name) for name in QUERY_FIELDS)
    return next((value for value in values if isinstance(value, str) and value.strip()), "")


def _plain_fields(fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in fields.items():
        if name not in (*QUERY_FIELDS, "id") and isinstance(value, (str, int, float, bool)) and value != "":
            yield name, value
