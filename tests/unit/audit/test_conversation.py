"""Answers that stop in mid-sentence: planted ones are found, open ends by nature are left alone; blank turns."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest

from foretune.audit.checks.conversation import cut_off_answers, empty_answers, empty_inputs, role_order
from foretune.audit.endings import cut_offs
from foretune.data.samples import Message, Sample
from planting import chats, planted, subject_of

SUBJECTS = (
    "the river|our teacher|a young engineer|the old library|this method|every visitor|my neighbour|the committee".split(
        "|"
    )
)
VERBS = (
    "carries water to|explains the rules of|finally improves|has always supported|slowly changes|rarely mentions".split(
        "|"
    )
)
OBJECTS = (
    "the small village|a difficult lesson|the new bridge|the local market|many families in town|their best idea".split(
        "|"
    )
)
REASONS = "because nobody else would|when the weather is good|after a long discussion|so that all can take part".split(
    "|"
)


def sentence(rng: random.Random) -> str:
    words = " ".join(rng.choice(part) for part in (SUBJECTS, VERBS, OBJECTS, REASONS))
    return words[0].upper() + words[1:] + "."


def answers(num: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(sentence(rng) for _ in range(rng.randint(2, 5))) for _ in range(num)]


def cut(text: str, rng: random.Random) -> str:
    while True:
        head = text[: rng.randint(len(text) // 3, len(text) - 3)].rstrip()
        if not re.search(r"[.!?…][\"')\]*]*$", head) and len(head) >= 60:
            return head


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1])
def test_planted_cuts_are_found(rate: float) -> None:
    score = planted(cut_off_answers, answers(800), cut, rate)
    assert score.recall >= 0.95
    assert score.precision >= 0.9


def test_whole_answers_are_not_suspected() -> None:
    assert cut_off_answers(subject_of(chats(answers(300)))) == []


def test_lists_without_full_stops_end_openly_by_nature() -> None:
    rng = random.Random(3)
    lists = ["\n".join(f"- {rng.choice(OBJECTS)} {n}" for n in range(6)) for _ in range(200)]
    finding = cut_off_answers(subject_of(chats([*answers(200), *lists])))
    assert not finding or finding[0].count <= 5


def test_the_same_texts_give_the_same_answer() -> None:
    texts = [cut(text, random.Random(n)) if n % 20 == 0 else text for n, text in enumerate(answers(300))]
    assert cut_offs(texts) == cut_offs(texts)
    assert cut_offs([]).rows == cut_offs(["short"]).rows == []


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1])
def test_planted_cuts_in_real_answers(shared_data: Path, rate: float) -> None:
    """On answers of Alpaca known to be whole, for they end in punctuation: recall and precision of 0.99 and more."""
    rows = json.loads((shared_data / "alpaca_52k" / "alpaca_data.json").read_text(encoding="utf-8"))[:8000]
    whole = [
        row["output"] for row in rows if len(row["output"]) >= 100 and row["output"].rstrip().endswith((".", "!", "?"))
    ]
    score = planted(cut_off_answers, whole, cut, rate)
    assert score.recall >= 0.95
    assert score.precision >= 0.9


@pytest.mark.parametrize("blank", ["", " ", "\n\t", "\u200b", "\ufeff\u00a0", "\u3000"])
def test_turns_that_show_nothing_are_empty(blank: str) -> None:
    rows = chats(["fine", blank], [blank, "fine"])
    assert empty_inputs(subject_of(rows))[0].places == ("d:0",)
    assert empty_answers(subject_of(rows))[0].places == ("d:1",)


@pytest.mark.req("R109")
@pytest.mark.req("R110")
@pytest.mark.parametrize(
    ("roles", "is_good"), [("ua", True), ("sua", True), ("usa", False), ("sa", False), ("suaua", True)]
)
def test_roles(roles: str, is_good: bool) -> None:
    names = {"s": "system", "u": "user", "a": "assistant"}
    sample = Sample("x", tuple(Message(names[role], "text") for role in roles), place="d:1")
    assert (role_order(subject_of([sample])) == []) is is_good


def test_calls_of_tools_are_no_fault() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    turns = [
        {"role": "user", "content": "rain?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "dry", "tool_call_id": "1"},
        {"role": "assistant", "content": "no, it stays dry."},
    ]
    sample = Sample("a", tuple(Message.from_json(turn) for turn in turns), place="d:1")
    subject = subject_of([sample])
    assert role_order(subject) == [] and empty_answers(subject) == []
