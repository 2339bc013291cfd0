"""Sample-ratio mismatch against Pearson's test, with strata, and its daily false alarms."""

# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from scipy.stats import chisquare

from foretune.errors import ConfigError
from foretune.stats.srm import daily_ratio_check, expected_counts, ratio_p_values


@pytest.mark.parametrize(
    ("counts", "shares"), [([510, 490], [0.5, 0.5]), ([930, 70], [0.9, 0.1]), ([300, 390, 310], [1 / 3] * 3)]
)
def test_one_stratum_is_pearsons_test(counts, shares):
    expected = chisquare(counts, np.array(shares) * sum(counts)).pvalue
    assert ratio_p_values([[counts]], [shares])[0] == pytest.approx(expected, rel=1e-9)


def test_the_configured_ratio_counts_not_one_half():
    assert not daily_ratio_check([[[9000, 1000]]], [[0.9, 0.1]]).alarm
    assert daily_ratio_check([[[9000, 1000]]], [[0.5, 0.5]]).alarm


def test_a_ramp_is_checked_by_stratum():
    ramp = [[[9000, 1000], [5000, 5000]]]
    assert not daily_ratio_check(ramp, [[0.9, 0.1], [0.5, 0.5]]).alarm
    assert expected_counts(ramp[0], [[0.9, 0.1], [0.5, 0.5]]) == pytest.approx([14000, 6000])


def test_few_units_never_alarm_and_a_past_alarm_stays():
    assert not daily_ratio_check([[[60, 20]]], [[0.5, 0.5]]).alarm
    check = daily_ratio_check([[[600, 400]], [[50_300, 50_200]]], [[0.5, 0.5]])
    assert check.alarm and check.day == 1 and check.p_value > 0.5


def test_units_in_a_variant_without_a_share_alarm():
    assert daily_ratio_check([[[500, 500, 1]]], [[0.5, 0.5, 0.0]]).alarm
    assert not daily_ratio_check([[[500, 500, 0]]], [[0.5, 0.5, 0.0]]).alarm


def test_shares_must_add_up():
    with pytest.raises(ConfigError, match="add up to 1"):
        ratio_p_values([[[1, 2]]], [[0.5, 0.4]])


@pytest.mark.parametrize(("loss", "low", "high"), [(0.0, 0.0, 0.015), (0.05, 0.8, 0.93)])
def test_28_daily_looks(loss, low, high):
    rng, reps, alarms = np.random.default_rng(3), 500, 0
    for _ in range(reps):
        arrived = rng.poisson(1000, 28)
        drawn = rng.binomial(arrived, 0.5)
        counts = np.stack([arrived - drawn, rng.binomial(drawn, 1 - loss)], axis=1).cumsum(axis=0)
        alarms += daily_ratio_check(counts[:, None, :], [[0.5, 0.5]]).alarm
    assert low <= alarms / reps <= high
