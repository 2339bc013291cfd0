"""Confidence sequences and the hybrid test: the formula, the looks that may decide, and the false alarms."""

# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest

from foretune.errors import ConfigError
from foretune.stats.sequential import SequentialPlan, sequence_half_width, tuned_rho2


def test_half_width_is_the_published_formula():
    n, error, alpha = 5000, 0.01, 0.05
    rho2 = tuned_rho2(n, alpha)
    variance = n * error**2
    expected = math.sqrt(
        variance * 2 * (n * rho2 + 1) / (n**2 * rho2) * math.log(math.sqrt(n * rho2 + 1) / alpha)
    )  # Waudby-Smith et al., arXiv:2103.06476, Proposition 2.5
    assert float(sequence_half_width(error, n, alpha, rho2)) == pytest.approx(expected, rel=1e-12)
    assert 2.5 < expected / error < 3.5  # wider than 1.96, as the price of looking at any time


def test_no_unit_gives_no_interval():
    assert math.isinf(float(sequence_half_width(0.1, 0, 0.05, 1e-3)))


@pytest.mark.req("R311")
def test_nothing_is_decided_before_the_seventh_day():
    plan = SequentialPlan(4000, 14)
    days = np.arange(1, 15)
    decision = plan.decide(np.full(14, 5.0), np.full(14, 0.1), np.arange(1, 15) * 300, days, 13)
    assert (int(decision.sign), int(days[decision.look]), int(decision.by)) == (1, 7, 1)
    early = plan.decide(np.full(6, 5.0), np.full(6, 0.1), np.arange(1, 7) * 300, days[:6])
    assert (int(early.sign), int(early.look)) == (0, -1)


def test_looks_after_the_horizon_change_nothing():
    plan = SequentialPlan(4000, 7)
    values = np.array([0.0] * 6 + [0.021, 9.0, 9.0])
    errors, units = np.full(9, 0.01), np.arange(1, 10) * 570
    decision = plan.decide(values, errors, units, np.arange(1, 10), 6)
    assert (int(decision.sign), int(decision.look), int(decision.by)) == (1, 6, 2)  # 2.1 SE passes at alpha .04
    assert int(plan.decide(values * 0.9, errors, units, np.arange(1, 10), 6).sign) == 0


def test_no_look_at_all():
    decision = SequentialPlan(4000, 14).decide([], [], [], [])
    assert (int(decision.sign), int(decision.look)) == (0, -1)


def test_levels_add_up():
    plan = SequentialPlan(4000, 14)
    assert (plan.monitor_alpha, plan.final_alpha) == (pytest.approx(0.01), pytest.approx(0.04))
    assert SequentialPlan(4000).monitor_alpha == 0.05
    with pytest.raises(ConfigError, match="whole weeks"):
        SequentialPlan(4000, 10)


@pytest.mark.parametrize("planned_days", [28, None])
def test_peeking_every_day_stays_honest(planned_days):
    rng, reps = np.random.default_rng(1), 4000
    arrived = rng.poisson(200, (2, reps, 28)).cumsum(axis=-1)
    daily = np.diff(arrived, axis=-1, prepend=0)
    events = rng.binomial(daily, 0.3).cumsum(axis=-1)
    rate = events / arrived
    error = np.sqrt((rate * (1 - rate) / arrived).sum(axis=0))
    plan = SequentialPlan(2 * 200 * 28, planned_days)
    decision = plan.decide(
        rate[1] - rate[0], error, arrived.sum(axis=0), np.arange(1, 29), 27 if planned_days else None
    )
    naive = (np.abs(rate[1] - rate[0]) > 1.96 * error).any(axis=-1).mean()
    assert (decision.sign != 0).mean() <= 0.05
    assert naive > 0.2
