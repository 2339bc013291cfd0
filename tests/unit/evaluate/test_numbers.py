"""Scores of numbers against numpy and scipy, and what an answer that is no number counts."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from foretune.errors import ScoreError
from foretune.evaluate.scorers import score_samples

NAMES = ["number_closeness", "absolute_error", "spearman"]


def test_means_and_rank_correlation_are_those_of_numpy_and_scipy() -> None:
    random = np.random.default_rng(0)
    targets = np.round(random.normal(50, 20, 40), 1)
    said = np.round(targets + random.normal(0, 10, 40), 0)  # with ties
    table = score_samples(NAMES, [f"{value:g}" for value in said], [f"{value:g}" for value in targets])
    error = np.abs(said - targets)
    assert table.metrics["absolute_error"].value == pytest.approx(error.mean())
    assert table.metrics["number_closeness"].value == pytest.approx(1 - error.mean() / np.ptp(targets))
    assert table.metrics["spearman"].value == pytest.approx(spearmanr(said, targets).statistic)
    assert all(m.ci_low <= m.value <= m.ci_high for m in table.metrics.values())


def test_an_answer_that_is_no_number_is_the_worst_and_moves_no_rank() -> None:
    table = score_samples(NAMES, ["1", "about two", "9"], ["1", "2", "9"])
    assert table.scores["number_closeness"].tolist() == [1.0, 0.0, 1.0]
    assert table.scores["absolute_error"].tolist() == [0.0, 7.0, 0.0]
    assert table.metrics["spearman"].value == pytest.approx(1.0)
    backwards = score_samples(NAMES, ["9", "2", "1"], ["1", "2", "9"])
    assert backwards.metrics["spearman"].value == 0.0  # -1 counts as 0


def test_a_target_that_is_no_number_is_named() -> None:
    with pytest.raises(ScoreError, match="'many' is no number"):
        score_samples(NAMES, ["1", "2"], ["1", "many"])
