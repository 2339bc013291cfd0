"""Scores, group labels and levels, checked once and turned into arrays."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from foretune.errors import ScoreError

__all__ = [
    "FloatArray",
    "IntArray",
    "ScoreRange",
    "checked_alpha",
    "checked_binary",
    "checked_scores",
    "group_codes",
    "score_limits",
]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]
ScoreRange = tuple[float, float]

RANGE_SLACK = 1e-9  # a score of 1.0000000002 is rounding, not a fault


def checked_scores(values: ArrayLike, name: str, score_range: ScoreRange | None = None) -> FloatArray:
    """One score per sample as a float array of shape (n,).

    Raises ScoreError naming the row (counted from 0) that is not a finite number or lies outside `score_range`,
    and where there is no row at all.
    """
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1 or scores.size == 0:
        raise ScoreError(
            f"{name} scores have shape {scores.shape}, expected one score for each of at least 1 sample",
            fix="check that the split holds samples: foretune audit",
        )
    _refuse(~np.isfinite(scores), scores, name, "a finite number")
    if score_range is not None:
        low, high = score_range
        outside = (scores < low - RANGE_SLACK) | (scores > high + RANGE_SLACK)
        _refuse(outside, scores, name, f"a score from {low:g} to {high:g}")
        scores = np.clip(scores, low, high)
    return scores


def checked_binary(values: ArrayLike, name: str) -> FloatArray:
    """Like `checked_scores`, for scores that may only be 0 or 1."""
    scores = checked_scores(values, name)
    _refuse((scores != 0) & (scores != 1), scores, name, "0 or 1")
    return scores


def checked_alpha(alpha: float, look: int = 1) -> float:
    """The level of one look: alpha divided by the number of looks (Bonferroni)."""
    if not 0 < alpha < 1:
        raise ScoreError(f"alpha is {alpha}, expected a level between 0 and 1", fix="alpha = 0.05")
    if look < 1:
        raise ScoreError(f"look is {look}, expected 1 for the first look at a test split", fix="look = 1")
    return alpha / look


def group_codes(groups: Sequence[Hashable] | None, n: int) -> IntArray:
    """A number from 0 for each sample's group, in order of appearance; without groups every sample is its own."""
    if groups is None:
        return np.arange(n, dtype=np.intp)
    if len(groups) != n:
        raise ScoreError(f"{len(groups)} group labels for {n} samples, expected one each", fix="pass groups=None")
    seen: dict[Hashable, int] = {}
    return np.array([seen.setdefault(group, len(seen)) for group in groups], dtype=np.intp)


def score_limits(score_range: ScoreRange | None, *score_arrays: FloatArray) -> ScoreRange:
    """The lowest and highest score possible: as declared, or the observed ones widened by their span (at least 1)."""
    if score_range is not None:
        return score_range
    low = min(float(scores.min()) for scores in score_arrays)
    high = max(float(scores.max()) for scores in score_arrays)
    span = max(1.0, high - low)
    return low - span, high + span


def _refuse(bad: NDArray[np.bool_], scores: FloatArray, name: str, expected: str) -> None:
    rows = np.flatnonzero(bad)
    if rows.size:
        row = int(rows[0])
        more = f" (and {rows.size - 1} more)" if rows.size > 1 else ""
        raise ScoreError(
            f"{name} score of row {row} is {float(scores[row])!r}{more}, expected {expected}",
            fix=f"look at row {row} (counted from 0) and at the scorer; a missing score is never dropped",
        )
