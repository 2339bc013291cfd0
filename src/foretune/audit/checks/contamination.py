"""Check against benchmarks: no training row may repeat an item that the model is later judged by."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from foretune.audit.checks.alike import flagged
from foretune.audit.subject import Subject
from foretune.data.contamination import BenchmarkIndex, build_index, load_index, repeats
from foretune.data.samples import Sample
from foretune.records.audit import Finding

__all__ = ["benchmark_check", "contaminated_rows", "read_benchmarks"]

CERTAINTY = 0.9  # not measured: a shared 13-gram can be a quotation
TITLE = "training rows repeat benchmark items"


def read_benchmarks(path: Path) -> BenchmarkIndex:
    """The index in a .npz file, or one built from a folder of benchmark files."""
    return load_index(path) if path.suffix == ".npz" else build_index(path)


def benchmark_check(index: BenchmarkIndex) -> Callable[[Subject], list[Finding]]:
    """The check against these benchmarks, to be run beside the others."""
    return lambda subject: contaminated_rows(subject, index)


def contaminated_rows(subject: Subject, index: BenchmarkIndex) -> list[Finding]:
    """DATA017: training rows with 13 words in a row of a benchmark item (R118)."""
    rows = [row for row, name in enumerate(subject.split_names) if name == "train"]
    found = repeats((_whole(subject.samples[row]) for row in rows), index)
    hits = {rows[one.text]: f"{one.item}, {one.num_grams} times 13 words: {one.words}" for one in found}
    fix = "take the rows out, or do not report these benchmarks for the tuned model"
    return flagged(subject, 17, "warning", TITLE, hits, fix=fix, certainty=CERTAINTY)


def _whole(sample: Sample) -> str:
    return sample.text or "\n".join(message.content for message in sample.messages)
