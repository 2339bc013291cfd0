"""Intervals for one system, by hand, against scipy, and at the edges."""

# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from foretune.errors import ScoreError
from foretune.stats.intervals import bca_interval, t_mean, unseen_share, wilson


def mean_of_sums(sums):
    return sums[:, 0] / np.maximum(sums[:, 1], 1)


def mean_rows(scores):
    return np.column_stack([scores, np.ones(len(scores))])


@pytest.mark.req("R119")
def test_wilson_by_hand():
    # z = 1.959964: centre (0.9 + z^2/20) / (1 + z^2/10), half z/(1 + z^2/10) sqrt(0.09/10 + z^2/400)
    interval = wilson(9, 10)
    assert interval.value == 0.9
    assert (interval.low, interval.high) == pytest.approx((0.5958500, 0.9821238), abs=1e-6)
    assert (interval.n, interval.method) == (10, "wilson")


@pytest.mark.parametrize(("successes", "n"), [(0, 7), (1, 30), (45, 100), (995, 1000), (7, 7)])
@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_wilson_equals_scipy(successes, n, alpha):
    from scipy.stats import binomtest

    theirs = binomtest(successes, n).proportion_ci(1 - alpha, method="wilson")
    ours = wilson(successes, n, alpha)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_wilson_refuses(successes, n):
    with pytest.raises(ScoreError, match="expected"):
        wilson(successes, n)


def test_t_mean_equals_scipy():
    from scipy.stats import t

    scores = np.random.default_rng(0).beta(2, 3, 40)
    low, high = t.interval(0.95, 39, scores.mean(), scores.std(ddof=1) / np.sqrt(40))
    ours = t_mean(scores)
    assert (ours.value, ours.low, ours.high) == pytest.approx((scores.mean(), low, high), abs=1e-9)
    assert ours.method == "t"


def test_t_mean_stays_in_range():
    interval = t_mean([0.0, 1.0, 1.0])
    assert (interval.low, interval.high) == (0.0, 1.0)


@pytest.mark.parametrize("n", [1, 30])
def test_identical_scores_leave_room_for_the_unseen(n):
    interval = t_mean([1.0] * n)
    assert interval.high == 1.0
    assert interval.low == pytest.approx(0.025 ** (1 / n))  # Clopper-Pearson for 0 failures of n
    assert interval.method == "identical scores"


def test_unseen_share_is_clopper_pearson():
    from scipy.stats import binomtest

    assert unseen_share(30, 0.05) == pytest.approx(binomtest(0, 30).proportion_ci(method="exact").high, abs=1e-9)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_missing_score_names_its_row(bad):
    with pytest.raises(ScoreError, match="row 2"):
        t_mean([0.1, 0.2, bad, 0.4])


def test_score_out_of_range_names_its_row():
    with pytest.raises(ScoreError, match=r"row 1 is 1\.5 \(and 1 more\), expected a score from 0 to 1"):
        t_mean([0.1, 1.5, 2.0])


def test_no_scores():
    with pytest.raises(ScoreError, match="at least 1 sample"):
        t_mean([])


def test_bca_equals_scipy_within_resampling():
    from scipy.special import ndtr, stdtrit
    from scipy.stats import bootstrap

    scores = np.random.default_rng(1).beta(0.6, 3, 60)  # skewed, so that BCa and percentile differ
    level = 1 - 2 * ndtr(stdtrit(59, 0.025) * np.sqrt(60 / 59))  # ours is expanded by t and by the small sample
    theirs = bootstrap(
        (scores,), np.mean, n_resamples=40_000, method="BCa", confidence_level=level, rng=np.random.default_rng(2)
    )
    ours = bca_interval(mean_rows(scores), mean_of_sums, draws=40_000, seed=3)
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=1e-3)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=1e-3)
    percentile = np.quantile(theirs.bootstrap_distribution, [0.025, 0.975])
    assert abs(ours.high - percentile[1]) > 2e-3


def test_bca_same_seed_same_bytes():
    rows = mean_rows(np.random.default_rng(1).random(80))
    assert bca_interval(rows, mean_of_sums) == bca_interval(rows, mean_of_sums)
    assert bca_interval(rows, mean_of_sums, seed=1) != bca_interval(rows, mean_of_sums)


def test_bca_draws_whole_groups():
    # 60 groups of 10 equal scores carry the information of 60 samples, not of 600
    scores = np.repeat(np.random.default_rng(4).random(60), 10)
    groups = [f"conversation {place // 10}" for place in range(600)]
    clustered = bca_interval(mean_rows(scores), mean_of_sums, groups=groups)
    plain = bca_interval(mean_rows(scores), mean_of_sums)
    ratio = (clustered.high - clustered.low) / (plain.high - plain.low)
    assert ratio == pytest.approx(10**0.5, rel=0.15)


def test_few_samples_use_the_jackknife_with_t():
    scores = np.array([0.2, 0.5, 0.4, 0.9, 0.3])
    interval = bca_interval(mean_rows(scores), mean_of_sums)
    expected = t_mean(scores)  # the jackknife of a mean is the t interval
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))
    assert interval.method == "jackknife t"


def test_bca_of_a_perfect_system_is_not_certain():
    interval = bca_interval(mean_rows(np.ones(40)), mean_of_sums)
    assert interval.value == interval.high == 1.0
    assert interval.low == pytest.approx(0.025 ** (1 / 40))


def test_bca_names_the_broken_row():
    rows = mean_rows(np.array([0.1, float("nan"), 0.2]))
    with pytest.raises(ScoreError, match="row 1"):
        bca_interval(rows, mean_of_sums)
