"""Proposed prompts: few answers spent on bad ones, examples by diversity, and never a test sample."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from foretune.evaluate.metrics import Scoring
from foretune.evaluate.neighbours import Neighbours
from foretune.evaluate.optimise import propose
from foretune.evaluate.prompts import Examples
from foretune.evaluate.selection import Search

from .conftest import LABELS, knows, question, thing

Run = Any


def test_spread_takes_one_of_each_kind() -> None:
    kinds = ("how do I reset my password", "the parcel has not come yet", "12 + 30 = ?")
    texts = [f"{kind} {number}" for number in range(20) for kind in kinds]
    picked = Neighbours(texts).spread(3)
    assert {texts[place].rpartition(" ")[0] for place in picked} == set(kinds)
    nearest = Neighbours(texts).nearest(texts[0], 3)
    assert len({texts[place].rpartition(" ")[0] for place in nearest}) == 1
    assert Neighbours(texts).spread(500) and len(set(Neighbours(texts).spread(500))) == 60
    assert Neighbours([]).spread(3) == [] and Neighbours(["one"]).spread(3) == [0]


def test_diverse_examples_are_the_same_for_every_question() -> None:
    examples = Examples([question(number) for number in range(40)], 0)
    prompt = examples.diverse_prompt(4)
    assert prompt.name == "diverse_4" and prompt.shots(question(99)) == prompt.shots(question(7))
    assert len({sample.id for sample in prompt.shots(question(1))[:4]}) == 4


def search(few_shot: tuple[int, ...] = (2, 4)) -> Search:
    train = [question(number) for number in range(40)]
    held_out = [question(number) for number in range(100, 132)]
    return Search(Scoring("accuracy", ("accuracy",), LABELS), train, held_out, few_shot)


def test_proposals_are_made_of_training_samples_alone() -> None:
    found = propose(search(), 12)
    assert [one.name for one in found] == [f"optimised_{number}" for number in range(1, 13)]
    assert found == propose(search(), 12)
    assert any("Answer with exactly one of: blue, green, gold." in one.told for one in found)
    assert {len(one.places) for one in found} == {0, 2, 4}
    examples = search().examples
    for one in found:
        assert len(set(one.places)) == len(one.places) and max(one.places, default=0) < 40
        drawn = {examples.samples[place].target for place in one.places}
        assert len(drawn) == min(3, len(one.places))  # as different as they come
        assert one.told or one.places


def test_the_optimiser_finds_the_prompt_that_works(fake_run: Run) -> None:
    """A base that only answers where it is told the expert's words and shown examples."""
    known = knows(least_shots=1)
    fake_run.base.answer = lambda prompt: known(prompt) if "expert at this task" in prompt else "no idea"
    fake_run.settings["evaluate"]["advanced"] |= {"optimise_prompt": 16, "max_validation_samples": 32}
    fake_run.write_questions(num_validation=32)
    record = fake_run.evaluate()
    chosen = next(row for row in record.prompt_choices if row["chosen_as"] == "base_few_shot")
    assert chosen["name"].startswith("optimised_") and chosen["score"] == 1.0
    assert record.system("base_few_shot").metrics["accuracy"].value == 1.0
    assert record.verdict != "better"  # the prompted base is as good


def questions(run: Run, first: int = 0) -> list[str]:
    """Prompts that ask for an answer, not for an instruction."""
    return [prompt for prompt in run.base.prompts[first:] if "Instruction:" not in prompt]


def test_budget_and_what_it_may_see(fake_run: Run) -> None:
    fake_run.settings["evaluate"]["advanced"] |= {"optimise_prompt": 16, "max_validation_samples": 32}
    fake_run.write_questions(num_validation=32)
    seen: list[str] = []

    def stop(what: str, done: int, total: int) -> None:
        if what == "zero_shot":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fake_run.evaluate(on_progress=stop)
    seen = questions(fake_run)
    assert set(map(thing, seen)) == set(range(100, 132))  # validation alone
    rounds = 16 * 8 + 8 * 8 + 4 * 16  # not 16 * 32
    assert rounds <= len(seen) <= rounds + 32
    asked = len(fake_run.base.prompts)
    record = fake_run.evaluate()  # goes on: no answer of the optimiser is asked for again
    again = [prompt for prompt in questions(fake_run, asked) if thing(prompt) < 1000]
    assert len(again) <= 32 * len(record.prompt_choices)
