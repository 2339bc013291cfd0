"""Parameters counted from config.json equal those of the real models and of peft's adapters."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from foretune.models.shapes import (
    FAMILIES,
    classifier_parameters,
    default_targets,
    lora_parameters,
    model_shape,
    prompt_parameters,
    targeted_layers,
)

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")
# peft asks transformers for a property that transformers has since renamed.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

LLAMA: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
T5: dict[str, Any] = {"vocab_size": 97, "d_model": 24, "d_kv": 5, "d_ff": 40, "num_layers": 2, "num_heads": 4}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", LLAMA),
    "llama-tied": ("Llama", {**LLAMA, "tie_word_embeddings": True}),
    "llama-bias": ("Llama", {**LLAMA, "attention_bias": True, "mlp_bias": True, "head_dim": 10}),
    "mistral": ("Mistral", {**LLAMA, "head_dim": 8}),
    "qwen2": ("Qwen2", LLAMA),
    "qwen2-tied": ("Qwen2", {**LLAMA, "tie_word_embeddings": True}),
    "gpt2": ("GPT2", {"vocab_size": 97, "n_embd": 24, "n_layer": 3, "n_head": 4, "n_positions": 64}),
    "gpt2-inner": ("GPT2", {"vocab_size": 97, "n_embd": 24, "n_layer": 2, "n_head": 4, "n_inner": 50}),
    "gpt_neo": (
        "GPTNeo",
        {
            "vocab_size": 97,
            "hidden_size": 24,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "max_position_embeddings": 64,
        },
    ),
    "bloom": ("Bloom", {"vocab_size": 97, "hidden_size": 24, "n_layer": 3, "n_head": 4}),
    "t5": ("T5", T5),
    "t5-gated": ("T5", {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "t5-decoder": ("T5", {**T5, "num_decoder_layers": 3, "relative_attention_num_buckets": 8}),
}


def build(name: str, kind: str) -> Any:
    family, sizes = CASES[name]
    extra = {"num_labels": 5, "pad_token_id": 0} if kind == "ForSequenceClassification" else {}
    config = getattr(transformers, f"{family}Config")(**sizes, **extra)
    return getattr(transformers, f"{family}{kind}")(config)


def language_model(name: str) -> Any:
    kinds = {"t5": "ForConditionalGeneration", "gpt2": "LMHeadModel"}
    return build(name, kinds.get(name.partition("-")[0], "ForCausalLM"))


def count(model: Any, trainable: bool = False) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable)


@pytest.mark.parametrize("name", CASES)
def test_parameters_and_layers_are_those_of_the_real_model(name: str) -> None:
    model = language_model(name)
    shape = model_shape(model.config.to_dict())
    assert shape.parameters == count(model)
    real = {
        key: sum(p.numel() for p in module.parameters())
        for key, module in model.named_modules()
        if type(module).__name__ in ("Linear", "Conv1D") and key != "lm_head"
    }
    assert {layer.name: layer.parameters for layer in shape.layers} == real


@pytest.mark.parametrize("name", CASES)
def test_a_written_config_file_counts_the_same(name: str, tmp_path: Path) -> None:
    model = language_model(name)
    model.config.save_pretrained(tmp_path)
    assert model_shape(json.loads((tmp_path / "config.json").read_text())).parameters == count(model)


@pytest.mark.parametrize("name", CASES)
def test_a_bare_config_has_the_familys_own_defaults(name: str) -> None:
    family, sizes = CASES[name]
    config = getattr(transformers, f"{family}Config")(**sizes)
    bare = model_shape({"model_type": config.model_type, **sizes})
    assert bare.parameters == model_shape(config.to_dict()).parameters


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("targets", [(), ("all-linear",)], ids=["usual", "all-linear"])
def test_lora_parameters_are_those_of_peft(name: str, targets: tuple[str, ...]) -> None:
    model = language_model(name)
    shape = model_shape(model.config.to_dict())
    wanted = targets[0] if targets else list(default_targets(shape.family))
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=3, target_modules=wanted, fan_in_fan_out="gpt2" in name))
    assert lora_parameters(shape, rank=3, target_modules=targets) == count(adapted, trainable=True)


def test_usual_targets_are_those_of_peft() -> None:
    known = peft.utils.constants.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
    for family in set(FAMILIES) & set(known):
        assert sorted(default_targets(family)) == sorted(known[family])


def test_targets_match_whole_names_as_in_peft() -> None:
    model = language_model("gpt2")
    shape = model_shape(model.config.to_dict())
    chosen = ["mlp.c_proj", "transformer.h.1.attn.c_attn"]
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=chosen, fan_in_fan_out=True))
    assert lora_parameters(shape, rank=2, target_modules=chosen) == count(adapted, trainable=True)
    assert len(targeted_layers(shape, chosen)) == 4


@pytest.mark.parametrize("name", CASES)
def test_classification_models(name: str) -> None:
    model = build(name, "ForSequenceClassification")
    shape = model_shape(model.config.to_dict())
    assert shape.body_parameters + classifier_parameters(shape, num_labels=5) == count(model)


def test_soft_prompt_parameters_are_those_of_peft() -> None:
    model = language_model("llama")
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=7)
    adapted = peft.get_peft_model(model, config)
    shape = model_shape(model.config.to_dict())
    assert prompt_parameters(shape, num_prompt_tokens=7) == count(adapted, trainable=True)


def test_adapters_of_our_own_have_the_same_targets() -> None:
    adapter = pytest.importorskip("foretune.models.adapter")
    for family in FAMILIES:
        assert adapter.default_targets(family) == default_targets(family)
