"""Rewording by rule or by a model: other words, the same meaning, and nothing touched that an answer rests on."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from foretune.data.samples import Message, Sample
from foretune.errors import ConfigError
from foretune.evaluate.rewording import GROUPS, ONE_WAY, RULES, reworded_by_rule, reworded_sample, rewording
from unit.evaluate.conftest import ChatServer, Chatter, said

pytestmark = pytest.mark.req("R296")
REQUEST = "It is urgent: I do not want order 48-302 any more, please write to Mr Brown at a@b.de, but not to `it is`."


def sample(text: str, target: str = "ok") -> Sample:
    return Sample("s1", (Message("system", "it is"), Message("user", text), Message("assistant", target)))


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def test_the_same_text_and_seed_give_the_same_words_and_another_seed_others() -> None:
    found = {reworded_by_rule(REQUEST, "ok", f"seed/{number}") for number in range(12)}
    assert len(found) > 3 and REQUEST not in found
    assert reworded_by_rule(REQUEST, "ok", "seed/3") == reworded_by_rule(REQUEST, "ok", "seed/3")


def test_numbers_names_code_and_addresses_stay() -> None:
    for number in range(40):
        text = reworded_by_rule(REQUEST, "ok", str(number))
        assert re.findall(r"\d+", text) == ["48", "302"]
        assert {"48-302", "a@b.de", "`it is`"} <= {part.rstrip(".,") for part in re.split(r"\s(?![^`]*`[^`]*$)", text)}
        assert "Brown" in text


def test_what_the_target_holds_too_stays() -> None:
    """A phrase or word that the answer copies is the answer's business."""
    text, target = "i need the big lamp fixed, but the desk is wrong.", '{"item": "big lamp", "state": "wrong"}'
    for number in range(40):
        assert {"big", "lamp", "wrong"} <= set(words(reworded_by_rule(text, target, str(number))))
    assert any("large" in words(reworded_by_rule(text, "ok", str(number))) for number in range(40))


@pytest.mark.parametrize(
    "text",
    ['{"state": "it is new"}', "Ist das Wetter in Berlin heute gut?", "snow fell in prague on sunday.", "", "42"],
)
def test_what_no_rule_fits_is_left_alone(text: str) -> None:
    """Data, another language, and what nobody says to anybody; a lost full stop alone would be no rewording."""
    assert reworded_by_rule(text, "ok") == text
    assert reworded_sample(sample(text), rewording(RULES, 0)) is None


def test_a_question_and_a_request_get_an_opening_once() -> None:
    assert re.match(r"(Quick|Please|Pls|I would|I'd)", reworded_by_rule("Where is Rome?", "Rome"))
    assert all(
        reworded_by_rule("hello, my lamp is broken", "x", str(number)).startswith(("hello", "hi", "hey"))
        for number in range(9)
    )


def test_each_phrase_has_another_and_stands_once() -> None:
    phrases = [phrase.lower() for group in GROUPS for phrase in group] + [old.lower() for old, _ in ONE_WAY]
    assert len(phrases) == len(set(phrases))
    assert all(len(group) > 1 for group in GROUPS)


def test_only_the_last_user_message_changes() -> None:
    turns = (Message("user", "i am here"), Message("assistant", "it is"), *sample("i am there").messages[1:])
    twin = reworded_sample(Sample("s1", turns), rewording(RULES, 0))
    assert twin is not None and twin.id == "s1~reworded"
    assert (*twin.messages[:2], twin.messages[-1]) == (*turns[:2], turns[-1])
    assert twin.messages[2].content != turns[2].content


def test_a_model_may_not_lose_a_number_a_name_or_a_word_of_the_answer(
    chat_server: Callable[[Chatter], ChatServer],
) -> None:
    """What it says is taken only where the answer can still be the same."""
    text, target = "please tell Anna that the desk 12 is late", "desk 12 is late"
    told = ["desk 12 comes late, kindly let Anna know", "desk 13 comes late, let Anna know"]
    told += ["table 12 comes late, let Anna know", "desk 12 comes late, let her know"]
    server = chat_server(lambda body, number: said(told[number - 1]))
    reword = rewording(server.spec(), 0)
    assert [reword(text, target, number) for number in range(4)] == [told[0], text, text, text]
    assert server.requests[0][1]["model"] == "big"


@pytest.mark.parametrize("by", ["", "rule", "http://host/v1", "ftp://host#m"])
def test_another_way_is_refused(by: str) -> None:
    with pytest.raises(ConfigError, match="URL#MODEL"):
        rewording(by, 0)
