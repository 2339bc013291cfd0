"""CUPED: take out of an outcome what the same user's earlier behaviour already said."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from foretune.errors import ScoreError
from foretune.stats.checks import FloatArray, checked_scores

__all__ = ["Adjusted", "adjusted_outcome"]


class Adjusted(NamedTuple):
    """The adjusted outcome, theta, and the share of the variance that it removed."""

    values: FloatArray
    theta: float
    variance_removed: float


def adjusted_outcome(values: ArrayLike, covariate: ArrayLike, arms: ArrayLike) -> Adjusted:
    """y - theta (x - mean x), theta = Cov(y, x) / Var x pooled within the arms (Deng et al., WSDM 2013).

    `covariate` is measured before the split, so that the arms cannot have changed it; a user without a past (NaN) gets
    the mean, which adjusts nothing. The expected difference of the arms stays the same, its variance falls by rho^2.
    """
    y = checked_scores(values, "outcome")
    past = np.asarray(covariate, dtype=np.float64)
    codes = np.asarray(arms)
    if past.shape != y.shape or codes.shape != y.shape:
        raise ScoreError(f"{y.size} outcomes, {past.size} covariates, {codes.size} arms, expected one each")
    known = np.isfinite(past)
    if known.sum() < 2:
        return Adjusted(y, 0.0, 0.0)
    filled = np.where(known, past, past[known].mean())
    x_within, y_within = _within(filled, codes), _within(y, codes)
    spread = float(x_within @ x_within)
    if spread <= 1e-12 * max(1.0, float(np.abs(filled).max()) ** 2):
        return Adjusted(y, 0.0, 0.0)
    theta = float(x_within @ y_within) / spread
    total = float(y_within @ y_within)
    removed = theta * theta * spread / total if total > 0 else 0.0
    return Adjusted(y - theta * (filled - filled.mean()), theta, removed)


def _within(values: FloatArray, codes: ArrayLike) -> FloatArray:
    _, index = np.unique(np.asarray(codes), return_inverse=True)
    means = np.bincount(index, weights=values) / np.bincount(index)
    centred: FloatArray = values - means[index]
    return centred
