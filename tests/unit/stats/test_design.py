"""Users and days of a split test against the planning table and an oracle."""

# SPDX-License-Identifier: Apache-2.0
import pytest

from foretune.errors import ConfigError
from foretune.stats.design import plan_split, units_per_arm


@pytest.mark.parametrize(
    ("rate", "lift", "units"), [(0.3, 0.02, 8393), (0.3, 0.03, 3762), (0.3, 0.05, 1376), (0.05, 0.01, 8158)]
)
def test_units_of_a_rate(rate, lift, units):
    assert units_per_arm(rate, lift) == pytest.approx(units, abs=1)


def test_units_of_a_mean():
    assert units_per_arm(0.0, 0.1, deviation=1.0) == 1570  # statsmodels 0.15.0 NormalIndPower: 1569.77


@pytest.mark.req("R311")
@pytest.mark.parametrize(
    ("rate", "lift", "daily", "days"),
    [(0.3, 0.02, 200, 91), (0.3, 0.02, 1000, 21), (0.3, 0.05, 200, 21), (0.3, 0.05, 5000, 7), (0.05, 0.02, 200, 28)],
)
def test_days_are_whole_weeks_and_at_least_one(rate, lift, daily, days):
    design = plan_split(rate, lift, daily)
    assert design.days == days
    assert bool(design.advice) == (days > 42)


def test_cuped_and_shares_move_the_plan():
    plain = plan_split(0.3, 0.02, 1000)
    assert plan_split(0.3, 0.02, 1000, variance_removed=0.49).units_per_arm < 0.52 * plain.units_per_arm
    assert plan_split(0.3, 0.02, 1000, share=0.1).days > 2 * plain.days
    assert plan_split(0.3, 0.02, 1000, fixed_horizon=False).days > 1.6 * plain.days


@pytest.mark.parametrize("given", [(0.3, 0.0, 10), (0.3, 0.8, 10), (0.3, 0.1, 0)])
def test_what_cannot_be_planned(given):
    with pytest.raises(ConfigError):
        plan_split(*given)
