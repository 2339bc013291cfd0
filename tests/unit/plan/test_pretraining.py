"""Pretraining: the brief's cases exactly, the scaling law, checkpoints against their closed forms, and its warnings."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from foretune.errors import ConfigError
from foretune.plan.pretraining import (
    STAGES,
    PretrainingJob,
    checkpoint_interval_seconds,
    compute_days,
    compute_optimal,
    data_pipeline,
    equivalent_compute,
    gpu_hours,
    lost_fraction,
    optimal_tokens,
    plan_pretraining,
    predicted_loss,
    training_flops,
    two_stages,
    usd_per_gpu_hour,
)

LLAMA_65B = PretrainingJob(
    parameters=65.2e9, tokens=1.4e12, num_gpus=2048, tokens_per_second_per_gpu=380, usd_per_gpu_hour=2.0
)


@pytest.mark.req("R390")
def test_six_thousand_gpus_for_twelve_days() -> None:
    assert gpu_hours(6000, 12) == 1_728_000
    assert usd_per_gpu_hour(2e6, 1_728_000) == pytest.approx(1.157, abs=5e-4)


@pytest.mark.req("R391")
def test_llama_65b_takes_20_8_days() -> None:
    assert compute_days(1.4e12, 380, 2048) == pytest.approx(20.82, abs=0.005)
    plan = plan_pretraining(LLAMA_65B)
    assert plan.compute_days.expected == pytest.approx(20.82, abs=0.005)
    assert round(plan.compute_days.expected) == 21
    assert plan.compute_days.holds(21)
    assert plan.mfu == pytest.approx(0.476, abs=0.002)  # 149 of 312 TFLOP/s
    assert not any("tokens per parameter" in warning for warning in plan.warnings)


@pytest.mark.req("R389")
@pytest.mark.req("R392")
@pytest.mark.req("R393")
def test_stages_are_explained() -> None:
    assert [stage.name for stage in STAGES] == ["collection", "infrastructure", "experiments", "training", "evaluation"]
    assert all(stage.what and stage.done_when for stage in STAGES)
    assert "80 GB" in STAGES[1].what and "cloud" in STAGES[1].what
    assert "hyperparameters" in STAGES[2].what


@pytest.mark.req("R394")
@pytest.mark.req("R081")
@pytest.mark.req("R065")
def test_pretraining_is_far_dearer_than_tuning() -> None:
    both = two_stages()
    assert (both.pretraining_gpu_hours, both.pretraining_days, both.pretraining_usd) == (1_728_000, 12, 2e6)
    assert both.tuning_days == 1
    assert both.cost_ratio > 1000


def test_llama_2_card_is_near_the_example() -> None:
    # Llama 2 70B: 1,720,320 A100 hours for 2T tokens (its model card).
    plan = plan_pretraining(PretrainingJob(parameters=69e9, tokens=2e12, num_gpus=2000, mfu=0.43))
    assert plan.compute_days.expected * 24 * 2000 == pytest.approx(1_720_320, rel=0.02)


def test_chinchilla_is_compute_optimal() -> None:
    assert optimal_tokens(70e9) == 1.4e12
    best = compute_optimal(5.88e23)
    assert best.parameters == pytest.approx(70e9, rel=0.01)
    assert training_flops(best.parameters, best.tokens) == pytest.approx(5.88e23)
    assert equivalent_compute(70e9, 1.4e12) == pytest.approx(1.0, abs=0.01)


@given(st.floats(1e8, 1e12), st.floats(1e9, 1e14))
def test_nothing_beats_the_optimum(parameters: float, tokens: float) -> None:
    assert 0 < equivalent_compute(parameters, tokens) <= 1 + 1e-9
    assert predicted_loss(parameters * 2, tokens) < predicted_loss(parameters, tokens)
    assert predicted_loss(parameters, tokens * 2) < predicted_loss(parameters, tokens)


@pytest.mark.parametrize(
    ("parameters", "tokens", "word"),
    [(175e9, 300e9, "too large for its data"), (8e9, 15e12, "pays only if the model serves much")],
)
def test_far_off_compute_optimal_warns(parameters: float, tokens: float, word: str) -> None:
    plan = plan_pretraining(PretrainingJob(parameters=parameters, tokens=tokens, num_gpus=1024))
    assert any(word in warning for warning in plan.warnings)
    assert plan.equivalent_compute < 0.7


@given(st.floats(1, 1e3), st.floats(1e4, 1e7))
def test_daly_agrees_with_young_and_loses_least(write: float, between: float) -> None:
    interval = checkpoint_interval_seconds(write, between)
    if write < between / 200:
        assert interval == pytest.approx(math.sqrt(2 * write * between), rel=0.08)
    if write < between / 100:
        best = lost_fraction(write, interval, 0, between)
        assert best <= lost_fraction(write, interval * 2, 0, between)
        assert best <= lost_fraction(write, interval / 2, 0, between)


def test_checkpoint_dearer_than_a_failure_is_made_once_a_failure() -> None:
    assert checkpoint_interval_seconds(100, 40) == 40


def test_failures_follow_the_published_rates() -> None:
    # Llama 3 405B: 419 unexpected interruptions of 16,384 GPUs in 54 days (arXiv 2407.21783).
    job = PretrainingJob(parameters=405e9, tokens=15.6e12, num_gpus=16_384, peak_tflops=989, mfu=0.41)
    plan = plan_pretraining(job)
    assert plan.reliability.failures.expected / plan.compute_days.expected == pytest.approx(419 / 54, rel=0.01)
    assert plan.reliability.hours_between_failures == pytest.approx(3.1, abs=0.05)
    # More than 90 % of the time was effective there.
    assert plan.days.expected > plan.compute_days.expected
    assert plan.reliability.lost_fraction < 0.15


def test_own_failure_rate_narrows_the_interval() -> None:
    plan = plan_pretraining(LLAMA_65B.model_copy(update={"gpu_hours_per_failure": 50_000}))
    assert plan.reliability.failures.expected == pytest.approx(20.82 * 24 * 2048 / 50_000, rel=0.001)
    assert not any("failure every" in line for line in plan.assumptions)


def test_data_pipeline_sizes() -> None:
    data = data_pipeline(1e12, vocab_size=128_000, tokens_per_second=1e6)
    assert (data.clean_text_bytes, data.raw_text_bytes, data.tokenised_bytes) == (4e12, pytest.approx(4e13), 4e12)
    assert data.loader_bytes_per_second == 4e6
    assert data_pipeline(1e12, vocab_size=32_000).tokenised_bytes == 2e12


def test_two_of_three_decide_the_rest() -> None:
    by_size = plan_pretraining(PretrainingJob(parameters=1e9))
    assert by_size.tokens == 20e9 and any("compute-optimal" in line for line in by_size.assumptions)
    by_tokens = plan_pretraining(PretrainingJob(tokens=20e9))
    assert by_tokens.parameters == 1e9
    by_budget = plan_pretraining(PretrainingJob(flops=1.2e20))
    assert by_budget.parameters == pytest.approx(1e9)
    assert plan_pretraining(PretrainingJob(parameters=1e9, flops=1.2e20)).tokens == pytest.approx(20e9)
    assert plan_pretraining(PretrainingJob(tokens=20e9, flops=1.2e20)).parameters == pytest.approx(1e9)
    assert plan_pretraining(PretrainingJob(parameters=1e9, tokens=20e9, flops=1.2e20)).flops == pytest.approx(1.2e20)


def test_contradictions_and_nothing_at_all_are_errors() -> None:
    with pytest.raises(ConfigError, match="but flops"):
        plan_pretraining(PretrainingJob(parameters=1e9, tokens=20e9, flops=1e21))
    with pytest.raises(ConfigError, match="how large"):
        plan_pretraining(PretrainingJob())
    for field in ("parameters", "tokens", "num_gpus", "peak_tflops"):
        with pytest.raises(ValidationError):
            PretrainingJob.model_validate({field: 0})


def test_money_memory_repetition_and_impossible_speeds_warn() -> None:
    job = LLAMA_65B.model_copy(update={"max_cost_usd": 1e5, "unique_tokens": 1e11})
    warnings = " ".join(plan_pretraining(job).warnings)
    assert "more than the $100,000.00 allowed" in warnings
    assert "14.0 passes" in warnings
    small = plan_pretraining(PretrainingJob(parameters=65e9, tokens=1.3e12, num_gpus=8))
    assert small.min_gpus == 21 and any("at least 21" in warning for warning in small.warnings)
    assert any("more GPUs" in warning for warning in small.warnings)
    fast = plan_pretraining(PretrainingJob(parameters=7e9, tokens=140e9, tokens_per_second_per_gpu=10_000))
    assert any("check it" in warning for warning in fast.warnings)


def test_experts_compute_with_what_is_active() -> None:
    dense = plan_pretraining(PretrainingJob(parameters=47e9, tokens=1e12, num_gpus=512))
    sparse = plan_pretraining(PretrainingJob(parameters=47e9, active_parameters=13e9, tokens=1e12, num_gpus=512))
    assert sparse.compute_days.expected == pytest.approx(dense.compute_days.expected * 13 / 47)
    assert sparse.min_gpus == dense.min_gpus


def test_cost_is_hours_at_the_price_and_json_has_names() -> None:
    plan = plan_pretraining(LLAMA_65B)
    assert plan.cost_usd is not None
    assert plan.cost_usd.expected == pytest.approx(plan.gpu_hours.expected * 2)
    assert plan.cost_usd.low < plan.cost_usd.expected < plan.cost_usd.high
    assert plan.model_dump()["reliability"]["failures"]["expected"] > 0
