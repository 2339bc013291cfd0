"""How answers are worded: what stands behind a negation counts as denied, and only there."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from foretune.audit.wording import grams_of, shown


@pytest.mark.parametrize(
    ("answer", "is_denied"),
    [
        ("a family friendly place", False),
        ("not a family friendly place", True),
        ("it isn't family friendly", True),
        ("it isn’t very family friendly", True),
        ("a non family friendly place", True),
        ("not cheap, but friendly", False),
        ("it is not cheap. friendly staff", False),
        ("not only cheap but friendly", False),
        ("not far from the old river bank a friendly place", False),
    ],
)
def test_scope_of_a_negation(answer: str, is_denied: bool) -> None:
    grams = grams_of(answer)
    assert ("!friendly" in grams) is is_denied
    assert ("+friendly" in grams) is not is_denied
    assert "friendly" in grams


def test_word_groups_end_with_the_sentence() -> None:
    grams = grams_of("low price. it is near")
    assert "low price" in grams and "it is near" in grams
    assert "price it" not in grams


def test_how_a_gram_is_shown() -> None:
    assert [shown(gram) for gram in ("!friendly", "+friendly", "by the river")] == [
        "not ... friendly",
        "friendly",
        "by the river",
    ]
