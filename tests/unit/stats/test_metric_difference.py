"""Differences of metrics that are no mean, between systems that are equally good and good: how often one is found."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np

from foretune.evaluate.scorers.classification import macro_f1_of_sums
from foretune.stats.paired import compare_paired_metric

CLASSES = 3


def rows(rng: np.random.Generator, wanted: np.ndarray, skill: float) -> np.ndarray:
    """(n, 9) hits, answers and targets by class of a system that knows a share `skill` and guesses the rest."""
    given = np.where(rng.random(wanted.size) < skill, wanted, rng.integers(0, CLASSES, wanted.size))
    one = np.eye(CLASSES)
    return np.concatenate([one[given] * one[wanted], one[given], one[wanted]], axis=1)


def test_good_systems_that_are_equal_are_not_told_apart_too_often() -> None:
    rng, found, reps = np.random.default_rng(11), 0, 700
    for _ in range(reps):
        wanted = rng.choice(CLASSES, 200, p=[0.5, 0.3, 0.2])
        pair = (rows(rng, wanted, 0.93) for _ in range(2))
        result = compare_paired_metric(*pair, macro_f1_of_sums, draws=200)
        assert (result.p_value <= 0.05) == (result.ci_low > 0 or result.ci_high < 0)
        found += result.p_value <= 0.05
    assert 0.03 * reps < found < 0.06 * reps  # BCa's own interval finds 7 % of them different
