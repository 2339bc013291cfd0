"""What is audited: the samples of all splits with what several checks need, and how a finding is written."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Literal, NamedTuple

from foretune.data.neardup import Pair, near_duplicates, normalised
from foretune.data.samples import Sample
from foretune.data.split import input_key
from foretune.data.tokenizer import Tokenizer
from foretune.records.audit import Finding

__all__ = ["Hit", "Severity", "Subject", "finding", "place_of", "shorten"]

Severity = Literal["info", "warning", "error"]
MAX_PLACES = 20
MAX_EVIDENCE = 5
EVIDENCE_CHARS = 160


class Hit(NamedTuple):
    """One row that a check found, with what it saw there."""

    place: str
    evidence: str = ""


class Subject:
    """The data under audit. Rows are numbered across the splits, in the order train, validation, test."""

    def __init__(
        self, splits: Mapping[str, Sequence[Sample]], *, task: str, tokenizer: Tokenizer | None, max_seq_len: int
    ) -> None:
        self.splits = splits
        self.task = task
        self.tokenizer = tokenizer
        self.max_seq_len = max_seq_len
        self.samples: list[Sample] = [sample for samples in splits.values() for sample in samples]
        self.split_names: list[str] = [name for name, samples in splits.items() for _ in samples]

    @cached_property
    def inputs(self) -> list[str]:
        """The question of each row as it is compared: without system message, lower case, single blanks."""
        return [normalised(input_key(sample)) for sample in self.samples]

    @cached_property
    def targets(self) -> list[str]:
        """The answer of each row as it is compared."""
        return [normalised(sample.target) for sample in self.samples]

    @cached_property
    def near(self) -> list[Pair]:
        """Pairs of rows with near-duplicate or equal inputs, across all splits."""
        return near_duplicates(self.inputs)

    @cached_property
    def chats(self) -> list[Sample]:
        """The samples that are conversations."""
        return [sample for sample in self.samples if not sample.is_text]

    def place(self, row: int) -> str:
        """Where a row stands."""
        return place_of(self.samples[row])


def place_of(sample: Sample) -> str:
    """`file:line` of a sample, or its id where it came from no file."""
    return sample.place or sample.id


def shorten(text: str, limit: int = EVIDENCE_CHARS) -> str:
    """Text on one line, cut in the middle if it is long."""
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit * 2 // 3]} ... {line[-limit // 4 :]}"


def finding(number: int, severity: Severity, title: str, hits: Iterable[Hit], *, fix: str) -> list[Finding]:
    """A finding `DATA<number>` on the rows hit, or nothing where none is."""
    listed = list(hits)
    if not listed:
        return []
    return [
        Finding(
            id=f"DATA{number:03d}",
            severity=severity,
            title=title,
            count=len(listed),
            places=tuple(dict.fromkeys(hit.place for hit in listed))[:MAX_PLACES],
            evidence=tuple(dict.fromkeys(shorten(hit.evidence) for hit in listed if hit.evidence))[:MAX_EVIDENCE],
            fix=fix,
        )
    ]
