"""What is known of the data and of how time is counted: real lengths, batching, units of steps, evaluations."""

# SPDX-License-Identifier: Apache-2.0
#
# Where a row gives no tokens, a data set that it names, or whose number of examples gives it away, has a usual length.
from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from foretune.plan.setup import Setup

__all__ = ["USUAL_EPOCHS", "UsualData", "histogram", "mean_length", "padded_length", "with_workload"]

USUAL_EPOCHS = 3.0  # of instruction tuning, where none are given
MOST_BINS = 256
GROUPED_BATCHES = 50  # batches that are cut from one sorted stretch where rows are grouped by length (HF Trainer)
TEXT_COLUMNS = ("notes", "flash/kernel_notes", "arch_notes", "parallelism", "framework", "seq_len")


class UsualData(NamedTuple):
    """A well-known data set: words that name it, its numbers of examples, and mean tokens of one with its template."""

    words: str
    examples: tuple[int, ...]
    mean_tokens: float
    source: str


USUAL_DATA: tuple[UsualData, ...] = (
    UsualData(r"alpaca", (52_002, 51_760, 51_942), 180.0, "fits reported runs best; LitGPT states a median of 110"),
    UsualData(r"dolly", (15_011, 15_015), 217.0, "1,591 packed rows of 2,048 tokens; from memory, not re-read"),
    UsualData(r"guanaco|oasst", (9_846, 9_209), 450.0, "long dialogues; from memory, not re-read"),
    UsualData(r"metamath", (395_000,), 210.0, "huggingface/peft method_comparison: 4,198,051 tokens of 20,000"),
)


def histogram(lengths: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Lengths in tokens as pairs of a length and its number of rows, the shortest first.

    Beyond 256 different lengths, as many bins of like numbers of rows stand for their means; the longest row stays.
    """
    counts = sorted(Counter(max(1, int(length)) for length in lengths).items())
    if len(counts) <= MOST_BINS:
        return tuple(counts)
    longest, rest = counts[-1], counts[:-1]
    size = math.ceil(sum(count for _, count in rest) / (MOST_BINS - 1))
    bins: list[tuple[int, int]] = []
    tokens = rows = 0
    for length, count in rest:
        tokens, rows = tokens + length * count, rows + count
        if rows >= size:
            bins.append((round(tokens / rows), rows))
            tokens = rows = 0
    if rows:
        bins.append((round(tokens / rows), rows))
    return (*bins, longest)


def mean_length(bins: Sequence[tuple[int, int]], limit: int) -> float:
    """Mean tokens of a row, each cut at `limit`."""
    return sum(min(length, limit) * count for length, count in bins) / sum(count for _, count in bins)


def padded_length(bins: Sequence[tuple[int, int]], rows: int, limit: int, *, is_grouped: bool = False) -> float:
    """Mean tokens that a row is computed with when `rows` are padded to the longest of their batch.

    Drawn at random, the longest of n has the distribution F^n. Grouped by length, the longest of each batch of a sorted
    stretch stands at an even share of the distribution. Each row is cut at `limit`.
    """
    total = sum(count for _, count in bins)
    share = found = 0.0
    for length, count in bins:
        before, share = share, min(1.0, share + count / total)
        if is_grouped and rows > 1:
            weight = (_batches_below(share, rows) - _batches_below(before, rows)) / GROUPED_BATCHES
        else:
            weight = share**rows - before**rows
        found += weight * min(length, limit)
    return found


def _batches_below(share: float, rows: int) -> int:
    """Batches of a sorted stretch whose longest row stands in the lower `share` of all rows.

    The longest of the k-th batch of n rows is the k n-th of the stretch's N = 50 n, at k n / (N + 1) of all rows.
    """
    return min(GROUPED_BATCHES, math.floor(share * (GROUPED_BATCHES + 1 / rows) + 1e-9))


def with_workload(setup: Setup, cells: Mapping[str, str]) -> tuple[Setup, tuple[str, ...]]:
    """The setup with what the cells say of data and time, and the assumptions made."""
    text = " | ".join(str(cells.get(column) or "") for column in TEXT_COLUMNS).lower()
    changes: dict[str, object] = {
        "counts_device_hours": bool(re.search(r"(gpu|device|accelerator|tpu|chip)[ -]?hours", text))
        and setup.num_gpus == 1,
        "steps_are_micro": bool(re.search(r"micro-?batch (iterations|steps)|(steps|iterations) of micro", text)),
        "includes_evaluation": bool(re.search(r"includ\w+ (the |periodic )*(eval|validation)", text))
        and "max includes" not in text,
        "groups_by_length": bool(
            re.search(r"group\w*[ _-]by[ _-]length|length[ _-]group|sorted by length|bucket", text)
        ),
    }
    assumptions: list[str] = []
    unknown = set(setup.unknown)
    precision = str(cells.get("precision/quantization") or "").lower()
    if re.search(r"chosen|usual", precision) and setup.compute in ("fp8", "nvfp4"):
        unknown.add("compute")
        assumptions.append("precision left to the software: the lowest that it usually takes on this device")
    if setup.num_examples and not setup.epochs and not setup.steps and not setup.tokens_total:
        changes["epochs"] = USUAL_EPOCHS
        unknown.add("epochs")
        assumptions.append(f"epochs not given: {USUAL_EPOCHS:g}")
    mean, why = _mean_tokens(setup, text)
    if mean:
        changes["mean_tokens"] = mean
        assumptions += [why] if why else []
    return setup.changed(**changes, unknown=frozenset(unknown)), tuple(assumptions)


def _mean_tokens(setup: Setup, text: str) -> tuple[float, str]:
    """Mean tokens of an example, and why where that is assumed; 0.0 leaves it open."""
    longest = float(setup.max_seq_len)
    if setup.tokens_total and setup.num_examples and not setup.packing:
        return _told_mean(setup), ""
    if setup.tokens_total and setup.steps and not setup.packing and not setup.num_examples:
        return min(longest, setup.tokens_total / setup.steps / setup.global_batch_size), ""
    if "padded" in text and not setup.packing:
        return longest, f"rows padded to {setup.max_seq_len} tokens"
    for data in USUAL_DATA:
        if setup.num_examples in data.examples or re.search(data.words, text):
            mean = min(data.mean_tokens, longest)
            return mean, f"mean tokens of an example not given: {mean:.0f} ({data.source})"
    return 0.0, ""


def _told_mean(setup: Setup) -> float:
    """Tokens over examples; over epochs too, unless that makes the tokens those of one epoch."""
    longest = float(setup.max_seq_len)
    rows = setup.num_examples * (setup.epochs or 1.0)
    if setup.steps:
        rows = float(setup.steps * setup.global_batch_size)
    return min(longest, setup.tokens_total / rows)
