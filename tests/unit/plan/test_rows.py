"""Rows of reported runs as setups: what cells and notes say, what is assumed, and what is refused."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from pathlib import Path

import pytest

from foretune.errors import ConfigError, DataError
from foretune.plan.frameworks import framework_of
from foretune.plan.rows import read_rows, setup_of
from foretune.plan.setup import Setup

ROW = {
    "model": "Llama-2 7B",
    "method": "lora",
    "precision/quantization": "bf16",
    "gpu": "A100-80",
    "n_gpus": "1",
    "seq_len": "2048",
    "micro_batch": "2",
    "packing": "y",
    "activation_checkpointing": "y",
}


def setup(**cells: str) -> Setup:
    names = {"precision": "precision/quantization", "kernels": "flash/kernel_notes"}
    return setup_of(ROW | {names.get(name, name): value for name, value in cells.items()})[0]


def test_stated_cells_need_no_assumption() -> None:
    found, assumptions = setup_of(ROW | {"notes": "lora_r=32 q,v"})
    assert assumptions == ()
    assert (found.num_gpus, found.micro_batch_size, found.max_seq_len, found.rank) == (1, 2, 2048, 32)
    assert found.target_modules == ("q_proj", "v_proj")
    assert found.device_memory_gb == 80


def test_empty_cells_are_filled_and_said() -> None:
    found, assumptions = setup_of({"model": "Llama-2 7B"})
    assert {"method", "seq_len", "micro_batch", "checkpointing", "precision"} <= found.unknown
    assert any("2048 tokens" in text for text in assumptions)
    assert found.checkpointing == "full"


def test_measured_columns_are_never_read() -> None:
    measured = {"time_h": "3", "tokens_per_s_total": "900", "peak_mem_gb": "17", "cost_usd": "4"}
    outcomes = {"notes": "reserved 99th pct 18.49 GB avg 13.46 GB; MFU 0.4"}
    assert setup(**measured, **outcomes) == setup()


@pytest.mark.parametrize(
    ("text", "weights", "compute", "state_bytes"),
    [
        ("bf16-true", "bf16", "bf16", 4.0),
        ("bf16 PURE", "bf16", "bf16", 4.0),
        ("amp_bf16 DEFAULT", "fp32", "bf16", 8.0),
        ("bf16 mixed", "fp32", "bf16", 8.0),
        ("fp16 AMP", "fp32", "fp16", 8.0),
        ("fp32", "fp32", "fp32", 8.0),
    ],
)
def test_formats_of_a_fully_trained_model(text: str, weights: str, compute: str, state_bytes: float) -> None:
    found = setup(method="full", precision=text)
    assert (found.weights, found.compute, found.state_bytes) == (weights, compute, state_bytes)


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("bf16+nf4", "nf4"),
        ("bf16-true + bnb.nf4-dq", "nf4-dq"),
        ("nf4 double quant", "nf4-dq"),
        ("int4 bnb", "nf4"),
        ("int4 gptq", "int4"),
        ("bf16 + int4 GPTQ base", "int4"),
        ("int8 gptq", "int8"),
        ("int8 (LLM.int8)+fp16", "int8"),
        ("", "nf4"),
    ],
)
def test_quantised_bases(text: str, weights: str) -> None:
    assert setup(method="qlora", precision=text).weights == weights


def test_quantised_weights_are_not_trained() -> None:
    found = setup(method="dpo", precision="bf16+nf4")
    assert (found.method, found.objective) == ("qlora", "dpo")


@pytest.mark.parametrize(
    ("text", "num_gpus", "expected"),
    [
        ("FSDP full_shard", "2", (2, 1, 1, "zero3", "none")),
        ("FSDP2", "8", (8, 1, 1, "zero3", "none")),
        ("FSDP full_shard + CPU offload", "2", (2, 1, 1, "zero3", "all")),
        ("FSDP SHARD_GRAD_OP", "8", (8, 1, 1, "zero2", "none")),
        ("DDP(FSDP no-shard)", "2", (2, 1, 1, "none", "none")),
        ("DeepSpeed ZeRO-2", "4", (4, 1, 1, "zero2", "none")),
        ("DeepSpeed ZeRO-3", "4", (4, 1, 1, "zero3", "none")),
        ("DP8 TP8 PP6 ZeRO-1", "384", (8, 8, 6, "zero1", "none")),
        ("TP4 PP16 CP1 VP8 EPn/a FSDP0", "512", (8, 4, 16, "zero1", "none")),
        ("tp2", "4", (2, 2, 1, "zero1", "none")),
    ],
)
def test_parallelism(text: str, num_gpus: str, expected: tuple[int, int, int, str, str]) -> None:
    found = setup(parallelism=text, n_gpus=num_gpus).parallel
    assert (found.data, found.tensor, found.pipeline, found.sharding, found.offload) == expected


def test_shard_groups_stand_beside_degrees() -> None:
    assert setup(parallelism="TP1 PP1 CP1 EP8 FSDP8", n_gpus="64").parallel.shards == 8
    assert setup(parallelism="FSDP2", n_gpus="8").parallel.shards == 8


@pytest.mark.parametrize(
    ("text", "mode", "layers"),
    [
        ("y", "full", 0),
        ("full", "full", 0),
        ("n", "none", 0),
        ("none", "none", 0),
        ("false", "none", 0),
        ("selective", "selective", 0),
        ("50 layers", "full", 50),
    ],
)
def test_checkpointing(text: str, mode: str, layers: int) -> None:
    found = setup(activation_checkpointing=text)
    assert (found.checkpointing, found.checkpointed_layers) == (mode, layers)


def test_kernels_and_optimisers_in_free_text() -> None:
    assert setup(kernels="Liger").loss == "fused"
    assert setup(notes="chunked CE").loss == "chunked"
    assert setup(kernels="Megatron fused, no flash").attention == "eager"
    found = setup(method="full", notes="8-bit paged AdamW")
    assert (found.optimiser, found.is_paged) == ("adamw8bit", True)
    assert setup(method="full", notes="paged optimizer in backward, 8-bit").is_fused_backward


def test_adapters_in_free_text() -> None:
    found = setup(notes="lora_r=16 q,v+k+o+mlp+head")
    assert (found.rank, len(found.target_modules), found.adapts_head) == (16, 7, True)
    assert setup(notes="targets ['up_proj', 'down_proj']").target_modules == ("up_proj", "down_proj")
    assert setup(notes="trains embedding and lm_head").trains_embeddings


def test_rank_and_targets_follow_from_the_number_of_trained_parameters() -> None:
    found = setup(notes="trainable 4,194,304")
    assert (found.rank, found.target_modules) == (8, ("q_proj", "v_proj"))


def test_an_optimiser_that_fits_is_assumed() -> None:
    found, assumptions = setup_of(ROW | {"method": "full", "gpu": "A6000"})
    assert found.optimiser == "adamw8bit"
    assert any("8-bit AdamW" in text for text in assumptions)
    assert setup(method="full", gpu="A6000", notes="AdamW").optimiser == "adamw"


def test_batch_sizes_follow_from_each_other() -> None:
    found = setup(micro_batch="", global_batch="64", grad_accum="4", n_gpus="4", parallelism="DDP")
    assert found.micro_batch_size == 4
    assert setup(global_batch="128", n_gpus="1").grad_accum_steps == 64


def test_units_and_thousands() -> None:
    assert setup(examples="1,000").num_examples == 1000
    assert setup(examples="50k").num_examples == 50_000
    assert setup(gpu_mem_gb="80 GB").device_memory_gb == 80
    assert setup(gpu_mem_gb="81559 MiB").device_memory_gb == pytest.approx(85.52, abs=0.01)
    assert setup(seq_len="512 src + 129 tgt (padded)").max_seq_len == 641


@pytest.mark.parametrize(
    ("column", "value"),
    [("seq_len", "long"), ("micro_batch", "-1"), ("n_gpus", "0"), ("n_gpus", "0.5"), ("examples", "1e30")],
)
def test_numbers_that_cannot_be_are_named(column: str, value: str) -> None:
    with pytest.raises(DataError, match=column):
        setup_of(ROW | {column: value})


def test_a_row_without_a_model_is_refused() -> None:
    with pytest.raises(DataError, match="model"):
        setup_of({"method": "lora"})
    with pytest.raises(ConfigError):
        setup_of({"model": "no-such-model-anywhere"})


def test_a_number_of_parameters_stands_in_for_an_unknown_model() -> None:
    found, assumptions = setup_of({"model": "no-such-model-anywhere", "params_b": "7"})
    assert found.shape.parameters == pytest.approx(7e9, rel=0.06)
    assert assumptions


def test_frameworks_by_their_most_specific_name() -> None:
    assert framework_of("LitGPT (10/2023)").name == "LitGPT"
    assert framework_of("Megatron-DeepSpeed").name == "Megatron-DeepSpeed"
    assert framework_of("something new").name == "any"
    assert framework_of("").loss == "full"


def test_tables_are_read_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("model,method\nLlama-2 7B,lora\nLlama-2 7B,full\n", encoding="utf-8")
    assert [row["#line"] for row in read_rows(path)] == ["2", "3"]
    path.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(DataError, match="model"):
        read_rows(path)
    with pytest.raises(DataError, match=r"none\.csv"):
        read_rows(tmp_path / "none.csv")
