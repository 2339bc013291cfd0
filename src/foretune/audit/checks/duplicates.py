"""Checks of rows against each other: copies, near-copies, and equal questions with different answers."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from foretune.audit.subject import Hit, Severity, Subject, finding, shorten
from foretune.data.neardup import GRAM, cluster_roots
from foretune.records.audit import Finding

__all__ = ["contradictions", "exact_duplicates", "near_duplicate_rows"]

MANY_FRACTION = 0.05
SAME_QUESTION = 0.9  # Jaccard index from which two inputs of a free-text task ask the same
SAME_ANSWER = 0.5
SEVERAL_ANSWERS_FRACTION = 0.3  # of the rows: a data set with several references for each input


def exact_duplicates(subject: Subject) -> list[Finding]:
    """DATA010: rows that say the same as an earlier one, but for case and white space (R142)."""
    first: dict[tuple[str, str], int] = {}
    hits = []
    for row, key in enumerate(zip(subject.inputs, subject.targets, strict=True)):
        leader = first.setdefault(key, row)
        if leader != row:
            hits.append(Hit(subject.place(row), f"same as {subject.place(leader)}: {key[0]}"))
    severity: Severity = "warning" if len(hits) > MANY_FRACTION * len(subject.samples) else "info"
    return finding(10, severity, "rows are copies of others", hits, fix="keep one of each; copies weigh double")


def near_duplicate_rows(subject: Subject) -> list[Finding]:
    """DATA011: rows whose input is nearly that of another one, with the same answer (R142)."""
    hits = [
        Hit(subject.place(pair.right), f"like {subject.place(pair.left)}: {subject.inputs[pair.right]}")
        for pair in subject.near
        if pair.similarity < 1 and _same_answer(subject, pair.left, pair.right)
    ]
    severity: Severity = "warning" if len(hits) > MANY_FRACTION * len(subject.samples) else "info"
    return finding(11, severity, "rows are near-copies of others", hits, fix="keep one of each, or vary them")


def _same_answer(subject: Subject, left: int, right: int) -> bool:
    """Whether two answers are equal or, in free text, have half of their 5-grams in common."""
    a, b = subject.targets[left], subject.targets[right]
    if a == b or subject.task != "chat":
        return a == b
    grams = [{text[i : i + GRAM] for i in range(max(len(text) - GRAM + 1, 1))} for text in (a, b)]
    return len(grams[0] & grams[1]) >= SAME_ANSWER * len(grams[0] | grams[1])


def contradictions(subject: Subject) -> list[Finding]:
    """DATA012: equal or nearly equal questions with different answers (R139).

    In classification near-duplicates count; in free text only inputs that are the same but for a character or two, with
    answers that have little in common. Data with several references for most inputs is noted, not blamed.
    """
    if subject.task == "text":
        return []
    hits = list(_divergent(subject))
    if subject.task == "classify":
        title = "alike inputs have different classes"
        return finding(12, "warning", title, hits, fix="decide on one class for each; mixed labels cap the accuracy")
    if len(hits) > SEVERAL_ANSWERS_FRACTION * len(subject.samples):
        fix = "fine where any of them is right; exact match then underrates every system"
        return finding(12, "info", "most inputs have several different answers", hits, fix=fix)
    fix = "decide on one answer for each, or tell the inputs apart"
    return finding(12, "warning", "the same input has different answers", hits, fix=fix)


def _divergent(subject: Subject) -> Iterator[Hit]:
    least = 0.0 if subject.task == "classify" else SAME_QUESTION
    links = [(pair.left, pair.right) for pair in subject.near if pair.similarity >= least]
    clusters: dict[int, list[int]] = defaultdict(list)
    for row, root in enumerate(cluster_roots(len(subject.samples), links)):
        clusters[root].append(row)
    for rows in clusters.values():
        first = rows[0]
        for row in rows[1:]:
            if subject.inputs[row] and not _same_answer(subject, first, row):
                yield Hit(subject.place(row), _both(subject, first, row))


def _both(subject: Subject, left: int, right: int) -> str:
    a, b = (shorten(subject.samples[row].target, 40) for row in (left, right))
    return f"{shorten(subject.inputs[right], 60)} -> {a!r} ({subject.place(left)}) and {b!r} ({subject.place(right)})"
