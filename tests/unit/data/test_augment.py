"""Augmentation: more rows that still mean the same, each saying where it comes from."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from foretune.data.augment import KINDS, augmented, rephrased_by_rule
from foretune.data.samples import Message, Sample
from foretune.errors import ConfigError


def row(number: int) -> Sample:
    text = f"How do I change the address of my account number {number}? I want to move soon."
    return Sample(f"r{number}", (Message("system", "Be kind."), Message("user", text), Message("assistant", "Here.")))


ROWS = [row(n) for n in range(40)]


@pytest.mark.req("R299")
def test_new_rows_keep_answer_and_group_and_tell_their_origin() -> None:
    made = augmented(ROWS, share=0.5, seed=3)
    assert len(made) == 20
    by_id = {sample.id: sample for sample in ROWS}
    for sample in made:
        origin = by_id[sample.meta["augmented"]["from"]]
        assert sample.target == origin.target
        assert sample.messages[0] == origin.messages[0]
        assert sample.input_text != origin.input_text
        assert sample.group == origin.id
        assert sample.id.startswith(f"{origin.id}~")
    assert augmented(ROWS[::-1], share=0.5, seed=3) == made
    assert augmented(ROWS, share=0.5, seed=4) != made


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_makes_rows(kind: str) -> None:
    made = augmented(ROWS, kinds=[kind], share=0.25)
    assert len(made) >= 8 or kind == "one_line"
    assert all(kind in sample.meta["augmented"]["how"][0] for sample in made)


def test_a_given_model_rephrases_and_is_named() -> None:
    made = augmented(ROWS, kinds=["rephrase"], share=0.1, rephrase=lambda text: f"Say: {text}", model_name="m1")
    assert {sample.meta["augmented"]["how"][0] for sample in made} == {"rephrase:m1"}
    assert all(sample.input_text.startswith("Say: ") for sample in made)


def test_no_row_is_made_twice_or_of_a_made_row() -> None:
    made = augmented(ROWS, kinds=["lower"], share=1.0)
    assert augmented([*ROWS, *made], kinds=["lower"], share=1.0) == []
    assert augmented([Sample("t", text="raw text")], share=1.0) == []


def test_rules_keep_numbers_and_names() -> None:
    text = "Can you tell me what is the rate on 12 May for order A-17?"
    said = rephrased_by_rule(text)
    assert said != text
    assert "12 May" in said
    assert "A-17" in said


@pytest.mark.parametrize(("kinds", "share"), [(["shout"], 0.2), ([], 0.2), (["typos"], 0.0), (["typos"], 1.5)])
def test_what_cannot_be_done_is_refused(kinds: list[str], share: float) -> None:
    with pytest.raises(ConfigError, match="expected kinds"):
        augmented(ROWS, kinds=kinds, share=share)
