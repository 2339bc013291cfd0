"""Paired tests: worked by hand, against scipy, and at the edges."""

# SPDX-License-Identifier: Apache-2.0
import itertools
import math

import numpy as np
import pytest

from foretune.errors import ScoreError
from foretune.stats.paired import compare_paired, compare_paired_metric
from foretune.stats.paired_binary import McNemar, mcnemar_mid_p, tango, unconditional_p
from foretune.stats.paired_tests import SignFlip


def binary_scores(both, lost, won, neither):
    baseline = [1.0] * both + [1.0] * lost + [0.0] * won + [0.0] * neither
    candidate = [1.0] * both + [0.0] * lost + [1.0] * won + [0.0] * neither
    return baseline, candidate


def graded_scores(n, shift=0.05, seed=0):
    rng = np.random.default_rng(seed)
    baseline = rng.beta(4, 4, n)
    return baseline, np.clip(baseline + rng.normal(shift, 0.1, n), 0, 1)


def mean_of_sums(sums):
    return sums[:, 0] / np.maximum(sums[:, 1], 1)


def mean_rows(scores):
    return np.column_stack([scores, np.ones(len(scores))])


# 0/1 scores


@pytest.mark.parametrize(
    ("lost", "won", "p_value"),
    [
        (0, 0, 1.0),
        (0, 1, 0.5),  # 2 (1/2) - 1/2
        (0, 5, 1 / 32),  # 2/32 - 1/32
        (1, 7, 10 / 256),  # 2 (1 + 8)/256 - 8/256; airway data of Fagerland et al. 2013: 0.039
        (7, 1, 10 / 256),
        (4, 4, 1.0),
        (2, 8, 2 * 56 / 1024 - 45 / 1024),
    ],
)
def test_mcnemar_mid_p_by_hand(lost, won, p_value):
    assert mcnemar_mid_p(lost, won) == pytest.approx(p_value, abs=1e-12)


@pytest.mark.req("R312")
def test_mcnemar_equals_scipy():
    from scipy.stats import binom, binomtest

    rng = np.random.default_rng(5)
    for lost, won in rng.integers(0, 400, size=(200, 2)):
        if lost == won:
            continue
        exact = binomtest(int(min(lost, won)), int(lost + won)).pvalue
        expected = exact - binom.pmf(min(lost, won), lost + won, 0.5)
        assert mcnemar_mid_p(int(lost), int(won)) == pytest.approx(expected, abs=1e-9)


def test_tango_of_the_literature():
    # airway data: Fagerland, Lydersen and Laake 2014, table of intervals: 0.026 to 0.517
    assert tango(1, 7, 21) == pytest.approx((0.026, 0.517), abs=5e-4)
    assert tango(7, 1, 21) == pytest.approx((-0.517, -0.026), abs=5e-4)
    z2 = 1.959964**2
    assert tango(0, 0, 30) == pytest.approx((-z2 / (30 + z2), z2 / (30 + z2)), abs=1e-6)
    assert tango(0, 30, 30)[1] == 1.0 and tango(30, 0, 30)[0] == -1.0


def multinomial_tail(n, statistic, psi):
    """P(|Z| >= statistic) over every outcome of n pairs of equal systems that differ with probability psi."""
    from scipy.stats import multinomial

    rows = [(lost, won, n - lost - won) for lost in range(n + 1) for won in range(n + 1 - lost)]
    far = [
        row for row in rows if abs(row[1] - row[0]) >= statistic * math.sqrt(row[0] + row[1]) - 1e-9 and sum(row[:2])
    ]
    return float(multinomial(n, [psi / 2, psi / 2, 1 - psi]).pmf(far).sum())


@pytest.mark.parametrize(("fewer", "more", "n"), [(1, 7, 21), (0, 4, 30), (2, 3, 12), (5, 12, 17)])
def test_unconditional_p_is_the_worst_case_over_all_outcomes(fewer, more, n):
    from scipy.stats import beta

    differing = fewer + more
    low = beta.ppf(2.5e-4, differing, n - differing + 1)
    high = beta.ppf(1 - 2.5e-4, differing + 1, n - differing) if differing < n else 1.0
    z = (more - fewer) / math.sqrt(differing)
    worst = max(multinomial_tail(n, z, psi) for psi in np.linspace(low, high, 60))
    assert unconditional_p(fewer, more, n) == pytest.approx(worst + 5e-4, abs=2e-4)


def exact_levels(n, shares, alpha=0.05):
    """How often `McNemar` finds a difference between equals that differ in a share of the samples: exact, no draws."""
    from scipy.stats import binom

    won = [[w for w in range(m // 2 + 1, m + 1) if McNemar(m - w, w, n).p_value <= alpha] for m in range(n + 1)]
    tails = np.array([2 * binom.pmf(some, m, 0.5).sum() if some else 0.0 for m, some in enumerate(won)])
    return np.array([binom.pmf(np.arange(n + 1), n, share) @ tails for share in shares])


@pytest.mark.parametrize("n", [30, 50, 80])
def test_false_alarms_on_equals_by_enumeration(n):
    """3 to 5 % wherever three samples are expected to differ; never more. Fewer: no test can, 3 to 0 costs 5.6 %."""
    assert exact_levels(n, np.linspace(0.001, 1, 200)).max() <= 0.0505
    assert exact_levels(n, np.linspace(3.2 / n, 0.7, 60)).min() >= 0.03
    three_to_none = math.comb(n, 3) * (3 / n) ** 3 * (1 - 3 / n) ** (n - 3) / 4
    assert three_to_none > 0.055


def test_interval_and_test_are_of_one_mind():
    for n in (20, 60, 1200):
        for lost in range(0, 12):
            for won in range(0, 12):
                found = McNemar(lost, won, n)
                for alpha in (0.1, 0.05, 0.01):
                    low, high = found.interval(alpha)
                    assert (low > 0 or high < 0) == (found.p_value <= alpha and lost != won)
                    assert low <= found.value <= high


@pytest.mark.req("R285")
def test_compare_binary():
    result = compare_paired(*binary_scores(both=1, lost=1, won=7, neither=12))
    assert result.value == pytest.approx(6 / 21)
    assert (result.ci_low, result.ci_high) == pytest.approx((0.0260030, 0.5172323), abs=1e-6)
    assert result.p_value == pytest.approx(unconditional_p(1, 7, 21)) and 0.03 < result.p_value < 10 / 256
    assert result.method == "McNemar exact unconditional, Tango interval"
    assert result.smallest_visible_difference == pytest.approx(2.8015852 * math.sqrt(8 / 21 / 21), abs=1e-6)
    assert result.n == result.num_units == 21


@pytest.mark.parametrize("scores", [([0], [0]), ([0], [1]), ([1, 0], [1, 0])])
def test_tiny_binary_proves_nothing(scores):
    result = compare_paired(*scores)
    assert result.ci_low < 0 < result.ci_high
    assert result.p_value > 0.05
    assert -1 <= result.ci_low <= result.value <= result.ci_high <= 1


def test_all_discordant_one_way():
    result = compare_paired([0] * 100, [1] * 100)
    assert (result.value, result.ci_high) == (1.0, 1.0)
    assert result.ci_low == pytest.approx(tango(0, 100, 100)[0]) and 0.9 < result.ci_low < 0.95
    assert result.p_value == pytest.approx(0.5**100)


def test_identical_binary_systems():
    result = compare_paired([1] * 30, [1] * 30)
    assert (result.value, result.p_value) == (0.0, 1.0)
    assert result.ci_high == -result.ci_low == pytest.approx(tango(0, 0, 30)[1])
    assert result.smallest_visible_difference > 0.1  # no discordance seen is not proof of none


# graded scores


@pytest.mark.req("R312")
def test_paired_t_equals_scipy():
    from scipy.stats import ttest_rel

    for seed in range(20):
        baseline, candidate = graded_scores(35 + seed, seed=seed)
        theirs = ttest_rel(candidate, baseline)
        low, high = theirs.confidence_interval(0.95)
        ours = compare_paired(baseline, candidate, "graded")
        assert ours.method == "paired t"
        assert ours.p_value == pytest.approx(theirs.pvalue, abs=1e-9)
        assert (ours.ci_low, ours.ci_high) == pytest.approx((low, high), abs=1e-9)


@pytest.mark.parametrize("n", [3, 8, 13])
def test_exact_sign_flip_equals_scipy(n):
    from scipy.stats import permutation_test

    for seed in range(5):
        baseline, candidate = graded_scores(n, seed=seed)
        theirs = permutation_test(
            (candidate - baseline,), np.mean, permutation_type="samples", vectorized=True, n_resamples=np.inf
        )
        ours = compare_paired(baseline, candidate, "graded")
        assert ours.method == "sign flip (exact)"
        assert ours.p_value == pytest.approx(theirs.pvalue, abs=1e-9)


def test_sign_flip_by_hand():
    # 2^6 flips; all six differences positive: only the unflipped one is as large, p = 2/64
    baseline = np.zeros(6)
    candidate = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    result = compare_paired(baseline, candidate, "graded")
    assert result.p_value == pytest.approx(2 / 64)
    assert (result.ci_low, result.ci_high) == pytest.approx((0.1, 0.6))  # smallest and largest mean of a subset


def test_sign_flip_interval_is_the_test_inverted():
    differences = np.random.default_rng(8).normal(0.3, 1, 9)
    low, high = SignFlip(differences, np.ones(9)).interval(0.05)
    for shift, kept in ((low + 1e-9, True), (low - 1e-9, False), (high - 1e-9, True), (high + 1e-9, False)):
        assert (SignFlip(differences - shift, np.ones(9)).p_value > 0.05) == kept


def test_drawn_sign_flip_agrees_with_enumeration():
    differences = np.random.default_rng(9).normal(0.35, 1, 21)
    drawn = SignFlip(differences, np.ones(21))
    flipped = np.zeros(1)
    for difference in differences:
        flipped = np.concatenate([flipped + difference, flipped - difference])
    exact = float((np.abs(flipped) >= abs(differences.sum()) - 1e-9).mean())
    assert drawn.method == "sign flip (19999 draws)"
    assert drawn.p_value == pytest.approx(exact, abs=0.005)


@pytest.mark.parametrize("n", [2, 5])
def test_under_six_graded_samples_nothing_is_proven(n):
    result = compare_paired([0.0] * n, np.linspace(0.8, 1.0, n), "graded")
    assert (result.ci_low, result.ci_high) == (-1.0, 1.0)
    assert result.p_value == pytest.approx(2.0 ** (1 - n))
    assert result.n_needed >= 6


def test_one_graded_sample():
    result = compare_paired([0.2], [0.9], "graded")
    assert result.ci_low < 0 < result.ci_high
    assert result.p_value == 1.0
    assert result.method == "identical differences"


@pytest.mark.parametrize("n", [10, 200])
def test_identical_graded_systems(n):
    scores = graded_scores(n)[0]
    result = compare_paired(scores, scores, "graded")
    assert (result.value, result.p_value) == (0.0, 1.0)
    assert result.ci_high == -result.ci_low == pytest.approx(1 - 0.025 ** (1 / n))


def test_rounding_is_no_difference():
    # 0.1 + 0.2 - 0.3 = 5.6e-17 in floating point: subset means must not count as above zero
    baseline = np.array([0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3])
    candidate = np.array([0.1 + 0.2] * 7 + [0.9])
    assert compare_paired(baseline, candidate, "graded").ci_low == 0.0


def test_unknown_range_gives_finite_ends():
    result = compare_paired([120.0, 80.0, 95.0], [130.0, 85.0, 99.0], "graded", score_range=None)
    assert result.ci_low < 0 < result.ci_high
    assert math.isfinite(result.ci_low) and math.isfinite(result.ci_high)


# groups


def test_cluster_robust_t_by_hand():
    # each group's residual sum, squared and added, times G/(G-1), over n^2
    rng = np.random.default_rng(11)
    groups = np.repeat(np.arange(20), 3)
    differences = np.clip(rng.normal(0.1, 0.1, 60) + rng.normal(0, 0.1, 20)[groups], -1, 1)
    result = compare_paired(np.clip(-differences, 0, 1), np.clip(differences, 0, 1), "graded", groups.tolist())
    mean = differences.mean()
    squares = sum(((differences[groups == group] - mean).sum()) ** 2 for group in range(20))
    error = math.sqrt(20 / 19 * squares / 60**2)
    assert result.value == pytest.approx(mean)
    assert result.ci_high - result.ci_low == pytest.approx(2 * 2.0930241 * error, rel=1e-6)  # t(19)
    assert result.method == "cluster-robust t (CR1, 20 groups)"
    assert result.num_units == 20


def test_groups_of_one_are_no_groups():
    scores = binary_scores(50, 5, 15, 30)
    assert compare_paired(*scores, groups=[f"row {row}" for row in range(100)]) == compare_paired(*scores)
    graded = graded_scores(50)
    assert compare_paired(*graded, "graded", list(range(50))) == compare_paired(*graded, "graded")


def test_few_groups_flip_whole_groups():
    baseline, candidate = graded_scores(40, 0.1, seed=3)
    groups = np.repeat(np.arange(8), [2, 3, 4, 5, 5, 6, 7, 8])
    result = compare_paired(baseline, candidate, "graded", groups.tolist())
    sums = np.bincount(groups, weights=candidate - baseline)
    flips = np.array(list(itertools.product([1, -1], repeat=8))) @ sums
    assert result.method == "wild-cluster sign flip (exact, 8 groups)"
    assert result.p_value == pytest.approx((np.abs(flips) >= abs(sums.sum()) - 1e-9).mean())


def test_repeats_of_one_sample_carry_no_more_than_the_sample():
    baseline, candidate = binary_scores(20, 8, 14, 8)
    repeated = compare_paired(
        np.repeat(baseline, 10), np.repeat(candidate, 10), groups=np.repeat(range(50), 10).tolist()
    )
    naive = compare_paired(np.repeat(baseline, 10), np.repeat(candidate, 10))
    once = compare_paired(baseline, candidate)
    assert naive.ci_low > 0 > repeated.ci_low
    assert repeated.ci_high - repeated.ci_low == pytest.approx(once.ci_high - once.ci_low, rel=0.1)


def test_wrong_number_of_groups():
    with pytest.raises(ScoreError, match="2 group labels for 3 samples"):
        compare_paired([0, 1, 1], [1, 1, 1], groups=["a", "b"])


# metrics that are no mean


@pytest.mark.req("R285")
def test_paired_bootstrap_of_a_mean_agrees_with_t():
    baseline, candidate = graded_scores(300, 0.02)
    by_t = compare_paired(baseline, candidate, "graded")
    ours = compare_paired_metric(mean_rows(baseline), mean_rows(candidate), mean_of_sums, draws=8000)
    assert ours.value == pytest.approx(by_t.value)
    assert (ours.ci_low, ours.ci_high) == pytest.approx((by_t.ci_low, by_t.ci_high), abs=1e-3)
    assert ours.p_value == pytest.approx(by_t.p_value, abs=5e-3)
    assert ours.smallest_visible_difference == pytest.approx(by_t.smallest_visible_difference, rel=0.05)
    assert ours.method == "paired bootstrap with t (8000 draws)"


@pytest.mark.parametrize("shift", [0.0, 0.008, 0.012, 0.02])
def test_paired_bootstrap_p_and_interval_never_disagree(shift):
    for seed in range(10):
        baseline, candidate = graded_scores(100, shift, seed)
        result = compare_paired_metric(mean_rows(baseline), mean_rows(candidate), mean_of_sums, draws=999)
        assert (result.p_value < 0.05) == (result.ci_low > 0 or result.ci_high < 0)


def test_paired_bootstrap_of_identical_systems():
    rows = mean_rows(graded_scores(40)[0])
    result = compare_paired_metric(rows, rows, mean_of_sums)
    assert (result.value, result.p_value) == (0.0, 1.0)
    assert result.ci_low < 0 < result.ci_high


def test_paired_bootstrap_of_few_units_uses_the_jackknife():
    baseline, candidate = graded_scores(10, 0.1)
    result = compare_paired_metric(mean_rows(baseline), mean_rows(candidate), mean_of_sums)
    assert result.method == "paired jackknife t"


def test_metric_rows_must_match():
    with pytest.raises(ScoreError, match="same samples"):
        compare_paired_metric(np.ones((3, 2)), np.ones((4, 2)), mean_of_sums)


# looks and bad input


@pytest.mark.parametrize("kind", ["binary", "graded"])
def test_second_look_costs(kind):
    scores = binary_scores(50, 6, 20, 24)
    first, second = compare_paired(*scores, kind), compare_paired(*scores, kind, look=2)
    assert second.p_value == pytest.approx(2 * first.p_value)
    assert (second.alpha, second.look) == (0.025, 2)
    at_half = compare_paired(*scores, kind, alpha=0.025)
    assert (second.ci_low, second.ci_high) == (at_half.ci_low, at_half.ci_high)
    assert second.smallest_visible_difference > first.smallest_visible_difference


def test_p_value_of_many_looks_is_at_most_one():
    assert compare_paired(*binary_scores(5, 2, 3, 5), look=50).p_value == 1.0


@pytest.mark.parametrize("kind", ["binary", "graded"])
def test_nan_names_the_row(kind):
    with pytest.raises(ScoreError, match="candidate score of row 2 is nan"):
        compare_paired([0, 1, 1], [1, 1, float("nan")], kind)


def test_half_a_point_is_not_binary():
    with pytest.raises(ScoreError, match=r"baseline score of row 1 is 0\.5, expected 0 or 1"):
        compare_paired([0, 0.5], [1, 1])


def test_no_samples():
    with pytest.raises(ScoreError, match="at least 1 sample"):
        compare_paired([], [])


def test_different_samples():
    with pytest.raises(ScoreError, match="2 baseline and 3 candidate scores"):
        compare_paired([0, 1], [1, 1, 1])


@pytest.mark.parametrize("keywords", [{"alpha": 0.0}, {"alpha": 1.0}, {"look": 0}])
def test_impossible_levels(keywords):
    with pytest.raises(ScoreError, match="expected"):
        compare_paired([0, 1], [1, 1], **keywords)
