"""Peak memory of training jobs on accelerators: arithmetic, known measurements, bounds, and calibration."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import fields
from importlib.resources import files

import pytest

from foretune.models.shapes import model_shape
from foretune.plan.gpu_memory import FACTORS, GpuMemory, calibrated, peak_memory
from foretune.plan.gpu_terms import terms_of
from foretune.plan.rows import setup_of
from foretune.plan.setup import Parallel, Setup

from .conftest import LLAMA_7B

SHAPE = model_shape(LLAMA_7B)
LORA = Setup(SHAPE, packing=True, device_memory_gb=24.0)
QLORA = LORA.changed(method="qlora", weights="nf4")
FULL = LORA.changed(method="full", state_bytes=4.0)

# Peaks that projects published, as a person would describe the run: cells, GB.
PUBLISHED = {
    "LitGPT Llama-2 7B": (
        "llama-2-7b,lora,bf16-true,A10G,24,1,,512,2,,8,n,n,SDPA,LitGPT,lora_r=32 q;v",
        19.77,
    ),
    "PEFT Llama 3.2 3B": (
        "Llama 3.2 3B,lora,bf16 (adapter fp32),L40S,48,1,,768,4,1,4,n,n,SDPA,HF PEFT,"
        "rank=32 targets ['q_proj'; 'v_proj']",
        22.29,
    ),
    "Qwen-7B": ("Qwen-7B,lora,bf16,A100-80,80,1,,2048,1,8,8,y,y,flash2,HF Trainer/finetune.py,", 23.8),
    "Qwen-14B GPTQ": (
        "Qwen-14B,qlora,bf16 + int4 GPTQ base,A100-80,80,1,,1024,1,8,8,y,y,flash2,HF Trainer/finetune.py,",
        18.9,
    ),
    "FSDP Llama-2 7B": (
        "Llama-2 7B,lora,bf16,RTX3090,24,2,FSDP full_shard,2048,4,,,y,y,SDPA/flash,fsdp_qlora,",
        17.33,
    ),
    "Megatron 195B": (
        "GPT 195B (BLOOM prequel),pretrain,bf16,A100-80,80,352,DP4 TP8 PP11 ZeRO-1,2048,2,,2048,y,y,"
        "Megatron fused; no flash,Megatron-DeepSpeed,",
        41.0,
    ),
}
COLUMNS = (
    "model,method,precision/quantization,gpu,gpu_mem_gb,n_gpus,parallelism,seq_len,micro_batch,grad_accum,global_batch,"
    "packing,activation_checkpointing,flash/kernel_notes,framework,notes"
).split(",")


def described(text: str) -> Setup:
    cells = text.split(",")
    cells[-1] = cells[-1].replace(";", ",")
    return setup_of(dict(zip(COLUMNS, cells, strict=True)))[0]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_peaks(name: str) -> None:
    text, measured = PUBLISHED[name]
    memory = peak_memory(described(text))
    assert memory.expected_gb == pytest.approx(measured, rel=0.15)
    assert memory.low_gb < measured < memory.high_gb


@pytest.mark.req("R429")
def test_components_add_up_and_are_explained() -> None:
    for setup in (LORA, QLORA, FULL, FULL.changed(num_gpus=8, parallel=Parallel(data=8, sharding="zero3"))):
        memory = peak_memory(setup)
        assert sum(memory.components.values()) / 1e9 == pytest.approx(memory.expected_gb)
        assert all(value >= 0 for value in memory.components.values())
        large = {name for name, value in memory.components.items() if value > 1e6}
        assert large == set(memory.formulas)
        assert memory.low_gb < memory.expected_gb < memory.high_gb <= memory.fit_gb


def test_methods_in_order() -> None:
    qlora, lora, full = (peak_memory(setup).expected_gb for setup in (QLORA, LORA, FULL))
    assert qlora < lora < full


@pytest.mark.req("R190")
def test_adapters_take_a_third_to_a_fifth_of_full_training() -> None:
    full, lora = (peak_memory(setup.changed(max_seq_len=512)).expected_gb for setup in (FULL, LORA))
    assert 3 * 0.8 <= full / lora <= 5 * 1.2


@pytest.mark.req("R185")
def test_full_training_of_7b_with_a_master_copy_takes_80_gb_or_more() -> None:
    mixed = FULL.changed(state_bytes=12.0)
    assert peak_memory(mixed).expected_gb >= 80
    assert not peak_memory(mixed).fits(80)


@pytest.mark.req("R204")
def test_eight_bit_adapters_of_7b_fit_16_gb() -> None:
    job = {"model": "LLaMA-7B", "method": "lora", "precision/quantization": "int8", "gpu": "T4"}
    sizes = {"seq_len": "512", "micro_batch": "1", "packing": "y", "activation_checkpointing": "y"}
    setup, _ = setup_of(job | sizes)
    assert peak_memory(setup).fits(setup.device_memory_gb)


@pytest.mark.req("R062")
def test_weights_of_bloom_176b_in_8_bits() -> None:
    setup, _ = setup_of({"model": "bloom", "params_b": "176.2", "method": "weights", "precision/quantization": "int8"})
    assert peak_memory(setup).components["weights"] / 1e9 == pytest.approx(180, rel=0.05)


@pytest.mark.parametrize("change", [{"micro_batch_size": 4}, {"max_seq_len": 8192}, {"checkpointing": "none"}])
def test_larger_steps_need_more(change: dict[str, object]) -> None:
    for setup in (LORA, QLORA):
        assert peak_memory(setup.changed(**change)).expected_gb > peak_memory(setup).expected_gb


def test_full_training_of_short_rows_peaks_in_the_optimiser_step() -> None:
    peaks = [peak_memory(FULL.changed(max_seq_len=tokens)).expected_gb for tokens in (256, 2048, 65536)]
    assert peaks[0] == peaks[1] < peaks[2]


@pytest.mark.parametrize(
    "change", [{"loss": "fused"}, {"optimiser": "adamw8bit", "state_bytes": 2.03}, {"is_fused_backward": True}]
)
def test_what_saves_memory(change: dict[str, object]) -> None:
    setup = FULL.changed(micro_batch_size=32, grad_accum_steps=4)
    assert peak_memory(setup.changed(**change)).expected_gb < peak_memory(setup).expected_gb


def test_eager_attention_grows_with_the_square_of_the_row() -> None:
    eager = LORA.changed(attention="eager", checkpointing="none")
    short, long = (terms_of(eager.changed(max_seq_len=tokens)).scores for tokens in (1024, 4096))
    assert long == pytest.approx(16 * short)
    assert terms_of(LORA).scores == 0


def sharded(sharding: str, offload: str = "none", devices: int = 8) -> GpuMemory:
    parallel = Parallel(data=devices, sharding=sharding, offload=offload)  # type: ignore[arg-type]
    return peak_memory(FULL.changed(num_gpus=devices, parallel=parallel))


def test_each_stage_of_sharding_saves_more() -> None:
    peaks = [sharded(stage).expected_gb for stage in ("none", "zero1", "zero2", "zero3")]
    assert peaks == sorted(peaks, reverse=True)
    assert sharded("zero3", "all").expected_gb < sharded("zero3").expected_gb
    assert sharded("zero3", "all").cpu_ram_gb > sharded("zero3").cpu_ram_gb
    assert sharded("zero3", devices=16).expected_gb < sharded("zero3").expected_gb


def test_tensor_and_pipeline_parts_divide_weights() -> None:
    parallel = Parallel(data=1, tensor=4, pipeline=2, sharding="zero1", engine="megatron")
    part = terms_of(FULL.changed(num_gpus=8, parallel=parallel))
    assert part.weights == pytest.approx(terms_of(FULL).weights / 8)


def test_an_unstated_layout_is_sharded_where_copies_do_not_fit() -> None:
    job = {"model": "Llama-2 70B", "method": "lora", "gpu": "H100", "n_gpus": "8", "framework": "NeMo"}
    setup, _ = setup_of(job | {"seq_len": "4096", "micro_batch": "1"})
    memory = peak_memory(setup)
    assert memory.expected_gb < 80
    assert any("sharded over 8" in text for text in memory.assumptions)


def test_a_paged_optimiser_gives_way() -> None:
    paged = FULL.changed(optimiser="adamw8bit", state_bytes=2.03, is_fused_backward=True, is_paged=True)
    assert peak_memory(paged).expected_gb < 24 < peak_memory(paged.changed(is_paged=False)).expected_gb


def test_moving_a_batch_to_the_accumulator_saves_activations_only() -> None:
    wide, narrow = LORA.changed(micro_batch_size=8), LORA.changed(grad_accum_steps=8)
    assert peak_memory(narrow).expected_gb < peak_memory(wide).expected_gb
    assert peak_memory(narrow).components["weights"] == peak_memory(wide).components["weights"]


def test_preference_training_holds_a_reference_and_two_answers() -> None:
    pairs = FULL.changed(objective="dpo")
    assert terms_of(pairs).dense - terms_of(FULL).dense == pytest.approx(2 * SHAPE.parameters)
    assert terms_of(pairs).logits == 2 * terms_of(FULL).logits


def test_calibration_reproduces_a_line() -> None:
    truth = {tokens: 0.9 * peak_memory(LORA.changed(max_seq_len=tokens)).expected_gb for tokens in (512, 4096, 16384)}
    probes = [(LORA.changed(max_seq_len=tokens), truth[tokens]) for tokens in (512, 16384)]
    found = calibrated(LORA.changed(max_seq_len=4096), probes)
    assert found.expected_gb == pytest.approx(truth[4096], rel=0.03)
    assert sum(found.components.values()) / 1e9 == pytest.approx(found.expected_gb)


def test_calibration_narrows_the_interval_and_needs_no_probe() -> None:
    assert calibrated(LORA, []) == peak_memory(LORA)
    probes = [(LORA.changed(max_seq_len=tokens), 20.0) for tokens in (1024, 4096)]
    before, after = peak_memory(LORA.changed(packing=False)), calibrated(LORA.changed(packing=False), probes)
    assert math.log(after.high_gb / after.low_gb) < math.log(before.high_gb / before.low_gb)


def test_a_probe_of_the_same_batch_is_believed() -> None:
    off = 1.4 * peak_memory(LORA).expected_gb
    assert calibrated(LORA, [(LORA, off), (LORA.changed(max_seq_len=1024), off - 2)]).expected_gb == pytest.approx(
        off, rel=0.08
    )


def test_stored_factors_are_complete_and_sane() -> None:
    table = json.loads(files("foretune.plan").joinpath("coefficients.json").read_text(encoding="utf-8"))["memory"]
    assert set(table["factors"]) == set(FACTORS)
    for name, value in table["factors"].items():
        assert 0.4 < value / FACTORS[name] < 2.5, name
    for bounds in table["intervals"].values():
        assert bounds["low"] < 0 < bounds["high"] <= bounds["fit"]
    assert table["left_out"]["median_error"] <= 0.10
    assert table["left_out"]["within_20_percent"] >= 0.80


def test_every_term_is_used() -> None:
    terms = terms_of(QLORA.changed(checkpointing="none", attention="eager", eval_batch_size=4))
    assert all(getattr(terms, item.name) >= 0 for item in fields(terms))


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, foretune.plan.gpu_memory; "
        "print([m for m in ('torch', 'transformers', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
