"""Annotation tasks from a data file: rows to label, rate or answer, or answers of several variants to compare."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foretune.collect.collect import sources_of
from foretune.collect.guidelines import Guidelines
from foretune.collect.production import read_production
from foretune.collect.tasks import Task, answer_tasks, comparison_tasks, label_tasks
from foretune.data.faults import FaultList, fault_error
from foretune.data.files import find_files
from foretune.data.formats import ReadData, read_samples, task_of
from foretune.data.provenance import provenance_of, with_provenance
from foretune.data.rows import Row, read_rows
from foretune.data.samples import Sample
from foretune.errors import ConfigError, DataError

__all__ = ["read_gold", "tasks_of_file"]

INPUTS = ("input", "prompt", "question", "query", "text", "instruction")
ANSWERS = ("label", "answer", "gold", "target", "value")
RATINGS = ("1", "2", "3", "4", "5")


def tasks_of_file(
    source: Path,
    guidelines: Guidelines,
    *,
    kind: str,
    labels: Sequence[str] = (),
    question: str = "",
    gold: Path | None = None,
    seed: int = 0,
) -> list[Task]:
    """The tasks for the rows of a file; `kind` is label, rating, answer or comparison.

    Rows to label or to answer need no answer yet. Raises ConfigError where labels are missing, NotFound, and DataError
    where rows or gold answers cannot be used.
    """
    asked: dict[str, Any] = {"question": question} if question else {}
    if kind == "comparison":
        answers, inputs = _variants(source)
        return comparison_tasks(answers, inputs, guidelines, seed=seed, **asked)
    samples = _rows_to_do(source)
    if kind == "answer":
        return answer_tasks(samples, guidelines, **asked)
    choices = list(labels) or (list(RATINGS) if kind == "rating" else _classes(samples))
    if len(choices) < 2:
        raise ConfigError("a choice between fewer than two labels", fix="--labels refund,return,other")
    known = read_gold(gold) if gold is not None else {}
    strange = next(iter(sorted(set(known) - {sample.id for sample in samples})), None)
    if strange is not None:
        raise DataError(
            f"{gold}: no row has the id {strange!r}", fix=f"use the ids of {source}, such as {samples[0].id}"
        )
    if kind == "rating":
        asked = {"question": question or "How good is it?"}
        return label_tasks(samples, choices, guidelines, kind="rating", gold=known, **asked)
    return label_tasks(samples, choices, guidelines, gold=known, **asked)


def _rows_to_do(source: Path) -> list[Sample]:
    """The rows with where they came from; rows without an answer are read as production queries are."""
    try:
        data = read_samples(source, task="any")
    except DataError as error:
        try:
            return read_production(source)
        except DataError:
            raise error from None
    return _traced(data)


def _classes(samples: Sequence[Sample]) -> list[str]:
    """The classes that the rows carry already, if their answers are classes."""
    return sorted({sample.target for sample in samples}) if task_of(samples) == "classify" else []


def _traced(data: ReadData) -> list[Sample]:
    sources = tuple(sources_of([data], Path()))
    return [with_provenance(sample, provenance_of(sample, sources)) for sample in data.samples]


def read_gold(path: Path) -> dict[str, str]:
    """Known answers by the id of the row: `id` (or `task_id`) and `label` (or answer, gold, target, value).

    Raises NotFound, and DataError with every row that cannot be used.
    """
    found: dict[str, str] = {}
    for row in _rows(path):
        name = row.fields.get("id", row.fields.get("task_id"))
        answer = next((row.fields[key] for key in ANSWERS if row.fields.get(key) not in (None, "")), None)
        if name is None or answer is None:
            raise DataError(f"{path}:{row.line}: no gold answer", fix="expected the fields id and label")
        found[str(name)] = str(answer)
    return found


def _variants(source: Path) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """Answers by row and variant, and the inputs; each field that holds text and is neither input nor id is a variant.

    Raises DataError where a row has no input or fewer than two answers.
    """
    answers: dict[str, dict[str, str]] = {}
    inputs: dict[str, str] = {}
    for row in _rows(source):
        field = next((name for name in INPUTS if isinstance(row.fields.get(name), str)), "")
        variants = {
            name: value
            for name, value in row.fields.items()
            if name not in ("id", field) and isinstance(value, str) and value.strip()
        }
        if not field or len(variants) < 2:
            fix = f"expected one of {', '.join(INPUTS)} and a field for each variant's answer"
            raise DataError(f"{source}:{row.line}: nothing to compare, got {', '.join(row.fields)}", fix=fix)
        name = str(row.fields.get("id") or f"{source.stem}-{row.line}")
        answers[name], inputs[name] = variants, row.fields[field]
    return answers, inputs


def _rows(path: Path) -> list[Row]:
    files = find_files(path)
    listed = [FaultList(file.path) for file in files]
    rows = [row for file, faults in zip(files, listed, strict=True) for row in read_rows(file, faults)]
    if any(faults.count for faults in listed):
        raise fault_error([fault for faults in listed for fault in faults.faults], str(path))
    return rows
