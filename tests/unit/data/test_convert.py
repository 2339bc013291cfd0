"""Conversion: whatever a form can hold comes back from its file as it was, and the rest is refused by name."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foretune.data.convert import convert, write_samples
from foretune.data.faults import RejectedRows
from foretune.data.formats import read_samples
from foretune.data.samples import Message, Sample
from foretune.data.stream import stream_samples
from foretune.data.write import FORMS, proved_row
from foretune.errors import ConfigError, DataError

HAS_PYARROW = importlib.util.find_spec("pyarrow") is not None
SLOW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
TOOLS = json.dumps([{"type": "function", "function": {"name": "sum", "parameters": {"type": "object"}}}])

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
filled = texts.filter(str.strip)
names = st.sampled_from(["topic", "source", "stars", "n\u00fc"])
values = st.one_of(filled, st.integers(-(2**40), 2**40), st.booleans(), st.lists(st.integers(0, 9), max_size=3))
metas = st.dictionaries(names.filter(lambda name: name != "source"), values, max_size=2)


@st.composite
def conversations(draw: st.DrawFn, max_turns: int = 3) -> tuple[Message, ...]:
    system = [Message("system", draw(filled))] if draw(st.booleans()) else []
    turns = [
        message
        for _ in range(draw(st.integers(1, max_turns)))
        for message in (Message("user", draw(texts)), Message("assistant", draw(filled)))
    ]
    return (*system, *turns)


@st.composite
def tool_conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    arguments = json.dumps({"a": draw(texts), "b": draw(st.integers())}, ensure_ascii=False)
    call = {"type": "function", "function": {"name": "sum", "arguments": arguments}}
    return (
        Message("user", draw(filled)),
        Message("assistant", "", extra=json.dumps({"tool_calls": [call]}, ensure_ascii=False)),
        Message("tool", draw(filled), extra='{"name": "sum"}'),
        Message("assistant", draw(filled), learn=draw(st.just(True))),
    )


@st.composite
def samples(draw: st.DrawFn, form: str) -> Sample:
    meta = draw(metas)
    if form == "text":
        return Sample("x", text=draw(filled), meta=meta)
    single = form in ("classification", "seq2seq")
    messages = draw(conversations(1 if single else 3))
    if form == "classification":
        messages = tuple(replace(m, content=m.content.strip() or "x") if m.role != "system" else m for m in messages)
    if form in ("preference", "openai_dpo"):
        other = draw(filled.filter(lambda text: text != messages[-1].content))
        return Sample("x", messages, meta=meta, rejected=(*messages[:-1], Message("assistant", other)))
    if form in ("messages", "sharegpt", "vertex") and draw(st.booleans()):
        return Sample("x", draw(tool_conversations()), meta=meta, tools=TOOLS)
    desirable = draw(st.booleans()) if form == "kto" else None
    return Sample("x", messages, meta=meta, desirable=desirable)


def said(sample: Sample) -> tuple[Any, ...]:
    """What must survive: all but the place; tool arguments by what they mean."""
    extras = [[m.role, m.content, m.learn, m.extras] for m in sample.messages]
    worse = [[m.role, m.content, m.learn, m.extras] for m in sample.rejected]
    return extras, worse, sample.text, json.loads(sample.tools or "[]"), sample.desirable, sample.id, sample.meta


def read_back(path: Path) -> list[Sample]:
    return list(stream_samples(path, task="any"))


@pytest.mark.req("R113")
@pytest.mark.req("R107")
@pytest.mark.parametrize("form", FORMS)
@SLOW
@given(data=st.data())
def test_jsonl_of_every_form_comes_back_the_same(form: str, data: st.DataObject, tmp_path: Path) -> None:
    ours = data.draw(st.lists(samples(form), min_size=1, max_size=3))
    ours = [replace(sample, id=f"row {number}") for number, sample in enumerate(ours)]
    path = tmp_path / "data.jsonl"
    assert write_samples(ours, path, form=form).num_rows == len(ours)
    assert [said(sample) for sample in read_back(path)] == [said(sample) for sample in ours]


@pytest.mark.req("R113")
@pytest.mark.parametrize("form", [form for form in FORMS if form not in ("text", "classification", "seq2seq", "kto")])
@SLOW
@given(data=st.data())
def test_from_form_to_form_and_back_nothing_is_lost(form: str, data: st.DataObject, tmp_path: Path) -> None:
    """messages (or explicit pairs) -> the form -> back: the same file, byte for byte."""
    sample = data.draw(samples(form))
    home = "preference" if sample.is_preference else "messages"
    first, middle, last = (tmp_path / f"{name}.jsonl" for name in "abc")
    write_samples([sample], first, form=home)
    convert(first, middle, to=form)
    convert(middle, last, to=home)
    rows = [json.loads(path.read_text(encoding="utf-8")) for path in (first, last)]
    assert rows[0] == rows[1]


ENDINGS = ("json", "csv", "tsv", "jsonl.gz", "csv.bz2", "jsonl.xz", *(("parquet",) if HAS_PYARROW else ()))


@pytest.mark.req("R113")
@pytest.mark.parametrize("ending", ENDINGS)
@SLOW
@given(data=st.data())
def test_every_file_type_comes_back_the_same(ending: str, data: st.DataObject, tmp_path: Path) -> None:
    form = data.draw(st.sampled_from(["messages", "sharegpt", "classification", "seq2seq", "text"]))
    sample = data.draw(samples(form))
    is_table = ending[:3] in ("csv", "tsv", "par")
    if is_table:  # tables give nested meta back as JSON text, CSV all meta as text
        sample = replace(sample, meta={name: str(value) for name, value in sample.meta.items()})
    path = tmp_path / f"data.{ending}"
    try:
        write_samples([sample], path, form=form)
    except DataError as error:
        assert "NUL" in str(error) and ending[:3] in ("csv", "tsv")
        return
    assert [said(found) for found in read_back(path)] == [said(sample)]


def test_rows_of_different_meta_share_a_table(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    asked = (Message("user", "a"), Message("assistant", "b"))
    ours = [Sample("1", asked, meta={"n": 1}), Sample("2", asked, meta={"topic": "x", "n": 2.5})]
    for name in ("a.parquet", "a.csv"):
        write_samples(ours, tmp_path / name, form="seq2seq")
        assert [list(sample.meta) for sample in read_back(tmp_path / name)] == [["n"], ["n", "topic"]]


REFUSED: list[tuple[str, Sample, str]] = [
    ("alpaca", Sample("a", (Message("user", "1"), Message("assistant", "2", learn=False))), "plain questions"),
    ("classification", Sample("a", (Message("user", " 1"), Message("assistant", "2"))), "the content of message 1"),
    ("text", Sample("a", (Message("user", "1"), Message("assistant", "2"))), "a conversation"),
    ("messages", Sample("a", text="1"), "raw text"),
    ("kto", Sample("a", (Message("user", "1"), Message("assistant", "2"))), "without a judgement"),
    ("preference", Sample("a", (Message("user", "1"), Message("assistant", "2"))), "one answer alone"),
    ("messages", Sample("a", (Message("user", "1"), Message("assistant", "2")), meta={"messages": "x"}), "meta named"),
    ("messages", Sample("a", (Message("user", "1"), Message("assistant", "2")), meta={"tools": "[]"}), "this meta"),
    (
        "seq2seq",
        Sample("a", (Message("user", "1"), Message("assistant", "2")), meta={"output": "x", "input": "y"}),
        "read",
    ),
    (
        "vertex",
        Sample("a", (Message("user", "1"), Message("assistant", "2", extra='{"reasoning_content": "hm"}'))),
        "reasoning_content of message 2",
    ),
]


@pytest.mark.parametrize(("form", "sample", "what"), REFUSED)
def test_what_a_form_cannot_hold_is_refused_by_name(form: str, sample: Sample, what: str) -> None:
    with pytest.raises(DataError, match="cannot hold") as caught:
        proved_row(sample, form)
    assert what in str(caught.value)
    assert caught.value.fix


def test_refused_samples_are_put_aside_and_the_rest_is_written(tmp_path: Path) -> None:
    good = Sample("good", (Message("user", "1"), Message("assistant", "2")), place="a.jsonl:1")
    bad = replace(good, id="bad", messages=(*good.messages, *good.messages), place="a.jsonl:2")
    with RejectedRows(tmp_path / "rejected.jsonl") as rejected:
        written = write_samples([good, bad], tmp_path / "out.jsonl", form="seq2seq", rejected=rejected)
    assert (written.num_rows, written.num_refused) == (1, 1)
    (row,) = [json.loads(text) for text in (tmp_path / "rejected.jsonl").read_text().splitlines()]
    assert (row["file"], row["line"]) == ("a.jsonl", 2)
    assert "seq2seq cannot hold" in row["reasons"][0]
    assert Sample.from_json(json.loads(row["raw"])) == bad


def test_nothing_is_left_behind_when_writing_fails(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        write_samples([Sample("a", text="x")], tmp_path / "out.jsonl", form="messages")
    assert list(tmp_path.iterdir()) == []


def test_better_answers_of_preference_data_become_messages(tmp_path: Path) -> None:
    rows = [
        {"prompt": "1+1", "completion": "2", "label": True},
        {"prompt": "1+2", "completion": "4", "label": False},
    ]
    source = tmp_path / "kto.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match="where answers to learn are expected"):
        read_samples(source)
    written = convert(source, tmp_path / "out.jsonl", to="messages", keep_better=True)
    assert written.num_rows == 1
    assert [sample.target for sample in read_samples(tmp_path / "out.jsonl").samples] == ["2"]


def test_unknown_forms_and_endings(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown form 'chat'"):
        write_samples([], tmp_path / "a.jsonl", form="chat")
    with pytest.raises(ConfigError, match="cannot tell from its name"):
        write_samples([], tmp_path / "a.xlsx")
