"""The noisy twin of a test split: seeded, of the same question, with the answer untouched."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretune.data.noisy import NOISES, noisy_sample, noisy_samples, paired
from foretune.data.samples import Message, Sample
from foretune.errors import ConfigError

QUESTION = (
    "Could you please tell me why my account number 12-345 at https://bank.example/a?b=1 is not working tomorrow?"
)


def ask(text: str, number: int = 0) -> Sample:
    messages = (Message("system", "Please be kind."), Message("user", text), Message("assistant", "Because."))
    return Sample(f"s{number}", messages, meta={"topic": "x"})


@pytest.mark.req("R121")
def test_noise_is_seeded_and_leaves_answers_alone() -> None:
    clean = [ask(f"{QUESTION} Number {number} of the people who are really waiting.", number) for number in range(50)]
    noisy = noisy_samples(clean, seed=1)
    assert noisy == noisy_samples(clean, seed=1)
    assert noisy != noisy_samples(clean, seed=2)
    for before, after in zip(clean, noisy, strict=True):
        assert (after.target, after.messages[0]) == (before.target, before.messages[0])
        assert after.input_text != before.input_text
        assert after.meta["augmented"]["from"] == before.id
        assert after.meta["topic"] == "x"
        assert re.findall(r"\S*\d\S*", after.input_text) == re.findall(r"\S*\d\S*", before.input_text)
    assert noisy_samples(clean[7:8], seed=1) == noisy[7:8]
    assert paired(clean, noisy) == list(zip(clean, noisy, strict=True))


def test_every_kind_does_what_it_says() -> None:
    assert noisy_sample(ask("Are you with people?"), rate=1.0, kinds=("abbreviations",)).input_text == "r u w/ ppl?"
    casual = noisy_sample(ask("I am going to the BANK."), rate=1.0, kinds=("casual",)).input_text
    assert "im gonna the bank" in casual
    mistyped = noisy_sample(ask("nothing remains unchanged"), rate=1.0, kinds=("typos",)).input_text.split()
    assert [word[0] for word in mistyped] == ["n", "r", "u"]
    assert noisy_sample(ask("nothing"), rate=0.0, kinds=("typos",)).input_text == "nothing"


@pytest.mark.req("R099")
@pytest.mark.parametrize("rate", [0.05, 0.2, 0.5])
def test_as_many_words_are_mistyped_as_asked_for(rate: float) -> None:
    words = ("question", "delivery", "parcel", "invoice", "yesterday", "kitchen", "morning", "summer")
    clean = [ask(" ".join(words[(n + i) % 8] for i in range(40)) + "x" * (n % 9), n) for n in range(100)]
    pairs = [
        (old, new)
        for sample in clean
        for old, new in zip(
            sample.input_text.split(),
            noisy_sample(sample, seed=3, rate=rate, kinds=("typos",)).input_text.split(),
            strict=True,
        )
    ]
    share = sum(old != new for old, new in pairs) / len(pairs)
    assert 0.85 * rate < share < 1.1 * rate


@pytest.mark.req("R099")
def test_a_test_set_can_sound_like_people_in_a_hurry() -> None:
    text = "Hello, could you please tell me about the message before tomorrow? I am going to wait for people."
    found = [noisy_sample(ask(f"{text} Case {n}"), seed=n, rate=0.2).input_text for n in range(200)]
    for part in ("pls", "abt", "b4", "tmrw", "gonna", "ppl"):
        assert 0.4 < sum(part in one for one in found) / len(found) <= 1.0


def test_code_addresses_and_names_with_capitals_inside_stay() -> None:
    text = "Why does `print(please)` at you@mail.example in fooBarBaz with snake_case[please] fail please"
    changed = noisy_sample(ask(text), rate=1.0).input_text
    for kept in ("`print(please)`", "you@mail.example", "fooBarBaz", "snake_case[please]"):
        assert kept in changed


def test_raw_text_and_unknown_kinds() -> None:
    text = Sample("t", text="Once.")
    assert noisy_sample(text) is text
    with pytest.raises(ConfigError, match="unknown noise 'loud'"):
        noisy_sample(ask("x"), kinds=("loud",))
    with pytest.raises(ConfigError, match=r"noise rate 1\.5"):
        noisy_sample(ask("x"), rate=1.5)


@given(st.text(st.characters(exclude_categories=("Cs",))), st.floats(0, 1), st.sampled_from(list(NOISES)))
def test_any_text_can_be_made_noisy(text: str, rate: float, kind: str) -> None:
    changed = noisy_sample(ask(text), rate=rate, kinds=(kind,)).input_text
    assert bool(changed.strip()) == bool(text.strip())
