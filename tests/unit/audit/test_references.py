"""Answers against structured inputs: left-out and contradicted slots are found, however they are said."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from foretune.audit.checks.references import reference_faults, wrong_references
from foretune.audit.slots import slots_of
from foretune.audit.subject import Subject
from foretune.data.samples import Message, Sample

SAID = {
    "size": {"small": ["compact", "tiny"], "large": ["spacious", "big"]},
    "pets": {"yes": ["dogs welcome", "bring your cat"], "no": ["no animals", "animals stay out"]},
    "colour": {"red": ["red"], "blue": ["blue"], "green": ["green"]},
}
NAMES = ("Ash House", "Elm House", "Oak Lodge", "Pine Lodge", "Fir Cabin", "Yew Cabin")


def homes(num: int = 900, wrong: float = 0.1, seed: int = 0) -> tuple[list[dict[str, str]], list[str], set[int]]:
    """Descriptions of homes; in a share of them one slot is left out or said with another value."""
    random = np.random.default_rng(seed)
    inputs, answers, bad = [], [], set()
    for row in range(num):
        slots = {"name": str(random.choice(NAMES))}
        slots |= {key: str(random.choice(list(forms))) for key, forms in SAID.items() if random.random() < 0.85}
        said = dict(slots)
        changeable = [key for key in slots if key != "name"]
        if changeable and random.random() < wrong:
            key = str(random.choice(changeable))
            others = [value for value in SAID[key] if value != slots[key]]
            said[key] = str(random.choice(others))
            if random.random() < 0.5:
                del said[key]
            bad.add(row)
        phrases = [str(random.choice(SAID[key][value])) for key, value in said.items() if key != "name"]
        random.shuffle(phrases)
        inputs.append(slots)
        answers.append(f"{said['name']} is a home: {', '.join(phrases)}.")
    return inputs, answers, bad


def test_planted_faults_are_found() -> None:
    inputs, answers, bad = homes()
    found = set(reference_faults(inputs, answers))
    assert len(found & bad) >= 0.9 * len(bad)
    assert len(found & bad) >= 0.95 * len(found)


def test_right_answers_are_left_alone() -> None:
    inputs, answers, _ = homes(wrong=0)
    assert reference_faults(inputs, answers) == {}


def test_a_denied_word_says_the_opposite() -> None:
    """The same words in every answer; only the negation tells the value."""
    random = np.random.default_rng(4)
    inputs, answers, bad = [], [], set()
    for row in range(600):
        value = str(random.choice(["yes", "no"]))
        is_wrong = row % 20 == 0
        is_denied = (value == "no") != is_wrong
        wording = random.choice(["is not a family friendly home", "isn't family friendly"])
        wording = str(wording) if is_denied else "is a family friendly home"
        inputs.append({"name": str(random.choice(NAMES)), "friendly": value})
        answers.append(f"{inputs[-1]['name']} {wording}.")
        bad |= {row} if is_wrong else set()
    found = set(reference_faults(inputs, answers))
    assert len(found & bad) >= 0.9 * len(bad)


def test_a_name_that_is_not_there() -> None:
    inputs, answers, _ = homes(wrong=0)
    answers[7] = answers[7].replace(inputs[7]["name"], "This place")
    assert reference_faults(inputs, answers) == {7: [f"name[{inputs[7]['name']}] is not in the answer"]}


@pytest.mark.parametrize(
    "text",
    [
        "name[Ash House], size[small]",
        "Describe it: name[Ash House], size[small], pets[]",
        '{"name": "Ash House", "size": "small", "pets": null}',
        'Describe this:\n{"name": "Ash House", "size": "small"}',
        "name: Ash House\nsize: small\npets: none",
        "Describe it\nname = Ash House\nsize = small",
        "| name | Ash House |\n|---|---|\n| size | small |",
    ],
)
def test_ways_to_write_slots(text: str) -> None:
    assert slots_of(text) == {"name": "Ash House", "size": "small"}


@pytest.mark.parametrize("text", ["", "How are you?", "Note: be quick", "[1, 2]", "{broken", "a b c\nd e f\ng h i"])
def test_plain_text_has_no_slots(text: str) -> None:
    assert slots_of(text) == {}


def test_nested_json_is_flat() -> None:
    assert slots_of('{"a": {"b": 1, "c": [1, 2]}, "d": true}') == {"a.b": "1", "a.c": "1, 2", "d": "True"}


def subject(inputs: list[Mapping[str, str]], answers: list[str]) -> Subject:
    rows = [
        Sample(f"r{n}", (Message("user", json.dumps(dict(slots))), Message("assistant", answer)), place=f"d:{n}")
        for n, (slots, answer) in enumerate(zip(inputs, answers, strict=True))
    ]
    return Subject({"train": rows}, task="chat", tokenizer=None, max_seq_len=0)


def test_finding_names_rows_and_slots() -> None:
    inputs, answers, bad = homes()
    (finding,) = wrong_references(subject(list(inputs), answers))
    assert (finding.id, finding.severity) == ("DATA082", "warning")
    assert len({f"r{row}" for row in bad} & set(finding.sample_ids)) >= 0.9 * len(bad)
    assert "[" in finding.evidence[0]
    assert 0 < finding.effect < 0.15


def test_few_rows_and_plain_questions_are_not_judged() -> None:
    inputs, answers, _ = homes(60)
    assert wrong_references(subject(list(inputs), answers)) == []
    rows = [Sample(str(n), (Message("user", f"what is {n}?"), Message("assistant", "x"))) for n in range(400)]
    assert wrong_references(Subject({"train": rows}, task="chat", tokenizer=None, max_seq_len=0)) == []


def test_e2e_as_measured(shared_data: Path) -> None:
    """The test references of E2E against the cleaned ones: precision .969, recall .759 (2026-11)."""
    with (shared_data / "e2e_cleaning" / "cleaned-data" / "test-fixed.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found = reference_faults([slots_of(row["orig_mr"]) for row in rows], [row["ref"] for row in rows])
    wrong = {number for number, row in enumerate(rows) if row["fixed"] == "1"}
    assert len(wrong & found.keys()) >= 0.95 * len(found)
    assert len(wrong & found.keys()) >= 0.75 * len(wrong)
