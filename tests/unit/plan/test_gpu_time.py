"""Speed and hours of a setup on named devices: directions, amounts of data, reported runs, and calibration."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math
import time
from typing import Any

import pytest

from foretune.errors import DataError
from foretune.models.shapes import model_shape
from foretune.plan.gpu_step import FORMULAS
from foretune.plan.gpu_time import GpuTime, calibrated, run_of, throughput
from foretune.plan.gpu_work import computed_tokens, work_of
from foretune.plan.setup import Parallel, Setup
from foretune.plan.time_coefficients import FAMILIES, time_family, time_model
from foretune.plan.workload import with_workload

from .conftest import LLAMA_7B, LLAMA_13B

SHAPE_7B, SHAPE_13B = model_shape(LLAMA_7B), model_shape(LLAMA_13B)


def setup(**changes: Any) -> Setup:
    """LoRA on a 7B model: full rows of 2,048 tokens, one A100."""
    usual: dict[str, Any] = {
        "shape": SHAPE_7B,
        "model": "llama-7b",
        "method": "lora",
        "device": "A100-80",
        "device_memory_gb": 80.0,
        "max_seq_len": 2048,
        "micro_batch_size": 4,
        "global_batch_size": 4,
        "packing": True,
        "checkpointing": "none",
        "framework": "hf",
        "target_modules": ("q_proj", "v_proj"),
    }
    return Setup(**{**usual, **changes})


def speed(**changes: Any) -> float:
    return throughput(setup(**changes)).tokens_per_second.expected


def sharded(devices: int) -> dict[str, Any]:
    return {
        "num_gpus": devices,
        "parallel": Parallel(data=devices, sharding="zero3", engine="fsdp"),
        "global_batch_size": 4 * devices,
    }


def test_the_answer_is_whole() -> None:
    found = throughput(setup(num_examples=1_000, epochs=3.0, mean_tokens=200.0))
    assert isinstance(found, GpuTime)
    assert found.train_hours is not None
    for estimate in (found.tokens_per_second, found.train_hours):
        assert 0 < estimate.low < estimate.expected < estimate.high
    assert 0.05 < found.mfu < 0.9
    assert set(found.components) <= set(found.formulas) == set(FORMULAS)
    assert any("80 %" in line for line in found.assumptions)


def test_components_add_up_to_the_step() -> None:
    job = setup(grad_accum_steps=8, global_batch_size=32)
    found = throughput(job)
    tokens = 32 * 2048
    assert sum(found.components.values()) == pytest.approx(tokens / found.tokens_per_second.expected)


@pytest.mark.parametrize(
    ("faster", "slower"),
    [
        ({"device": "H100"}, {"device": "A100-80"}),
        ({"device": "A100-80"}, {"device": "A10G", "device_memory_gb": 24.0}),
        ({"checkpointing": "none"}, {"checkpointing": "full"}),
        ({"method": "lora"}, {"method": "full"}),
        ({"method": "lora"}, {"method": "qlora", "weights": "nf4"}),
        ({"max_seq_len": 2048}, {"max_seq_len": 512, "micro_batch_size": 1, "global_batch_size": 1}),
        ({"attention": "flash"}, {"attention": "eager"}),
        ({"is_compiled": True}, {"is_compiled": False}),
        ({}, {"shape": SHAPE_13B}),
        ({}, {"max_seq_len": 16384, "micro_batch_size": 1, "global_batch_size": 1}),
    ],
)
@pytest.mark.req("R064")
def test_directions(faster: dict[str, Any], slower: dict[str, Any]) -> None:
    assert speed(**faster) > speed(**slower)


def test_unpacking_weighs_most_in_short_batches() -> None:
    short = {"max_seq_len": 256, "micro_batch_size": 1, "global_batch_size": 1}
    long = {"max_seq_len": 8192, "micro_batch_size": 1, "global_batch_size": 1}
    loss = [speed(**size) / speed(**size, method="qlora", weights="nf4") for size in (short, long)]
    assert loss[0] > 1.1 > loss[1]


@pytest.mark.req("R052")
def test_time_grows_with_the_model() -> None:
    ratio = speed() / speed(shape=SHAPE_13B)
    assert ratio == pytest.approx(13 / 7, rel=0.1)


def test_more_devices_share_the_work() -> None:
    one, eight = speed(), speed(**sharded(8))
    assert 4 * one < eight < 8 * one
    cards = {"device": "RTX 4090", "device_memory_gb": 24.0}
    assert speed(**cards, **sharded(4)) < 4 * speed(**cards)  # no fast link


def test_a_pipeline_waits() -> None:
    parallel = Parallel(data=1, tensor=1, pipeline=8, sharding="zero1", engine="megatron")
    few = setup(num_gpus=8, parallel=parallel, global_batch_size=8, micro_batch_size=1)
    many = few.changed(global_batch_size=256)
    assert throughput(few).tokens_per_second.expected < 0.9 * throughput(many).tokens_per_second.expected


def test_fp8_helps_where_the_device_has_it() -> None:
    assert speed(device="H100", compute="fp8") > 1.2 * speed(device="H100")
    assert speed(device="A100-80", compute="fp8") == pytest.approx(speed())


def test_padding_costs_and_is_not_counted() -> None:
    padded = setup(packing=False, mean_tokens=300.0)
    assert computed_tokens(padded) > 300
    assert work_of(padded).reported_tokens == 4 * 300
    assert computed_tokens(setup()) == 2048
    filled = setup(max_seq_len=300)
    assert throughput(padded).tokens_per_second.expected < throughput(filled).tokens_per_second.expected


@pytest.mark.parametrize(
    ("amount", "micro_batches", "tokens"),
    [
        ({"steps": 100, "grad_accum_steps": 8, "global_batch_size": 32}, 800, 100 * 32 * 2048),
        ({"steps": 1000, "steps_are_micro": True}, 1000, 1000 * 4 * 2048),
        ({"tokens_total": 4 * 2048 * 50.0}, 50, 4 * 2048 * 50),
        ({"num_examples": 1024, "epochs": 2.0, "mean_tokens": 256.0}, 64, 1024 * 2 * 256),
    ],
)
def test_amounts_of_data(amount: dict[str, Any], micro_batches: float, tokens: float) -> None:
    job = setup(**amount)
    run = run_of(job, work_of(job))
    assert run is not None
    assert run.micro_batches == pytest.approx(micro_batches)
    assert run.tokens == pytest.approx(tokens)


def test_without_data_there_are_no_hours() -> None:
    assert throughput(setup()).train_hours is None


def test_device_hours_are_those_of_one_device() -> None:
    job = setup(method="full", objective="pretrain", tokens_total=1e12, counts_device_hours=True, framework="")
    found = throughput(job)
    assert found.train_hours is not None
    seconds = found.train_hours.expected * 3600
    assert found.tokens_per_second.expected * seconds == pytest.approx(1e12, rel=1e-3)


@pytest.mark.parametrize(
    ("changes", "reported"),
    [
        # tloen/alpaca-lora: LLaMA-7B, int8, RTX 4090, 51,760 rows padded to 256 tokens, 3 epochs in 5.5 h.
        (
            {
                "weights": "int8",
                "device": "RTX 4090",
                "device_memory_gb": 24.0,
                "max_seq_len": 256,
                "global_batch_size": 128,
                "checkpointing": "full",
                "attention": "eager",
                "framework": "alpaca-lora",
            },
            51_760 * 3 * 256 / (5.5 * 3600),
        ),
        # LLaMA paper (arXiv 2302.13971, table 15): 7B, 1e12 tokens in 82,432 A100 hours.
        (
            {"method": "full", "objective": "pretrain", "counts_device_hours": True, "framework": ""},
            1e12 / (82_432 * 3600),
        ),
    ],
)
def test_reported_runs(changes: dict[str, Any], reported: float) -> None:
    found = throughput(setup(**changes)).tokens_per_second
    assert found.expected == pytest.approx(reported, rel=0.4)


@pytest.mark.req("R050")
def test_lora_of_7b_on_one_a100() -> None:
    found = throughput(setup(num_examples=5_000, epochs=3.0, mean_tokens=768.0)).train_hours
    assert found is not None
    assert found.low <= 1.0 and found.high >= 0.5


def test_a_measurement_of_the_same_setup_is_believed() -> None:
    job = setup()
    found = calibrated(job, [(job, 5_000.0)])
    assert found.tokens_per_second.expected == pytest.approx(5_000, rel=0.03)
    plain = throughput(job).tokens_per_second
    narrow = found.tokens_per_second
    assert narrow.high / narrow.low < plain.high / plain.low
    assert found.regime == "calibrated"


def test_nearer_measurements_count_more() -> None:
    job = setup(max_seq_len=4096, micro_batch_size=1, global_batch_size=1)
    near = job.changed(max_seq_len=3584)
    far = job.changed(max_seq_len=128)
    half = throughput(near).tokens_per_second.expected / 2
    same = throughput(far).tokens_per_second.expected
    found = calibrated(job, [(near, half), (far, same)])
    share = found.tokens_per_second.expected / throughput(job).tokens_per_second.expected
    assert share < 0.65


def test_calibration_without_measurements_is_the_plain_answer() -> None:
    assert calibrated(setup(), []) == throughput(setup())


def test_a_speed_of_zero_is_refused() -> None:
    with pytest.raises(DataError, match="not above 0"):
        calibrated(setup(), [(setup(), 0.0)])


def test_an_unknown_framework_gets_the_mean_and_says_so() -> None:
    found = throughput(setup(framework="brand-new-trainer"))
    assert any("framework not known" in line for line in found.assumptions)


def test_families_are_found_by_their_words() -> None:
    assert time_family("LitGPT (10/2023)").name == "litgpt"
    assert time_family("HF Trainer + DeepSpeed").name == "hf"
    assert time_family("Megatron-Bridge 26.04 NeMo Container").is_fused
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)


def test_the_numbers_are_sane() -> None:
    model = time_model()
    assert 0.3 < model.coefficients["share"] < 1.0
    assert 1.0 < model.coefficients["fp8_gain"] < 3.0
    assert all(abs(value) < 2.0 for value in model.factors.values())
    for low, high in model.intervals.values():
        assert 0.2 < low < 1.0 < high < 5.0


def test_devices_of_every_kind_get_an_answer() -> None:
    for device in ("T4", "MI300X", "TPU v5p", "Gaudi 2", "Apple M2 Max", "CPU laptop", "B200", "RTX 5090"):
        found = throughput(setup(device=device, device_memory_gb=0.0)).tokens_per_second
        assert math.isfinite(found.expected) and found.expected > 0


def test_a_thousand_rows_take_seconds() -> None:
    start = time.process_time()
    for number in range(1_000):
        throughput(setup(micro_batch_size=1 + number % 16))
    assert time.process_time() - start < 2.0


@pytest.mark.parametrize(
    ("cells", "field", "value"),
    [
        ({"notes": "time = 1000 micro-batch iterations"}, "steps_are_micro", True),
        ({"notes": "total GPU-hours"}, "counts_device_hours", True),
        ({"notes": "includes evals"}, "includes_evaluation", True),
        ({"notes": "max includes eval batches"}, "includes_evaluation", False),
    ],
)
def test_words_of_a_row(cells: dict[str, str], field: str, value: bool) -> None:
    changed, _ = with_workload(setup(), cells)
    assert getattr(changed, field) is value


def test_a_known_data_set_has_a_usual_length() -> None:
    job = setup(packing=False, num_examples=52_002)
    changed, assumptions = with_workload(job, {})
    assert 100 < changed.mean_tokens < 300
    assert changed.epochs == 3.0
    assert len(assumptions) == 2


def test_told_tokens_give_the_mean() -> None:
    job = setup(packing=False, num_examples=1_000, epochs=2.0, tokens_total=400_000.0)
    assert with_workload(job, {})[0].mean_tokens == pytest.approx(200)
    stepped = job.changed(epochs=0.0, steps=500, micro_batch_size=4, global_batch_size=4)
    assert with_workload(stepped, {})[0].mean_tokens == pytest.approx(200)
