"""Sentences that state facts are found and ordered; opinions, offers, questions and code are not."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretune.data.claims import claims, claims_of
from foretune.data.samples import Message, Sample


def answered(text: str, name: str = "a") -> Sample:
    return Sample(name, (Message("user", "tell me"), Message("assistant", text)), place="a.jsonl:1")


@pytest.mark.req("R144")
@pytest.mark.parametrize(
    "fact",
    [
        "The Eiffel Tower was built in 1889 by Gustave Eiffel.",
        "The population of India is 1.38 billion as of 2021.",
        "Mount Everest, located in Nepal, is the highest peak in the world.",
        "Water consists of hydrogen and oxygen, according to Lavoisier.",
    ],
)
def test_facts_are_queued(fact: str) -> None:
    (claim,) = claims_of(answered(f"Sure, here it is.\n{fact} I hope that helps you with 3 things!"))
    assert claim.text == fact and claim.why and claim.score >= 2 and claim.question == "tell me"


@pytest.mark.parametrize(
    "text",
    [
        "I think that Paris was the best city in 1999.",
        "Please send 20 euros to Anna before May 2024.",
        "Was the tower in Paris built in 1889?",
        "```\nyear = 1889  # The Tower of Paris was built in 1889.\n```",
        "Once upon a time in 1200 a king lived in the largest castle.",
        "blue",
        "",
    ],
)
def test_what_nobody_can_look_up_is_not(text: str) -> None:
    assert claims_of(answered(text)) == []


def test_the_queue_is_ordered_by_how_checkable_and_holds_each_wording_once() -> None:
    weak, strong = "Anna Lee was born in 1999.", "In 1999 the population of Paris was 2 million, according to INSEE."
    found = claims([answered(weak, "a"), answered(strong, "b"), answered(strong, "c")])
    assert [(claim.sample_id, claim.text) for claim in found] == [("b", strong), ("a", weak)]
    assert [claim.sample_id for claim in claims([answered(weak), answered(strong, "b")], most=1)] == ["b"]


@given(text=st.text(max_size=300))
def test_any_text_can_be_searched(text: str) -> None:
    assert all(claim.text.strip() for claim in claims_of(Sample("t", text=text)))
