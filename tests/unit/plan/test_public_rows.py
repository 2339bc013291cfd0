"""Quoted runs: each bundled with source, date and confidence, and what the planner says of the very same setup."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from foretune.plan.answer import answer, requested_setup
from foretune.plan.gpu_memory import peak_memory
from foretune.plan.gpu_work import computed_tokens
from foretune.plan.public_rows import public_rows, row_named
from foretune.plan.request import plan_request
from foretune.plan.rows import setup_of
from foretune.plan.time_coefficients import centre_of, shares, time_model
from foretune.records.forecast import Forecast

FIVE_THOUSAND = {"num_examples": 5_000, "tokens_per_example": 512.0, "epochs": 3.0}


def asked(**values: object) -> Forecast:
    return answer(plan_request(**values))


def test_every_row_tells_where_it_is_from_and_how_far_to_trust_it() -> None:
    for one in public_rows():
        assert one.source and one.date >= "2026-01-01"
        assert one.confidence in ("measured", "reported", "anecdotal", "contradicted")
        assert one.forecast().peak_memory_gb.expected > 0
    assert len({one.name for one in public_rows()}) == len(public_rows())


@pytest.mark.req("R053", "R054")
@pytest.mark.parametrize("name", ["alpaca-7b-a100", "alpaca-7b-3090"])
def test_an_hour_is_not_what_the_sources_say(name: str) -> None:
    quoted = row_named(name)
    assert quoted.confidence == "contradicted" and "github.com" in quoted.source
    hours = quoted.forecast().train_hours
    assert hours is not None and hours.low > 1.5  # the claim was one hour
    assert 0.4 < hours.expected / quoted.reported["hours"] < 2.5


@pytest.mark.req("R056")
def test_13b_in_8_bits_on_a_4090_barely_fits() -> None:
    found = row_named("alpaca-13b-4090").forecast()
    assert found.fit_state == "tight" and found.fits is False
    assert found.train_hours is not None and found.train_hours.low < 10 < found.train_hours.high


def test_33b_on_an_a6000_is_tight_and_the_reported_peak_lies_in_the_interval() -> None:
    quoted = row_named("alpaca-33b-a6000")
    found = quoted.forecast()
    assert found.fit_state == "tight"
    assert found.peak_memory_gb.low < quoted.reported["peak_gb"] < found.peak_memory_gb.high


@pytest.mark.req("R058")
def test_hearsay_is_marked() -> None:
    assert row_named("alpaca-30b-4090").confidence == "anecdotal"


@pytest.mark.req("R059")
def test_30b_trains_on_80_gb() -> None:
    assert row_named("alpaca-30b-a100").forecast().fits is True


@pytest.mark.req("R060")
def test_bloom_560m_took_4_hours() -> None:
    quoted = row_named("bloom-560m-squad-v100")
    hours = quoted.forecast().train_hours
    assert quoted.confidence == "measured" and hours is not None
    assert 0.6 < hours.expected / quoted.reported["hours"] < 1.4


@pytest.mark.req("R061")
def test_176b_is_called_very_expensive() -> None:
    found = asked(params=176e9, gpu="A100-80")
    assert any(line.startswith("very expensive: 176B parameters are 352 GB") for line in found.warnings)
    assert not any("very expensive" in line for line in asked(params=7e9, gpu="A100-80").warnings)


@pytest.mark.req("R051", "R189")
def test_full_tuning_with_its_state_off_the_device_takes_hours_and_a_multiple_of_lora() -> None:
    # 7B with fp32 state takes 112 GB: on one A100 only with the state in the host's memory.
    whole = asked(
        base="llama-2-7b",
        method="full",
        gpu="A100-80",
        parallelism="zero3 offload",
        optimizer_dtype="fp32",
        **FIVE_THOUSAND,
    )
    adapted = asked(base="llama-2-7b", method="lora", gpu="A100-80", **FIVE_THOUSAND)
    assert whole.train_hours is not None and adapted.train_hours is not None
    assert whole.train_hours.low < 8 and whole.train_hours.high > 4
    assert 3 <= whole.train_hours.expected / adapted.train_hours.expected <= 10


@pytest.mark.req("R205")
def test_the_optimiser_decides_whether_40_gb_are_enough() -> None:
    small = asked(base="llama-2-7b", method="full", gpu="A100-40", micro_batch_size=1)
    assert small.fit_state == "tight" and 24 < small.peak_memory_gb.expected < 40
    assert any("8-bit AdamW" in line for line in small.assumptions)
    plain = asked(base="llama-2-7b", method="full", gpu="A100-80", micro_batch_size=1, optimizer_dtype="bf16")
    assert 40 < plain.peak_memory_gb.expected < 80
    assert asked(base="llama-2-7b", method="full", gpu="A100-40", optimizer_dtype="fp32").fit_state == "no"


@pytest.mark.req("R206")
def test_13b_fits_24_gb_with_adapters_and_not_80_gb_in_full() -> None:
    assert asked(base="llama-13b", method="qlora", gpu="RTX 4090", max_seq_len=512).fits is True
    whole = asked(base="llama-13b", method="full", gpu="A100-80")
    assert whole.fits is False and any("would fit" in line for line in whole.warnings)
    assert asked(base="llama-13b", method="full", gpu="A100-80", optimizer_dtype="fp32").fit_state == "no"


@pytest.mark.req("R207")
def test_16_gb_get_two_rows_accumulated_eight_times() -> None:
    setup, assumptions = requested_setup(plan_request(base="llama-2-7b", method="qlora", gpu="T4", max_seq_len=512))
    assert (setup.micro_batch_size, setup.grad_accum_steps) == (2, 8)
    assert any("micro-batch size not given: 2" in line for line in assumptions)


@pytest.mark.req("R208")
@pytest.mark.parametrize("gpu", ["A100-80", "H200", "B300"])
def test_7b_gets_at_most_four_rows_before_anything_is_measured(gpu: str) -> None:
    setup, _ = requested_setup(plan_request(base="llama-2-7b", method="qlora", gpu=gpu, max_seq_len=512))
    assert setup.micro_batch_size == 4
    small, _ = requested_setup(plan_request(params=1e9, method="lora", gpu=gpu, max_seq_len=512))
    assert small.micro_batch_size == 16


def test_no_such_row_is_told() -> None:
    with pytest.raises(KeyError, match="alpaca-7b-a100"):
        row_named("nothing")


def row(**cells: str) -> dict[str, str]:
    usual = {"model": "Llama 3.2 3B", "params_b": "3.2", "gpu": "L40S", "n_gpus": "1", "seq_len": "768"}
    return {**usual, "micro_batch": "4", "packing": "n", "framework": "HF PEFT", **cells}


def test_soft_prompts_are_computed_and_prefixes_are_not() -> None:
    stated = {"method": "prompt", "examples": "20000", "tokens_total": "4200000"}
    prompt, _ = setup_of(row(**stated, notes="prompt_tuning--x; trainable 614400"))
    prefix, _ = setup_of(row(**stated, notes="prefixtuning--x; trainable 11468800"))
    assert (prompt.virtual_tokens, prefix.virtual_tokens) == (200, 0)
    assert prompt.micro_tokens == 4 * (768 + 200)
    assert computed_tokens(prompt) == pytest.approx(computed_tokens(prefix) + 200)


def test_encoders_with_decoders_run_eager_unless_said_otherwise() -> None:
    assert setup_of(row(model="FLAN-T5-XL", params_b="2.85", method="full"))[0].attention == "eager"
    said = row(model="FLAN-T5-XL", params_b="2.85", method="full", **{"flash/kernel_notes": "flash2"})
    assert setup_of(said)[0].attention == "flash"


def test_a_kind_that_the_fit_has_not_seen_is_slower_than_its_coefficients_say() -> None:
    model = time_model()
    new, _ = setup_of(row(method="lora", framework="nobody's trainer"))
    known, _ = setup_of(row(method="lora"))
    assert centre_of(known, model) == 0.0 < centre_of(new, model) < 0.5


def test_no_device_reaches_more_than_its_peak() -> None:
    assert shares(5.0) * time_model().coefficients["share"] < 1.0


def test_tight_lies_between_yes_and_no() -> None:
    memory = peak_memory(setup_of(row(method="lora"))[0])
    assert memory.state(2 * memory.fit_gb) == "yes"
    assert memory.state(memory.expected_gb) == "tight" and not memory.fits(memory.expected_gb)
    assert memory.state(0.9 * memory.low_gb) == "no"
