"""Whatever bytes a file holds, reading ends in samples or in one clear error, and bad rows cost no good ones."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foretune.data.faults import RejectedRows
from foretune.data.formats import read_samples
from foretune.data.samples import sample_hash
from foretune.data.stream import stream_samples
from foretune.errors import DataError, ForetuneError

FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
KINDS = ("jsonl", "json", "csv", "tsv", "txt", "parquet", "jsonl.gz", "csv.bz2", "json.xz")
GOOD = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
WORDS = (
    *("messages", "role", "content", "user", "assistant", "system", "tool", "tool_calls", "weight", "from", "value"),
    *(
        "conversations",
        "human",
        "gpt",
        "contents",
        "parts",
        "text",
        "model",
        "instruction",
        "input",
        "output",
        "history",
    ),
    *("prompt", "completion", "label", "chosen", "rejected", "preferred_output", "non_preferred_output", "tools", "id"),
    *("\n\nHuman: a\n\nAssistant: b", "\ud83d", "\u202ereversed", "a\u200bb", "\u0000", "[{", '[{"role": "user"}]'),
)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from(WORDS), st.text(max_size=5))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)
TURNS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "role": st.sampled_from(["system", "user", "assistant", "tool", 5, None]),
            "from": st.sampled_from(["human", "gpt", "function_call", "observation"]),
            "content": SCALARS | VALUES,
            "value": SCALARS,
            "parts": VALUES,
            "weight": st.sampled_from([0, 1, None, 0.5, "x"]),
            "tool_calls": VALUES,
        },
    ),
    max_size=4,
)
ROWS = st.dictionaries(st.sampled_from(WORDS), VALUES | TURNS, max_size=5)


def read(path: Path, **options: Any) -> None:
    """Read in both ways; the only error is ours, on few lines, with a fix."""
    path.with_name("rejected.jsonl").unlink(missing_ok=True)
    for rejected in (None, RejectedRows(path.with_name("rejected.jsonl"))):
        try:
            data = read_samples(path, rejected=rejected, **options)
            assert data.samples
            assert all(len(sample_hash(sample)) == 64 for sample in data.samples)
            assert all(json.dumps(sample.to_json(), ensure_ascii=False).encode() for sample in data.samples)
        except ForetuneError as error:
            assert error.fix
            assert all(len(line) < 1000 for line in str(error).splitlines())
        finally:
            if rejected is not None:
                rejected.close()
    if path.with_name("rejected.jsonl").exists():
        for line in path.with_name("rejected.jsonl").read_text(encoding="utf-8").split("\n")[:-1]:
            assert set(json.loads(line)) <= {"file", "line", "reasons", "raw", "cut"}


@pytest.mark.parametrize("kind", KINDS)
@FUZZ
@given(data=st.binary(max_size=200))
def test_any_bytes(kind: str, data: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind}"
    path.write_bytes(data)
    read(path)


@pytest.mark.parametrize("kind", ("jsonl", "json", "csv", "tsv", "txt"))
@FUZZ
@given(text=st.text(st.sampled_from("{}[]\",:\\ntue'ab1-.é\u2028\ufeff\r\n\t;|"), max_size=120))
def test_text_that_nearly_has_a_form(kind: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind}"
    path.write_bytes(text.encode())
    read(path)


@settings(FUZZ, max_examples=400)
@given(
    rows=st.lists(ROWS | VALUES, min_size=1, max_size=3), task=st.sampled_from(["auto", "any", "text", "preference"])
)
def test_rows_of_any_shape(rows: list[Any], task: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    read(path, task=task)


@FUZZ
@given(rows=st.lists(ROWS, min_size=1, max_size=3), field=st.sampled_from(WORDS[:20]))
def test_named_fields_of_any_shape(rows: list[Any], field: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    read(path, input_field=field, target_field="output", group_field="id")


@FUZZ
@given(
    rows=st.lists(st.sampled_from([*range(8)]), min_size=2, max_size=30),
    noise=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=3),
)
def test_a_damaged_line_costs_only_itself(rows: list[int], noise: list[tuple[int, int]], tmp_path: Path) -> None:
    """Bytes changed at random, except line breaks: every line that was not touched is still read."""
    lines = [json.dumps({**GOOD, "n": number}).encode() for number in rows]
    touched = set()
    for position, byte in noise:
        number = position % len(lines)
        line = bytearray(lines[number])
        line[position % len(line)] = byte if byte != 10 else 11
        lines[number] = bytes(line)
        touched.add(number + 1)
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join([*lines, json.dumps(GOOD).encode()]))
    with RejectedRows(tmp_path / "rejected.jsonl") as rejected:
        try:
            found = {int(s.place.rpartition(":")[2]) for s in stream_samples(path, rejected=rejected)}
        except DataError:  # the first line was damaged so that the file looks like something else
            assert 1 in touched
            return
    assert 1 in touched or set(range(1, len(lines) + 2)) - touched <= found


@FUZZ
@given(cut=st.integers(0, 3000))
def test_an_archive_cut_anywhere(cut: int, tmp_path: Path) -> None:
    packed = gzip.compress("".join(json.dumps({**GOOD, "n": n * 7919}) + "\n" for n in range(300)).encode())
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(packed[: len(packed) - 1 - cut % (len(packed) - 1)])
    with pytest.raises(DataError) as caught:
        read_samples(path)
    assert len(caught.value.faults) <= 2
