"""Parameters, FLOPs and bytes of a model from its config.json alone: exact for the known families, without torch."""

# SPDX-License-Identifier: Apache-2.0
#
# Counted like `sum(p.numel() for p in model.parameters())`: tied weights once, buffers not at all.
from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

from foretune.errors import ConfigError
from foretune.models.families import FAMILIES, LLAMA, llama_like
from foretune.models.sizes import Linear, Reader, Shape

__all__ = [
    "ALL_LINEAR",
    "FAMILIES",
    "Linear",
    "Shape",
    "WeightBytes",
    "attended_tokens",
    "attention_flops_per_token",
    "block_of",
    "classifier_parameters",
    "default_targets",
    "forward_flops_per_token",
    "lora_parameters",
    "model_shape",
    "prompt_parameters",
    "targeted_layers",
    "training_flops_per_token",
    "typical_shape",
    "weight_bytes",
]

ALL_LINEAR = "all-linear"
BLOCK = re.compile(r".*\.[^.]*\.(\d+)\.")  # the number of a block in a layer's name, as PEFT finds it
Kernel = Literal["dense", "causal"]
Checkpointing = Literal["none", "full", "selective"]
Precision = Literal["fp32", "bf16", "fp16", "int8", "nf4", "nf4-double"]

# The projections that PEFT adapts where none are named (0.21), by the names each family gives them: the LoRA paper's
# query and value, or the one product that a family fuses them into.
LATENT_TARGETS = ("q_proj", "q_b_proj", "kv_b_proj")
DEFAULT_TARGETS: dict[str, tuple[str, ...]] = {
    "baichuan": ("W_pack",),
    "bloom": ("query_key_value",),
    "chatglm": ("query_key_value",),
    "codegen": ("qkv_proj",),
    "deepseek_v2": LATENT_TARGETS,
    "deepseek_v3": LATENT_TARGETS,
    "deepseek_v32": LATENT_TARGETS,
    "deepseek_v4": ("q_b_proj", "kv_proj"),
    "falcon": ("query_key_value",),
    "gpt2": ("c_attn",),
    "gpt_bigcode": ("c_attn",),
    "gpt_neox": ("query_key_value",),
    "internlm2": ("wqkv",),
    "kimi_k2": LATENT_TARGETS,
    "mpt": ("Wqkv",),
    "mt5": ("q", "v"),
    "nemotron_h": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "phi": ("q_proj", "v_proj", "fc1", "fc2"),
    "phi3": ("qkv_proj",),
    "qwen": ("c_attn",),
    "t5": ("q", "v"),
    "umt5": ("q", "v"),
}
USUAL_TARGETS = ("q_proj", "v_proj")

# Width, blocks and inner width of Llama's own sizes (LLaMA, arXiv 2302.13971, table 2; TinyLlama; Llama 3.1 405B): what
# a model of a given number of parameters looks like when nothing else is known.
LADDER: tuple[tuple[float, int, int], ...] = (
    (1.3e8, 768, 12),
    (1.1e9, 2048, 22),
    (3.4e9, 3200, 26),
    (6.74e9, 4096, 32),
    (1.30e10, 5120, 40),
    (3.25e10, 6656, 60),
    (6.53e10, 8192, 80),
    (4.06e11, 16384, 126),
)
TYPICAL_VOCAB = 32_000
TYPICAL_HEAD = 128
BYTES = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0}
# bitsandbytes: one fp32 scale a row of int8; nf4 one fp32 scale a block of 64 weights, or 8 bits of it and an fp32
# scale for each 256 of these (Dettmers et al. 2022, arXiv 2208.07339; 2023, arXiv 2305.14314).
NF4_BYTES = {"nf4": 0.5 + 4 / 64, "nf4-double": 0.5 + 1 / 64 + 4 / (64 * 256)}


def model_shape(config: dict[str, Any]) -> Shape:
    """The shape of the model that a Hugging Face config.json describes.

    Of a model that also sees or hears (`text_config`) the language model alone. A family that is not in FAMILIES whose
    sizes have Llama's names is counted as a Llama with `is_exact` false. Raises ConfigError where a size is missing.
    """
    nested = config.get("text_config")
    if isinstance(nested, dict):
        tied = {"tie_word_embeddings": config["tie_word_embeddings"]} if "tie_word_embeddings" in config else {}
        return model_shape({**tied, **nested})
    family = str(config.get("model_type", ""))
    read = Reader(config)
    if family in FAMILIES:
        return FAMILIES[family](read, family)
    if "hidden_size" in config and "num_hidden_layers" in config:
        return llama_like(read, family or "unknown", replace(LLAMA, is_exact=False))
    raise ConfigError(
        f"config.json: model_type {family!r} is not known, expected one of {', '.join(sorted(FAMILIES))}",
        fix="base must be a causal or encoder-decoder language model of one of these families",
    )


def typical_shape(parameters: float) -> Shape:
    """A Llama-like model with about as many parameters: between Llama's own sizes, the inner width makes up the count.

    Raises ConfigError where the number is not above a million.
    """
    if not math.isfinite(parameters) or parameters < 1e6:
        raise ConfigError(f"{parameters:g} parameters, expected a number from a million up", fix="--params 7B")
    typical = _on_ladder(parameters, 1)
    head = TYPICAL_HEAD if typical >= 8 * TYPICAL_HEAD else TYPICAL_HEAD // 2
    width = max(head, _rounded(typical, head))
    num_layers = max(1, round(_on_ladder(parameters, 2)))
    vocab = min(TYPICAL_VOCAB, max(256, int(parameters / (8 * width))))
    rest = (parameters - 2 * vocab * width) / num_layers - 4 * width * width
    config = {
        "model_type": "llama",
        "hidden_size": width,
        "num_hidden_layers": num_layers,
        "num_attention_heads": width // head,
        "intermediate_size": max(32, _rounded(rest / (3 * width), 32)),
        "vocab_size": vocab,
        "max_position_embeddings": 4096,
    }
    return replace(model_shape(config), is_exact=False)


def _rounded(value: float, step: int) -> int:
    return round(value / step) * step


def _on_ladder(parameters: float, column: int) -> float:
    """A column of the ladder at so many parameters: straight lines between the logarithms."""
    low, high = LADDER[0], LADDER[1]
    for pair in itertools.pairwise(LADDER):
        low, high = pair
        if parameters <= high[0]:
            break
    share = math.log(parameters / low[0]) / math.log(high[0] / low[0])
    return math.exp((1 - share) * math.log(low[column]) + share * math.log(high[column]))


def default_targets(family: str) -> tuple[str, ...]:
    """Names of the modules that get adapters when the job names none."""
    return DEFAULT_TARGETS.get(family, USUAL_TARGETS)


def block_of(name: str) -> int:
    """The number of the block that a layer is in, -1 outside blocks."""
    found = BLOCK.match(name)
    return int(found.group(1)) if found else -1


def targeted_layers(shape: Shape, target_modules: Sequence[str] = (), top_layers: int = 0) -> tuple[Linear, ...]:
    """The layers that get adapters, by PEFT's rule: the whole name or its last parts; empty = the family's usual.

    `top_layers`: those of the last so many blocks alone, 0 = of all.

    Routed experts are stacked tensors, not linear layers: they get none, as in PEFT. Raises ConfigError where a name
    matches nothing.
    """
    if top_layers:
        chosen = targeted_layers(shape, target_modules)
        first = 1 + max(block_of(layer.name) for layer in chosen) - top_layers
        return tuple(layer for layer in chosen if block_of(layer.name) >= first)
    if tuple(target_modules) == (ALL_LINEAR,):
        return shape.layers
    wanted = tuple(target_modules) or _usual_targets(shape)
    chosen = tuple(layer for layer in shape.layers if _is_targeted(layer, wanted))
    for target in wanted:
        if not any(_is_targeted(layer, (target,)) for layer in chosen):
            known = sorted({layer.last_name for layer in shape.layers})
            raise ConfigError(
                f"target module `{target}` matches no linear layer of a {shape.family} model; "
                f"expected one of: {', '.join(known)}",
                fix=f'train.advanced.target_modules = ["{ALL_LINEAR}"]',
            )
    return chosen


def _usual_targets(shape: Shape) -> tuple[str, ...]:
    """The family's usual targets that this size has: small DeepSeek models have no narrow queries."""
    usual = default_targets(shape.family)
    present = {layer.last_name for layer in shape.layers}
    return tuple(name for name in usual if name in present) or usual


def _is_targeted(layer: Linear, targets: tuple[str, ...]) -> bool:
    if layer.last_name in targets:
        return True
    return any(layer.name == target or layer.name.endswith(f".{target}") for target in targets if "." in target)


def lora_parameters(shape: Shape, *, rank: int, target_modules: Sequence[str] = (), top_layers: int = 0) -> int:
    """Parameters of LoRA adapters: rank x (inputs + outputs) per layer (Hu et al. 2021, arXiv 2106.09685)."""
    layers = targeted_layers(shape, target_modules, top_layers)
    return sum(rank * (layer.num_inputs + layer.num_outputs) for layer in layers)


def prompt_parameters(shape: Shape, *, num_prompt_tokens: int) -> int:
    """Parameters of a soft prompt: one embedding a token (Lester et al. 2021, arXiv 2104.08691)."""
    return num_prompt_tokens * shape.width


def classifier_parameters(shape: Shape, *, num_labels: int) -> int:
    """Parameters of the classification head that takes the place of the language-model head.

    Decoders: one matrix without bias. T5: a square layer and an output layer, both with bias.
    """
    if shape.is_encoder_decoder:
        return shape.width * (shape.width + 1) + num_labels * (shape.width + 1)
    return num_labels * shape.width


def attended_tokens(row_tokens: int, *, kernel: Kernel, window_tokens: int | None = None) -> float:
    """Tokens that one token of a row is compared with, on average.

    Dense kernels compute the whole row; causal ones (flash) what lies before and within the window: half of a row.
    """
    if kernel == "dense" or row_tokens <= 0:
        return float(row_tokens)
    window = min(window_tokens or row_tokens, row_tokens)
    return window - window * (window - 1) / (2 * row_tokens)


def attention_flops_per_token(shape: Shape, row_tokens: int, *, kernel: Kernel = "dense") -> float:
    """FLOPs of one token's forward pass through attention proper and recurrent mixers, their products excluded.

    4 x width x tokens attended to, a layer (Kaplan et al. 2020, arXiv 2001.08361, eq. 2.2).
    """
    share = 0.5 if shape.is_encoder_decoder else 1.0
    full = attended_tokens(row_tokens, kernel=kernel) * (shape.num_attention_layers - shape.num_window_layers)
    near = attended_tokens(row_tokens, kernel=kernel, window_tokens=shape.window_tokens) * shape.num_window_layers
    return 4.0 * share * shape.attention_width * (full + near) + shape.state_flops


def forward_flops_per_token(shape: Shape, row_tokens: int, *, kernel: Kernel = "dense") -> float:
    """FLOPs of one token's forward pass in a row of `row_tokens`: 2 per active weight, plus attention.

    2 N + 4 L x row x width for dense kernels, half of the second for causal ones. The head is counted, of the experts
    those that a token is sent to; in an encoder-decoder each token passes one half of the layers.
    """
    return 2.0 * (_body_weights(shape) + shape.head_parameters) + attention_flops_per_token(
        shape, row_tokens, kernel=kernel
    )


def _body_weights(shape: Shape) -> float:
    return shape.active_linear_parameters * (0.5 if shape.is_encoder_decoder else 1.0)


def training_flops_per_token(
    shape: Shape,
    row_tokens: int,
    *,
    trains_base: bool,
    adapter_parameters: int = 0,
    kernel: Kernel = "dense",
    checkpointing: Checkpointing = "none",
) -> float:
    """FLOPs of one token's forward and backward pass.

    The backward pass through a product costs two forward passes when its weights are trained, one when they are
    frozen; through attention proper always two, as it has no weights. Adapters cost 6 per parameter. Full
    checkpointing repeats the forward pass of the blocks, selective that of attention alone (Korthikanti et al. 2022,
    arXiv 2205.05198).
    """
    attention = attention_flops_per_token(shape, row_tokens, kernel=kernel)
    body, head = 2.0 * _body_weights(shape), 2.0 * shape.head_parameters
    passes = 3.0 if trains_base else 2.0
    again = {"none": 0.0, "full": body + attention, "selective": attention}[checkpointing]
    return passes * (body + head) + 3.0 * attention + again + 6.0 * adapter_parameters


class WeightBytes(NamedTuple):
    """Bytes of the weights by component; `scales` come with quantised products."""

    embedding: float
    products: float
    scales: float
    other: float
    head: float

    @property
    def total(self) -> float:
        """All of them."""
        return sum(self)


def weight_bytes(
    shape: Shape, precision: Precision, *, quantised_experts: bool = True, kept: Literal["fp32", "bf16"] = "bf16"
) -> WeightBytes:
    """Bytes of a model's weights at rest.

    Quantisation shrinks the weights of linear layers alone; embeddings, norms, biases and head stay in `kept`.
    `quantised_experts` false is for libraries that quantise linear layers only and leave stacked experts alone.
    """
    full = BYTES.get(precision)
    if full is not None:
        head = 0.0 if shape.is_tied else full * shape.head_parameters
        products = full * shape.linear_parameters
        return WeightBytes(full * shape.embedding_parameters, products, 0.0, full * shape.other_parameters, head)
    plain = BYTES[kept]
    weights = sum(layer.weights for layer in shape.layers) + (shape.expert_parameters if quantised_experts else 0)
    unquantised = shape.linear_parameters - weights
    rows = sum(layer.num_outputs for layer in shape.layers)
    each = 1.0 if precision == "int8" else 0.5
    scales = 4.0 * rows if precision == "int8" else (NF4_BYTES[precision] - each) * weights
    return WeightBytes(
        embedding=plain * shape.embedding_parameters,
        products=each * weights,
        scales=scales,
        other=plain * (shape.other_parameters + unquantised),
        head=0.0 if shape.is_tied else plain * shape.head_parameters,
    )
