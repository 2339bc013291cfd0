"""Every public chat template: the loss mask is proved by tokens, or the rows are refused; nothing in between."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from foretune.data.samples import Message, Sample
from foretune.data.tokenise import prompt_ids, tokenise
from foretune.data.tokenizer import Tokenizer
from foretune.errors import DataError

TOKENIZERS = ("gpt2", "pythia", "llama2", "llama3", "qwen2.5")
CALL = {"type": "function", "function": {"name": "weather_of", "arguments": '{"city": "Z\u00fcrich", "days": 3}'}}
TALKS: dict[str, tuple[Message, ...]] = {
    "one turn": (Message("user", "Hi <b>there</b>, you?"), Message("assistant", " Hello.\nYes. ")),
    "system": (Message("system", "Be kind."), Message("user", "Hi"), Message("assistant", '{"a": 1}')),
    "two turns": (
        Message("system", " Sys "),
        Message("user", "Hi"),
        Message("assistant", "Hello."),
        Message("user", "Why?"),
        Message("assistant", "\n\nBecause.\n\nSo. "),
    ),
    "think blocks": (
        Message("user", "Hi"),
        Message("assistant", "<think>\nhm\n</think>\n\nHello."),
        Message("user", "Why?"),
        Message("assistant", "<think>\nhm\n</think>\n\nBecause."),
    ),
    "first answer not learned": (
        Message("user", "Hi"),
        Message("assistant", "Skipped entirely.", learn=False),
        Message("user", "Why?"),
        Message("assistant", "Because."),
    ),
    "last answer not learned": (
        Message("user", "Hi"),
        Message("assistant", "Because."),
        Message("user", "Why?"),
        Message("assistant", "Skipped entirely.", learn=False),
    ),
    "tool calls": (
        Message("user", "How is the weather?"),
        Message("assistant", "", extra=json.dumps({"tool_calls": [CALL]})),
        Message("tool", "sunny, 31 degrees", extra='{"name": "weather_of"}'),
        Message("assistant", "It is sunny."),
    ),
}


def sources(shared_data: Path) -> dict[str, str]:
    """Every template as it stands in its file, and without line breaks and indents."""
    path = shared_data / "chat_templates" / "chat_templates.json"
    raw = {name: entry["chat_template"] for name, entry in json.loads(path.read_text(encoding="utf-8")).items()}
    flat = {f"{name}, flat": source.replace("    ", "").replace("\n", "") for name, source in raw.items()}
    return raw | flat


def check_proof(talk: Sample, tokenizer: Tokenizer) -> None:
    """What is learned is the answers and nothing else, and the prompt of inference is a prefix.

    A token that an earlier answer shares with the template around it is not learned: at most its first and last letter.
    """
    result = tokenise(talk, tokenizer)
    prompt = prompt_ids(talk, tokenizer)
    assert result.ids[: len(prompt)] == prompt
    ids = [number for number, bit in zip(result.ids, result.loss_mask, strict=True) if bit]
    learned = "".join(tokenizer.decode(ids, skip_special=False).split())
    for message in talk.messages:
        text = "".join(message.content.split())
        if message.role == "assistant" and message.learn and text:
            assert (text if message is talk.messages[-1] else text[1:-1]) in learned
        elif len(text) > 3:
            assert text not in learned
        for call in message.tool_calls:
            assert call["function"]["name"] in learned
    if talk.messages[-1].learn:
        last = max(i for i, bit in enumerate(result.loss_mask) if bit)
        assert result.ids[last] in tokenizer.stop_ids


@pytest.mark.req("R114")
@pytest.mark.parametrize("base", TOKENIZERS)
def test_every_template_is_proved_or_refused(base: str, shared_data: Path) -> None:
    tokenizer = Tokenizer.from_folder(shared_data / "tokenizers" / base)
    counts: Counter[str] = Counter()
    for name, source in sources(shared_data).items():
        for kind, messages in TALKS.items():
            try:
                check_proof(Sample(kind, messages, place=f"{kind}:1"), tokenizer.with_template(source))
            except DataError as error:
                assert error.fix, (name, kind)
                counts["refused"] += 1
                continue
            except AssertionError as error:
                raise AssertionError(f"{base}, {name}, {kind}: {error}") from error
            counts[f"proved: {kind}"] += 1
    assert counts.total() == len(TALKS) * len(sources(shared_data))
    assert counts["proved: one turn"] >= 10
    assert counts["proved: first answer not learned"] >= 10
    assert counts["proved: last answer not learned"] >= 10


@pytest.mark.req("R114")
def test_declared_tools_are_in_the_prompt_or_refused(shared_data: Path) -> None:
    tokenizer = Tokenizer.from_folder(shared_data / "tokenizers" / "llama3")
    talk = Sample("x", TALKS["one turn"], tools='[{"type": "function", "function": {"name": "f"}}]')
    with pytest.raises(DataError, match="leaves the declared tool 'f' out of the prompt"):
        tokenise(talk, tokenizer)
    assert tokenise(replace(talk, tools=""), tokenizer).num_loss_tokens > 0
    qwen = Tokenizer.from_folder(shared_data / "tokenizers" / "qwen2.5")
    result = tokenise(talk, qwen)
    assert '{"type": "function", "function": {"name": "f"}}' in qwen.decode(prompt_ids(talk, qwen), skip_special=False)
    assert result.ids[: len(prompt_ids(talk, qwen))] == prompt_ids(talk, qwen)
    calls = replace(talk, messages=TALKS["tool calls"])
    text = qwen.decode(tokenise(calls, qwen).ids, skip_special=False)
    assert '{"name": "weather_of", "arguments": {"city": "Zürich", "days": 3}}' in text
