"""What the rows themselves look like: lengths of input and answer, languages, classes; and rows by id, masked."""

# SPDX-License-Identifier: Apache-2.0
#
# Records name rows by id and place; a page that shows them needs the rows. They are read from the stored version of the
# data set, thinned evenly where there are many, and every text that leaves here has personal data replaced.
from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from foretune.audit.checks.pii import redacted
from foretune.data.languages import language_of
from foretune.data.samples import Sample
from foretune.data.tokenise import tokenise_all
from foretune.data.tokenizer import Tokenizer
from foretune.errors import ConfigError, DataError, NotFound
from foretune.records.dataset import DatasetRecord
from foretune.steps import Run

__all__ = ["Lengths", "Rows", "class_counts", "language_counts", "lengths_of", "read_rows", "shown_text"]

MOST_ROWS = 200_000  # that are read for a page: about 1 GB
MOST_MEASURED = 5_000  # rows of a split whose lengths and languages are measured
NUM_BINS = 24  # at most
TAIL = 0.99  # of the lengths that the axis spans; the last bin holds the rest


@dataclass(frozen=True)
class Rows:
    """The rows of a data set version by split, with the tokenizer of the base model where it could be read."""

    splits: Mapping[str, Sequence[Sample]]
    tokenizer: Tokenizer | None = None

    @cached_property
    def by_place(self) -> dict[str, Sample]:
        """Rows by `file:line`."""
        return {sample.place: sample for samples in self.splits.values() for sample in samples if sample.place}

    @cached_property
    def by_id(self) -> dict[str, Sample]:
        """Rows by id; the first of several with one id."""
        rows: dict[str, Sample] = {}
        for samples in self.splits.values():
            for sample in samples:
                rows.setdefault(sample.id, sample)
        return rows


def read_rows(run_dir: str | Path) -> Rows | None:
    """The rows of a run's data from the store beside it; None where the run or its data are not there or damaged.

    None too of more than 200,000 rows, which a page does without.
    """
    folder = Path(run_dir)
    try:
        run = Run.open(folder)
        sizes = {name: split.num_samples for name, split in DatasetRecord.read(folder).splits.items()}
        if sum(sizes.values()) > MOST_ROWS:
            return None
        splits = {name: run.split(name) for name in sizes}
    except (NotFound, DataError, ConfigError, ValueError):
        return None
    return Rows(splits, _tokenizer(run))


def _tokenizer(run: Run) -> Tokenizer | None:
    try:
        return run.base()[1]
    except (NotFound, DataError, ConfigError):
        return None


@dataclass(frozen=True)
class Lengths:
    """Lengths of one part of a row: counts in equal bins between `edges`, and the figures of all rows measured."""

    part: str  # input, answer or whole row
    unit: str  # tokens or words
    counts: tuple[int, ...]
    edges: tuple[float, ...]
    median: float
    p95: float
    longest: int
    num_rows: int


def lengths_of(samples: Sequence[Sample], tokenizer: Tokenizer | None) -> tuple[Lengths, ...]:
    """Input, answer and whole row, in tokens where the tokenizer can tell them apart, else in words.

    At most 5,000 rows, evenly spaced. Raw text has no parts: the whole row alone.
    """
    rows = thinned(samples)
    if not rows:
        return ()
    unit, inputs, answers = "tokens", *_token_lengths(rows, tokenizer)
    if not inputs:
        unit = "words"
        inputs = [sum(len(message.content.split()) for message in row.prompt) for row in rows]
        answers = [len((row.target or row.text).split()) for row in rows]
    whole = [a + b for a, b in zip(inputs, answers, strict=True)]
    parts = {"input": inputs, "answer": answers, "whole row": whole}
    if all(row.is_text for row in rows):
        parts = {"whole row": whole}
    return tuple(_lengths(part, unit, values) for part, values in parts.items())


def thinned(samples: Sequence[Sample], most: int = MOST_MEASURED) -> list[Sample]:
    """At most `most` rows, evenly spaced."""
    return list(samples[:: max(1, -(-len(samples) // most))])


def _token_lengths(rows: Sequence[Sample], tokenizer: Tokenizer | None) -> tuple[list[int], list[int]]:
    """Tokens before and of the answers, as training counts them; nothing where a mask cannot be proved."""
    if tokenizer is None:
        return [], []
    try:
        found = tokenise_all(rows, tokenizer).samples
    except DataError:
        return [], []
    return [len(row.ids) - row.num_loss_tokens for row in found], [row.num_loss_tokens for row in found]


def _lengths(part: str, unit: str, values: Sequence[int]) -> Lengths:
    array = np.asarray(values)
    longest = int(array.max())
    last = max(1, min(longest, int(np.ceil(np.quantile(array, TAIL)))))
    width = -(-(last + 1) // NUM_BINS)  # whole lengths in every bin
    num_bins = -(-(last + 1) // width) + (longest > last)  # and one for all that is longer
    edges = np.arange(0, width * num_bins + 1, width, dtype=np.float64)
    counts, _ = np.histogram(np.minimum(array, edges[-1]), edges)
    return Lengths(
        part=part,
        unit=unit,
        counts=tuple(counts.tolist()),
        edges=tuple(round(float(edge), 3) for edge in edges),
        median=float(np.median(array)),
        p95=float(np.quantile(array, 0.95)),
        longest=longest,
        num_rows=len(values),
    )


def language_counts(samples: Sequence[Sample]) -> Counter[str]:
    """Languages of the answers (of the inputs where an answer is too short to tell); "" could not be told."""
    counts: Counter[str] = Counter()
    for sample in thinned(samples):
        answer = language_of(sample.target or sample.text, is_sure=True)
        counts[answer or language_of(sample.input_text, is_sure=True)] += 1
    return counts


def class_counts(samples: Iterable[Sample]) -> Counter[str]:
    """How many rows each class has."""
    return Counter(sample.target for sample in samples)


def shown_text(text: str, most: int) -> str:
    """A text for a page: personal data replaced by placeholders, at most `most` characters, the rest counted."""
    safe = redacted(text).text
    return safe if len(safe) <= most else f"{safe[:most]} … ({len(safe) - most:,} more characters)"
