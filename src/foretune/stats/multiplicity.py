"""Holm's correction for several claims made at once."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from foretune.stats.checks import checked_scores

__all__ = ["holm"]


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values in the order given: reject those <= alpha, and a false claim comes at most at rate alpha.

    Holm 1979: the i-th smallest of m is multiplied by m - i + 1 and made monotone. An empty list stays empty; a
    p-value outside 0..1 or NaN is a ScoreError.
    """
    if not len(p_values):
        return []
    values = checked_scores(p_values, "p-value", (0.0, 1.0))
    order = np.argsort(values, kind="stable")
    steps = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(value) for value in adjusted]
