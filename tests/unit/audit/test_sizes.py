"""Size floors: what to do with a number of rows, by kind of task."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from foretune.audit.checks.sizes import TaskKind, num_rows, size_advice, small_test, task_kind
from foretune.audit.subject import Subject
from foretune.data.samples import Message, Sample


def subject(answers: list[str], *, task: str = "chat", num_test: int = 0) -> Subject:
    rows = [Sample(str(n), (Message("user", str(n)), Message("assistant", a))) for n, a in enumerate(answers)]
    return Subject({"train": rows, "test": rows[:num_test]}, task=task, tokenizer=None, max_seq_len=0)


@pytest.mark.req("R415")
@pytest.mark.req("R132")
@pytest.mark.req("R133")
@pytest.mark.parametrize(
    ("num", "kind", "advice", "severity"),
    [
        (100, "simple", "few_shot", "warning"),
        (499, "simple", "few_shot", "warning"),
        (500, "simple", "train_or_few_shot", "warning"),
        (700, "simple", "train_or_few_shot", "warning"),
        (999, "simple", "train_or_few_shot", "warning"),
        (1_000, "simple", "train", "info"),
        (100, "complex", "few_shot", "warning"),
        (700, "complex", "few_shot", "warning"),
        (4_999, "complex", "few_shot", "warning"),
        (5_000, "complex", "train_or_few_shot", "warning"),
        (9_999, "complex", "train_or_few_shot", "warning"),
        (10_000, "complex", "train", "info"),
    ],
)
def test_floors(num: int, kind: TaskKind, advice: str, severity: str) -> None:
    found = size_advice(num, kind)
    assert (found.advice, found.severity) == (advice, severity)


@pytest.mark.req("R131")
def test_a_hundred_examples_teach_nothing_new() -> None:
    (finding,) = num_rows(subject(["x" * 600] * 100))
    assert finding.severity == "warning"
    assert "teach no new capability" in finding.title
    assert "5 to 10 of these examples" in finding.fix
    assert "teach no new" not in num_rows(subject(["x" * 600] * 101))[0].title


@pytest.mark.req("R415")
def test_seven_hundred_rows_are_judged_by_kind() -> None:
    (simple,) = num_rows(subject(["short"] * 700))
    (complex_,) = num_rows(subject(["x" * 600] * 700))
    assert "few for a simple task" in simple.title
    assert "below the floor of 5,000 for a complex task" in complex_.title
    assert simple.fix == complex_.fix
    assert num_rows(subject(["short"] * 1000)) == []


def test_kind_is_told_from_the_answers() -> None:
    assert task_kind(subject(["x" * 600] * 5)) == "complex"
    assert task_kind(subject(["x" * 100] * 5)) == "simple"
    assert task_kind(subject(['{"a": "' + "x" * 600 + '"}'] * 5)) == "simple"
    assert task_kind(subject(["x" * 600] * 5, task="classify")) == "simple"


def test_few_test_rows() -> None:
    (finding,) = small_test(subject(["a"] * 200, num_test=50))
    assert finding.title == "50 test rows: a difference below about 18 points will mostly go unseen"
    assert "cross_fit" in finding.fix and small_test(subject(["a"] * 200, num_test=199))
    assert small_test(subject(["a"] * 200, num_test=200)) == []
