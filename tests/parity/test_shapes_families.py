"""Every family counted from config.json equals the real transformers class, layer by layer, on the meta device."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
from typing import Any

import pytest

from foretune.models.catalogue import CatalogueModel, models
from foretune.models.families import FAMILIES
from foretune.models.shapes import default_targets, lora_parameters, model_shape

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")
pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    # peft renames stacked experts, which `all-linear` does not name.
    pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys did not match:RuntimeWarning"),
]

# Families that ship their own code: no class to compare with, only published counts.
OWN_CODE = {"baichuan", "chatglm", "internlm2", "kimi_k2", "qwen"}
# Counted as part of another model's class.
PARTS = {name for name in FAMILIES if name.startswith(("qwen2_vl", "qwen2_5_vl", "qwen3_vl"))}
BASE: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 40,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "head_dim": 16,
}
MOE = {"num_local_experts": 4, "num_experts_per_tok": 2}
DEEPSEEK = {
    **BASE,
    "num_key_value_heads": 4,
    "q_lora_rank": 12,
    "kv_lora_rank": 10,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 6,
    "v_head_dim": 8,
    "n_routed_experts": 8,
    "n_shared_experts": 2,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 14,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
}
DEEPSEEK.pop("head_dim")
T5 = {"vocab_size": 97, "d_model": 24, "d_kv": 5, "d_ff": 40, "num_layers": 2, "num_heads": 4}
GPT = {"vocab_size": 97, "n_embd": 48, "n_layer": 3, "n_head": 4, "n_positions": 64}
QWEN_MOE = {**BASE, "moe_intermediate_size": 12, "num_experts": 8, "num_experts_per_tok": 2}
HYBRID = {
    **QWEN_MOE,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 6,
    "linear_value_head_dim": 8,
    "shared_expert_intermediate_size": 10,
}
MAMBA = {
    **BASE,
    "mamba_num_heads": 4,
    "mamba_head_dim": 8,
    "ssm_state_size": 6,
    "n_groups": 2,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 12,
    "moe_shared_expert_intermediate_size": 20,
    "layers_block_type": ["linear_attention", "moe", "full_attention", "mlp", "moe"],
}
GRANITE = {
    **BASE,
    **MOE,
    "mamba_n_heads": 6,
    "mamba_d_head": 16,
    "mamba_d_state": 8,
    "shared_intermediate_size": 20,
    "layer_types": ["linear_attention", "full_attention", "linear_attention", "linear_attention"],
}
GRANITE.pop("head_dim")
GEMMA4 = {
    **BASE,
    "num_hidden_layers": 12,
    "hidden_size_per_layer_input": 6,
    "vocab_size_per_layer_input": 97,
    "global_head_dim": 24,
}
GEMMA3N = {
    **BASE,
    "hidden_size_per_layer_input": 6,
    "vocab_size_per_layer_input": 97,
    "laurel_rank": 4,
    "num_kv_shared_layers": 1,
    "num_hidden_layers": 10,
    "activation_sparsity_pattern": None,
}
V4 = {
    **BASE,
    "q_lora_rank": 12,
    "head_dim": 16,
    "o_groups": 2,
    "o_lora_rank": 6,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 14,
    "index_n_heads": 4,
    "index_head_dim": 8,
    "num_hidden_layers": 5,
    "hc_mult": 3,
}
V4.pop("intermediate_size")
NO_HEAD = {name: value for name, value in BASE.items() if name != "head_dim"}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", BASE),
    "internlm3": ("internlm3", BASE),
    "mistral": ("mistral", {**BASE, "sliding_window": 32}),
    "ministral": ("ministral", BASE),
    "ministral3": ("ministral3", BASE),
    "mixtral": ("mixtral", {**BASE, **MOE}),
    "qwen2": ("qwen2", NO_HEAD),
    "qwen2_moe": ("qwen2_moe", {**QWEN_MOE, "shared_expert_intermediate_size": 20}),
    "qwen2_moe-mixed": ("qwen2_moe", {**QWEN_MOE, "decoder_sparse_step": 2, "mlp_only_layers": [3], "qkv_bias": False}),
    "qwen3": ("qwen3", BASE),
    "qwen3_moe": ("qwen3_moe", {**QWEN_MOE, "mlp_only_layers": [1]}),
    "gemma": ("gemma", BASE),
    "gemma2": ("gemma2", BASE),
    "gemma3_text": ("gemma3_text", BASE),
    "phi": ("phi", NO_HEAD),
    "phi3": ("phi3", {**NO_HEAD, "pad_token_id": 0}),
    "phimoe": ("phimoe", {**NO_HEAD, **MOE, "lm_head_bias": True, "attention_bias": True}),
    "smollm3": ("smollm3", {**BASE, "pad_token_id": 0}),
    "olmo": ("olmo", NO_HEAD),
    "olmo2": ("olmo2", NO_HEAD),
    "olmo3": ("olmo3", NO_HEAD),
    "olmoe": ("olmoe", {**NO_HEAD, "num_experts": 4, "num_experts_per_tok": 2}),
    "gpt_oss": ("gpt_oss", {**BASE, **MOE}),
    "glm": ("glm", {**BASE, "pad_token_id": 0}),
    "glm4": ("glm4", {**BASE, "pad_token_id": 0}),
    "glm4_moe": ("glm4_moe", {**DEEPSEEK, "head_dim": 16, "use_qk_norm": True, "num_key_value_heads": 2}),
    "stablelm": ("stablelm", {**NO_HEAD, "use_qkv_bias": True}),
    "nemotron": ("nemotron", BASE),
    "apertus": ("apertus", NO_HEAD),
    "arcee": ("arcee", BASE),
    "granite": ("granite", NO_HEAD),
    "granitemoe": ("granitemoe", {**NO_HEAD, **MOE}),
    "seed_oss": ("seed_oss", BASE),
    "cohere": ("cohere", NO_HEAD),
    "cohere2": ("cohere2", BASE),
    "starcoder2": ("starcoder2", NO_HEAD),
    "nanochat": ("nanochat", NO_HEAD),
    "llama4_text": ("llama4_text", {**BASE, **MOE, "intermediate_size_mlp": 30, "interleave_moe_layer_step": 2}),
    "exaone4": ("exaone4", NO_HEAD),
    "ernie4_5": ("ernie4_5", {**BASE, "use_bias": True}),
    "minimax_m2": ("minimax_m2", {**BASE, **MOE}),
    "gpt2": ("gpt2", GPT),
    "gpt_bigcode": ("gpt_bigcode", GPT),
    "gpt_bigcode-heads": ("gpt_bigcode", {**GPT, "multi_query": False}),
    "gpt_neo": (
        "gpt_neo",
        {
            "vocab_size": 97,
            "hidden_size": 24,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "max_position_embeddings": 64,
        },
    ),
    "gptj": ("gptj", {**GPT, "rotary_dim": 4}),
    "codegen": ("codegen", {**GPT, "rotary_dim": 4}),
    "gpt_neox": ("gpt_neox", NO_HEAD),
    "bloom": ("bloom", {"vocab_size": 97, "hidden_size": 48, "n_layer": 3, "n_head": 4}),
    "falcon-7b": ("falcon", {**NO_HEAD, "ffn_hidden_size": 70}),
    "falcon-40b": ("falcon", {**NO_HEAD, "new_decoder_architecture": True, "num_kv_heads": 2}),
    "falcon-11b": (
        "falcon",
        {**NO_HEAD, "new_decoder_architecture": True, "num_kv_heads": 2, "num_ln_in_parallel_attn": 1},
    ),
    "falcon-rw": ("falcon", {**NO_HEAD, "multi_query": False, "parallel_attn": False, "bias": True, "alibi": True}),
    "mpt": ("mpt", {"vocab_size": 97, "d_model": 48, "n_heads": 4, "n_layers": 3}),
    "opt": ("opt", {**NO_HEAD, "ffn_dim": 60, "word_embed_proj_dim": 48}),
    "opt-350m": ("opt", {**NO_HEAD, "ffn_dim": 60, "word_embed_proj_dim": 24, "do_layer_norm_before": False}),
    "t5": ("t5", T5),
    "mt5": ("mt5", T5),
    "umt5": ("umt5", T5),
    "deepseek_v2": ("deepseek_v2", DEEPSEEK),
    "deepseek_v2-lite": ("deepseek_v2", {**DEEPSEEK, "q_lora_rank": None}),
    "deepseek_v3": ("deepseek_v3", DEEPSEEK),
    "deepseek_v32": ("deepseek_v32", {**DEEPSEEK, "index_n_heads": 4, "index_head_dim": 8}),
    "deepseek_v4": ("deepseek_v4", V4),
    "nemotron_h": ("nemotron_h", MAMBA),
    "nemotron_h-latent": ("nemotron_h", {**MAMBA, "moe_latent_size": 18}),
    "qwen3_next": ("qwen3_next", HYBRID),
    "qwen3_5_text": ("qwen3_5_text", HYBRID),
    "qwen3_5_moe_text": ("qwen3_5_moe_text", HYBRID),
    "granitemoehybrid": ("granitemoehybrid", GRANITE),
    "granitemoehybrid-dense": ("granitemoehybrid", {**GRANITE, "num_local_experts": 0}),
    "gemma4_text": ("gemma4_text", GEMMA4),
    "gemma4_text-shared": ("gemma4_text", {**GEMMA4, "num_kv_shared_layers": 1, "use_double_wide_mlp": True}),
    "gemma4_text-31b": (
        "gemma4_text",
        {**GEMMA4, "hidden_size_per_layer_input": 0, "attention_k_eq_v": True, "num_global_key_value_heads": 1},
    ),
    "gemma4_text-moe": (
        "gemma4_text",
        {**GEMMA4, "enable_moe_block": True, "num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 10},
    ),
    "gemma4_unified_text": ("gemma4_unified_text", {**BASE, "num_hidden_layers": 12, "global_head_dim": 24}),
    "gemma3n_text": ("gemma3n_text", GEMMA3N),
    "lfm2": ("lfm2", {**NO_HEAD, "layer_types": ["conv", "full_attention", "conv", "conv"]}),
}


def real_model(model_type: str, sizes: dict[str, Any]) -> Any:
    """The language model of a family on the meta device."""
    config = transformers.AutoConfig.for_model(model_type, **sizes)
    encoder_decoder = model_type in ("t5", "mt5", "umt5")
    kind = transformers.AutoModelForSeq2SeqLM if encoder_decoder else transformers.AutoModelForCausalLM
    with torch.device("meta"):
        return kind.from_config(config)


def linear_layers(model: Any) -> dict[str, int]:
    """Parameters of each linear layer but the head, as PEFT's `all-linear` sees them."""
    head = model.get_output_embeddings()
    kinds = (torch.nn.Linear, transformers.pytorch_utils.Conv1D)
    return {
        name: sum(p.numel() for p in module.parameters())
        for name, module in model.named_modules()
        if isinstance(module, kinds) and module is not head
    }


def test_every_family_is_compared() -> None:
    assert {family for family, _ in CASES.values()} | OWN_CODE | PARTS == set(FAMILIES)


@pytest.mark.parametrize("name", CASES)
def test_counts_are_those_of_the_real_model(name: str) -> None:
    family, sizes = CASES[name]
    model = real_model(family, sizes)
    for config in (model.config.to_dict(), {"model_type": family, **sizes}, model.config.to_diff_dict()):
        shape = model_shape(config)
        assert shape.parameters == sum(p.numel() for p in model.parameters())
        assert {layer.name: layer.parameters for layer in shape.layers} == linear_layers(model)
    assert shape.is_exact


@pytest.mark.parametrize("name", CASES)
def test_blocks_add_up(name: str) -> None:
    family, sizes = CASES[name]
    model = real_model(family, sizes)
    shape = model_shape({"model_type": family, **sizes})
    stacks = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
    blocks = [block for stack in stacks for block in stack if type(block).__name__.endswith(("Layer", "Block"))]
    real = [sum(p.numel() for p in block.parameters()) for block in blocks]
    outer = [
        size for size, block in zip(real, blocks, strict=True) if size > 0 and "layer." not in type(block).__name__
    ]
    assert set(shape.block_parameters) <= set(outer)
    assert len(shape.block_parameters) == shape.num_layers
    assert shape.largest_block_parameters == max(outer)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("targets", [(), ("all-linear",)], ids=["usual", "all-linear"])
def test_adapters_are_those_of_peft(name: str, targets: tuple[str, ...]) -> None:
    family, sizes = CASES[name]
    if family == "nemotron_h" and targets:
        pytest.skip("peft refuses the output product of state-space mixers, and with it all-linear")
    model = real_model(family, sizes)
    shape = model_shape({"model_type": family, **sizes})
    present = {layer.name.rpartition(".")[2] for layer in shape.layers}
    wanted = targets[0] if targets else [target for target in default_targets(family) if target in present]
    with torch.device("meta"):
        adapted = peft.get_peft_model(model, peft.LoraConfig(r=3, target_modules=wanted))
    if targets and adapted.peft_config["default"].target_parameters:
        pytest.skip("for the sake of old adapters peft turns all-linear of this family into stacked experts")
    trainable = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert lora_parameters(shape, rank=3, target_modules=targets) == trainable


SAME_CLASS = {"kimi_k2": "deepseek_v3", "qwen2_vl": "qwen2", "qwen2_5_vl": "qwen2", "qwen3_vl_text": "qwen3"}


def published(family: str) -> list[CatalogueModel]:
    """The catalogue's models of a family, one for each set of sizes."""
    by_sizes = {json.dumps(model.config, sort_keys=True): model for model in models() if model.family == family}
    return list(by_sizes.values())


@pytest.mark.parametrize("family", sorted({model.family for model in models()} - OWN_CODE | {"kimi_k2"}))
def test_published_models_count_as_their_class(family: str) -> None:
    for chosen in published(family):
        sizes = {
            name: value for name, value in chosen.config.items() if name not in ("model_type", "language_model_only")
        }
        model = real_model(SAME_CLASS.get(family, family), sizes)
        assert chosen.shape.parameters == sum(p.numel() for p in model.parameters()), chosen.id
        assert {layer.name: layer.parameters for layer in chosen.shape.layers} == linear_layers(model), chosen.id


@pytest.mark.parametrize(
    ("targets", "parameters"),
    [(["q_proj", "v_proj"], 8_388_608), ("all-linear", 39_976_960)],
    ids=["q,v", "all-linear"],
)
def test_adapters_of_llama_2_7b_are_those_of_peft(targets: Any, parameters: int) -> None:
    chosen = next(model for model in models() if model.id == "meta-llama/Llama-2-7b-hf")
    model = real_model("llama", {name: value for name, value in chosen.config.items() if name != "model_type"})
    with torch.device("meta"):
        adapted = peft.get_peft_model(model, peft.LoraConfig(r=16, target_modules=targets))
    named = (targets,) if isinstance(targets, str) else tuple(targets)
    assert sum(p.numel() for p in adapted.parameters() if p.requires_grad) == parameters
    assert lora_parameters(chosen.shape, rank=16, target_modules=named) == parameters
