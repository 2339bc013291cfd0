"""How far two distributions over the same categories lie apart: Jensen-Shannon divergence and PSI."""

# SPDX-License-Identifier: Apache-2.0
#
# Jensen-Shannon: Lin, Divergence measures based on the Shannon entropy (1991), in bits: 0 = equal, 1 = disjoint.
# PSI (population stability index): sum of (p - q) ln(p / q); by custom 0.1 is a shift, 0.2 a large one.
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["LARGE_PSI", "jensen_shannon", "population_stability"]

LARGE_PSI = 0.2
PRIOR = 0.5  # added to every count, so that an empty category has a finite logarithm
Floats = NDArray[np.float64]


def jensen_shannon(first: Sequence[float], second: Sequence[float]) -> float:
    """Divergence in bits, from 0 (equal shares) to 1 (nothing in common); `first` and `second` are counts or shares.

    Raises ValueError for unequal lengths, negative counts, or a side without any.
    """
    p, q = _shares(first, 0.0), _shares(second, 0.0)
    if p.shape != q.shape:
        raise ValueError(f"{len(p)} and {len(q)} categories, expected as many")
    middle = (p + q) / 2
    return float(min(1.0, max(0.0, (_entropy(middle) - (_entropy(p) + _entropy(q)) / 2))))


def population_stability(counts: Sequence[float], reference: Sequence[float]) -> float:
    """PSI of counts against reference counts, each with half a count more in every category. Raises as above."""
    p, q = _shares(counts, PRIOR), _shares(reference, PRIOR)
    if p.shape != q.shape:
        raise ValueError(f"{len(p)} and {len(q)} categories, expected as many")
    return float(((p - q) * np.log(p / q)).sum())


def _shares(counts: Sequence[float], prior: float) -> Floats:
    values = np.asarray(counts, np.float64)
    if values.size == 0 or values.min() < 0 or values.sum() <= 0:
        raise ValueError("expected counts of at least one category, not all of them zero")
    result: Floats = (values + prior) / (values + prior).sum()
    return result


def _entropy(shares: Floats) -> float:
    filled = shares[shares > 0]
    return float(-(filled * np.log2(filled)).sum())
