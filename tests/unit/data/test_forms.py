"""The forms that trainers and providers ask for: each is recognised, named, and read into the same samples."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from foretune.data.formats import ReadData, read_samples
from foretune.data.samples import Message, Sample
from foretune.errors import DataError

ASKED = Message("user", "1+1?")
BETTER, WORSE = Message("assistant", "2"), Message("assistant", "3")
USER = {"role": "user", "content": "1+1?"}
GOOD, BAD = {"role": "assistant", "content": "2"}, {"role": "assistant", "content": "3"}
SUM = {"type": "function", "function": {"name": "sum", "parameters": {"type": "object"}}}


def read(tmp_path: Path, *rows: Any, task: str = "any") -> ReadData:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return read_samples(path, task=task)


PAIRS: dict[str, dict[str, Any]] = {
    "TRL, explicit": {"prompt": "1+1?", "chosen": "2", "rejected": "3"},
    "TRL, explicit and conversational": {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]},
    "TRL, implicit": {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
    "UltraFeedback": {"prompt": "1+1?", "chosen": [USER, GOOD], "rejected": [USER, BAD]},
    "HH-RLHF": {"chosen": "\n\nHuman: 1+1?\n\nAssistant: 2", "rejected": "\n\nHuman: 1+1?\n\nAssistant: 3"},
    "OpenAI": {"input": {"messages": [USER]}, "preferred_output": [GOOD], "non_preferred_output": [BAD]},
    "LLaMA-Factory, alpaca": {"instruction": "1+1?", "input": "", "chosen": "2", "rejected": "3"},
    "LLaMA-Factory, sharegpt": {
        "conversations": [{"from": "human", "value": "1+1?"}],
        "chosen": {"from": "gpt", "value": "2"},
        "rejected": {"from": "gpt", "value": "3"},
    },
    "axolotl, intel": {"system": "", "question": "1+1?", "chosen": "2", "rejected": "3"},
    "axolotl, argilla": {"system": "", "instruction": "1+1?", "chosen_response": "2", "rejected_response": "3"},
}


@pytest.mark.req("R107")
@pytest.mark.parametrize("name", PAIRS)
def test_preference_pairs(name: str, tmp_path: Path) -> None:
    data = read(tmp_path, PAIRS[name], task="preference")
    (sample,) = data.samples
    assert (sample.messages, sample.rejected) == ((ASKED, BETTER), (ASKED, WORSE))
    assert data.task == "preference"
    assert "preference pairs" in data.format


@pytest.mark.req("R107")
@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "1+1?", "completion": "3", "label": False},
        {"prompt": [USER], "completion": [BAD], "label": False},
        {"instruction": "1+1?", "input": "", "output": "3", "kto_tag": False},
        {
            "conversations": [{"from": "human", "value": "1+1?"}, {"from": "gpt", "value": "3"}],
            "kto_tag": False,
        },
        {"messages": [USER, BAD], "kto_tag": False},
    ],
)
def test_answers_judged_alone(row: dict[str, Any], tmp_path: Path) -> None:
    data = read(tmp_path, row)
    assert data.samples[0].messages == (ASKED, WORSE)
    assert data.samples[0].desirable is False
    assert "desirable or not" in data.format
    with pytest.raises(DataError, match="where answers to learn are expected"):
        read(tmp_path, row, task="auto")


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "are the same"),
        ({"chosen": "yes", "rejected": "no"}, "no common prompt"),
        ({"prompt": [USER], "chosen": [USER, GOOD, USER], "rejected": [BAD]}, "last message is not the assistant's"),
        ({"prompt": "a", "chosen": "", "rejected": "b"}, "the answer is empty"),
        ({"prompt": "a", "completion": "b", "label": None}, "does not say if the answer is good"),
        ({"messages": [USER, GOOD], "tools": "[{"}, "is no list of tools"),
    ],
)
def test_faults_of_preferences_and_tools(row: dict[str, Any], what: str, tmp_path: Path) -> None:
    call = {"function": {"name": "sum", "arguments": "{}"}}
    if "tools" in row:
        row = {**row, "messages": [USER, {"role": "assistant", "tool_calls": [call]}]}
    rows = [{"prompt": "a", "completion": "b", "label": True}, row] if "completion" in row else [row]
    with pytest.raises(DataError, match=what):
        read(tmp_path, *rows)


def test_a_preference_text_whose_texts_begin_alike(tmp_path: Path) -> None:
    (sample,) = read(tmp_path, {"chosen": "The sky is blue.", "rejected": "The sky is green."}).samples
    assert sample.messages == (Message("user", "The sky is "), Message("assistant", "blue."))


def calls(sample: Sample) -> list[tuple[str, Any]]:
    functions = [call["function"] for message in sample.messages for call in message.tool_calls]
    return [(function["name"], json.loads(function["arguments"])) for function in functions]


CALL = {"id": "c1", "type": "function", "function": {"name": "sum", "arguments": '{"a": 1}'}}
TOOL_ROWS: dict[str, dict[str, Any]] = {
    "OpenAI": {
        "messages": [
            USER,
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c1", "content": "2"},
            GOOD,
        ],
        "tools": [SUM],
    },
    "OpenAI, older": {
        "messages": [
            USER,
            {"role": "assistant", "content": None, "function_call": {"name": "sum", "arguments": '{"a": 1}'}},
            {"role": "function", "name": "sum", "content": "2"},
            GOOD,
        ],
        "functions": [SUM["function"]],
    },
    "ShareGPT": {
        "conversations": [
            {"from": "human", "value": "1+1?"},
            {"from": "function_call", "value": '{"name": "sum", "arguments": {"a": 1}}'},
            {"from": "observation", "value": "2"},
            {"from": "gpt", "value": "2"},
        ],
        "tools": json.dumps([SUM["function"]]),
    },
    "Vertex": {
        "contents": [
            {"role": "user", "parts": [{"text": "1+1?"}]},
            {"role": "model", "parts": [{"functionCall": {"name": "sum", "args": {"a": 1}}}]},
            {"role": "user", "parts": [{"functionResponse": {"name": "sum", "response": {"content": "2"}}}]},
            {"role": "model", "parts": [{"text": "2"}]},
        ],
        "tools": [{"functionDeclarations": [SUM["function"]]}],
    },
}


@pytest.mark.parametrize("name", TOOL_ROWS)
def test_tools_and_their_calls(name: str, tmp_path: Path) -> None:
    (sample,) = read(tmp_path, TOOL_ROWS[name], task="auto").samples
    assert [message.role for message in sample.messages] == ["user", "assistant", "tool", "assistant"]
    assert calls(sample) == [("sum", {"a": 1})]
    assert sample.messages[2].content == "2"
    assert json.loads(sample.tools) == [SUM]
    cut = Sample("x", sample.messages[:2])
    assert json.loads(cut.target) == [{"name": "sum", "arguments": '{"a": 1}'}]
    assert Sample.from_json(json.loads(json.dumps(sample.to_json()))) == sample


CHATS: dict[str, dict[str, Any]] = {
    "Qwen": {"conversations": [{"from": "user", "value": "1+1?"}, {"from": "assistant", "value": "2"}]},
    "Cohere": {"messages": [{"role": "User", "content": "1+1?"}, {"role": "Chatbot", "content": "2"}]},
    "axolotl, weights": {"messages": [{**USER, "train": False}, {**GOOD, "train": True}]},
    "Vertex": {
        "contents": [
            {"role": "user", "parts": [{"text": "1+1"}, {"text": "?"}]},
            {"role": "model", "parts": [{"text": "2"}]},
        ]
    },
    "camel": {"message_1": "1+1?", "message_2": "2"},
    "metharme": {"prompt": "1+1?", "generation": "2"},
    "PaLM": {"input_text": "1+1?", "output_text": "2"},
    "chat as JSON text": {"messages": json.dumps([USER, GOOD])},
}


@pytest.mark.req("R108")
@pytest.mark.parametrize("name", CHATS)
def test_conversations_of_other_trainers(name: str, tmp_path: Path) -> None:
    assert read(tmp_path, CHATS[name], task="auto").samples[0].messages == (ASKED, BETTER)


def test_instructions_of_other_trainers(tmp_path: Path) -> None:
    dolly = {"instruction": "Add.", "context": "1, 1", "response": "2"}
    (sample,) = read(tmp_path, dolly, task="auto").samples
    assert sample.messages == (Message("user", "Add.\n\n1, 1"), BETTER)
    history = {"instruction": "And?", "input": "", "output": "2", "history": [["1+0?", "1"]], "system": "Add."}
    (sample,) = read(tmp_path, history, task="auto").samples
    roles = ["system", "user", "assistant", "user", "assistant"]
    assert [message.role for message in sample.messages] == roles
    orca = {"system_prompt": "Add.", "question": "1+1?", "response": "2"}
    assert read(tmp_path, orca, task="auto").samples[0].messages == (Message("system", "Add."), ASKED, BETTER)


def test_what_else_a_message_says_is_kept(tmp_path: Path) -> None:
    thought = {**GOOD, "reasoning_content": "easy", "name": "bob"}
    (sample,) = read(tmp_path, {"messages": [USER, thought]}, task="auto").samples
    assert sample.messages[1].to_json() == thought


def test_tokenised_rows_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the rows are tokenised already"):
        read(tmp_path, {"input_ids": [1], "attention_mask": [1], "labels": [1]})


def test_real_preference_pairs(shared_data: Path) -> None:
    files = sorted((shared_data / "hh_rlhf").rglob("*.jsonl*"))
    if not files:
        pytest.skip("no preference data")
    data = read_samples(files[0], task="preference", max_rows=2000)
    assert data.task == "preference"
    assert all(sample.messages[:-1] == sample.rejected[:-1] or sample.rejected for sample in data.samples)
