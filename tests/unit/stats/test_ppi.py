"""Judge scores with human labels: a good judge narrows the interval, a biased one cannot move the verdict."""

# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from foretune.errors import ScoreError
from foretune.stats.ppi import judged_mean


def test_a_useless_judge_leaves_the_human_interval():
    human = np.array([1.0, 0.0, -1.0, 1.0, 1.0, 0.0] * 20)
    result = judged_mean(human, np.full(120, 0.5), np.full(900, 0.5))
    assert result.weight == 0
    assert (result.ci_low, result.ci_high) == pytest.approx((result.human_low, result.human_high))
    assert result.calibrated


def test_the_weight_is_the_published_one():
    rng = np.random.default_rng(0)
    human = rng.choice([-1.0, 0.0, 1.0], 200)
    judged, rest = human + rng.normal(0, 0.5, 200), rng.choice([-1.0, 0.0, 1.0], 800) + rng.normal(0, 0.5, 800)
    spread = np.concatenate([judged, rest]).var(ddof=1)
    expected = np.cov(human, judged)[0, 1] / ((1 + 200 / 800) * spread)
    result = judged_mean(human, judged, rest)
    assert result.weight == pytest.approx(expected)
    assert result.value == pytest.approx(human.mean() + expected * (rest.mean() - judged.mean()))


def test_a_biased_judge_does_not_decide():
    rng, reps, false, alone = np.random.default_rng(1), 1000, 0, 0
    width = human_width = 0.0
    for _ in range(reps):
        truth = rng.choice([-1.0, 0.0, 1.0], 1000, p=[0.35, 0.3, 0.35])
        seen = np.where(rng.random(1000) < 0.08, np.minimum(truth + 1, 1.0), truth)
        result = judged_mean(truth[:100], seen[:100], seen[100:])
        false += result.ci_low > 0 or result.ci_high < 0
        alone += abs(seen.mean()) > 1.96 * seen.std() / 1000**0.5
        width += result.ci_high - result.ci_low
        human_width += result.human_high - result.human_low
    assert false / reps <= 0.065
    assert alone / reps > 0.4
    assert width < 0.6 * human_width


def test_too_few_labels():
    with pytest.raises(ScoreError, match="at least 3"):
        judged_mean([1.0, 0.0], [1.0, 0.0], [1.0])
    assert not judged_mean([1.0, 0.0, 1.0], [1.0, 0.0, 1.0], [1.0, 0.0, 1.0]).calibrated
