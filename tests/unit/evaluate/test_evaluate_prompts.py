"""Prompts of the base model: neighbours, examples as turns, system messages, and what fits into the context."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from foretune.data.samples import Message, Sample
from foretune.engine.chat import ChatEngine
from foretune.evaluate.neighbours import Neighbours
from foretune.evaluate.prompts import ZERO_SHOT, Examples, Prompt, ask, few_shot_prompts, zero_shot_prompts

Run = Any  # the fake run of conftest.py
PLAIN = Prompt(ZERO_SHOT, "plain")


def sample(question: str, answer: str = "yes", system: str = "") -> Sample:
    head = (Message("system", system),) if system else ()
    return Sample(question, (*head, Message("user", question), Message("assistant", answer)))


def test_the_nearest_texts_come_first() -> None:
    texts = ["the parcel is late", "my card was stolen", "parcels that come late", "how do i open an account?"]
    index = Neighbours(texts)
    assert index.nearest("where is my late parcel", 2) == [0, 2]
    assert index.nearest("HOW do I open an account", 1) == [3]
    assert index.nearest("", 10) == [0, 1, 2, 3]
    assert Neighbours([]).nearest("x", 3) == []
    assert len(index.nearest("日本 🙂 \ud800", 1)) == 1


def test_rare_ngrams_weigh_more_than_common_ones() -> None:
    texts = [f"please tell me the price of the {thing} today, thank you" for thing in ("lamp", "desk", "sofa", "rug")]
    assert Neighbours(texts).nearest("sofa", 1) == [2]
    assert Neighbours(texts).nearest("please tell me the price of the desk today, thank you", 1) == [1]


def test_examples_stand_as_turns_the_most_wanted_next_to_the_question() -> None:
    messages = PLAIN.messages(sample("q", system="be brief"), [sample("near", "1", "be brief"), sample("far", "2")])
    assert [(m.role, m.content) for m in messages] == [
        ("system", "be brief"),
        ("user", "far"),
        ("assistant", "2"),
        ("user", "near"),
        ("assistant", "1"),
        ("user", "q"),
    ]


def test_an_example_with_another_system_message_keeps_it_in_its_first_turn() -> None:
    messages = PLAIN.messages(sample("q", system="the shop is open"), [sample("is it?", "no", "the shop is closed")])
    assert [m.content for m in messages] == ["the shop is open", "the shop is closed\n\nis it?", "no", "q"]


def test_system_messages_are_replaced_or_added_to() -> None:
    plain, instructed, named = zero_shot_prompts(["be kind"], ["no", "yes"])
    asked = sample("q", system="be brief")
    assert [m.content for m in plain.messages(asked, [])] == ["be brief", "q"]
    assert [m.content for m in instructed.messages(asked, [])] == ["be kind", "q"]
    assert named.messages(asked, [])[0].content == "be brief\nAnswer with one of: no, yes."
    assert named.messages(sample("q"), [])[0] == Message("system", "Answer with one of: no, yes.")


def test_a_random_draw_shows_every_answer_before_it_repeats_one() -> None:
    train = [sample(f"q{n}", "common" if n % 10 else f"rare{n // 10}") for n in range(40)]
    examples = Examples(train, 0)
    shown = examples.random_prompt(5, 0, 1).shots(sample("x"))[:5]
    assert sorted(shot.target for shot in shown) == ["common", "rare0", "rare1", "rare2", "rare3"]
    assert shown == examples.random_prompt(5, 0, 1).shots(sample("y"))[:5]
    assert shown != examples.random_prompt(5, 0, 2).shots(sample("x"))[:5]


def test_conversations_that_do_not_alternate_are_no_examples() -> None:
    odd = Sample("o", (Message("assistant", "hello"), Message("user", "hi"), Message("assistant", "so?")))
    chat = Sample("c", (*sample("a").messages, Message("user", "b"), Message("assistant", "c")))
    assert Examples([odd, chat, Sample("t", text="raw")], 0).samples == [chat]
    assert few_shot_prompts((5, 8), Examples([odd], 0), 0, PLAIN) == []


def test_large_training_sets_give_a_drawn_pool() -> None:
    train = [sample(f"q{n}") for n in range(2500)]
    pool = Examples(train, 3).samples
    assert len(pool) == 2000 and pool == Examples(train, 3).samples != Examples(train, 4).samples


@pytest.mark.req("R013")
def test_the_least_wanted_examples_go_where_the_context_is_short(fake_run: Run) -> None:
    chat = ChatEngine(fake_run.base)
    prompt = Examples([sample(f"question {n} about parcels") for n in range(30)], 0).nearest_prompt(8)
    question = sample("question 7 about parcels")
    (whole,) = ask(prompt, [question], chat, 8)
    assert whole.num_shots == 8
    fake_run.base.max_len = len(whole.ids) + 8
    assert ask(prompt, [question], chat, 8) == [whole]
    (cut,) = ask(prompt, [question], chat, 9)
    assert cut.num_shots == 7 and "question 7" in fake_run.tokenizer.decode(cut.ids)


def test_a_shorter_example_stands_in_for_one_that_does_not_fit(fake_run: Run) -> None:
    fake_run.base.max_len = 60
    train = [sample("where is my parcel " * 20, "long"), sample("where is it", "short"), sample("hello", "hi")]
    (asked,) = ask(Examples(train, 0).nearest_prompt(1), [sample("where is my parcel")], ChatEngine(fake_run.base), 8)
    assert asked.num_shots == 1 and "short" in fake_run.tokenizer.decode(asked.ids)
