"""Where words stop: words that sentences go on behind, and stumps of words, are told from whole ends."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from foretune.audit.boundaries import NUM_TRAITS, Boundaries

TEXTS = [f"the population of town {n} uses the computer, and the price of the computer is high.\n" for n in range(40)]


def test_a_word_that_goes_on_stops_less_than_one_that_ends() -> None:
    counted = Boundaries(TEXTS)
    goes_on, ends = (counted.traits(f"they like the {word}") for word in ("price of", "computer"))
    assert len(goes_on) == NUM_TRAITS
    assert goes_on[1] < 0 < ends[1] + 3
    assert goes_on[2] < ends[2]


def test_a_stump_is_new_and_begins_longer_words() -> None:
    counted = Boundaries(TEXTS)
    stump, unknown, whole = (counted.traits(f"they use the {word}") for word in ("compu", "xylograph", "computer"))
    assert stump[-2:] == [1.0, 1.0]
    assert unknown[-2:] == [1.0, 0.0]
    assert whole[-2:] == [0.0, 0.0]


def test_a_text_that_ends_on_no_word_tells_nothing() -> None:
    assert Boundaries(TEXTS).traits("it is high.") == [0.0] * NUM_TRAITS
    assert Boundaries([]).traits("anything")[0] == 1.0


def test_a_texts_own_last_word_is_left_out() -> None:
    assert Boundaries(["one two three"]).words["three"] == 0
    assert Boundaries(["one two three."]).words["three"] == 1
