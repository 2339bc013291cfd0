"""Checks between the splits: nothing that is judged may have been trained on."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections import defaultdict

from foretune.audit.subject import Hit, Subject, finding
from foretune.records.audit import Finding

__all__ = ["exact_leaks", "group_leaks", "near_leaks"]

HELD_OUT = ("validation", "test")


def exact_leaks(subject: Subject) -> list[Finding]:
    """DATA013: held-out rows whose input and answer stand in the training split as well (R118)."""
    keys = list(zip(subject.inputs, subject.targets, strict=True))
    trained = {keys[row]: row for row in reversed(range(len(keys))) if subject.split_names[row] == "train"}
    hits = [
        Hit(
            subject.place(row),
            f"{subject.split_names[row]} row is training row {subject.place(trained[key])}: {key[0]}",
        )
        for row, key in enumerate(keys)
        if subject.split_names[row] in HELD_OUT and key in trained
    ]
    fix = "let foretune split (clear data.validation_path and data.test_path), or take the copies out of train"
    return finding(13, "error", "held-out rows are in the training split", hits, fix=fix)


def near_leaks(subject: Subject) -> list[Finding]:
    """DATA014: held-out rows whose input is nearly that of a training row (R118)."""
    hits: dict[int, Hit] = {}
    for pair in subject.near:
        row, other = pair.right, pair.left
        if subject.split_names[row] == "train":
            row, other = other, row
        names = subject.split_names[row], subject.split_names[other]
        if names[0] not in HELD_OUT or names[1] != "train" or row in hits or _same(subject, row, other):
            continue
        evidence = f"{names[0]} row is like training row {subject.place(other)}: {subject.inputs[row]}"
        hits[row] = Hit(subject.place(row), evidence)
    title = "held-out rows are nearly the same as training rows"
    fix = "let foretune split, which keeps alike rows on one side; with a given test split, read its score with care"
    return finding(14, "warning", title, hits.values(), fix=fix)


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
    hits = [
        Hit(subject.place(row), f"group {sample.group!r} is in {', '.join(sorted(splits[sample.group]))}")
        for row, sample in enumerate(subject.samples)
        if sample.group in torn
    ]
    fix = "let foretune split (clear data.validation_path and data.test_path)"
    return finding(15, "error", "groups are in more than one split", hits, fix=fix)
