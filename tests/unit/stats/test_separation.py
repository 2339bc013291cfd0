"""Telling two samples apart: the AUC and its interval against scikit-learn and by simulation."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from foretune.errors import ScoreError
from foretune.stats.separation import area_under_curve, separation


def test_the_area_is_scikit_learns() -> None:
    """Ties counted half."""
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    low, high = rng.integers(0, 6, 40), rng.integers(2, 9, 25)
    found = area_under_curve(low, high)
    wanted = metrics.roc_auc_score([0] * 40 + [1] * 25, [*low, *high])
    assert found.value == pytest.approx(wanted) and found.low < found.value < found.high and found.n == 65


def test_the_interval_covers_the_true_area() -> None:
    """DeLong's interval holds the area of two normals (0.76) in about 95 of 100 samples."""
    rng = np.random.default_rng(1)
    found = [area_under_curve(rng.normal(0, 1, 60), rng.normal(1, 1, 60)) for _ in range(400)]
    covered = np.mean([one.low <= 0.7602 <= one.high for one in found])
    assert 0.91 <= covered <= 0.98


def test_samples_of_one_distribution_are_not_told_apart() -> None:
    """Out of fold the area is about one half, also with few rows and many dimensions."""
    rng = np.random.default_rng(2)
    found = [separation(rng.normal(size=(80, 60)), rng.normal(size=(60, 60)), seed=seed) for seed in range(40)]
    assert abs(np.mean([one.value for one in found]) - 0.5) < 0.03
    assert np.mean([one.low > 0.6 for one in found]) <= 0.05


def test_a_shift_is_seen_and_its_size_orders_the_area() -> None:
    rng = np.random.default_rng(3)
    base = rng.normal(size=(200, 10))
    areas = [separation(base, rng.normal(size=(150, 10)) + shift).value for shift in (0.0, 0.2, 1.0)]
    assert areas[0] < areas[1] < areas[2] and areas[2] > 0.95


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(ScoreError, match="9 and 50 rows"):
        separation(np.zeros((9, 2)), np.zeros((50, 2)))
