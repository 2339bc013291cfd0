"""The cross-fitted verdict: its level with a real learner whose models share their training samples, and its power."""

# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from foretune.errors import ScoreError
from foretune.stats.cross_fit import compare_cross_fitted
from foretune.stats.paired import compare_paired
from foretune.stats.verdict import verdict

WIDTH = 20
TRUTH = np.concatenate([[1.2, 0.8, -0.8, 0.5], np.zeros(WIDTH - 4)])


def drawn(rng, n):
    inputs = rng.standard_normal((n, WIDTH))
    return inputs, np.where(rng.random(n) < 1 / (1 + np.exp(-inputs @ TRUTH)), 1.0, -1.0)


def cross_fitted(inputs, labels, folds):
    """Whether ridge regression, trained on the other folds, is right."""
    right = np.zeros(len(labels))
    for fold in np.unique(folds):
        held = folds == fold
        x, y = inputs[~held], labels[~held]
        weights = np.linalg.solve(x.T @ x + 2 * np.eye(WIDTH), x.T @ y)
        right[held] = np.sign(inputs[held] @ weights) == labels[held]
    return right


def equal_rule(n, num_folds, rng):
    """A fixed rule that is right as often as the learner is on average after (K-1)/K of n samples."""
    inputs, labels = drawn(rng, 40_000)
    rates = []
    for _ in range(200):
        x, y = drawn(rng, n - n // num_folds)
        weights = np.linalg.solve(x.T @ x + 2 * np.eye(WIDTH), x.T @ y)
        rates.append((np.sign(inputs[:4000] @ weights) == labels[:4000]).mean())
    off, low, high = rng.standard_normal(WIDTH), 0.0, 10.0
    for _ in range(30):
        middle = (low + high) / 2
        is_better = (np.sign(inputs @ (TRUTH + middle * off)) == labels).mean() > np.mean(rates)
        low, high = (middle, high) if is_better else (low, middle)
    return TRUTH + low * off


@pytest.mark.parametrize(("n", "num_folds"), [(100, 5), (200, 10)])
def test_false_differences(n, num_folds):
    rng, reps, false = np.random.default_rng(n), 800, 0
    rule = equal_rule(n, num_folds, rng)
    folds = np.arange(n) % num_folds
    for _ in range(reps):
        inputs, labels = drawn(rng, n)
        ours = cross_fitted(inputs, labels, folds)
        theirs = (np.sign(inputs @ rule) == labels).astype(float)
        result = compare_cross_fitted(theirs, ours, folds)
        false += result.ci_low > 0 or result.ci_high < 0
        assert (result.p_value <= 0.05) == (result.ci_low > 0 or result.ci_high < 0)
    assert 0.012 <= false / reps <= 0.055 + 2 * np.sqrt(0.055 * 0.945 / reps)


def test_it_sees_more_than_a_tenth_of_the_samples_would():
    rng, reps = np.random.default_rng(3), 200
    folds = np.arange(400) % 10
    whole = part = 0
    for _ in range(reps):
        inputs, labels = drawn(rng, 400)
        ours = cross_fitted(inputs, labels, folds)
        theirs = (rng.random(400) < 0.6).astype(float)
        whole += verdict(compare_cross_fitted(theirs, ours, folds)).value == "better"
        part += verdict(compare_paired(theirs[:40], ours[:40])).value == "better"
    assert whole / reps > 0.85 > 0.4 > part / reps


def test_it_is_never_narrower_than_either_test():
    rng = np.random.default_rng(1)
    before, after = rng.random((2, 120))
    folds = [f"part {number % 6}" for number in range(120)]
    found = compare_cross_fitted(before, after, folds, "graded")
    plain = compare_paired(before, after, "graded")
    assert found.value == pytest.approx(plain.value)
    assert found.ci_low <= plain.ci_low and found.ci_high >= plain.ci_high and found.p_value >= plain.p_value
    assert "paired t, and t over 6 folds" in found.method
    equal = compare_cross_fitted([1] * 30, [1] * 30, [n % 3 for n in range(30)])
    assert equal.ci_low < 0 < equal.ci_high
    with pytest.raises(ScoreError, match="2 folds, expected at least 3"):
        compare_cross_fitted([0, 1, 0, 1], [1, 1, 0, 0], [0, 0, 1, 1])
