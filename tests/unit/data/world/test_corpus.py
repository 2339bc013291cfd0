"""The corpus: deterministic, shardable, mostly chat, rich in few-shot documents that their examples explain."""
# SPDX-License-Identifier: Apache-2.0

import json
from collections import Counter
from random import Random

import pytest

from foretune.data.world import corpus, drills, induction, reading, spanish
from foretune.data.world.document import Document


def _num_answers(document: Document) -> int:
    return sum(message["role"] == "assistant" for message in document.messages)


def test_document_depends_on_seed_and_index_alone() -> None:
    whole = list(corpus.documents(7, 60))
    assert list(corpus.documents(7, 20, start=40)) == whole[40:]
    assert list(corpus.documents(8, 60)) != whole


def test_mixture_holds_enough_chats_and_few_shot_chats() -> None:
    drawn = list(corpus.documents(0, 3000))
    chats = [d for d in drawn if d.messages]
    few_shot = [d for d in chats if _num_answers(d) >= 3]
    assert 0.78 < len(chats) / len(drawn) < 0.88
    assert len(few_shot) / len(chats) >= 0.35
    assert len(Counter(d.skill for d in drawn)) >= 20


def test_chats_alternate_and_end_with_an_answer() -> None:
    for document in corpus.documents(1, 1000):
        roles = [m["role"] for m in document.messages]
        turns = roles[1:] if roles[:1] == ["system"] else roles
        assert turns == ["user", "assistant"] * (len(turns) // 2)
        assert all(m["content"] for m in document.messages)
        assert (document.text is None) == bool(document.messages)


def test_documents_seldom_repeat() -> None:
    bodies = [d.text or json.dumps(d.messages) for d in corpus.documents(3, 4000)]
    assert len(set(bodies)) / len(bodies) > 0.95


def test_closed_untold_task_asks_only_for_shown_answers() -> None:
    for index in range(200):
        rng = Random(index)
        task = induction.group_task(rng)
        pairs = corpus.few_shot_pairs(rng, task, rng.randint(2, 8), untold=True)
        shown = {pair.answer for pair in pairs[:-1]}
        assert pairs[-1].answer in shown
        assert len(shown) >= 2


def test_json_answers_follow_the_told_keys() -> None:
    for index in range(100):
        rng = Random(index)
        task = reading.json_task(rng)
        answer = json.loads(task.draw(rng).answer)
        assert all(key in task.instruction for key in answer)


def test_labels_of_a_classification_are_told() -> None:
    for index in range(100):
        rng = Random(index)
        task = reading.classify_task(rng)
        assert task.draw(rng).answer in task.instruction


@pytest.mark.parametrize(
    "build", [drills.copy_task, drills.rewrite_task, drills.order_task, drills.pick_task, drills.arithmetic_task]
)
def test_one_drawn_task_is_one_mapping(build: corpus.Builder) -> None:
    for index in range(50):
        task = build(Random(index))
        assert task.draw(Random(5)) == task.draw(Random(5))
        assert task.instruction and task.draw(Random(6)).answer


def test_table_look_ups_have_one_answer_that_stands_in_the_table() -> None:
    for index in range(100):
        rng = Random(index)
        pair = reading.lookup_task(rng).draw(rng)
        assert pair.answer in pair.question.rsplit("\n", 1)[0]


def test_sums_are_right() -> None:
    for index in range(50):
        rng = Random(index)
        question, answer = drills.ARITHMETIC["add"](rng).draw(rng)
        first, second = (int(n) for n in question.replace("plus", "+").split("+"))
        assert int(answer) == first + second


def test_spanish_twins_use_the_same_words_for_the_same_meaning() -> None:
    english, twin = spanish.sentence(Random(4))
    for word, meaning in spanish.WORDS.items():
        if word in english.split():
            assert meaning in twin
