"""Where the variants differ: paired differences by slice, with false discoveries held down and no slice too small."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from foretune.records.comparison import SliceResult
from foretune.stats.paired import PairedResult

__all__ = ["MIN_SLICE", "Slices", "compare_slices", "default_slices", "discoveries"]

MIN_SLICE = 30  # samples; below it a slice is counted, not tested
FALSE_DISCOVERIES = 0.05
MAX_LABELS = 20


class Slices(NamedTuple):
    """The slices tested, and how many were too small to be."""

    results: tuple[SliceResult, ...]
    too_small: int


def default_slices(expected: Sequence[str], prompts: Sequence[str]) -> dict[str, list[bool]]:
    """Slices by expected answer, where there are at most 20 of them, and by thirds of the question's length."""
    labels = sorted(set(expected))
    slices: dict[str, list[bool]] = {}
    if 2 <= len(labels) <= MAX_LABELS:
        slices |= {f"expected = {label}": [text == label for text in expected] for label in labels}
    lengths = np.array([len(prompt) for prompt in prompts], dtype=np.float64)
    low, high = np.quantile(lengths, [1 / 3, 2 / 3])
    if low < high:
        slices[f"question up to {low:.0f} characters"] = (lengths <= low).tolist()
        slices[f"question over {high:.0f} characters"] = (lengths > high).tolist()
    return slices


def compare_slices(
    members: Mapping[str, Sequence[bool]], compare_rows: Callable[[Sequence[int]], PairedResult]
) -> Slices:
    """Compare within every slice of at least 30 samples; flag by Benjamini-Hochberg at 5 % over the slices tested."""
    rows = {name: [row for row, inside in enumerate(inside_N) if inside] for name, inside_N in members.items()}
    tested = {name: compare_rows(chosen) for name, chosen in rows.items() if len(chosen) >= MIN_SLICE}
    flags = discoveries([result.p_value for result in tested.values()])
    results = tuple(
        SliceResult(
            slice=name,
            n=result.n,
            value=result.value,
            ci_low=result.ci_low,
            ci_high=result.ci_high,
            p_value=result.p_value,
            flagged=flag,
        )
        for (name, result), flag in zip(tested.items(), flags, strict=True)
    )
    return Slices(results, len(rows) - len(tested))


def discoveries(p_values: Sequence[float], rate: float = FALSE_DISCOVERIES) -> list[bool]:
    """Benjamini and Hochberg 1995: of those flagged, at most a share `rate` is false on average."""
    if not p_values:
        return []
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values)
    passed = np.flatnonzero(values[order] <= rate * np.arange(1, values.size + 1) / values.size)
    cutoff = values[order[passed[-1]]] if passed.size else -1.0
    return [bool(value <= cutoff) for value in values]
