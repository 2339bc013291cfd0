"""Near-copies and contradictions: planted ones are found, and words that decide the class are no contradiction."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from foretune.audit.checks.duplicates import contradictions, explained_differences, near_duplicate_rows
from foretune.audit.subject import Subject
from foretune.data.formats import read_samples
from foretune.data.neardup import near_duplicates
from foretune.data.samples import Message, Sample
from foretune.records.audit import Finding

GOOD = "lovely amazing great tasty perfect fresh delicious wonderful".split()
BAD = "awful disappointing stale bland terrible cold greasy horrid".split()
DISHES = "salad soup pizza burger curry pasta steak cake bread coffee fish rice".split()
FORMS = ("{}, this {} is what I think!", "{} was the {} today, I must say", "what a {} {} they have there")


def subject(rows: Sequence[tuple[str, str]], task: str) -> Subject:
    samples = [
        Sample(f"r{number}", (Message("user", asked), Message("assistant", answer)), place=f"d:{number}")
        for number, (asked, answer) in enumerate(rows)
    ]
    return Subject({"train": samples}, task=task, tokenizer=None, max_seq_len=0)


def reviews() -> list[tuple[str, str]]:
    sides = (("good", GOOD), ("bad", BAD))
    return [(form.format(w, dish), side) for side, words in sides for w in words for dish in DISHES for form in FORMS]


def sentence(seed: int, num_words: int = 14) -> str:
    rng = random.Random(seed)
    return " ".join("".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(3, 9))) for _ in range(num_words))


def ids(findings: Sequence[Finding]) -> set[str]:
    return {name for finding in findings for name in finding.sample_ids}


@pytest.mark.req("R139")
def test_a_word_that_decides_the_class_is_no_contradiction() -> None:
    found = subject(reviews(), "classify")
    assert contradictions(found) == []
    assert explained_differences(found)[0].severity == "info"


@pytest.mark.req("R139")
@pytest.mark.parametrize("share", [0.01, 0.1])
def test_planted_contradictions_of_classes(share: float) -> None:
    rows = reviews()
    rng = random.Random(3)
    changes = (str, str.upper, lambda text: f"please {text}", lambda text: f"{text} thanks", lambda text: text[:-1])
    chosen = rng.sample(range(len(rows)), round(share * len(rows)))
    planted = [(rng.choice(changes)(rows[n][0]), "bad" if rows[n][1] == "good" else "good") for n in chosen]
    flagged = ids(contradictions(subject([*rows, *planted], "classify")))
    hits = [bool({f"r{n}", f"r{len(rows) + at}"} & flagged) for at, n in enumerate(chosen)]
    assert sum(hits) >= 0.95 * len(chosen)
    involved = {f"r{n}" for n in chosen} | {f"r{len(rows) + at}" for at in range(len(chosen))}
    assert len(flagged & involved) >= 0.9 * len(flagged)


def test_the_row_that_fits_less_is_named_wherever_it_stands() -> None:
    rows = [(f"{GOOD[2]} was the soup today, I must say", "bad"), *reviews()]
    finding = contradictions(subject(rows, "classify"))[0]
    assert finding.sample_ids == ("r0",)
    assert "'bad' (d:0) and 'good'" in finding.evidence[0]
    assert finding.effect == pytest.approx(finding.certainty / len(rows))


@pytest.mark.req("R139")
def test_contradictions_of_free_text() -> None:
    rows = [(f"{sentence(n)} tell", sentence(n + 5000)) for n in range(200)]
    rows += [
        (rows[0][0].upper(), sentence(9000)),
        (f"please {rows[1][0]}", sentence(9001)),
        (rows[2][0].replace(rows[2][0].split()[3], rows[2][0].split()[3] + "q"), sentence(9002)),
        (" ".join(rows[3][0].split()[1:]), sentence(9003)),
    ]
    assert ids(contradictions(subject(rows, "chat"))) == {"r200", "r201", "r202", "r203"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            "what do I get if I add 12 to the sum of all the others",
            "what do I get if I add 13 to the sum of all the others",
        ),
        ("list the birds that can fly over the sea", "list the birds that can not fly over the sea"),
        (
            "describe the capital of france for my geography class",
            "describe the capital of spain for my geography class",
        ),
        ("simplify the term (a + b) * (a + b) for me please", "simplify the term (a + b) * (a - b) for me please"),
    ],
)
def test_another_question_is_no_contradiction(one: str, other: str) -> None:
    known = [(f"{word} {sentence(n)}", sentence(n + 999)) for word in ("france", "spain") for n in range(30)]
    rows = [*known, (one, sentence(9001)), (other, sentence(9002))]
    assert contradictions(subject(rows, "chat")) == []


@pytest.mark.req("R142")
def test_a_wrapped_copy_with_the_same_answer_is_a_near_copy() -> None:
    rows = [(sentence(n, 9), sentence(n + 5000, 20)) for n in range(100)]
    wrapped = f"I have a question for you, it is about my work here. {rows[4][0]} Please take your time, and be exact."
    rows += [(wrapped, rows[4][1]), (wrapped.replace("you", "us"), sentence(7777))]
    assert ids(near_duplicate_rows(subject(rows, "chat"))) == {"r100"}


def test_raw_text_has_no_contradictions() -> None:
    samples = [Sample(f"t{n}", text=sentence(n % 3)) for n in range(6)]
    assert contradictions(Subject({"train": samples}, task="text", tokenizer=None, max_seq_len=0)) == []


@pytest.mark.req("R139")
def test_all_78_conflicts_of_banking77_are_reported(shared_data: Path) -> None:
    samples = read_samples(shared_data / "banking77").samples
    found = Subject({"train": samples}, task="classify", tokenizer=None, max_seq_len=0)
    pairs = [pair for pair in near_duplicates(found.inputs) if found.targets[pair.left] != found.targets[pair.right]]
    listed = ids([*contradictions(found), *explained_differences(found)])
    assert len(pairs) == 78
    assert all(listed & {samples[pair.left].id, samples[pair.right].id} for pair in pairs)
