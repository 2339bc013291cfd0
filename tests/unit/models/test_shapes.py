"""Known figures of real models, and that counts follow the sizes; without torch."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from foretune.errors import ConfigError
from foretune.models.shapes import (
    ALL_LINEAR,
    classifier_parameters,
    forward_flops_per_token,
    lora_parameters,
    model_shape,
    prompt_parameters,
    targeted_layers,
    training_flops_per_token,
)

SRC = Path(__file__).parents[3] / "src"
LLAMA_7B: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
}
GPT2: dict[str, Any] = {"model_type": "gpt2", "vocab_size": 50257, "n_embd": 768, "n_layer": 12, "n_head": 12}


@pytest.mark.req("R188")
def test_adapters_of_llama_2_7b() -> None:
    shape = model_shape(LLAMA_7B)
    usual = lora_parameters(shape, rank=16)
    everything = lora_parameters(shape, rank=16, target_modules=(ALL_LINEAR,))
    assert (usual, everything) == (8_388_608, 39_976_960)
    assert 5e6 < usual < everything < 50e6


@pytest.mark.req("R423")
def test_share_that_is_trained_is_an_eighth_of_a_percent() -> None:
    shape = model_shape(LLAMA_7B)
    assert shape.parameters == 6_738_415_616
    assert 100 * lora_parameters(shape, rank=16) / shape.parameters == pytest.approx(0.124, abs=0.001)


@pytest.mark.req("R424")
def test_all_linear_is_nearly_five_times_query_and_value() -> None:
    shape = model_shape(LLAMA_7B)
    ratio = lora_parameters(shape, rank=16, target_modules=(ALL_LINEAR,)) / lora_parameters(shape, rank=16)
    assert ratio == pytest.approx(4.77, abs=0.005)


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (GPT2, 124_439_808),
        (
            {
                "model_type": "mistral",
                "vocab_size": 32000,
                "hidden_size": 4096,
                "intermediate_size": 14336,
                "num_hidden_layers": 32,
                "num_attention_heads": 32,
                "num_key_value_heads": 8,
            },
            7_241_732_096,
        ),
        (
            {
                "model_type": "qwen2",
                "vocab_size": 151936,
                "hidden_size": 896,
                "intermediate_size": 4864,
                "num_hidden_layers": 24,
                "num_attention_heads": 14,
                "num_key_value_heads": 2,
                "tie_word_embeddings": True,
            },
            494_032_768,
        ),
        ({"model_type": "bloom", "vocab_size": 250880, "n_embed": 1024, "n_layer": 24, "n_head": 16}, 559_214_592),
        (
            {
                "model_type": "t5",
                "vocab_size": 32128,
                "d_model": 512,
                "d_kv": 64,
                "d_ff": 2048,
                "num_layers": 6,
                "num_heads": 8,
            },
            60_506_624,
        ),
        (
            {
                "model_type": "gpt_neo",
                "vocab_size": 50257,
                "hidden_size": 768,
                "num_layers": 12,
                "num_heads": 12,
                "max_position_embeddings": 2048,
            },
            125_198_592,
        ),
    ],
    ids=["gpt2", "Mistral-7B", "Qwen2-0.5B", "bloom-560m", "t5-small", "gpt-neo-125m"],
)
def test_published_parameter_counts(config: dict[str, Any], parameters: int) -> None:
    shape = model_shape(config)
    assert shape.parameters == parameters
    assert shape.is_exact


def test_positions() -> None:
    assert model_shape({**LLAMA_7B, "max_position_embeddings": 4096}).max_len == 4096
    assert model_shape(GPT2).max_len == 1024
    assert (
        model_shape({"model_type": "bloom", "vocab_size": 9, "n_embed": 8, "n_layer": 1, "n_head": 2}).max_len is None
    )


def test_soft_prompt_and_classifier() -> None:
    shape = model_shape(LLAMA_7B)
    assert prompt_parameters(shape, num_prompt_tokens=16) == 16 * 4096
    assert classifier_parameters(shape, num_labels=3) == 3 * 4096


def test_an_unknown_family_with_llamas_names_is_counted_as_one_and_says_so() -> None:
    shape = model_shape({**LLAMA_7B, "model_type": "brandnew"})
    assert shape.parameters == 6_738_415_616
    assert not shape.is_exact
    assert targeted_layers(shape)[0].name == "model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "resnet"}, "model_type 'resnet' is not known"),
        ({}, "model_type '' is not known"),
        ({"model_type": "llama", "hidden_size": 8}, "no `num_hidden_layers`"),
        ({**LLAMA_7B, "hidden_size": "4096"}, "`hidden_size` is '4096'"),
        ({**LLAMA_7B, "vocab_size": 0}, "`vocab_size` is 0"),
        ({**LLAMA_7B, "num_hidden_layers": True}, "`num_hidden_layers` is True"),
    ],
)
def test_faulty_configs_name_the_fault(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        model_shape(config)


def test_a_target_that_matches_nothing_names_those_that_do() -> None:
    with pytest.raises(ConfigError, match=r"`q_proj` matches no linear layer.*c_attn, c_fc, c_proj"):
        lora_parameters(model_shape(GPT2), rank=8, target_modules=("q_proj",))


def test_flops_of_a_pass() -> None:
    shape = model_shape(LLAMA_7B)
    weights = shape.parameters - shape.embedding_parameters - shape.other_parameters
    assert forward_flops_per_token(shape, 0) == 2 * weights
    assert forward_flops_per_token(shape, 100) - forward_flops_per_token(shape, 0) == 4 * 32 * 4096 * 100
    full = training_flops_per_token(shape, 512, trains_base=True)
    frozen = training_flops_per_token(shape, 512, trains_base=False, adapter_parameters=8_388_608)
    assert full == 3 * forward_flops_per_token(shape, 512)
    attention = 4 * 32 * 4096 * 512
    assert frozen == 2 * forward_flops_per_token(shape, 512) + attention + 6 * 8_388_608


def test_no_torch_is_needed() -> None:
    heavy = {"torch", "transformers", "numpy", "huggingface_hub"}
    code = f"import sys, foretune.models.shapes, foretune.models.base; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(SRC)})
