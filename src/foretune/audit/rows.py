"""A finding on numbered rows: places, ids and the expected effect follow from the rows."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterator, Mapping

from foretune.audit.subject import Hit, Severity, Subject, finding
from foretune.data.samples import Sample
from foretune.records.audit import Finding

__all__ = ["MAX_IDS", "chat_rows", "effect_of", "row_finding", "texts_of"]

MAX_IDS = 1_000


def row_finding(
    subject: Subject,
    number: int,
    severity: Severity,
    title: str,
    rows: Mapping[int, str],
    *,
    fix: str,
    certainty: float = 1.0,
) -> list[Finding]:
    """A finding `DATA<number>` on rows (row number -> what was seen there), or nothing where `rows` is empty.

    `certainty` is the measured precision of the check. Ids are those of the first 1,000 rows.
    """
    hits = [Hit(subject.place(row), evidence) for row, evidence in rows.items()]
    effect = effect_of(subject, rows, certainty)
    ids = tuple(dict.fromkeys(subject.samples[row].id for row in rows))[:MAX_IDS]
    update = {"certainty": certainty, "effect": effect, "sample_ids": ids}
    return [one.model_copy(update=update) for one in finding(number, severity, title, hits, fix=fix)]


def effect_of(subject: Subject, rows: Mapping[int, str], certainty: float) -> float:
    """The share of the training rows that are spoilt: rows of the training split hit x certainty / its size."""
    num_train = len(subject.splits.get("train", ()))
    num_hit = sum(subject.split_names[row] == "train" for row in rows)
    return round(num_hit * certainty / num_train, 6) if num_train else 0.0


def chat_rows(subject: Subject) -> Iterator[tuple[int, Sample]]:
    """The rows that are conversations, with their numbers."""
    return ((row, sample) for row, sample in enumerate(subject.samples) if not sample.is_text)


def texts_of(sample: Sample) -> Iterator[str]:
    """Every text of a sample: its messages, or its raw text."""
    yield from (message.content for message in sample.messages)
    if sample.text:
        yield sample.text
