"""A person's verdicts on rows, as a file: written with the rows to judge, read back to teach the ranker."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foretune.data.faults import FaultList, fault_error, short
from foretune.data.files import DataFile, kind_of
from foretune.data.rows import read_rows
from foretune.data.samples import Sample
from foretune.errors import DataError, NotFound
from foretune.records.base import write_atomically

__all__ = ["read_clicks", "write_questions"]

COLUMNS = ("id", "place", "input", "answer", "reject")
NO = ("no", "n", "false", "0", "0.0", "keep", "accept", "accepted", "good", "ok")
YES = ("yes", "y", "true", "1", "1.0", "reject", "rejected", "drop", "bad", "x")
VERDICTS = ("reject", "rejected", "verdict", "click", "label")
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_questions(samples: Sequence[Sample], rows: Sequence[int], path: str | Path) -> Path:
    """Write the rows to judge as CSV; a person fills the column `reject` with yes or no. Raises DoesNotFit."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for row in rows:
        sample = samples[row]
        cells = (sample.id, sample.place, sample.input_text, sample.target or sample.text, "")
        writer.writerow([f"'{cell}" if cell.startswith(FORMULA) else cell for cell in cells])
    target = Path(path)
    write_atomically(target, ("\ufeff" + text.getvalue()).encode("utf-8", "replace"))
    return target


def read_clicks(path: str | Path, samples: Sequence[Sample]) -> dict[int, bool]:
    """Row number -> whether it was rejected, from a CSV or JSONL file with columns `id` and `reject`.

    Rows that were left open do not count. Raises NotFound, and DataError with every line that cannot be used.
    """
    file = Path(path)
    kind = kind_of(file)
    if not file.is_file() or not kind:
        raise NotFound(f"no clicks {path}", fix="foretune data rank FILE --ask 200 --out clicks.csv   # what to judge")
    numbers = {sample.id: row for row, sample in enumerate(samples)}
    faults = FaultList(file)
    clicks: dict[int, bool] = {}
    for row in read_rows(DataFile(file, kind), faults):
        verdict = _verdict(row.fields)
        if verdict == "":
            continue
        number = numbers.get(_cell(row.fields.get("id")))
        if number is None:
            expected = "the id of a row of the data, in column id"
            faults.add(row.line, "no such row", value=short(_cell(row.fields.get("id"))), expected=expected)
        elif verdict not in YES + NO:
            faults.add(row.line, "no verdict", value=short(verdict), expected="yes (reject) or no (keep)")
        else:
            clicks[number] = verdict in YES
    if faults.count:
        raise fault_error(faults.faults, str(file), count=faults.count)
    if not clicks:
        raise DataError(f"{file}: no row is judged", fix="fill the column `reject` with yes or no")
    return clicks


def _verdict(fields: Mapping[str, Any]) -> str:
    name = next((name for name in VERDICTS if name in fields), "")
    return _cell(fields.get(name)).lower()


def _cell(value: Any) -> str:
    text = "" if value is None else str(value).strip()
    return text[1:] if text.startswith("'") and text[1:].startswith(FORMULA) else text
