"""Can two samples of vectors be told apart? The AUC of a linear classifier on rows that it was not fitted on."""

# SPDX-License-Identifier: Apache-2.0
#
# A classifier two-sample test (Lopez-Paz and Oquab 2017, arXiv 1610.06545) with ridge regression on +-1, both samples
# weighing the same. The interval of the AUC is that of DeLong, DeLong and Clarke-Pearson (1988).
#
# Shapes: N rows of the reference, M rows of the batch, D dimensions.
from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from foretune.errors import ScoreError
from foretune.stats.checks import FloatArray, checked_alpha
from foretune.stats.intervals import Interval

__all__ = ["area_under_curve", "separation"]

NUM_FOLDS = 5
PENALTY = 0.1  # of the mean of the squared features
LEAST_ROWS = 2 * NUM_FOLDS


def separation(reference: ArrayLike, batch: ArrayLike, *, alpha: float = 0.05, seed: int = 0) -> Interval:
    """AUC of telling `batch` [M, D] from `reference` [N, D], out of fold: 0.5 = alike, 1 = wholly apart.

    Raises ScoreError for fewer than 10 rows of either.
    """
    first, second = (np.asarray(rows, np.float64) for rows in (reference, batch))
    if min(len(first), len(second)) < LEAST_ROWS:
        raise ScoreError(
            f"{len(first)} and {len(second)} rows, expected at least {LEAST_ROWS} of each", fix="give more"
        )
    rows, is_batch = np.concatenate([first, second]), np.repeat([False, True], [len(first), len(second)])
    rng = np.random.default_rng(seed)
    folds = np.concatenate([rng.permutation(len(side)) % NUM_FOLDS for side in (first, second)])
    scores = np.empty(len(rows))
    for fold in range(NUM_FOLDS):
        held = folds == fold
        values = _predicted(rows[~held], is_batch[~held], rows[held])
        scores[held] = (values - values.mean()) / (values.std() or 1.0)
    return area_under_curve(scores[~is_batch], scores[is_batch], alpha)


def _predicted(rows: FloatArray, is_batch: np.ndarray, held: FloatArray) -> FloatArray:
    """Ridge regression of which sample a row is of, on held-out rows."""
    mean = rows.mean(axis=0)
    centred = rows - mean
    weights = np.where(is_batch, 0.5 / is_batch.sum(), 0.5 / (~is_batch).sum())
    weighted = centred * weights[:, None]
    gram = weighted.T @ centred
    penalty = PENALTY * float(np.trace(gram)) / max(1, len(gram)) + 1e-12
    solved = np.linalg.solve(gram + penalty * np.eye(len(gram)), weighted.T @ np.where(is_batch, 1.0, -1.0))
    result: FloatArray = (held - mean) @ solved
    return result


def area_under_curve(negatives: ArrayLike, positives: ArrayLike, alpha: float = 0.05) -> Interval:
    """The chance that a positive scores above a negative, ties counting half, with DeLong's interval (cut to 0..1)."""
    from scipy.special import ndtri
    from scipy.stats import rankdata

    low, high = np.asarray(negatives, np.float64), np.asarray(positives, np.float64)
    ranks = rankdata(np.concatenate([low, high]))
    above_low = (ranks[len(low) :] - rankdata(high)) / len(low)  # share of negatives below each positive
    below_high = 1 - (ranks[: len(low)] - rankdata(low)) / len(high)  # share of positives above each negative
    value = float(above_low.mean())
    variance = _variance(above_low) / len(high) + _variance(below_high) / len(low)
    half = -float(ndtri(checked_alpha(alpha) / 2)) * math.sqrt(variance)
    n = len(low) + len(high)
    return Interval(value, max(0.0, value - half), min(1.0, value + half), n, "DeLong")


def _variance(values: FloatArray) -> float:
    return float(values.var(ddof=1)) if len(values) > 1 else 0.25
