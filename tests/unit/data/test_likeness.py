"""Short inputs are compared by their words, the rare ones before all, and only with rows of the same answer."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from foretune.data.likeness import Asked, Likeness, words

ROWS = [
    Asked(f"{name} sells the {thing} {word}", f"code {name} {thing}")
    for name, thing, word in (
        ("acme", "lamp", "please"),
        ("bolt", "lamp", "thanks"),
        ("cora", "desk", "please"),
        ("dune", "vase", "now"),
        ("acme", "sofa", "thanks"),
    )
]


def test_words_ignore_case_order_and_marks() -> None:
    assert words("The Lamp, the LAMP!") == words("lamp the") == {"the", "lamp"}
    assert words("我要退款") == {"我", "要", "退", "款"}  # written without spaces
    assert words("") == frozenset()


def test_one_other_word_leaves_a_short_question_near() -> None:
    """The new last word stands in every held-out row, and so tells none apart."""
    copy, other = Asked("acme sells the lamp today", "code acme lamp"), Asked("zenit sells the rug today", "zenit rug")
    likeness = Likeness(ROWS, [copy, other, Asked("ovid sells the mug today", "code ovid mug")])
    assert likeness.nearest(copy) > 0.45 > 0.2 > likeness.nearest(other)
    assert likeness.at_least(copy, 0.45) == [0]
    assert Likeness(ROWS).nearest(copy) < likeness.nearest(copy)


def test_words_that_every_input_has_weigh_little() -> None:
    assert Likeness(ROWS).nearest(Asked("sells the", "code acme lamp")) < 0.1


def test_a_like_question_with_another_answer_is_another_question() -> None:
    likeness = Likeness(ROWS)
    assert likeness.nearest(Asked("acme sells the lamp please", "7")) == 0.0
    assert likeness.between(ROWS[0], Asked(ROWS[0].text, "7")) == 0.0
    assert likeness.between(ROWS[0], ROWS[0]) == 1.0


@pytest.mark.parametrize("text", ["", "!?", "unheard of"])
def test_what_shares_no_word_is_like_nothing(text: str) -> None:
    assert Likeness(ROWS).nearest(Asked(text, "code acme lamp")) == 0.0
    assert Likeness([]).nearest(Asked(text, "x")) == 0.0
