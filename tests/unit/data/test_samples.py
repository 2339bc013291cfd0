"""Samples: what is prompt, what is target, and that nothing is lost on the way to JSON and back."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

from foretune.data.samples import Message, Sample, message_line, sample_hash

TALK = (
    Message("system", "Be brief."),
    Message("user", "Hi"),
    Message("assistant", "Hello."),
    Message("user", "Why?"),
    Message("assistant", "Because."),
)


def test_prompt_is_everything_before_the_last_answer() -> None:
    sample = Sample("a", TALK)
    assert sample.prompt == TALK[:4]
    assert sample.target == "Because."
    assert sample.input_text == "Why?"
    assert not sample.is_text


def test_a_sample_without_an_answer_is_all_prompt() -> None:
    sample = Sample("a", TALK[:2])
    assert sample.prompt == TALK[:2]
    assert sample.target == ""


def test_raw_text_has_no_target() -> None:
    sample = Sample("a", text="Once upon a time.")
    assert sample.is_text
    assert sample.prompt == ()
    assert (sample.target, sample.input_text) == ("", "Once upon a time.")


def test_json_round_trip_keeps_every_field() -> None:
    sample = Sample("a", TALK, group="customer 1", place="x.jsonl:3", meta={"topic": "é", "n": 2})
    assert Sample.from_json(json.loads(json.dumps(sample.to_json()))) == sample
    text = Sample("b", text="Zürich\n")
    assert Sample.from_json(json.loads(json.dumps(text.to_json()))) == text


def test_hash_is_of_content_alone() -> None:
    one = Sample("a", TALK, place="x.jsonl:3")
    assert sample_hash(one) == sample_hash(Sample("b", TALK, group="g", place="y.jsonl:9", meta={"k": 1}))
    assert sample_hash(one) != sample_hash(Sample("a", TALK[:4]))
    swapped = (TALK[0], Message("assistant", "Hi"), Message("user", "Hello."), *TALK[3:])
    assert sample_hash(one) != sample_hash(Sample("a", swapped))


def test_hash_does_not_confuse_text_with_messages() -> None:
    assert sample_hash(Sample("a", text="Hi")) != sample_hash(Sample("a", (Message("user", "Hi"),)))


def test_training_line_is_one_utf8_object() -> None:
    line = message_line(Sample("a", (Message("user", "a\nb é"), Message("assistant", "ok"))))
    assert "\n" not in line
    assert "é" in line
    assert json.loads(line) == {
        "messages": [{"role": "user", "content": "a\nb é"}, {"role": "assistant", "content": "ok"}]
    }
