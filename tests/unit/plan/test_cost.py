"""Calculators of cost, saving and payback, held against the brief's own figures and their corrections."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import datetime
import math

import pytest

from foretune.hardware import HourlyPrice
from foretune.plan.cost import (
    batch_speed_up,
    labour_usd,
    monthly_cost_usd,
    monthly_saving_usd,
    payback,
    payback_months,
    rental_cost,
    run_cost,
    saving_verdict,
    storage_cost_usd,
    training_cost_usd,
)
from foretune.records.plan import Estimate


@pytest.mark.req("R073")
def test_forty_dollars_for_one_epoch() -> None:
    assert training_cost_usd(10_000, 500, 1, 0.008) == pytest.approx(40.00)


@pytest.mark.req("R073")
@pytest.mark.req("R417")
def test_billing_multiplies_epochs() -> None:
    assert training_cost_usd(10_000, 500, 3, 0.008) == pytest.approx(120.00)


@pytest.mark.req("R074")
def test_labour_is_20_to_40_hours_at_the_rate_given() -> None:
    assert labour_usd(100) == (2000, 4000)
    assert labour_usd(50, (1, 2)) == (50, 100)


@pytest.mark.req("R076")
def test_monthly_cost_of_queries() -> None:
    assert monthly_cost_usd(0.015, 100_000) == pytest.approx(1500.00)


@pytest.mark.req("R077")
def test_small_model_saves_1200_a_month() -> None:
    assert monthly_cost_usd(0.003, 100_000) == pytest.approx(300.00)
    assert monthly_saving_usd(0.015, 0.003, 100_000) == pytest.approx(1200.00)


@pytest.mark.req("R078")
@pytest.mark.req("R416")
def test_payback_with_and_without_labour() -> None:
    months = payback(40, 40 * 100, 1200)
    assert months.with_labour == pytest.approx(3.37, abs=0.005)
    assert months.training_only == pytest.approx(0.033, abs=0.0005)
    assert payback(40, 40 * 29, 1200).with_labour == pytest.approx(1.0)


@pytest.mark.req("R079")
def test_low_volume_is_not_worth_it() -> None:
    saving = monthly_saving_usd(0.015, 0.003, 1_000)
    assert saving == pytest.approx(12)
    assert saving_verdict(40, labour_usd(100)[0], saving).startswith("not worth it: saves $12.00 a month")
    assert saving_verdict(40, labour_usd(100)[1], 1200).startswith("worth it: saves $1,200.00 a month")


def test_no_saving_never_pays_back() -> None:
    assert math.isinf(payback_months(40, 0))
    assert math.isinf(payback_months(40, -5))
    assert saving_verdict(40, 100, -5) == "not worth it: nothing is saved"


@pytest.mark.req("R418")
def test_batch_of_eight_at_1_2_times_the_time() -> None:
    assert batch_speed_up(8, 1.2) == pytest.approx(6.67, abs=0.005)


def test_cost_of_a_run() -> None:
    cost = run_cost(Estimate(low=1800, expected=3600, high=7200), 2.5)
    assert (cost.low, cost.expected, cost.high) == (1.25, 2.5, 5.0)
    assert run_cost(Estimate(low=1, expected=2, high=3), 0.0).high == 0


@pytest.mark.req("R068")
@pytest.mark.parametrize("name", ["num_examples", "tokens_per_example", "num_epochs", "usd_per_1k"])
def test_cost_grows_with_each_driver(name: str) -> None:
    base: dict[str, float] = {"num_examples": 1000, "tokens_per_example": 500, "num_epochs": 2, "usd_per_1k": 0.001}
    costs = [training_cost_usd(**{**base, name: base[name] * factor}) for factor in (1, 2, 3)]  # type: ignore[arg-type]
    assert costs == sorted(costs) and len(set(costs)) == 3


def rented(**changes: object) -> HourlyPrice:
    fields: dict[str, object] = {"device": "H100", "provider": "RunPod", "usd_per_hour": 3.0, "source": "page"}
    return HourlyPrice(**{**fields, "date": datetime.date(2026, 11, 1), **changes})  # type: ignore[arg-type]


def hours(expected: float) -> Estimate:
    return Estimate(low=expected / 2, expected=expected, high=expected * 2)


@pytest.mark.req("R067")
def test_rental_counts_devices_and_hours() -> None:
    cost = rental_cost(hours(2), rented(), num_devices=4)
    assert (cost.low, cost.expected, cost.high) == pytest.approx((12, 24, 48))


def test_a_machine_of_eight_is_paid_whole() -> None:
    assert rental_cost(hours(1), rented(min_gpus=8)).expected == pytest.approx(24)
    assert rental_cost(hours(1), rented(min_gpus=8), num_devices=9).expected == pytest.approx(48)


def test_unknown_billing_counts_started_hours() -> None:
    assert rental_cost(hours(1.2), rented(provider="corner shop")).expected == pytest.approx(6)
    assert rental_cost(hours(1.2), rented(provider="AWS p5.48xlarge")).expected == pytest.approx(3.6)
    assert rental_cost(hours(0.001), rented(provider="AWS p5.48xlarge")).expected == pytest.approx(3 / 60)


def test_spot_is_cheaper_but_repeats_work() -> None:
    price = rented(spot_usd_per_hour=1.0)
    assert rental_cost(hours(10), price, is_spot=True).expected == pytest.approx(11)
    assert rental_cost(hours(10), rented(), is_spot=True).expected == pytest.approx(30)


def test_storage() -> None:
    assert storage_cost_usd(100, 0.10, 3) == pytest.approx(30)
