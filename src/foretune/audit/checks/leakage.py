"""Checks between the splits: nothing that is judged may have been trained on."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections import defaultdict

from foretune.audit.checks.alike import Alike, alike, flagged
from foretune.audit.subject import Subject
from foretune.data.neardup import Pair, compared
from foretune.records.audit import Finding

__all__ = ["exact_leaks", "group_leaks", "near_leaks"]

HELD_OUT = ("validation", "test")
EARLIER = {"validation": ("train",), "test": ("train", "validation")}  # what each is to be unlike
NEAR_CERTAINTY = 0.9  # from planted copies (benchmarks/data_neardup.py), rounded down; real ones were not judged


def exact_leaks(subject: Subject) -> list[Finding]:
    """DATA013: held-out rows whose input and answer stand in the training split as well (R118)."""
    keys = list(zip(subject.inputs, subject.targets, strict=True))
    trained = {keys[row]: row for row in reversed(range(len(keys))) if subject.split_names[row] == "train"}
    hits = {
        row: f"{subject.split_names[row]} row is training row {subject.place(trained[key])}: {key[0]}"
        for row, key in enumerate(keys)
        if subject.split_names[row] in HELD_OUT and key in trained
    }
    fix = "let foretune split (clear data.validation_path and data.test_path), or take the copies out of train"
    return flagged(subject, 13, "error", "held-out rows are in the training split", hits, fix=fix)


def near_leaks(subject: Subject) -> list[Finding]:
    """DATA014: held-out rows whose input is nearly that of a training row, or test rows like a validation row (R118).

    One that holds a training input, stands in one, or lacks some of its words leaks only if it has the same answer too:
    "name a river" and "name a river in Asia" are two questions. So are short exercises with other numbers.
    """
    names = subject.split_names
    if len({"train", *HELD_OUT} & set(names)) < 2:
        return []
    hits: dict[int, str] = {}
    for held, known in _across(subject):
        if held not in hits and (names[known] != "train" or not _same(subject, held, known)):
            side = "training" if names[known] == "train" else names[known]
            hits[held] = f"{names[held]} row is like {side} row {subject.place(known)}: {subject.inputs[held]}"
    title = "held-out rows are nearly the same as training rows"
    fix = "let foretune split, which keeps alike rows on one side; with a given test split, read its score with care"
    return flagged(subject, 14, "warning", title, dict(sorted(hits.items())), fix=fix, certainty=NEAR_CERTAINTY)


def _across(subject: Subject) -> list[tuple[int, int]]:
    """(held-out row, earlier row) for all alike inputs, also where only the first of several equal ones is linked."""
    rows, names = alike(subject), subject.split_names
    told = [pair for pair in rows.near if rows.inputs[pair.left] and rows.inputs[pair.right]]
    strong = [rows.resembles(pair) and not rows.swaps_numbers(pair) for pair in told]
    weak = [pair for pair, is_strong in zip(told, strong, strict=True) if not is_strong and _has_answer(rows, pair)]
    direct = {link for pair in weak for link in (pair[:2], pair[1::-1])}
    found = {(a, b) for a, b in direct if names[b] in EARLIER.get(names[a], ())}
    found |= _through_equals(subject, [pair for pair, is_strong in zip(told, strong, strict=True) if is_strong])
    return sorted(found)


def _has_answer(rows: Alike, pair: Pair) -> bool:
    return bool(rows.targets[pair.left]) and rows.same_answer(pair.left, pair.right)


def _through_equals(subject: Subject, pairs: list[Pair]) -> set[tuple[int, int]]:
    """The links of all rows that are equal to one of a pair; of several equal earlier rows the first stands for all."""
    first: dict[str, int] = {}
    kind = [first.setdefault(text, row) for row, text in enumerate(map(compared, subject.inputs))]
    known: dict[tuple[int, str], int] = {}
    held: dict[int, list[int]] = defaultdict(list)
    for row, name in enumerate(subject.split_names):
        known.setdefault((kind[row], name), row)
        if name in HELD_OUT:
            held[kind[row]].append(row)
    links = [(kind[pair.left], kind[pair.right]) for pair in pairs]
    both = {*links, *((right, left) for left, right in links)}
    return {
        (row, known[other, side])
        for own, other in both
        for row in held[own]
        for side in EARLIER[subject.split_names[row]]
        if (other, side) in known
    }


def _same(subject: Subject, left: int, right: int) -> bool:
    """Whether two rows are copies, which `exact_leaks` reports."""
    return subject.inputs[left] == subject.inputs[right] and subject.targets[left] == subject.targets[right]


def group_leaks(subject: Subject) -> list[Finding]:
    """DATA015: a declared group with rows in more than one split."""
    splits: dict[str, set[str]] = defaultdict(set)
    for sample, name in zip(subject.samples, subject.split_names, strict=True):
        if sample.group:
            splits[sample.group].add(name)
    torn = {group for group, names in splits.items() if len(names) > 1}
    hits = {
        row: f"group {sample.group!r} is in {', '.join(sorted(splits[sample.group]))}"
        for row, sample in enumerate(subject.samples)
        if sample.group in torn
    }
    fix = "let foretune split (clear data.validation_path and data.test_path)"
    return flagged(subject, 15, "error", "groups are in more than one split", hits, fix=fix)
