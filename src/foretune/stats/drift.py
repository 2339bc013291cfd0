"""Has the traffic shifted: two-sample tests, an alarm for a few strange rows, and share gaps with what fills them."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from foretune.errors import ScoreError
from foretune.stats.checks import FloatArray, checked_alpha, checked_scores

__all__ = ["Shift", "TailDrift", "examples_needed", "ks_shift", "mmd_shift", "share_p_value", "tail_drift"]

TAIL = 0.1  # only rows among the strangest tenth of the reference count
DRAWS = 2000
MAX_MMD_ROWS = 1000  # of either sample
MMD_DRAWS = 499


class Shift(NamedTuple):
    """A two-sample test: the larger the statistic the farther apart; `p_value` as usual."""

    statistic: float
    p_value: float
    method: str


class TailDrift(NamedTuple):
    """Whether a batch holds more strange rows than chance gives.

    `num_beyond` rows lie beyond the 99th percentile of the reference, where chance gives `expected_beyond`.
    """

    statistic: float
    p_value: float
    alarm: bool
    num_beyond: int
    expected_beyond: float


def ks_shift(reference: ArrayLike, batch: ArrayLike) -> Shift:
    """Kolmogorov-Smirnov test that two samples of numbers come from one distribution (scipy's `ks_2samp`)."""
    from scipy.stats import ks_2samp

    first, second = checked_scores(reference, "reference"), checked_scores(batch, "batch")
    result = ks_2samp(first, second, method="asymp")
    return Shift(float(result.statistic), min(float(result.pvalue), 1.0), "Kolmogorov-Smirnov")


def tail_drift(reference: ArrayLike, batch: ArrayLike, *, alpha: float = 0.01, seed: int = 0) -> TailDrift:
    """Alarm where a batch holds more rows that are far from everything known than chance explains.

    Scores are distances: larger is stranger. Each row gets its rank among the reference (a conformal p-value, Vovk et
    al. 2005); those below 0.1 are added up by Fisher's method, so that a few very strange rows weigh more than many a
    little strange. The null is exact for exchangeable rows: it is simulated from ranks, whatever the distribution.
    """
    known, rows = np.sort(checked_scores(reference, "reference")), checked_scores(batch, "batch")
    level = checked_alpha(alpha)
    above = len(known) - np.searchsorted(known, rows, "left")
    statistic = float(_tail_sum(above[None, :], len(known))[0])
    null = _null_sums(len(known), len(rows), seed)
    p_value = float((1 + np.count_nonzero(null >= statistic - 1e-9)) / (len(null) + 1))
    beyond = int(np.count_nonzero(rows > np.quantile(known, 0.99)))
    return TailDrift(statistic, p_value, p_value <= level, beyond, 0.01 * len(rows))


def _tail_sum(num_above: np.typing.NDArray[np.int64], num_reference: int) -> FloatArray:
    """Sum of -log(p / 0.1) over the rows with p < 0.1, for each line of counts of stranger reference rows."""
    p_values = (1.0 + num_above) / (num_reference + 1.0)
    result: FloatArray = -np.log(np.minimum(p_values / TAIL, 1.0)).sum(axis=1)
    return result


def _null_sums(num_reference: int, num_batch: int, seed: int) -> FloatArray:
    """The statistic of batches from the reference's own distribution: any positions among all ranks are as likely."""
    rng = np.random.default_rng(seed)
    total = num_reference + num_batch
    order = np.arange(num_batch)
    sums = np.empty(DRAWS)
    for draw in range(DRAWS):
        from_top = np.sort(rng.choice(total, num_batch, replace=False, shuffle=False))
        sums[draw] = _tail_sum((from_top - order)[None, :], num_reference)[0]
    return sums


def mmd_shift(reference: ArrayLike, batch: ArrayLike, *, seed: int = 0) -> Shift:
    """Maximum mean discrepancy of two samples of vectors, shapes (N, D) and (M, D), with a permutation test.

    Gaussian kernel with the median distance as width (Gretton et al. 2012); at most 1,000 rows of either are used.
    Raises ScoreError for fewer than two rows.
    """
    rng = np.random.default_rng(seed)
    first, second = (_some_rows(np.asarray(rows, np.float64), rng) for rows in (reference, batch))
    if min(len(first), len(second)) < 2:
        raise ScoreError(f"{len(first)} and {len(second)} rows, expected at least 2 of each", fix="give more rows")
    kernel = _kernel(np.concatenate([first, second]))
    labels = np.concatenate([np.full(len(first), 1 / len(first)), np.full(len(second), -1 / len(second))])
    signs = np.stack([labels, *(rng.permutation(labels) for _ in range(MMD_DRAWS))])
    values = np.einsum("ij,ij->i", signs @ kernel, signs)
    p_value = (1 + np.count_nonzero(values[1:] >= values[0] - 1e-12)) / (MMD_DRAWS + 1)
    return Shift(float(np.sqrt(max(values[0], 0.0))), float(p_value), "maximum mean discrepancy")


def _some_rows(rows: FloatArray, rng: np.random.Generator) -> FloatArray:
    if rows.ndim != 2:
        raise ScoreError(f"vectors have shape {rows.shape}, expected (rows, dimensions)", fix="pass one vector a row")
    return rows if len(rows) <= MAX_MMD_ROWS else rows[np.sort(rng.choice(len(rows), MAX_MMD_ROWS, replace=False))]


def _kernel(rows: FloatArray) -> FloatArray:
    squares = (rows * rows).sum(axis=1)
    distances = np.maximum(squares[:, None] + squares[None, :] - 2 * rows @ rows.T, 0.0)
    width = float(np.median(distances[np.triu_indices(len(rows), 1)])) or 1.0
    result: FloatArray = np.exp(-distances / width)
    return result


def share_p_value(num_train: int, train_rows: int, num_production: int, production_rows: int) -> float:
    """How likely chance alone leaves a slice so rare in training (Fisher's exact test, one-sided)."""
    from scipy.stats import hypergeom

    total, in_slice = train_rows + production_rows, num_train + num_production
    return float(hypergeom.cdf(num_train, total, in_slice, train_rows))


def examples_needed(counts: Mapping[str, int], shares: Mapping[str, float], gaps: Sequence[str]) -> dict[str, int]:
    """Training rows to add to each slice of `gaps` so that all reach their production share together.

    `counts` are the training rows of every slice, `shares` production shares in 0..1. With n rows in all, of which c
    are in the gaps, whose shares sum to s < 1, the whole must grow by x = (s n - c) / (1 - s) rows; where the gaps are
    all of production, nothing that is added elsewhere counts, and each needs what the largest of them implies.
    """
    total = sum(counts.values())
    share, have = sum(shares[name] for name in gaps), sum(counts.get(name, 0) for name in gaps)
    if share >= 1:
        whole = float(max((counts.get(name, 0) / shares[name] for name in gaps if shares[name]), default=0.0))
    else:
        whole = total + max(0.0, (share * total - have) / (1 - share))
    return {name: max(0, int(np.ceil(shares[name] * whole - counts.get(name, 0) - 1e-9))) for name in gaps}
