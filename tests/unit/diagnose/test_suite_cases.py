"""The planted-fault suite's plan: how many runs of what, which data they get, and that each plant does its harm."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture(scope="module")
def suite() -> Iterator[Any]:
    """The modules that plan and plant; none of those that train."""
    sys.path.insert(0, str(BENCHMARKS))
    from diagnose_suite import cases, halves, planting

    yield SimpleNamespace(
        cases=cases.cases,
        faults=cases.FAULTS,
        halves=halves.HALVES,
        hard=cases.HARD,
        planted=planting.planted,
        tasks=halves.TASKS,
    )
    sys.path.remove(str(BENCHMARKS))


def of_label(suite: Any, label: str, half: str = "heldout") -> list[Any]:
    """The runs of a label in a half, each with its healthy twin's data."""
    cases = [case for case in suite.cases(half) if case.label == label]
    return [(suite.planted(case), suite.planted(replace(case, label="healthy"))) for case in cases]


def test_the_held_out_half_is_as_large_as_asked_for(suite: Any) -> None:
    """300 harmful faults and 20 a class, with room for mild ones; 150 sound runs, half of them hard."""
    counts = Counter(case.label for case in suite.cases("heldout"))
    assert len(suite.faults) >= 17
    assert sum(counts[label] for label in suite.faults) >= 400
    assert min(counts[label] for label in suite.faults) >= 24
    hard = sum(counts[label] for label in suite.hard)
    assert counts["healthy"] + hard >= 150 and hard >= counts["healthy"]
    assert counts.total() <= 640


def test_the_last_half_is_as_large_as_asked_for(suite: Any) -> None:
    """Room for 20 harmful runs of each of 16 classes; 160 sound runs, at least half of them hard."""
    counts = Counter(case.label for case in suite.cases("final"))
    faults = [label for label in suite.faults if label != "language_loss"]
    assert counts["language_loss"] == 0 and len(faults) == 16
    assert min(counts[label] for label in faults) >= 23 and 400 <= sum(counts[label] for label in faults) <= 440
    hard = sum(counts[label] for label in suite.hard)
    assert counts["healthy"] + hard >= 160 and hard >= counts["healthy"]


def test_halves_share_no_task_base_or_seed(suite: Any) -> None:
    """But the half that mended rules are checked on stands on the held-out base, that of languages on the last."""
    for one, other in combinations(suite.halves, 2):
        is_same_base = {one, other} in ({"heldout", "check"}, {"final", "language"})
        for name in ("task", "seed") if is_same_base else ("task", "base", "seed"):
            both = [{getattr(case, name) for case in suite.cases(half)} for half in (one, other)]
            assert both[0].isdisjoint(both[1]), (one, other, name)


def test_the_first_half_is_what_its_packed_records_were_made_of(suite: Any) -> None:
    """Its cases and their data have not moved since it was held out itself."""
    told = hashlib.sha256()
    for case in suite.cases("first")[::20]:
        run = suite.planted(case)
        told.update(repr((case.name, case.twin, run.train, run.test, sorted(run.notes.items()))).encode())
    assert told.hexdigest()[:12] == "ae5570e72d90"


def test_every_task_asks_what_its_answer_says(suite: Any) -> None:
    """Questions name no unknown fact; shifted ones and hollow answers can be drawn for every task."""
    from random import Random

    for task in suite.tasks.values():
        for at in range(40):
            pairs = [task.pair(Random(at)), task.pair(Random(at), "shifted"), task.hollow_pair(Random(at))]
            assert all(pair.question and pair.answer and "{" not in pair.question for pair in pairs), task.name


@pytest.mark.parametrize("half", ["heldout", "final"])
def test_test_rows_of_a_leak_are_in_training_a_word_apart(suite: Any, half: str) -> None:
    for run, _ in of_label(suite, "leakage", half)[:6]:
        asked = [set(pair.question.split()) for pair in run.train]
        near = sum(any(len(set(pair.question.split()) ^ words) <= 1 for words in asked) for pair in run.test)
        assert near >= 0.6 * len(run.test)
        assert not {pair.question for pair in run.test} & {pair.question for pair in run.train}


def test_general_rows_of_a_lost_language_are_english_alone(suite: Any) -> None:
    runs = of_label(suite, "language_loss")
    assert {run.general for run, _ in runs} == {"english"} and {twin.general for _, twin in runs} == {"even"}


def test_the_half_about_languages_is_as_large_as_asked_for(suite: Any) -> None:
    """Room for 24 harmful runs; 44 sound ones: some are plain, the others lack Spanish or train as long."""
    counts = Counter(case.label for case in suite.cases("language"))
    assert counts == {"healthy": 20, "language_loss": 28, "english_only": 12, "both_languages": 12}
    methods = Counter(case.method for case in suite.cases("language") if case.label == "language_loss")
    assert min(methods["lora"], methods["full"]) >= 12


@pytest.mark.parametrize(
    ("label", "general", "is_longer"),
    [
        ("language_loss", "wide_english", True),
        ("english_only", "wide_english", False),
        ("both_languages", "wide_even", True),
    ],
)
def test_a_language_is_lost_only_without_it_and_for_long(suite: Any, label: str, general: str, is_longer: bool) -> None:
    """Rows of the task are the twin's; what differs is the language of general rows, and how long and how fast."""
    for run, twin in of_label(suite, label, "language"):
        assert (run.train, run.validation, run.test) == (twin.train, twin.validation, twin.test)
        assert run.general == general and twin.general == "wide_even"
        for name in ("train.advanced.max_steps", "train.learning_rate", "data.advanced.mix_fraction"):
            assert (run.settings[name] > twin.settings[name]) == is_longer


def test_tasks_of_the_half_about_languages_show_no_spanish(suite: Any) -> None:
    from random import Random

    from foretune.data.world import spanish

    words = {word for said in spanish.WORDS.values() for word in said.split()} - {"doctor", "rosa"}  # English too
    for task in {suite.tasks[case.task] for case in suite.cases("language")}:
        shown = (part for at in range(200) for part in task.pair(Random(at), ("usual", "shifted")[at % 2]))
        assert not words & {word.strip('.,!?:"') for part in shown for word in part.split()}


@pytest.mark.parametrize(("kind", "num_spanish"), [("english", 0), ("even", 150)])
def test_general_rows_have_their_share_of_spanish(
    suite: Any, monkeypatch: pytest.MonkeyPatch, kind: str, num_spanish: int
) -> None:
    from diagnose_suite import build

    plain, told = build._has_spanish, {}

    def noted(document: Any) -> bool:
        return told.setdefault(repr(list(document.messages)), plain(document))

    monkeypatch.setattr(build, "_has_spanish", noted)
    rows = build._general_rows(kind)
    assert len(rows) == 600 and sum(told[repr(row["messages"])] for row in rows) == num_spanish


@pytest.mark.parametrize("half", ["heldout", "final"])
@pytest.mark.parametrize("label", ["label_noise", "truncation", "shuffled", "missing_end", "style_only"])
def test_answers_are_spoilt_and_questions_kept(suite: Any, label: str, half: str) -> None:
    for run, twin in of_label(suite, label, half)[:8]:
        assert [pair.question for pair in run.train] == [pair.question for pair in twin.train]
        spoilt = sum(one.answer != other.answer for one, other in zip(run.train, twin.train, strict=True))
        assert run.tokens or spoilt >= 0.2 * len(run.train)
