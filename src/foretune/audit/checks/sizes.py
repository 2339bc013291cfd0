"""Checks of how many rows there are: floors by kind of task, balance of the classes."""

# SPDX-License-Identifier: Apache-2.0
#
# Floors (R131-R133, R415): simple tasks (format, style, classification) need 500 rows, better 1,000; complex ones
# (reasoning, several steps) 5,000, better 10,000; with 100 or fewer nothing new is learned. Below a floor a good prompt
# with a few examples in it usually does as well, at no training cost.
from __future__ import annotations

import json
from collections import Counter
from statistics import median
from typing import Literal, NamedTuple

from foretune.audit.subject import Hit, Severity, Subject, finding
from foretune.records.audit import Finding
from foretune.stats.power import expected_visible_difference

__all__ = ["SizeAdvice", "TaskKind", "class_balance", "num_rows", "size_advice", "small_test", "task_kind"]

TaskKind = Literal["simple", "complex"]
FLOORS: dict[TaskKind, tuple[int, int]] = {"simple": (500, 1_000), "complex": (5_000, 10_000)}
NOTHING_NEW = 100
LONG_ANSWER_CHARS = 400  # from here an answer is reasoning or an essay, not a label, a record or a sentence
FEW_TEST_ROWS = 200
FEW_PER_CLASS = 10
IMBALANCE = 10.0
MORE_TEST = "evaluate.advanced.cross_fit = 10 judges on all rows; or more rows, or a larger data.test_fraction"
FEW_SHOT = "a prompt with 5 to 10 of these examples (foretune evaluate measures it), or more rows"


class SizeAdvice(NamedTuple):
    """What a number of rows is good for: `train`, `train_or_few_shot` (near the floor) or `few_shot` (below it)."""

    advice: Literal["train", "train_or_few_shot", "few_shot"]
    severity: Severity
    title: str


def size_advice(num: int, kind: TaskKind) -> SizeAdvice:
    """What to do with `num` training rows of a task of this kind."""
    hard, soft = FLOORS[kind]
    if num <= NOTHING_NEW:
        title = f"{num} training rows: {NOTHING_NEW} examples, however good, teach no new capability"
        return SizeAdvice("few_shot", "warning", title)
    if num < hard:
        return SizeAdvice(
            "few_shot", "warning", f"{num} training rows are below the floor of {hard:,} for a {kind} task"
        )
    if num < soft:
        title = f"{num} training rows are few for a {kind} task, {soft:,} are advisable"
        return SizeAdvice("train_or_few_shot", "warning", title)
    return SizeAdvice("train", "info", f"{num} training rows are enough to begin a {kind} task with")


def task_kind(subject: Subject) -> TaskKind:
    """Complex where answers are long free text (400 characters or more at the median) and no JSON; else simple."""
    answers = [sample.target for sample in subject.chats]
    if subject.task == "classify" or not answers:
        return "simple"
    is_json = sum(_is_json(answer) for answer in answers) > len(answers) / 2
    return "simple" if is_json or median(map(len, answers)) < LONG_ANSWER_CHARS else "complex"


def _is_json(text: str) -> bool:
    if not text.lstrip().startswith(("{", "[")):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def num_rows(subject: Subject) -> list[Finding]:
    """DATA020: the training split is below the floor of its kind of task."""
    if subject.task == "text":
        return []
    num = len(subject.splits.get("train", ()))
    advice = size_advice(num, task_kind(subject))
    if advice.advice == "train":
        return []
    return finding(20, advice.severity, advice.title, [Hit("train", f"{num} rows")], fix=FEW_SHOT)


def small_test(subject: Subject) -> list[Finding]:
    """DATA021: so few test rows that only large differences will be visible, and how large they must be."""
    num = len(subject.splits.get("test", ()))
    if subject.task == "text" or num >= FEW_TEST_ROWS:
        return []
    visible = 100 * expected_visible_difference(num) if num else 100.0
    title = f"{num} test rows: a difference below about {visible:.0f} points will mostly go unseen"
    shown = f"{num} rows, one answer in five taken to differ, power 80 %"
    return finding(21, "info", title, [Hit("test", shown)], fix=MORE_TEST)


def class_balance(subject: Subject) -> list[Finding]:
    """DATA022: classes with hardly any training rows, or one class ten times another."""
    if subject.task != "classify":
        return []
    counts = Counter(sample.target for sample in subject.splits.get("train", ()))
    if not counts:
        return []
    common, most = counts.most_common(1)[0]
    hits = [
        Hit(f"class {label!r}", f"{label}: {count} rows, {common}: {most} rows")
        for label, count in sorted(counts.items(), key=lambda item: (item[1], item[0]))
        if count < FEW_PER_CLASS or most / count > IMBALANCE
    ]
    fix = "add rows of these classes; judge with macro-F1, which counts every class alike"
    return finding(22, "warning", "classes have few rows", hits, fix=fix)
