"""Production logs: our gateway's, OpenAI-style and Langfuse's become samples with provenance."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretune.collect.log_shapes import exchange_of, feedback_of
from foretune.collect.logs import preference_rows, read_log, write_samples
from foretune.collect.sources import SourceCard
from foretune.data.formats import read_samples
from foretune.data.provenance import provenance_of
from foretune.data.samples import Message
from foretune.errors import ConfigError, DataError, NotFound
from foretune.records.request_log import FeedbackEntry, RequestEntry

ASKED: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Where is my order?"},
]
ANSWER = "On its way."
MESSAGES = (Message("system", "Be brief."), Message("user", "Where is my order?"))


def write_lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def chat(name: str, answer: str | None = "On its way.", reason: str = "stop", **changes: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": answer}
    response = {"id": name, "model": "m-1", "choices": [{"message": message, "finish_reason": reason}]}
    return {"request": {"model": "m", "messages": ASKED}, "response": response, **changes}


def gateway(name: str, **changes: Any) -> dict[str, Any]:
    entry = RequestEntry(
        id=name, time="2026-11-20T10:00:00Z", model="m", messages=(), answer="On its way.", session="s1"
    )
    return {**entry.model_dump(), "messages": ASKED, **changes}


@pytest.mark.req("R098")
def test_the_gateways_log_with_feedback_becomes_samples_and_preferences(tmp_path: Path) -> None:
    rows = [gateway(name) for name in ("r1", "r2", "r3", "r4")]
    rows += [gateway("r5", status=500, answer=""), gateway("r6", finish_reason="length"), gateway("r1")]
    said = [
        FeedbackEntry(id="r1", rating=1),
        FeedbackEntry(id="r2", rating=-1),
        FeedbackEntry(id="r2", correction="It arrives on Monday."),
        FeedbackEntry(id="r3", rating=-1, comment="rude"),
    ]
    log = read_log(write_lines(tmp_path / "requests.jsonl", rows + [entry.model_dump() for entry in said]))
    assert [(sample.id, sample.target) for sample in log.samples] == [
        ("r1", "On its way."),
        ("r2", "It arrives on Monday."),
        ("r4", "On its way."),
    ]
    assert log.samples[0].messages[:2] == MESSAGES and log.samples[0].group == "s1"
    assert log.left_out == {
        "repeats a request id": 1,
        "failed": 1,
        "was cut off": 1,
        "was disliked, and not corrected": 1,
    }
    (pair,) = log.pairs
    assert (pair.target, pair.rejected[-1].content) == ("It arrives on Monday.", "On its way.")
    assert {sample.id: sample.desirable for sample in log.judged} == {"r1": True, "r3": False}
    assert log.queries == ("Where is my order?",) * 6 and log.kinds == {"gateway": 6} and log.faults == ()


@pytest.mark.req("R102")
@pytest.mark.req("R101")
def test_every_sample_has_its_provenance_and_says_that_nobody_looked_for_personal_data(tmp_path: Path) -> None:
    log = read_log(write_lines(tmp_path / "requests.jsonl", [gateway("r1"), gateway("r2", pii="redacted")]))
    first, second = (provenance_of(sample) for sample in log.samples)
    assert first.share == "internal" and first.licence and first.retrieved_at.endswith("Z") and len(first.sha256) == 64
    assert first.sha256 != second.sha256
    assert [sample.meta["pii"] for sample in log.samples] == ["unreviewed", "redacted"]


SHAPES: dict[str, dict[str, Any]] = {
    "chat": chat("x"),
    "flat": {"messages": ASKED, "choices": [{"message": {"content": "On its way."}}]},
    "body": {"body": {"messages": ASKED}, "response": {"body": {"choices": [{"message": {"content": "On its way."}}]}}},
    "text in text": {key: json.dumps(value) for key, value in chat("x").items()},
    "responses": {
        "request": {"instructions": "Be brief.", "input": "Where is my order?"},
        "response": {
            "output": [
                {"type": "reasoning", "content": []},
                {"type": "message", "content": [{"type": "output_text", "text": "On its way."}]},
            ]
        },
    },
    "parts": {
        "request": {"messages": [ASKED[0], {**ASKED[1], "content": [{"type": "text", "text": ASKED[1]["content"]}]}]},
        "response": {"choices": [{"message": {"content": [{"type": "text", "text": "On its way."}]}}]},
    },
    "langfuse": {"type": "GENERATION", "input": ASKED, "output": {"role": "assistant", "content": "On its way."}},
    "langfuse blob": {
        "type": "GENERATION",
        "input": json.dumps({"messages": ASKED}),
        "output": json.dumps([{"role": "assistant", "content": "On its way."}]),
    },
    "langfuse text": {"type": "GENERATION", "input": ASKED, "output": "On its way."},
}


@pytest.mark.req("R098")
@pytest.mark.parametrize("row", SHAPES.values(), ids=SHAPES)
def test_each_known_shape_is_read_the_same(row: dict[str, Any], tmp_path: Path) -> None:
    (sample,) = read_log(write_lines(tmp_path / "log.jsonl", [row])).samples
    assert sample.messages == (*MESSAGES, Message("assistant", "On its way."))


def test_text_completions_and_plain_prompts(tmp_path: Path) -> None:
    row = {"request": {"prompt": "2 + 2 ="}, "response": {"choices": [{"text": " 4", "finish_reason": "stop"}]}}
    (sample,) = read_log(write_lines(tmp_path / "log.jsonl", [row])).samples
    assert (sample.input_text, sample.target) == ("2 + 2 =", " 4")


def test_batch_requests_and_answers_of_two_files_are_joined_by_id(tmp_path: Path) -> None:
    asked = {"custom_id": "c1", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": ASKED}}
    body = {"choices": [{"message": {"content": "On its way."}}]}
    answered = {"id": "b", "custom_id": "c1", "response": {"status_code": 200, "body": body}, "error": None}
    log = read_log(write_lines(tmp_path / "batch.jsonl", [answered, asked]))
    assert [sample.messages[1:] for sample in log.samples] == [(MESSAGES[1], Message("assistant", "On its way."))]
    assert log.left_out.get("repeats a request id", 0) == 0


def test_tool_calls_are_kept(tmp_path: Path) -> None:
    row = chat("x", None)
    call = {"id": "t1", "type": "function", "function": {"name": "find", "arguments": '{"order": 7}'}}
    row["response"]["choices"][0]["message"]["tool_calls"] = [call]
    row["request"]["tools"] = [{"type": "function", "function": {"name": "find"}}]
    (sample,) = read_log(write_lines(tmp_path / "log.jsonl", [row])).samples
    assert sample.messages[-1].tool_calls == [call] and '"find"' in sample.tools


def test_a_langfuse_trace_file_with_scores(tmp_path: Path) -> None:
    common = {"traceId": "t", "startTime": "2026-11-20T10:00:00Z", "model": "m", "sessionId": "s"}
    observations = [
        {"id": "o1", "type": "GENERATION", "input": ASKED, "output": {"content": "On its way."}, **common},
        {"id": "o2", "type": "SPAN", "input": {}, "output": {}, **common},
        {"id": "o3", "type": "GENERATION", "level": "ERROR", "input": ASKED, "output": None, **common},
    ]
    scores = [{"observationId": "o1", "traceId": "t", "value": 1, "dataType": "NUMERIC", "comment": "good"}]
    path = tmp_path / "trace-t.json"
    path.write_text(json.dumps({"trace": {"id": "t"}, "observations": observations, "scores": scores}))
    log = read_log(path)
    assert [(sample.id, sample.group, sample.meta["rating"]) for sample in log.samples] == [("o1", "s", 1)]
    assert log.left_out == {"not a request (span, event or trace)": 1, "failed": 1}
    assert [sample.desirable for sample in log.judged] == [True]


def hide_numbers(text: str) -> str:
    return re.sub(r"\d{4,}", "[NUMBER]", text)


@pytest.mark.req("R101")
def test_personal_data_is_redacted_everywhere_or_its_rows_dropped(tmp_path: Path) -> None:
    secret = [{"role": "user", "content": "Card 4111111111111111"}]
    rows = [gateway("r1"), gateway("r2", messages=secret, answer="Your card 4111111111111111?")]
    rows.append({"type": "feedback", "id": "r2", "correction": "No card 55555, please.", "comment": "77777 leaked"})
    path = write_lines(tmp_path / "requests.jsonl", rows)
    clean = read_log(path, pii="redact", redact=hide_numbers)
    assert not re.search(r"\d{4,}", repr([s.to_json() | {"meta": s.meta["comment"]} for s in clean.samples[1:]]))
    assert not re.search(r"\d{5,}", repr([s.rejected for s in clean.pairs]) + repr(clean.queries))
    assert {sample.meta["pii"] for sample in clean.samples} == {"redacted"}
    dropped = read_log(path, pii="drop", redact=hide_numbers)
    assert [sample.id for sample in dropped.samples] == ["r1"]
    assert dropped.left_out == {"holds personal data": 1} and dropped.queries == ("Where is my order?",)
    with pytest.raises(ConfigError, match="needs a function"):
        read_log(path, pii="redact")


@pytest.mark.req("R098")
def test_only_liked_or_corrected_answers_where_that_is_wanted(tmp_path: Path) -> None:
    rows = [gateway("r1"), gateway("r2"), gateway("r3"), {"type": "feedback", "id": "r1", "rating": 1}]
    rows.append({"type": "feedback", "id": "r2", "rating": -1, "correction": "Soon."})
    path = write_lines(tmp_path / "requests.jsonl", rows)
    assert [sample.id for sample in read_log(path, choice="liked").samples] == ["r1", "r2"]
    assert [sample.id for sample in read_log(path, choice="corrected").samples] == ["r2"]


@pytest.mark.req("R107")
def test_samples_and_pairs_are_written_as_files_that_are_read_again(tmp_path: Path) -> None:
    rows = [gateway("r1"), gateway("r2"), {"type": "feedback", "id": "r2", "correction": "Soon."}]
    log = read_log(write_lines(tmp_path / "requests.jsonl", rows))
    card = SourceCard(kind="log", licence="own")
    again = read_samples(write_samples(log.samples, tmp_path / "out" / "log.jsonl", card)).samples
    assert [sample.messages for sample in again] == [sample.messages for sample in log.samples]
    assert [provenance_of(sample) for sample in again] == [provenance_of(sample) for sample in log.samples]
    (row,) = preference_rows(log.pairs)
    assert row["chosen"] == [{"role": "assistant", "content": "Soon."}] and len(row["prompt"]) == 2
    path = write_samples(log.pairs, tmp_path / "pairs" / "pairs.jsonl", card)
    assert json.loads(path.read_text()) == row


def test_rows_that_are_no_requests_are_faults_and_the_good_ones_go_on(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "log.jsonl", [chat("a"), {"x": 1}, {"type": "request", "id": 3}, ["no"]])
    with open(path, "a") as file:
        file.write("{broken\n")
    log = read_log(path)
    assert len(log.samples) == 1 and sorted(fault.line for fault in log.faults) == [2, 3, 4, 5]
    with pytest.raises(DataError, match="no requests in it") as caught:
        read_log(write_lines(tmp_path / "other.jsonl", [{"x": 1}]))
    assert len(caught.value.faults) == 1
    with pytest.raises(NotFound):
        read_log(tmp_path / "nowhere.jsonl")


KEYS = st.sampled_from(
    "request response messages choices message content role type input output body id status tools "
    "tool_calls function_call value dataType data_type text prompt error instructions level".split()
) | st.text(max_size=3)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(KEYS, JSON, max_size=6), st.sampled_from(["request", "feedback", "GENERATION", ""]))
def test_no_row_breaks_the_reader(fields: dict[str, Any], kind: str) -> None:
    row = {**fields, "type": kind} if kind else fields
    exchange = exchange_of(row)
    assert exchange is None or isinstance(exchange.query + exchange.reply.content + exchange.id, str)
    feedback_of(row)
