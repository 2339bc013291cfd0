"""CUPED against analysis of covariance, and users without a past."""

# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from foretune.errors import ScoreError
from foretune.stats.cuped import adjusted_outcome


def test_equals_analysis_of_covariance():
    past, arm = np.sin(np.arange(60)), np.arange(60) % 2
    outcome = 2 * past + 0.3 * arm + np.cos(3 * np.arange(60.0))
    adjusted = adjusted_outcome(outcome, past, arm)
    # statsmodels 0.15.0, OLS of the outcome on a constant, the arm and the past
    assert adjusted.theta == pytest.approx(1.99388632, abs=1e-8)
    difference = adjusted.values[arm == 1].mean() - adjusted.values[arm == 0].mean()
    assert difference == pytest.approx(0.08514679, abs=1e-8)


def test_variance_falls_by_the_squared_correlation():
    rng = np.random.default_rng(0)
    past = rng.standard_normal(20_000)
    outcome = 0.7 * past + np.sqrt(1 - 0.49) * rng.standard_normal(20_000)
    adjusted = adjusted_outcome(outcome, past, rng.integers(0, 2, 20_000))
    assert adjusted.values.var() / outcome.var() == pytest.approx(0.51, abs=0.02)
    assert adjusted.variance_removed == pytest.approx(0.49, abs=0.02)


def test_no_past_or_a_constant_one_changes_nothing():
    outcome = np.arange(10.0)
    for past in (np.full(10, np.nan), np.full(10, 3.0)):
        assert adjusted_outcome(outcome, past, np.arange(10) % 2).values == pytest.approx(outcome)


def test_lengths_must_agree():
    with pytest.raises(ScoreError, match="one each"):
        adjusted_outcome([1.0, 2.0], [1.0], [0, 1])
