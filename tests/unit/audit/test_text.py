"""Encoding damage with the mended text, characters that nobody sees, HTML: found, mended, and good text left alone."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretune.audit.checks.text import damaged_encoding, hidden_characters, html_remains
from foretune.audit.mend import mended, visible
from planting import chats, planted, subject_of

SENTENCES = [f"Ann ordered {n} books on Monday and paid {n + 3} euros for the set." for n in range(400)]
GENUINE = [
    "café Ångström naïve – “quoted” … 50 €",
    "Ünïcödé: ÄÖÜ äöü ß, SÃO PAULO, CAMPEÃ”",
    "Привет, как дела? «Да» – он сказал.",
    "моє ім’я, п’є каву, її сім’ї",
    "日本語のテキスト、漢字。",
    "√2 ≈ 1.41, ¬p ∧ q, 20 °C, § 5, ½",
    "L’été où j’ai vu l’île: à côté, ça va",
]


@pytest.mark.parametrize("text", GENUINE)
def test_genuine_text_is_not_mended(text: str) -> None:
    assert mended(text) == text
    assert visible(text) == text


@pytest.mark.parametrize(
    "text", ["It’s a café", "20 °C – naïve", "„Größe“", "Привет мир", "日本語", "señor, ¿qué?", "🎉 done"]
)
@pytest.mark.parametrize("codec", ["cp1252", "latin-1", "mac_roman"])
def test_text_read_with_the_wrong_encoding_is_mended(text: str, codec: str) -> None:
    damaged = text.encode().decode(codec, "ignore") if codec == "cp1252" else text.encode().decode(codec)
    if codec == "cp1252" and damaged.encode("cp1252") != text.encode():
        pytest.skip("this text has bytes that Windows-1252 does not know")
    assert mended(damaged) == text


def test_text_damaged_twice_is_mended() -> None:
    assert mended("It’s".encode().decode("cp1252").encode().decode("cp1252")) == "It’s"


@given(st.text(max_size=60))
def test_mending_is_idempotent(text: str) -> None:
    once = mended(text)
    assert mended(once) == once
    assert visible(visible(text)) == visible(text)


def test_the_mended_text_is_shown() -> None:
    (finding,) = damaged_encoding(subject_of(chats([*SENTENCES, "so cafÃ© there"])))
    assert finding.places == ("d:400",)
    assert "cafÃ©" in finding.evidence[0]
    assert "-> 'so café there'" in finding.evidence[0]


@pytest.mark.parametrize("hidden", ["\u200b", "\u2060", "\ufeff", "\u00ad", "\u202e", "\u200d", "\u2066", "\U000e0041"])
def test_hidden_characters_are_named_and_taken_out(hidden: str) -> None:
    (finding,) = hidden_characters(subject_of(chats([*SENTENCES, f"pay{hidden}ment"])))
    assert finding.places == ("d:400",)
    assert visible(f"pay{hidden}ment") == "payment"


@pytest.mark.parametrize("text", ["می‌خواهم", "क्‍ष", "👩‍👧", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "שלום\u200f!", "ല്\u200d മാ", "កាល\u200bបរិ"])
def test_joiners_and_marks_stay_where_a_script_needs_them(text: str) -> None:
    assert visible(text) == text


def test_html_in_rows_about_markup_is_meant() -> None:
    questions = ["What does the tag <b>x</b> do?", "Say hello"]
    (finding,) = html_remains(
        subject_of(chats([*SENTENCES[:50], "<b>bold</b>", "hello<br>there"], [*SENTENCES[:50], *questions]))
    )
    assert finding.places == ("d:51",)


def mojibake(text: str, rng: random.Random) -> str:
    return text + rng.choice([" It’s done", " café", " – fine", " naïve", " 20 °C"]).encode().decode("cp1252")


def hide(text: str, rng: random.Random) -> str:
    place = rng.randint(0, len(text))
    return text[:place] + rng.choice("\u200b\u202e\u2060\ufeff\u00ad\u200d") + text[place:]


def mark_up(text: str, rng: random.Random) -> str:
    return rng.choice(
        [f"<p>{text}</p>", text.replace(" ", "&nbsp;", 1), text.replace(" ", "<br>", 1), text + " &amp; so"]
    )


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1])
@pytest.mark.parametrize(
    ("check", "fault"), [(damaged_encoding, mojibake), (hidden_characters, hide), (html_remains, mark_up)]
)
def test_planted_damage_is_found(check: object, fault: object, rate: float) -> None:
    score = planted(check, SENTENCES, fault, rate)  # type: ignore[arg-type]
    assert score.recall >= 0.95
    assert score.precision >= 0.9
