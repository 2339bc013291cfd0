"""FLOPs and bytes follow attention, windows, experts, checkpointing and quantisation; bare sizes become Llamas."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretune.errors import ConfigError
from foretune.models.catalogue import find_model
from foretune.models.shapes import (
    Shape,
    attended_tokens,
    attention_flops_per_token,
    forward_flops_per_token,
    lora_parameters,
    model_shape,
    targeted_layers,
    training_flops_per_token,
    typical_shape,
    weight_bytes,
)


def shape_of(name: str) -> Shape:
    model = find_model(name)
    assert model is not None
    return model.shape


@pytest.mark.parametrize(
    ("row", "window", "mean"), [(1, None, 1.0), (4, None, 2.5), (4, 2, 1.75), (4, 9, 2.5), (0, 2, 0.0)]
)
def test_tokens_that_a_causal_kernel_attends_to(row: int, window: int | None, mean: float) -> None:
    assert attended_tokens(row, kernel="causal", window_tokens=window) == mean
    assert attended_tokens(row, kernel="dense", window_tokens=window) == row


def test_causal_kernels_halve_attention_and_leave_the_products() -> None:
    shape = shape_of("Llama 2 7B")
    dense = forward_flops_per_token(shape, 4096) - forward_flops_per_token(shape, 0)
    causal = forward_flops_per_token(shape, 4096, kernel="causal") - forward_flops_per_token(shape, 0)
    assert causal / dense == pytest.approx(0.5, rel=1e-3)


def test_windows_bound_attention_in_the_layers_that_have_them() -> None:
    mistral, gemma = shape_of("Mistral-7B-v0.1"), shape_of("gemma-2-9b")
    assert (mistral.window_tokens, mistral.num_window_layers, mistral.num_attention_layers) == (4096, 32, 32)
    assert (gemma.window_tokens, gemma.num_window_layers, gemma.num_attention_layers) == (4096, 21, 42)
    assert shape_of("Qwen2.5 7B").num_window_layers == 0
    long = attention_flops_per_token(mistral, 32_768, kernel="causal")
    assert long < 4.0 * 32 * mistral.attention_width * 4096
    oss = shape_of("gpt-oss 20B")
    assert (oss.window_tokens, oss.num_window_layers) == (128, 12)


def test_of_experts_only_those_count_that_a_token_is_sent_to() -> None:
    shape = shape_of("Mixtral 8x7B")
    assert shape.parameters == 46_702_792_704
    assert shape.active_parameters == pytest.approx(12.88e9, rel=1e-3)
    assert forward_flops_per_token(shape, 0) == 2 * (shape.active_linear_parameters + shape.head_parameters)
    assert (shape.num_experts, shape.experts_per_token, shape.num_expert_layers) == (8, 2, 32)
    dense = shape_of("Llama 3.1 8B")
    assert dense.active_parameters == dense.parameters


@pytest.mark.parametrize(
    ("name", "total", "active"),
    [
        ("DeepSeek V3", 671e9, 37.6e9),
        ("Qwen3_235B_a22B", 235e9, 22.2e9),
        ("Qwen3_30B_a3B", 30.5e9, 3.35e9),
        ("gpt-oss 120B", 116.8e9, 5.7e9),
        ("Kimi K2", 1026e9, 32.9e9),
        ("Nemotron 3 Nano", 31.6e9, 3.6e9),
        ("Llama 4 Scout", 107.8e9, 17.2e9),
        ("gemma-4-26B-A4B", 25.2e9, 3.8e9),
    ],
)
def test_total_and_active_parameters_of_sparse_models(name: str, total: float, active: float) -> None:
    shape = shape_of(name)
    assert shape.parameters == pytest.approx(total, rel=0.005)
    assert shape.active_parameters == pytest.approx(active, rel=0.02)


def test_backward_costs_two_passes_for_weights_that_learn_one_for_frozen_ones_two_for_attention() -> None:
    shape = shape_of("Llama 3.1 8B")
    products = forward_flops_per_token(shape, 0)
    attention = attention_flops_per_token(shape, 1024)
    assert training_flops_per_token(shape, 1024, trains_base=True) == 3 * (products + attention)
    assert training_flops_per_token(shape, 1024, trains_base=False) == 2 * products + 3 * attention


def test_checkpointing_repeats_the_blocks_or_attention_alone() -> None:
    shape = shape_of("Llama 3.1 8B")
    none = training_flops_per_token(shape, 1024, trains_base=True)
    full = training_flops_per_token(shape, 1024, trains_base=True, checkpointing="full")
    selective = training_flops_per_token(shape, 1024, trains_base=True, checkpointing="selective")
    assert full - none == forward_flops_per_token(shape, 1024) - 2 * shape.head_parameters
    assert selective - none == attention_flops_per_token(shape, 1024)


def test_recurrent_mixers_cost_the_same_at_any_length() -> None:
    shape = shape_of("Nemotron 3 Nano")
    assert (shape.num_layers, shape.num_attention_layers, shape.num_expert_layers) == (52, 6, 23)
    assert attention_flops_per_token(shape, 0) == shape.state_flops > 0


def test_bytes_of_16_bit_weights_are_two_a_parameter() -> None:
    shape = shape_of("Llama 2 7B")
    assert weight_bytes(shape, "bf16").total == 2 * shape.parameters
    assert weight_bytes(shape, "fp32").total == 4 * shape.parameters
    tied = shape_of("Llama 3.2 3B")
    assert weight_bytes(tied, "bf16").head == 0
    assert weight_bytes(tied, "bf16").total == 2 * tied.parameters


def test_quantised_weights_keep_embeddings_and_head() -> None:
    shape = shape_of("Llama 2 7B")
    eight, four, double = (weight_bytes(shape, kind) for kind in ("int8", "nf4", "nf4-double"))
    assert four.embedding == eight.embedding == 2 * 32_000 * 4096
    assert four.head == 2 * shape.head_parameters
    assert four.products + four.scales == 0.5625 * shape.dense_parameters
    assert (double.products + double.scales) / shape.dense_parameters == pytest.approx(0.516, abs=5e-4)
    assert eight.products == shape.dense_parameters
    assert eight.scales == 4 * sum(layer.num_outputs for layer in shape.layers)
    assert eight.total / 1e9 == pytest.approx(7.01, abs=0.01)
    assert four.total / 1e9 == pytest.approx(4.17, abs=0.01)


def test_biases_and_experts_that_are_not_quantised_stay_16_bit() -> None:
    biased = shape_of("Qwen2.5 7B")
    biases = sum(layer.parameters - layer.weights for layer in biased.layers)
    assert weight_bytes(biased, "nf4").other == 2 * (biased.other_parameters + biases)
    sparse = shape_of("Mixtral 8x7B")
    whole = weight_bytes(sparse, "nf4").total
    kept = weight_bytes(sparse, "nf4", quantised_experts=False).total
    assert kept - whole == pytest.approx((2 - 0.5625) * sparse.expert_parameters)


def test_bloom_176b_in_int8_needs_its_weights_and_two_percent() -> None:
    assert weight_bytes(shape_of("BLOOM 176B"), "int8").total / 1e9 == pytest.approx(180, rel=0.02)


def test_experts_get_no_adapters() -> None:
    shape = shape_of("Mixtral 8x7B")
    names = {layer.last_name for layer in targeted_layers(shape, ("all-linear",))}
    assert names == {"q_proj", "k_proj", "v_proj", "o_proj"}
    assert lora_parameters(shape, rank=16) == 32 * 16 * ((4096 + 4096) + (4096 + 1024))


def test_small_deepseek_models_have_wide_queries() -> None:
    chosen = {layer.last_name for layer in targeted_layers(shape_of("DeepSeek-V2-Lite"))}
    assert chosen == {"q_proj", "kv_b_proj"}
    assert {layer.last_name for layer in targeted_layers(shape_of("DeepSeek V3"))} == {"q_b_proj", "kv_b_proj"}


def test_largest_block_is_what_sharded_training_gathers() -> None:
    shape = shape_of("Llama 2 7B")
    assert shape.block_parameters == (202_383_360,) * 32
    assert shape_of("DeepSeek V3").largest_block_parameters > 11e9


@given(st.floats(min_value=1e6, max_value=2e12))
def test_a_bare_size_becomes_a_llama_of_that_size(parameters: float) -> None:
    shape = typical_shape(parameters)
    assert shape.parameters == pytest.approx(parameters, rel=0.02)
    assert not shape.is_exact
    assert shape.attention_width == shape.width


@pytest.mark.parametrize(
    ("parameters", "width", "layers"), [(6.74e9, 4096, 32), (13.02e9, 5120, 40), (32.5e9, 6656, 60), (65.3e9, 8192, 80)]
)
def test_llamas_own_sizes_come_out_as_they_are(parameters: float, width: int, layers: int) -> None:
    shape = typical_shape(parameters)
    assert (shape.width, shape.num_layers) == (width, layers)


@pytest.mark.parametrize("parameters", [0, -7e9, 12, float("nan"), float("inf")])
def test_an_absurd_size_says_so(parameters: float) -> None:
    with pytest.raises(ConfigError, match="expected a number from a million up"):
        typical_shape(parameters)


NANO: dict[str, Any] = {
    "model_type": "nemotron_h",
    "hidden_size": 8,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "vocab_size": 9,
}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({**NANO, "hybrid_override_pattern": "MX"}, "hybrid_override_pattern"),
        ({"model_type": "mixtral", "num_experts_per_tok": 9, "num_local_experts": 8}, "no `hidden_size`"),
        ({"model_type": "gemma3", "text_config": {"model_type": "gemma3_text"}}, "no `hidden_size`"),
        ({"model_type": "t5", "d_model": -1}, "`d_model` is -1"),
        ({"model_type": "falcon", "hidden_size": 8.5}, "`hidden_size` is 8.5"),
        ({**NANO, "layers_block_type": 3}, "expected a list of words"),
    ],
)
def test_faulty_configs_name_the_fault(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        model_shape(config)


def test_more_experts_a_token_than_there_are() -> None:
    sizes = {
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 8,
        "vocab_size": 9,
    }
    with pytest.raises(ConfigError, match="9 experts per token, but only 8 experts"):
        model_shape({"model_type": "mixtral", "num_experts_per_tok": 9, "num_local_experts": 8, **sizes})


def test_of_a_model_that_sees_the_language_model_is_counted() -> None:
    text = {"hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34}
    shape = model_shape({"model_type": "gemma3", "text_config": text, "vision_config": {"hidden_size": 1152}})
    assert shape.parameters == shape_of("gemma-3-4b").parameters == 3_880_263_168
