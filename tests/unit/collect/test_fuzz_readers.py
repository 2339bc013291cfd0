"""Whatever production files, tasks, gold answers and clicks hold, reading them ends in rows or in one of our errors."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foretune.audit.clicks import read_clicks
from foretune.collect.guidelines import Guidelines
from foretune.collect.production import read_production
from foretune.collect.task_rows import read_gold, tasks_of_file
from foretune.data.samples import Message, Sample
from foretune.errors import ForetuneError

FUZZ = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
NAMES = ("id", "query", "prompt", "completion", "input", "label", "answer", "messages", "request", "response", "type")
NAMES += ("choices", "reject", "verdict", "text", "rejected", "chosen", "body", "session", "observation_id", "value")
WORDS = st.sampled_from(["request", "feedback", "GENERATION", "yes", "no", "s1", "", "user", "0", "\u0000", "\ud83d"])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=5)
TURNS = st.lists(st.dictionaries(st.sampled_from(["role", "content", "weight"]), SCALARS, max_size=3), max_size=3)
VALUES = st.recursive(
    SCALARS | TURNS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=8,
)
ROWS = st.lists(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=5), min_size=1, max_size=4)
GUIDELINES = Guidelines("001-0", 1, "0", Path("g.md"), "")
SAMPLES = [Sample("s1", (Message("user", "q"), Message("assistant", "a")))]


def tried(read: Any) -> None:
    try:
        read()
    except ForetuneError as error:
        assert error.fix and all(len(line) < 1000 for line in str(error).splitlines())


@FUZZ
@given(rows=ROWS)
def test_rows_of_any_shape(rows: list[Any], tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tried(lambda: read_production(path))
    tried(lambda: read_gold(path))
    tried(lambda: read_clicks(path, SAMPLES))
    for kind in ("label", "rating", "answer", "comparison"):
        tried(lambda kind=kind: tasks_of_file(path, GUIDELINES, kind=kind, labels=["a", "b"]))


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "txt", "parquet", "jsonl.gz"])
@FUZZ
@given(data=st.binary(max_size=150))
def test_any_bytes(kind: str, data: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind}"
    path.write_bytes(data)
    tried(lambda: read_production(path))
    tried(lambda: read_clicks(path, SAMPLES))
    tried(lambda: tasks_of_file(path, GUIDELINES, kind="answer"))
