"""Derived settings: steps, batches, rates, cadences, their reasons and warnings."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import Any

import pytest

from foretune.config import JobConfig
from foretune.config.derive import Derived, derive, suggest_epochs


def job_of(**train: Any) -> JobConfig:
    return JobConfig.model_validate({"train": train})


def derived(
    job: JobConfig, samples: int = 800, longest: int = 128, limit: int | None = 512, device: Any = "cpu"
) -> Derived:
    return derive(job, num_train_samples=samples, longest_sample_tokens=longest, model_max_len=limit, device=device)


def test_last_incomplete_batch_counts_as_a_step() -> None:
    assert derived(job_of(epochs=1), samples=33).num_steps == 3
    assert derived(job_of(epochs=1), samples=33).steps_per_epoch == 3
    assert derived(job_of(epochs=1), samples=32).num_steps == 2
    assert derived(job_of(epochs=1), samples=1).num_steps == 1


@pytest.mark.parametrize(("epochs", "steps"), [(0.5, 25), (1.5, 75), (0.001, 1), (3, 150), (1.1, 55)])
def test_epochs_may_be_fractional(epochs: float, steps: int) -> None:
    result = derived(job_of(epochs=epochs))
    assert result.num_steps == steps
    assert result.num_epochs == pytest.approx(steps / 50)


def test_max_steps_overrides_epochs() -> None:
    assert derived(job_of(epochs=3, advanced={"max_steps": 7})).num_steps == 7


@pytest.mark.req("R223")
@pytest.mark.parametrize("global_batch", [1, 2, 7, 12, 16, 24, 64, 100])
@pytest.mark.parametrize("longest", [1, 64, 300, 512, 9000])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_micro_times_accumulation_is_the_global_batch(global_batch: int, longest: int, device: str) -> None:
    result = derived(job_of(global_batch_size=global_batch), longest=longest, limit=None, device=device)
    assert result.micro_batch_size * result.grad_accum_steps == global_batch == result.global_batch_size
    assert result.micro_batch_size >= 1
    if result.micro_batch_size > 1:
        assert result.micro_batch_size * longest <= {"cpu": 4096, "cuda": 16_384}[device]


def test_micro_batch_on_a_cpu_is_at_most_16() -> None:
    assert derived(job_of(global_batch_size=64), longest=8).micro_batch_size == 16


@pytest.mark.req("R224")
def test_full_example_of_four_times_four() -> None:
    result = derived(job_of(method="full", advanced={"micro_batch_size": 4}))
    assert (result.micro_batch_size, result.grad_accum_steps, result.global_batch_size) == (4, 4, 16)


@pytest.mark.req("R225")
def test_lora_example_of_two_times_eight() -> None:
    result = derived(job_of(method="lora", advanced={"micro_batch_size": 2}))
    assert (result.micro_batch_size, result.grad_accum_steps, result.global_batch_size) == (2, 8, 16)


def test_micro_batch_that_does_not_divide_is_lowered_with_a_warning() -> None:
    result = derived(job_of(advanced={"micro_batch_size": 5}))
    assert result.micro_batch_size == 4
    assert any("micro_batch_size 5 does not divide global_batch_size 16: 4 is used" in w for w in result.warnings)


@pytest.mark.req("R217")
@pytest.mark.req("R218")
def test_default_learning_rates() -> None:
    rates = {"full": 2e-5, "lora": 2e-4, "prompt": 3e-2, "classify": 2e-4, "pretrain": 1e-3}
    for method, rate in rates.items():
        result = derived(job_of(method=method))
        assert result.learning_rate == rate
        assert not any("learning_rate" in warning for warning in result.warnings)


@pytest.mark.req("R219")
def test_rate_from_scratch_is_higher_and_the_reason_says_so() -> None:
    scratch, lora = derived(job_of(method="pretrain")), derived(job_of(method="lora"))
    assert lora.learning_rate <= scratch.learning_rate / 5
    assert "far below training from scratch" in lora.reasons["learning_rate"]


@pytest.mark.req("R215")
@pytest.mark.parametrize(("rate", "warns"), [(1e-5, False), (5e-5, False), (9e-6, True), (6e-5, True)])
def test_full_learning_rate_range(rate: float, warns: bool) -> None:
    warnings = derived(job_of(method="full", learning_rate=rate)).warnings
    assert any("usual 1e-05 to 5e-05" in warning for warning in warnings) is warns


@pytest.mark.req("R216")
@pytest.mark.parametrize(("rate", "warns"), [(1e-4, False), (3e-4, False), (9e-5, True), (1e-3, True)])
def test_lora_learning_rate_range(rate: float, warns: bool) -> None:
    warnings = derived(job_of(method="lora", learning_rate=rate)).warnings
    assert any("usual 0.0001 to 0.0003" in warning for warning in warnings) is warns


@pytest.mark.req("R222")
@pytest.mark.parametrize(("batch", "warns"), [(None, False), (16, False), (64, False), (8, True), (65, True)])
def test_batch_range(batch: int | None, warns: bool) -> None:
    result = derived(job_of() if batch is None else job_of(global_batch_size=batch))
    assert any("outside the usual 16-64" in warning for warning in result.warnings) is warns
    assert result.global_batch_size == (batch or 16)


@pytest.mark.req("R226")
@pytest.mark.req("R229")
def test_default_epochs_and_the_warning_beyond_five() -> None:
    assert JobConfig().train.epochs == 3
    assert not derived(job_of(epochs=5)).warnings
    assert any("more than 5 usually overfits" in warning for warning in derived(job_of(epochs=6)).warnings)


@pytest.mark.req("R227")
def test_large_data_needs_few_epochs() -> None:
    assert suggest_epochs(10_000) in (1, 2)
    assert suggest_epochs(1_000_000) in (1, 2)
    assert any("2 usually suffice" in warning for warning in derived(job_of(epochs=3), samples=10_000).warnings)


@pytest.mark.req("R228")
def test_small_data_needs_more_epochs() -> None:
    assert all(suggest_epochs(number) in (3, 4, 5) for number in (500, 800, 1000))
    suggestions = [suggest_epochs(number) for number in range(1, 100_000, 97)]
    assert suggestions == sorted(suggestions, reverse=True)


@pytest.mark.req("R231")
@pytest.mark.parametrize("steps", [1, 5, 9, 10, 17, 75, 1000, 1666, 1667, 50_000])
def test_warm_up_is_100_steps_or_a_tenth_of_a_short_run(steps: int) -> None:
    warmup = derived(job_of(advanced={"max_steps": steps})).warmup_steps
    assert warmup <= min(100, steps / 10)
    if steps >= 10:
        assert warmup >= 1
    if steps >= 1667:
        assert warmup == 100


def test_warm_up_can_be_switched_off() -> None:
    assert derived(job_of(advanced={"max_steps": 500, "warmup_fraction": 0.0})).warmup_steps == 0


@pytest.mark.req("R235")
@pytest.mark.parametrize(("steps", "every"), [(1, 1), (8, 1), (75, 10), (400, 50), (4000, 500), (100_000, 500)])
def test_validations_and_checkpoints(steps: int, every: int) -> None:
    result = derived(job_of(advanced={"max_steps": steps}))
    assert (result.eval_every, result.save_every) == (every, every)
    assert derived(job_of(advanced={"max_steps": steps, "eval_every": 3, "save_every": 7})).save_every == 7


@pytest.mark.req("R240")
@pytest.mark.parametrize(("rank", "warns"), [(8, False), (32, False), (4, True), (64, True)])
def test_rank_range(rank: int, warns: bool) -> None:
    assert any("usual 8-32" in warning for warning in derived(job_of(rank=rank)).warnings) is warns
    assert not any("usual 8-32" in warning for warning in derived(job_of(rank=rank, method="full")).warnings)


@pytest.mark.req("R243")
@pytest.mark.parametrize("rank", [1, 8, 16, 33])
def test_alpha_is_twice_the_rank(rank: int) -> None:
    assert derived(job_of(rank=rank)).alpha == 2 * rank
    assert derived(job_of(rank=rank, advanced={"alpha": 5.0})).alpha == 5.0


def test_max_seq_len_is_what_data_and_model_allow() -> None:
    assert derived(job_of(), longest=100).max_seq_len == 100
    cut = derived(job_of(), longest=900, limit=512)
    assert cut.max_seq_len == 512
    assert any("longest sample has 900 tokens, the model takes 512" in warning for warning in cut.warnings)
    assert derived(job_of(), longest=900, limit=None).max_seq_len == 900
    assert derived(job_of(max_seq_len=64), longest=900).max_seq_len == 64
    wanted = derived(job_of(max_seq_len=1024), longest=900, limit=512)
    assert wanted.max_seq_len == 512
    told = "max_seq_len 1024 is more than the model's 512 positions: 512 it is"
    assert any(told in warning for warning in wanted.warnings)


def test_soft_prompt_takes_its_positions_from_the_model() -> None:
    assert derived(job_of(method="prompt", advanced={"num_prompt_tokens": 12}), longest=900).max_seq_len == 500


def test_precision_is_by_hardware_unless_set() -> None:
    assert derived(job_of()).precision == "fp32"
    assert derived(job_of(), device="cuda").precision == "bf16"
    assert derived(job_of(advanced={"precision": "fp32"}), device="cuda").precision == "fp32"
    turing = derive(
        JobConfig(),
        num_train_samples=9,
        longest_sample_tokens=9,
        model_max_len=None,
        device="cuda",
        has_bf16=False,
    )
    assert turing.precision == "fp32"


def test_every_reason_names_a_field_and_is_shown_with_its_value() -> None:
    result = derived(job_of())
    explained = result.explained()
    assert explained["num_steps"] == "150 (3 epochs of 50 steps)"
    assert explained["learning_rate"].startswith("0.0002 (")
    assert set(explained) == set(result.reasons) <= set(Derived.__dataclass_fields__)


def test_usual_settings_warn_of_nothing() -> None:
    assert derived(job_of()).warnings == ()
