"""What production asks, read from logs, lists, tables and training data."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import pytest

from foretune.collect.production import read_production
from foretune.errors import DataError, NotFound


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_request_log_gives_the_queries_of_failed_requests_too(tmp_path: Path) -> None:
    asked = {"type": "request", "time": "", "model": "m", "finish_reason": "stop"}
    log = write(
        tmp_path / "requests.jsonl",
        {**asked, "id": "1", "messages": [{"role": "user", "content": "where?"}], "answer": "here", "status": 200},
        {**asked, "id": "2", "messages": [{"role": "user", "content": "when?"}], "answer": "", "status": 500},
        {"type": "feedback", "id": "1", "rating": 1},
    )
    assert [sample.input_text for sample in read_production(log)] == ["where?", "when?"]


def test_rows_without_answers_lines_and_training_data_are_read(tmp_path: Path) -> None:
    queries = write(tmp_path / "q.jsonl", {"id": "a", "query": "how much?", "product": "lamp"}, {"query": "why?"})
    found = read_production(queries)
    assert [(s.id, s.input_text, s.meta) for s in found] == [
        ("a", "how much?", {"product": "lamp"}),
        ("q-2", "why?", {}),
    ]
    (tmp_path / "q.txt").write_text("first\n\nsecond\nthird\n")
    assert [sample.input_text for sample in read_production(tmp_path / "q.txt")] == ["first", "second", "third"]
    rows = write(tmp_path / "t.jsonl", {"instruction": "add", "input": "1 and 2", "output": "3"})
    assert [sample.input_text for sample in read_production(rows)] == ["add\n\n1 and 2"]
    chats = write(tmp_path / "c.jsonl", {"messages": [{"role": "user", "content": "hi"}]})
    assert [sample.input_text for sample in read_production(chats)] == ["hi"]


def test_what_holds_no_query_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the form of the rows is not known"):
        read_production(write(tmp_path / "x.jsonl", {"a": 1}, {"b": 2}))
    with pytest.raises(NotFound):
        read_production(tmp_path / "none.jsonl")
    (tmp_path / "bad.txt").write_bytes(b"good\n\xff\xfe bad\n")
    with pytest.raises(DataError, match="UTF-8"):
        read_production(tmp_path / "bad.txt")
