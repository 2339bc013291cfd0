"""Messages in, message out: what is left out of a long conversation, classes as answers, two models side by side."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from foretune.data.inputs import asked, class_input, input_ids, plain_text, source_ids
from foretune.data.samples import Message, Sample
from foretune.data.tokenise import prompt_ids
from foretune.data.tokenizer import Tokenizer
from foretune.engine.chat import ChatEngine, side_by_side
from foretune.errors import ConfigError
from foretune.models.base import resolve_base

TOKENIZER = Tokenizer.from_folder(resolve_base("pebble"))


class Echo:
    """An engine that answers with a function of its prompt as text."""

    def __init__(self, answer: Callable[[str], str], *, kind: str = "causal", max_len: int | None = 512) -> None:
        self.answer, self.max_len, self.tokenizer = answer, max_len, TOKENIZER
        self.loaded = SimpleNamespace(kind=kind)
        self.limits: list[int] = []

    def generate(self, prompts: list[list[int]], *, max_new_tokens: int, **options: Any) -> list[list[int]]:
        self.limits.append(max_new_tokens)
        return [TOKENIZER.encode(self.answer(TOKENIZER.decode(ids, False)))[:max_new_tokens] for ids in prompts]

    def classify(self, inputs: list[list[int]], *, batch_size: int = 64) -> list[str]:
        return [self.answer(TOKENIZER.decode(ids, False)) for ids in inputs]


def talk(*turns: str, system: str = "") -> list[Message]:
    roles = ("user", "assistant")
    head = [Message("system", system)] if system else []
    return [*head, *(Message(roles[n % 2], text) for n, text in enumerate(turns))]


def test_the_model_reads_the_chat_prompt_and_its_words_come_back() -> None:
    seen: list[str] = []
    chat = ChatEngine(Echo(lambda prompt: seen.append(prompt) or "fine, and you?"))
    assert chat.reply(talk("hi", "hello", "how are you?", system="be kind")) == "fine, and you?"
    assert seen == [TOKENIZER.render(talk("hi", "hello", "how are you?", system="be kind"), True)]


def test_a_long_conversation_loses_its_oldest_turns_never_the_system_message() -> None:
    seen: list[str] = []
    chat = ChatEngine(Echo(lambda prompt: seen.append(prompt) or "ok", max_len=64))
    turns = [f"this is turn number {n}" for n in range(15)]
    chat.reply(talk(*turns, system="be kind"), max_new_tokens=16)
    assert seen[0].startswith("<|bos|><|system|>be kind<|end|><|user|>") and "turn number 14" in seen[0]
    assert "turn number 3" not in seen[0] and len(TOKENIZER.encode(seen[0])) <= 48
    assert chat.reply(talk("a very long turn " * 40), max_new_tokens=16) == "ok"


def test_an_answer_takes_at_most_half_of_the_context() -> None:
    engine = Echo(lambda prompt: "word " * 100, max_len=60)
    chat = ChatEngine(engine)
    chat.reply(talk("hi"), max_new_tokens=200)
    assert engine.limits == [30] and chat.new_tokens(8) == 8
    unlimited = ChatEngine(Echo(lambda prompt: "", max_len=None))
    assert unlimited.new_tokens(200) == 200 and unlimited.room(200) is None


def test_a_classifier_answers_with_its_class() -> None:
    chat = ChatEngine(Echo(lambda prompt: "positive" if "good" in prompt else "negative", kind="classify"))
    assert chat.reply(talk("a good day")) == "positive"
    replies = chat.replies([chat.prompt_ids(talk(text)) for text in ("bad", "good")], max_new_tokens=1)
    assert [(reply.text, reply.num_tokens) for reply in replies] == [("negative", 0), ("positive", 0)]


def test_a_conversation_must_wait_for_an_answer() -> None:
    chat = ChatEngine(Echo(lambda prompt: ""))
    for messages in ([], talk("hi", "hello")):
        with pytest.raises(ConfigError, match="the last message"):
            chat.reply(messages)


def test_two_models_side_by_side() -> None:
    both = side_by_side(Echo(lambda prompt: "base"), Echo(lambda prompt: "tuned"), talk("hi"))
    assert both == ("base", "tuned") and both.fine_tuned == "tuned"


def test_each_kind_of_model_reads_what_it_was_trained_on() -> None:
    sample = Sample("s", (*talk("is it good?", system="judge"), Message("assistant", "yes")))
    waiting = asked(sample.prompt)
    assert input_ids(waiting, TOKENIZER, kind="causal", max_seq_len=4) == prompt_ids(sample, TOKENIZER)
    assert source_ids(waiting, TOKENIZER) == [*TOKENIZER.encode("judge\nis it good?"), TOKENIZER.eos_id]
    assert input_ids(waiting, TOKENIZER, kind="seq2seq", max_seq_len=4) == source_ids(sample, TOKENIZER)
    assert class_input(waiting, TOKENIZER, 5) == prompt_ids(sample, TOKENIZER)[-5:]
    bare = TOKENIZER.with_template(None)
    assert class_input(sample, bare, 99) == TOKENIZER.encode("is it good?", add_special=True)
    assert class_input(Sample("e", (Message("user", ""), Message("assistant", "x"))), bare, 9) == [bare.pad_id]
    assert plain_text(sample) == "judge\nis it good?\nyes" and plain_text(Sample("t", text="raw")) == "raw"
