"""Sizes, speed and bills of serving; where to train by team, privacy and provider."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import datetime

import pytest

from foretune.errors import ConfigError
from foretune.models.catalogue import shape_for
from foretune.models.shapes import lora_parameters, prompt_parameters
from foretune.plan.advice import advise
from foretune.plan.cost import batch_speed_up
from foretune.plan.place import place, self_host_break_even
from foretune.plan.request import plan_request
from foretune.plan.serving import decode_speed_up, model_sizes, saved_bytes, serverless_saving, sporadic_arrivals
from foretune.plan.situation import Situation
from foretune.plan.whole import whole_plan

TODAY = datetime.date(2026, 11, 21)


@pytest.mark.req("R351")
def test_a_7b_model_in_three_formats() -> None:
    assert model_sizes(7e9) == (14e9, 7e9, 3.5e9)
    with pytest.raises(ConfigError):
        model_sizes(0)


@pytest.mark.req("R353")
def test_a_batch_of_eight() -> None:
    assert batch_speed_up(8, 1.2) == pytest.approx(6.67, abs=0.005)


@pytest.mark.req("R355")
@pytest.mark.parametrize("queries", [200, 300, 400])
def test_sporadic_traffic_saves_70_to_90_percent(queries: int) -> None:
    found = serverless_saving(sporadic_arrivals(queries), usd_per_hour=2.0)
    assert 0.70 <= found.saved_fraction <= 0.90 and found.always_on_usd == 48
    assert 1 < found.cold_starts < queries


def test_steady_traffic_saves_nothing() -> None:
    steady = tuple(60.0 * minute for minute in range(24 * 60))
    found = serverless_saving(steady, usd_per_hour=2.0)
    assert found.cold_starts == 1 and found.saved_fraction < 0
    assert serverless_saving((), usd_per_hour=2.0).serverless_usd == 0
    assert serverless_saving((10.0,), usd_per_hour=3.6, premium=1.0).serverless_usd == pytest.approx(0.363)


@pytest.mark.req("R357")
def test_a_small_model_is_3_to_10_times_faster() -> None:
    assert decode_speed_up(70e9, 7e9) == 10 and 3 <= decode_speed_up(70e9, 20e9) <= 10
    with pytest.raises(ConfigError):
        decode_speed_up(70e9, 0)


@pytest.mark.req("R356")
def test_for_speed_a_smaller_model_is_advised() -> None:
    advice = advise(Situation(goal="latency", num_examples=5000, data_quality="good", prompt_tried=True))
    assert advice.chosen == "smaller-model"


@pytest.mark.req("R191", "R247")
def test_adapters_and_their_ratio_for_llama_2_7b() -> None:
    whole = whole_plan(plan_request(base="llama-2-7b", gpu="A100-80", num_examples=100, tokens_per_example=100.0))
    assert (whole.sizes.lora_usual, whole.sizes.lora_all_linear) == (8_388_608, 39_976_960)
    assert whole.sizes.lora_ratio == pytest.approx(4.77, abs=0.005)
    shape, _ = shape_for("llama-2-7b")
    assert 10e6 <= saved_bytes(lora_parameters(shape, rank=16)) <= 100e6  # instead of 13.5 GB


@pytest.mark.req("R197")
@pytest.mark.parametrize("tokens", [100, 500])
def test_a_soft_prompt_is_1_to_10_mb(tokens: int) -> None:
    shape, _ = shape_for("llama-2-7b")
    assert 1e6 <= saved_bytes(prompt_parameters(shape, num_prompt_tokens=tokens)) <= 10e6


@pytest.mark.req("R248")
def test_the_share_that_is_trained() -> None:
    whole = whole_plan(plan_request(base="llama-2-7b", gpu="A100-80", method="lora", num_examples=10))
    forecast = whole.forecast
    assert 0 < forecast.trainable_parameters / forecast.total_parameters < 0.01


@pytest.mark.req("R325")
def test_without_a_team_a_hosted_provider_that_still_takes_jobs() -> None:
    found = place(Situation(team="none", num_examples=1000), TODAY)
    assert found.where == "hosted" and "OpenAI" not in found.providers and "Together" in found.providers
    assert any("OpenAI" in text and "2027-01-06" in text for text in found.warnings)
    assert "OpenAI" in place(Situation(team="none"), datetime.date(2026, 5, 8)).providers


@pytest.mark.req("R336")
def test_ml_engineers_host_themselves() -> None:
    found = place(Situation(team="ml-engineers"), TODAY)
    assert found.where == "self-host" and any("cost and performance" in reason.text for reason in found.reasons)


def test_private_data_stays_in_the_house() -> None:
    assert place(Situation(team="none", privacy="on-premise"), TODAY).where == "own machines"
    assert place(Situation(team="none", privacy="private-cloud"), TODAY).where == "self-host"


@pytest.mark.req("R330")
def test_from_how_many_queries_a_machine_pays() -> None:
    assert self_host_break_even(2.0, 0.002) == pytest.approx(730_000, rel=0.001)
    assert self_host_break_even(2.0, 0.0) == float("inf")


@pytest.mark.req("R180", "R181")
def test_a_large_model_on_little_data_is_warned_of() -> None:
    advice = advise(Situation(goal="classification", num_examples=100, parameters=70e9, prompt_tried=True))
    warning = next(one for one in advice.warnings if one.rule == "large-model-small-data")
    assert "smaller model on better data" in warning.text and "2302.13971" in warning.source
    small = advise(Situation(goal="classification", num_examples=100, parameters=7e9, prompt_tried=True))
    assert not any(one.rule == "large-model-small-data" for one in small.warnings)
