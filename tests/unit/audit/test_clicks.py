"""Verdicts of a person: written to be filled in a spreadsheet, read back with every line that cannot be used."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
from pathlib import Path

import pytest

from foretune.audit.clicks import read_clicks, write_questions
from foretune.data.samples import Message, Sample
from foretune.errors import DataError, NotFound

ROWS = [Sample(f"s{n}", (Message("user", f"=q {n}"), Message("assistant", "a\nb"))) for n in range(5)]


def test_verdicts_make_the_round_trip(tmp_path: Path) -> None:
    path = write_questions(ROWS, (3, 1, 0), tmp_path / "clicks.csv")
    with open(path, encoding="utf-8-sig", newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["id"] for row in table] == ["s3", "s1", "s0"] and table[0]["input"] == "'=q 3"
    for row, verdict in zip(table, ("Yes", "no", ""), strict=True):
        row["reject"] = verdict
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, table[0].keys())
        writer.writeheader()
        writer.writerows(table)
    assert read_clicks(path, ROWS) == {3: True, 1: False}


def test_jsonl_with_other_words_counts_too(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text('{"id": "s1", "verdict": "keep"}\n{"id": "s2", "rejected": true}\n')
    assert read_clicks(tmp_path / "c.jsonl", ROWS) == {1: False, 2: True}


def test_every_line_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("id,reject\ns1,perhaps\nnone,yes\ns2,no\n")
    with pytest.raises(DataError) as caught:
        read_clicks(tmp_path / "c.csv", ROWS)
    assert [fault.line for fault in caught.value.faults] == [2, 3]
    (tmp_path / "empty.csv").write_text("id,reject\ns1,\n")
    with pytest.raises(DataError, match="no row is judged"):
        read_clicks(tmp_path / "empty.csv", ROWS)
    with pytest.raises(NotFound):
        read_clicks(tmp_path / "none.csv", ROWS)
