"""What a row says of its data and of how its time is counted: real lengths, units of steps, padding, evaluations."""

# SPDX-License-Identifier: Apache-2.0
#
# Where a row gives no tokens, a data set that it names, or whose number of examples gives it away, has a usual length.
from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from foretune.plan.setup import Setup

__all__ = ["USUAL_EPOCHS", "UsualData", "with_workload"]

USUAL_EPOCHS = 3.0  # of instruction tuning, where none are given
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


def with_workload(setup: Setup, cells: Mapping[str, str]) -> tuple[Setup, tuple[str, ...]]:
    """The setup with what the cells say of data and time, and the assumptions made."""
    text = " | ".join(str(cells.get(column) or "") for column in TEXT_COLUMNS).lower()
    changes: dict[str, object] = {
        "counts_device_hours": bool(re.search(r"(gpu|device|accelerator|tpu|chip)[ -]?hours", text))
        and setup.num_gpus == 1,
        "steps_are_micro": bool(re.search(r"micro-?batch (iterations|steps)|(steps|iterations) of micro", text)),
        "includes_evaluation": bool(re.search(r"includ\w+ (the |periodic )*(eval|validation)", text))
        and "max includes" not in text,
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
