"""Groups of people in inputs and answers: counted on both sides, reported where skewed, never judged."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from foretune.audit.checks.groups import TERM_GROUPS, group_counts, group_shares, harsh_words
from planting import chats, subject_of


@pytest.mark.req("R145")
def test_both_sides_are_counted_once_a_row() -> None:
    rows = chats(
        ["He and his brother, a man.", "She left.", "A black cat."], ["Tell of a woman", "An old man", "Black people?"]
    )
    counts = group_counts(rows)
    assert counts["gender"]["male"] == (1, 1)
    assert counts["gender"]["female"] == (1, 1)
    assert counts["age"]["old"] == (1, 0)
    assert counts["ethnicity"]["black"] == (1, 0)
    assert set(counts) == set(TERM_GROUPS)


@pytest.mark.req("R141")
def test_a_skew_is_reported_as_information() -> None:
    (finding,) = group_shares(subject_of(chats(["He is there."] * 90 + ["She is there."] * 10)))
    assert (finding.id, finding.severity, finding.effect) == ("DATA057", "info", 0.0)
    assert finding.places == ("gender",)
    assert "female 0/10, male 0/90" in finding.evidence[0]
    assert "no verdict" in finding.fix


def test_even_or_few_mentions_are_no_skew() -> None:
    even = ["He and she know them."] * 100
    assert group_shares(subject_of(chats(even))) == []
    assert group_shares(subject_of(chats(["He is there."] * 20))) == []


def test_harsh_words_in_answers_are_listed_to_be_read() -> None:
    (finding,) = harsh_words(subject_of(chats(["You idiot!", "Fine.", "A dumbbell."], ["a", "Are you stupid?", "b"])))
    assert (finding.id, finding.severity, finding.places) == ("DATA058", "info", ("d:0",))
    assert "inputs: 1" in finding.title
