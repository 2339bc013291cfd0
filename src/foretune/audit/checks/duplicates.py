"""Checks of rows against each other: copies, near-copies, and alike questions with different answers."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterable

from foretune.audit.checks.alike import Alike, alike, flagged
from foretune.audit.subject import Severity, Subject, shorten
from foretune.data.neardup import Pair
from foretune.records.audit import Finding

__all__ = ["contradictions", "exact_duplicates", "explained_differences", "near_duplicate_rows"]

MANY_FRACTION = 0.05
SEVERAL_ANSWERS_FRACTION = 0.3  # of the rows: a data set with several references for each input
# From planted copies (benchmarks/data_neardup.py), rounded down; no person has judged what is found in real sets.
NEAR_CERTAINTY, CLASS_CERTAINTY, TEXT_CERTAINTY = 0.95, 0.85, 0.9
TELLS = "alike inputs of different classes differ in a word that tells the classes apart"


def exact_duplicates(subject: Subject) -> list[Finding]:
    """DATA010: rows that say the same as an earlier one, but for case and white space (R142)."""
    first: dict[tuple[str, str], int] = {}
    hits: dict[int, str] = {}
    for row, key in enumerate(zip(subject.inputs, subject.targets, strict=True)):
        leader = first.setdefault(key, row)
        if leader != row:
            hits[row] = f"same as {subject.place(leader)}: {key[0]}"
    fix = "keep one of each; copies weigh double"
    return flagged(subject, 10, _severity(subject, hits), "rows are copies of others", hits, fix=fix)


def near_duplicate_rows(subject: Subject) -> list[Finding]:
    """DATA011: rows whose input is nearly that of an earlier one, or holds it, with the same answer (R142)."""
    rows = alike(subject)
    hits: dict[int, str] = {}
    for pair in rows.near:
        if pair.right not in hits and not _is_copy(rows, pair) and alike(subject).same_answer(pair.left, pair.right):
            hits[pair.right] = f"like {subject.place(pair.left)}: {subject.inputs[pair.right]}"
    title, fix = "rows are near-copies of others", "keep one of each, or vary them"
    return flagged(subject, 11, _severity(subject, hits), title, hits, fix=fix, certainty=NEAR_CERTAINTY)


def _severity(subject: Subject, hits: dict[int, str]) -> Severity:
    return "warning" if len(hits) > MANY_FRACTION * len(subject.samples) else "info"


def _is_copy(rows: Alike, pair: Pair) -> bool:
    """Whether two rows are exact copies, which other checks report."""
    left, right = pair.left, pair.right
    return rows.inputs[left] == rows.inputs[right] and rows.targets[left] == rows.targets[right]


def contradictions(subject: Subject) -> list[Finding]:
    """DATA012: equal or nearly equal questions with different answers (R139).

    Of each two rows the one whose answer fits less is listed, and the other one named. Pairs whose differing words
    explain the different answers do not count. Data with several references for most inputs is noted, not blamed.
    """
    pairs, rows = _divergent(subject), alike(subject)
    hits = {rows.suspect(pair): _both(subject, pair) for pair in pairs if not rows.is_explained(pair)}
    if rows.has_classes:
        title, fix = (
            "alike inputs have different classes",
            "decide on one class for each; mixed labels cap the accuracy",
        )
        return flagged(subject, 12, "warning", title, hits, fix=fix, certainty=CLASS_CERTAINTY)
    if len(hits) > SEVERAL_ANSWERS_FRACTION * len(subject.samples):
        fix = "fine where any of them is right; exact match then underrates every system"
        return flagged(subject, 12, "info", "most inputs have several different answers", hits, fix=fix, certainty=0.0)
    fix = "decide on one answer for each, or tell the inputs apart"
    title = "the same input has different answers"
    return flagged(subject, 12, "warning", title, hits, fix=fix, certainty=TEXT_CERTAINTY)


def explained_differences(subject: Subject) -> list[Finding]:
    """DATA016: near-copies of different classes where the words that differ tell the classes apart (R139).

    Mostly right ("exchange rate?", "exchange fee?"), and worth a look: with DATA012 these are all near-copies with
    different classes.
    """
    rows = alike(subject)
    if not rows.has_classes:
        return []
    pairs = [pair for pair in _divergent(subject) if rows.resembles(pair) and rows.is_explained(pair)]
    hits = {pair.right: _both(subject, pair) for pair in pairs}
    fix = "read them: the model must learn them by that word alone"
    return flagged(subject, 16, "info", f"{TELLS} ({len(pairs)} pairs)", hits, fix=fix, certainty=0.0)


def _divergent(subject: Subject) -> Iterable[Pair]:
    """Pairs of alike inputs whose answers differ; raw text has no answers."""
    if subject.task == "text":
        return []
    inputs = subject.inputs
    near = (pair for pair in alike(subject).near if inputs[pair.left] and inputs[pair.right])
    return [pair for pair in near if not alike(subject).same_answer(pair.left, pair.right)]


def _both(subject: Subject, pair: Pair) -> str:
    a, b = (shorten(subject.samples[row].target, 40) for row in pair[:2])
    asked = shorten(subject.inputs[pair.right], 60)
    return f"{asked} -> {a!r} ({subject.place(pair.left)}) and {b!r} ({subject.place(pair.right)})"
