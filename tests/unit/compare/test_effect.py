"""The difference in split traffic: oracles for proportions and means, users with many requests, ramps."""

# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest
from scipy.stats import ttest_ind

from foretune.compare.effect import Units, estimate, estimate_rare


def units(arm, total, weight=None, stratum=None, user=None, is_binary=False, covariate=None):
    arm, total = np.asarray(arm, dtype=np.intp), np.asarray(total, dtype=float)
    one = np.ones(total.size)
    return Units(
        np.arange(total.size) if user is None else np.asarray(user),
        np.zeros(total.size, dtype=np.intp) if stratum is None else np.asarray(stratum),
        arm,
        total,
        one if weight is None else np.asarray(weight, dtype=float),
        covariate,
        is_binary,
    )


@pytest.mark.req("R312")
@pytest.mark.parametrize(
    ("events", "low", "high"),
    # statsmodels 0.15.0 confint_proportions_2indep(events, 900, 300, 1000, method="wald")
    [(260, -0.052142192351330933, 0.02991997012910868), (330, 0.024265044304781373, 0.10906828902855192)],
)
def test_two_proportions(events, low, high):
    arm = np.repeat([0, 1], [1000, 900])
    total = np.concatenate([np.arange(1000) < 300, np.arange(900) < events])
    effect = estimate(units(arm, total, is_binary=True))
    half = 1.959963984540054 * effect.standard_error
    assert (effect.value - half, effect.value + half) == pytest.approx((low, high), abs=1e-4)
    assert (effect.value - half > 0) == (low > 0)  # the interval with 0 in it is not proven


@pytest.mark.req("R312")
def test_two_means_are_welchs():
    ours = np.array([((7 * i) % 23) / 3 for i in range(150)])
    theirs = np.array([((11 * i) % 19) / 2 for i in range(170)])
    effect = estimate(units(np.repeat([0, 1], [150, 170]), np.concatenate([ours, theirs])))
    # statsmodels 0.15.0 CompareMeans: difference and std_meandiff_separatevar
    assert (effect.value, effect.standard_error) == pytest.approx((0.8696078431372549, 0.27853015136373294), rel=1e-9)
    assert effect.value / effect.standard_error == pytest.approx(ttest_ind(theirs, ours, equal_var=False).statistic)


def test_a_user_with_many_requests_is_one_unit():
    rng, reps, ours, naive = np.random.default_rng(0), 600, 0, 0
    for _ in range(reps):
        arm, sent = rng.integers(0, 2, 400), 1 + rng.poisson(9, 400)
        total = rng.binomial(sent, rng.beta(1.2, 2.8, 400))
        effect = estimate(units(arm, total, sent))
        ours += abs(effect.value) > 1.96 * effect.standard_error
        rates = [total[arm == side].sum() / sent[arm == side].sum() for side in (0, 1)]
        error = math.sqrt(sum(r * (1 - r) / sent[arm == s].sum() for s, r in enumerate(rates)))
        naive += abs(rates[1] - rates[0]) > 1.96 * error
    assert ours / reps <= 0.07
    assert naive / reps > 0.15


def test_a_ramp_is_stratified():
    rng, stratum = np.random.default_rng(1), np.repeat([0, 1], 2000)
    arm = (rng.random(4000) < np.where(stratum == 0, 0.1, 0.5)).astype(int)
    total = rng.random(4000) < np.where(stratum == 0, 0.6, 0.3)
    effect, pooled = estimate(units(arm, total, stratum=stratum)), estimate(units(arm, total))
    assert abs(effect.value) < 3 * effect.standard_error
    assert abs(pooled.value) > 4 * pooled.standard_error


def test_one_user_in_two_strata_is_one_cluster():
    arm, total = np.tile(np.arange(400) % 2, 2), np.tile(np.random.default_rng(2).random(400), 2)
    stratum = np.repeat([0, 1], 400)
    same = estimate(units(arm, total, stratum=stratum, user=np.tile(np.arange(400), 2)))
    apart = estimate(units(arm, total, stratum=stratum))
    assert same.standard_error == pytest.approx(apart.standard_error * math.sqrt(2))


def test_no_interval_before_there_is_enough():
    few = estimate(units(np.repeat([0, 1], [99, 200]), np.arange(299) % 2, is_binary=True))
    rare = units(np.repeat([0, 1], [500, 500]), np.arange(1000) == 3, is_binary=True)
    assert not few.has_interval
    assert not estimate(rare).has_interval
    assert 0.001 < estimate_rare(rare).standard_error < 0.01


def test_a_missing_arm_says_nothing():
    assert not estimate(units(np.zeros(300, dtype=int), np.ones(300))).has_interval
    assert not estimate(units([], [])).has_interval


def test_the_past_narrows_the_interval():
    rng = np.random.default_rng(3)
    past, arm = rng.standard_normal(3000), rng.integers(0, 2, 3000)
    total = 0.8 * past + 0.6 * rng.standard_normal(3000)
    plain, adjusted = estimate(units(arm, total)), estimate(units(arm, total, covariate=past))
    assert adjusted.standard_error / plain.standard_error == pytest.approx(0.6, abs=0.03)
    assert adjusted.variance_removed == pytest.approx(0.64, abs=0.04)
