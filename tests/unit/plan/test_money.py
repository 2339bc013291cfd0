"""Whether tuning pays: the brief's worked examples, hosting, labels, budgets, and what flips the verdict."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import datetime
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretune.errors import ConfigError, GateRefused, NotFound
from foretune.plan.annotation import ANNOTATION_PRICES, annotation_cost, find_annotation_price
from foretune.plan.money import (
    MoneyCase,
    budget_warning,
    cost_benefit,
    hosting_choice,
    pretraining_share,
    query_usd,
    require_budget,
    saving_fraction,
    tuned_price_range,
)
from foretune.records.plan import Estimate

TODAY = datetime.date(2026, 11, 21)
BRIEF = MoneyCase(
    queries_per_month=100_000,
    usd_per_query=0.015,
    tuned_usd_per_query=0.003,
    training_usd=40,
    labour_hours=40,
    labour_usd_per_hour=100,
)


@pytest.mark.req("R076")
@pytest.mark.req("R077")
def test_the_briefs_traffic() -> None:
    answer = cost_benefit(BRIEF, TODAY)
    assert answer.monthly_now == pytest.approx(1500.00)
    assert answer.monthly_tuned == pytest.approx(300.00)
    assert answer.monthly_saving == pytest.approx(1200.00)


@pytest.mark.req("R078")
@pytest.mark.req("R416")
def test_payback_with_and_without_labour() -> None:
    answer = cost_benefit(BRIEF, TODAY)
    assert answer.payback_with_labour == pytest.approx(3.37, abs=0.005)
    assert answer.payback_training_only == pytest.approx(0.033, abs=0.0005)
    cheap = cost_benefit(replace(BRIEF, labour_usd_per_hour=29), TODAY)
    assert cheap.payback_with_labour == pytest.approx(1.0)


@pytest.mark.req("R075")
def test_verdict_is_net_value_over_the_models_life() -> None:
    answer = cost_benefit(BRIEF, TODAY)
    assert answer.net_value == pytest.approx(12 * 1200 - 4040)
    assert answer.is_worth_it and answer.verdict.startswith("worth it: saves $1,200.00 a month")
    short = cost_benefit(replace(BRIEF, life_months=3), TODAY)
    assert short.net_value == pytest.approx(-440)
    assert not short.is_worth_it and short.verdict.startswith("not worth it")


@pytest.mark.req("R079")
def test_low_volume_is_not_worth_it() -> None:
    answer = cost_benefit(replace(BRIEF, queries_per_month=1_000), TODAY)
    assert answer.monthly_saving == pytest.approx(12)
    assert answer.verdict.startswith("not worth it: saves $12.00 a month")


def test_break_even_date() -> None:
    assert cost_benefit(BRIEF, TODAY).break_even_date == TODAY + datetime.timedelta(days=103)
    assert cost_benefit(replace(BRIEF, tuned_usd_per_query=0.02), TODAY).break_even_date is None
    assert cost_benefit(replace(BRIEF, queries_per_month=1e-9), TODAY).break_even_date is None


def test_no_saving_says_so() -> None:
    answer = cost_benefit(replace(BRIEF, tuned_usd_per_query=0.02), TODAY)
    assert math.isinf(answer.payback_with_labour)
    assert answer.verdict == "not worth it: nothing is saved, the bill grows by $500.00 a month"


def test_labour_without_a_rate_is_asked_for() -> None:
    assert "labour is not priced" in cost_benefit(replace(BRIEF, labour_usd_per_hour=0.0), TODAY).verdict


def test_a_cached_prefix_is_cheaper() -> None:
    assert query_usd(3000, 200, 2.5, 10) == pytest.approx(0.0095)
    assert query_usd(3000, 200, 2.5, 10, cached_share=0.8, cached_price_factor=0.5) == pytest.approx(0.0065)
    case = MoneyCase(queries_per_month=10, prompt_tokens=3000, output_tokens=200, usd_per_1m_input=2.5)
    assert case.monthly_now == pytest.approx(0.075)


def test_the_tuned_prompt_is_as_long_as_todays_unless_said() -> None:
    case = MoneyCase(queries_per_month=1, prompt_tokens=1000, tuned_usd_per_1m_input=1.0)
    assert case.usd_per_query_tuned == pytest.approx(0.001)
    assert replace(case, tuned_prompt_tokens=100).usd_per_query_tuned == pytest.approx(0.0001)


def test_hosting_storage_upkeep_labels_and_tries_count() -> None:
    case = replace(
        BRIEF,
        tuned_usd_per_query=0.0,
        hosting_usd_per_hour=1.0,
        storage_gb=100,
        storage_usd_per_gb_month=0.1,
        upkeep_usd_per_month=20,
        num_trainings=3,
        annotation_items=500,
        annotation_usd_per_item=0.5,
    )
    answer = cost_benefit(case, TODAY)
    assert answer.monthly_tuned == pytest.approx(730 + 10 + 20)
    assert answer.spent_on_training == pytest.approx(120)
    assert answer.spent_on_people == pytest.approx(4000 + 250)


def test_discounting_lowers_the_net_value() -> None:
    plain = cost_benefit(BRIEF, TODAY).net_value
    assert 0 < cost_benefit(replace(BRIEF, discount_per_year=0.1), TODAY).net_value < plain


@pytest.mark.req("R083")
def test_self_hosting_at_scale_saves_80_to_95_percent() -> None:
    machine = hosting_choice(usd_per_hour=2.29, usd_per_query=0.015, queries_per_month=1_000_000)
    assert machine.cheaper == "per hour"
    assert 0.80 <= saving_fraction(machine.per_query_usd, machine.per_hour_usd) <= 0.95
    assert machine.break_even_queries == pytest.approx(2.29 * 730 / 0.015)
    few = hosting_choice(2.29, 0.015, 10_000)
    assert few.cheaper == "per query"
    assert math.isinf(hosting_choice(2.29, 0.0, 10_000).break_even_queries)


def test_sensitivity_names_what_flips_the_verdict() -> None:
    swings = {swing.name: swing for swing in cost_benefit(replace(BRIEF, life_months=5), TODAY).sensitivity}
    assert swings["queries_per_month"].flips and swings["usd_per_query"].flips and swings["life_months"].flips
    assert not swings["training_usd"].flips
    assert swings["queries_per_month"].net_at_half == pytest.approx(5 * 600 - 4040)
    spans = [abs(swing.net_at_more - swing.net_at_half) for swing in swings.values()]
    assert spans == sorted(spans, reverse=True)


@given(
    queries=st.floats(0, 1e7),
    now=st.floats(0, 0.1),
    then=st.floats(0, 0.1),
    spent=st.floats(0, 1e6),
    rate=st.floats(0, 500),
)
def test_worth_it_is_exactly_a_positive_net_value(
    queries: float, now: float, then: float, spent: float, rate: float
) -> None:
    case = MoneyCase(
        queries_per_month=queries,
        usd_per_query=now,
        tuned_usd_per_query=then,
        training_usd=spent,
        labour_usd_per_hour=rate,
    )
    answer = cost_benefit(case, TODAY)
    assert answer.is_worth_it == (answer.net_value > 0)
    assert answer.payback_training_only <= answer.payback_with_labour or math.isinf(answer.payback_with_labour)
    assert answer.verdict


def test_every_wrong_amount_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        MoneyCase(queries_per_month=-1, training_usd=math.inf, cached_share=1.5)
    for part in ("`queries_per_month` is -1", "`training_usd` is inf", "`cached_share` is 1.5"):
        assert part in str(caught.value)


@pytest.mark.req("R084")
def test_the_budget_gate_refuses_before_spending() -> None:
    cost = Estimate(low=10, expected=20, high=40)
    require_budget(cost, 0)
    require_budget(cost, 20)
    with pytest.raises(GateRefused, match=r"expected cost \$20.00") as caught:
        require_budget(cost, 19)
    assert caught.value.fix.startswith("--max-cost 40")
    assert "may cost up to $40.00" in budget_warning(cost, 30)
    assert budget_warning(cost, 50) == ""


@pytest.mark.req("R069")
def test_very_small_and_very_large_costs_are_questioned() -> None:
    assert "check the number of examples" in budget_warning(Estimate(low=0.1, expected=0.2, high=0.4))
    assert "very expensive" in budget_warning(Estimate(low=9e3, expected=2e4, high=4e4))
    assert budget_warning(Estimate(low=0, expected=0, high=0)) == ""


@pytest.mark.req("R080")
def test_annotation_is_items_times_price() -> None:
    assert annotation_cost(100_000, 0.05).expected == pytest.approx(5_000)
    cost = annotation_cost(100_000, find_annotation_price("comparison"))
    assert (cost.low, cost.high) == pytest.approx((40_000, 200_000))
    assert annotation_cost(100, 1.0, num_annotators=2).low == 200
    assert find_annotation_price("scale.ai-style").high == 0.35
    assert all(price.source and price.low <= price.high for price in ANNOTATION_PRICES)
    with pytest.raises(NotFound, match="there are classification"):
        find_annotation_price("telepathy")
    with pytest.raises(ConfigError):
        annotation_cost(-1, 0.05)


@pytest.mark.req("R081")
def test_fine_tuning_costs_a_sliver_of_pretraining() -> None:
    assert pretraining_share(40) == pytest.approx(0.00002)
    with pytest.raises(ConfigError):
        pretraining_share(40, 0)


@pytest.mark.req("R323")
def test_a_tuned_models_tokens_cost_1_5_to_8_times_the_base() -> None:
    assert tuned_price_range(0.002) == pytest.approx((0.003, 0.016))
