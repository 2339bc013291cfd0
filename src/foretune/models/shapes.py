"""Parameters and FLOPs of a model from its config.json alone: exact for the known families, without torch."""

# SPDX-License-Identifier: Apache-2.0
#
# Counted like `sum(p.numel() for p in model.parameters())`: tied weights once, buffers not at all.
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from foretune.errors import ConfigError

__all__ = [
    "ALL_LINEAR",
    "FAMILIES",
    "Linear",
    "Shape",
    "classifier_parameters",
    "default_targets",
    "forward_flops_per_token",
    "lora_parameters",
    "model_shape",
    "prompt_parameters",
    "targeted_layers",
    "training_flops_per_token",
]

ALL_LINEAR = "all-linear"

# The two projections that the LoRA paper adapts (query and value), by the names each family gives them; where a
# family has one fused product, that one.
DEFAULT_TARGETS: dict[str, tuple[str, ...]] = {
    "bloom": ("query_key_value",),
    "falcon": ("query_key_value",),
    "gpt_neox": ("query_key_value",),
    "gpt2": ("c_attn",),
    "t5": ("q", "v"),
    "mt5": ("q", "v"),
    "phi3": ("qkv_proj",),
}
USUAL_TARGETS = ("q_proj", "v_proj")


@dataclass(frozen=True)
class Linear:
    """One linear layer with its full dotted name."""

    name: str
    num_inputs: int
    num_outputs: int
    has_bias: bool = False

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return self.num_inputs * self.num_outputs + (self.num_outputs if self.has_bias else 0)


@dataclass(frozen=True)
class Shape:
    """The sizes of a model.

    `width` is the hidden size, `attention_width` that of all queries, `kv_width` that of keys, `ffn_width` that of the
    inner layer. `layers` are all linear layers but the head, `other_parameters` norms and position biases, `max_len`
    the positions of the model (None without a limit). `is_exact` is false for a family counted as if it were a Llama.
    """

    family: str
    num_layers: int
    num_heads: int
    width: int
    attention_width: int
    kv_width: int
    ffn_width: int
    vocab_size: int
    max_len: int | None
    embedding_parameters: int
    other_parameters: int
    layers: tuple[Linear, ...]
    is_tied: bool
    is_encoder_decoder: bool = False
    has_gate: bool = False
    is_exact: bool = True

    @property
    def linear_parameters(self) -> int:
        """Parameters of the linear layers, the head excluded."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def body_parameters(self) -> int:
        """Everything but the language-model head."""
        return self.embedding_parameters + self.other_parameters + self.linear_parameters

    @property
    def parameters(self) -> int:
        """All parameters of the language model; a tied head counts once."""
        return self.body_parameters + (0 if self.is_tied else self.vocab_size * self.width)


class _Reader:
    """Reads sizes from a config under any of their names, and says which one is missing or wrong."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    def size(self, *names: str, default: int | None = None) -> int:
        """The first of `names` that is set, a positive whole number. Raises ConfigError."""
        for name in names:
            value = self.config.get(name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
                raise ConfigError(f"config.json: `{name}` is {value!r}, expected a whole number above 0")
            return value
        if default is None:
            raise ConfigError(
                f"config.json has no `{names[0]}`", fix="take the config.json that came with the model's weights"
            )
        return default

    def flag(self, name: str, default: bool) -> bool:
        """A true or false value."""
        return bool(self.config.get(name, default))


def model_shape(config: dict[str, Any]) -> Shape:
    """The shape of the model that a Hugging Face config.json describes.

    Families: llama, mistral, qwen2, gpt2, gpt_neo, bloom, t5. Another family whose sizes have Llama's names is counted
    as a Llama with `is_exact` false. Raises ConfigError where a size is missing.
    """
    family = str(config.get("model_type", ""))
    read = _Reader(config)
    if family in FAMILIES:
        return FAMILIES[family](read, family)
    if "hidden_size" in config and "num_hidden_layers" in config:
        return _llama_like(read, family or "unknown", is_exact=False)
    raise ConfigError(
        f"config.json: model_type {family!r} is not known, expected one of {', '.join(sorted(FAMILIES))}",
        fix="base must be a causal or encoder-decoder language model of one of these families",
    )


def _llama_like(
    read: _Reader,
    family: str,
    *,
    default_kv: int | None = None,
    qkv_bias: bool = False,
    output_bias: bool = False,
    is_exact: bool = True,
) -> Shape:
    width, num_layers = read.size("hidden_size"), read.size("num_hidden_layers")
    heads = read.size("num_attention_heads")
    kv_heads = read.size("num_key_value_heads", default=default_kv or heads)
    head = read.size("head_dim", default=width // heads)
    ffn, vocab = read.size("intermediate_size"), read.size("vocab_size")
    mlp_bias = read.flag("mlp_bias", False)
    layers = []
    for number in range(num_layers):
        block = f"model.layers.{number}"
        layers += [
            Linear(f"{block}.self_attn.q_proj", width, heads * head, qkv_bias),
            Linear(f"{block}.self_attn.k_proj", width, kv_heads * head, qkv_bias),
            Linear(f"{block}.self_attn.v_proj", width, kv_heads * head, qkv_bias),
            Linear(f"{block}.self_attn.o_proj", heads * head, width, output_bias),
            Linear(f"{block}.mlp.gate_proj", width, ffn, mlp_bias),
            Linear(f"{block}.mlp.up_proj", width, ffn, mlp_bias),
            Linear(f"{block}.mlp.down_proj", ffn, width, mlp_bias),
        ]
    return Shape(
        family=family,
        num_layers=num_layers,
        num_heads=heads,
        width=width,
        attention_width=heads * head,
        kv_width=kv_heads * head,
        ffn_width=ffn,
        vocab_size=vocab,
        max_len=read.size("max_position_embeddings", default=2048),
        embedding_parameters=vocab * width,
        other_parameters=(2 * num_layers + 1) * width,
        layers=tuple(layers),
        is_tied=read.flag("tie_word_embeddings", False),
        has_gate=True,
        is_exact=is_exact,
    )


def _llama(read: _Reader, family: str) -> Shape:
    bias = read.flag("attention_bias", False)
    return _llama_like(read, family, qkv_bias=bias, output_bias=bias)


def _mistral(read: _Reader, family: str) -> Shape:
    return _llama_like(read, family, default_kv=8)


def _qwen2(read: _Reader, family: str) -> Shape:
    return _llama_like(read, family, default_kv=32, qkv_bias=True)


def _gpt2(read: _Reader, family: str) -> Shape:
    width, num_layers = read.size("n_embd", "hidden_size"), read.size("n_layer", "num_hidden_layers")
    positions, vocab = read.size("n_positions", "max_position_embeddings", default=1024), read.size("vocab_size")
    ffn = read.size("n_inner", default=4 * width)
    layers = []
    for number in range(num_layers):
        block = f"transformer.h.{number}"
        layers += [
            Linear(f"{block}.attn.c_attn", width, 3 * width, True),
            Linear(f"{block}.attn.c_proj", width, width, True),
            Linear(f"{block}.mlp.c_fc", width, ffn, True),
            Linear(f"{block}.mlp.c_proj", ffn, width, True),
        ]
    return _gpt_like(read, family, layers, num_layers, width, ffn, vocab, positions)


def _gpt_neo(read: _Reader, family: str) -> Shape:
    width, num_layers = read.size("hidden_size"), read.size("num_layers", "num_hidden_layers")
    positions, vocab = read.size("max_position_embeddings", default=2048), read.size("vocab_size")
    ffn = read.size("intermediate_size", default=4 * width)
    layers = []
    for number in range(num_layers):
        block = f"transformer.h.{number}"
        layers += [Linear(f"{block}.attn.attention.{name}_proj", width, width) for name in "kvq"]
        layers += [
            Linear(f"{block}.attn.attention.out_proj", width, width, True),
            Linear(f"{block}.mlp.c_fc", width, ffn, True),
            Linear(f"{block}.mlp.c_proj", ffn, width, True),
        ]
    return _gpt_like(read, family, layers, num_layers, width, ffn, vocab, positions)


def _bloom(read: _Reader, family: str) -> Shape:
    width, num_layers = read.size("hidden_size", "n_embed"), read.size("n_layer", "num_hidden_layers")
    layers = []
    for number in range(num_layers):
        block = f"transformer.h.{number}"
        layers += [
            Linear(f"{block}.self_attention.query_key_value", width, 3 * width, True),
            Linear(f"{block}.self_attention.dense", width, width, True),
            Linear(f"{block}.mlp.dense_h_to_4h", width, 4 * width, True),
            Linear(f"{block}.mlp.dense_4h_to_h", 4 * width, width, True),
        ]
    return _gpt_like(read, family, layers, num_layers, width, 4 * width, read.size("vocab_size"), 0)


def _gpt_like(
    read: _Reader,
    family: str,
    layers: Sequence[Linear],
    num_layers: int,
    width: int,
    ffn: int,
    vocab: int,
    positions: int,
) -> Shape:
    """Layer norms with bias, all heads with keys of their own; Bloom norms its embeddings and has no position table."""
    norms = 2 * num_layers + 1 + (1 if positions == 0 else 0)
    return Shape(
        family=family,
        num_layers=num_layers,
        num_heads=read.size("n_head", "num_heads", "num_attention_heads"),
        width=width,
        attention_width=width,
        kv_width=width,
        ffn_width=ffn,
        vocab_size=vocab,
        max_len=positions or None,
        embedding_parameters=(vocab + positions) * width,
        other_parameters=norms * 2 * width,
        layers=tuple(layers),
        is_tied=read.flag("tie_word_embeddings", True),
    )


def _t5(read: _Reader, family: str) -> Shape:
    width, heads = read.size("d_model"), read.size("num_heads")
    inner, ffn = heads * read.size("d_kv"), read.size("d_ff")
    encoder = read.size("num_layers")
    decoder = read.size("num_decoder_layers", default=encoder)
    gated = str(read.config.get("feed_forward_proj", "relu")).startswith("gated")
    layers: list[Linear] = []
    for number in range(encoder):
        layers += _t5_attention(f"encoder.block.{number}.layer.0.SelfAttention", width, inner)
        layers += _t5_ffn(f"encoder.block.{number}.layer.1.DenseReluDense", width, ffn, gated)
    for number in range(decoder):
        layers += _t5_attention(f"decoder.block.{number}.layer.0.SelfAttention", width, inner)
        layers += _t5_attention(f"decoder.block.{number}.layer.1.EncDecAttention", width, inner)
        layers += _t5_ffn(f"decoder.block.{number}.layer.2.DenseReluDense", width, ffn, gated)
    position_bias = 2 * read.size("relative_attention_num_buckets", default=32) * heads
    return Shape(
        family=family,
        num_layers=encoder + decoder,
        num_heads=heads,
        width=width,
        attention_width=inner,
        kv_width=inner,
        ffn_width=ffn,
        vocab_size=read.size("vocab_size"),
        max_len=None,
        embedding_parameters=read.size("vocab_size") * width,
        other_parameters=position_bias + (2 * encoder + 3 * decoder + 2) * width,
        layers=tuple(layers),
        is_tied=True,  # transformers 5 ties them whatever the file says
        is_encoder_decoder=True,
        has_gate=gated,
    )


def _t5_attention(block: str, width: int, inner: int) -> list[Linear]:
    return [*(Linear(f"{block}.{name}", width, inner) for name in "qkv"), Linear(f"{block}.o", inner, width)]


def _t5_ffn(block: str, width: int, ffn: int, gated: bool) -> list[Linear]:
    names = ("wi_0", "wi_1") if gated else ("wi",)
    return [*(Linear(f"{block}.{name}", width, ffn) for name in names), Linear(f"{block}.wo", ffn, width)]


FAMILIES: dict[str, Callable[[_Reader, str], Shape]] = {
    "llama": _llama,
    "mistral": _mistral,
    "qwen2": _qwen2,
    "gpt2": _gpt2,
    "gpt_neo": _gpt_neo,
    "bloom": _bloom,
    "t5": _t5,
}


def default_targets(family: str) -> tuple[str, ...]:
    """Names of the modules that get adapters when the job names none."""
    return DEFAULT_TARGETS.get(family, USUAL_TARGETS)


def targeted_layers(shape: Shape, target_modules: Sequence[str] = ()) -> tuple[Linear, ...]:
    """The layers that get adapters, by PEFT's rule: the whole name or its last parts; empty = the family's usual.

    Raises ConfigError where a name matches nothing.
    """
    if tuple(target_modules) == (ALL_LINEAR,):
        return shape.layers
    wanted = tuple(target_modules) or default_targets(shape.family)
    for target in wanted:
        if not any(_matches(layer, target) for layer in shape.layers):
            known = sorted({layer.name.rpartition(".")[2] for layer in shape.layers})
            raise ConfigError(
                f"target module `{target}` matches no linear layer of a {shape.family} model; "
                f"expected one of: {', '.join(known)}",
                fix=f'target_modules = ["{ALL_LINEAR}"]',
            )
    return tuple(layer for layer in shape.layers if any(_matches(layer, target) for target in wanted))


def _matches(layer: Linear, target: str) -> bool:
    return layer.name == target or layer.name.endswith(f".{target}")


def lora_parameters(shape: Shape, *, rank: int, target_modules: Sequence[str] = ()) -> int:
    """Parameters of LoRA adapters: rank x (inputs + outputs) per layer (Hu et al. 2021, arXiv 2106.09685)."""
    return sum(rank * (layer.num_inputs + layer.num_outputs) for layer in targeted_layers(shape, target_modules))


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


def forward_flops_per_token(shape: Shape, row_tokens: int) -> float:
    """FLOPs of one token's forward pass in a row of `row_tokens`: 2 per weight, plus attention over the whole row.

    2 N + 4 L x row x width (Kaplan et al. 2020, arXiv 2001.08361, eq. 2.2; full rows, as dense kernels compute them).
    The head is counted; in an encoder-decoder each token passes one half of the layers.
    """
    share = 0.5 if shape.is_encoder_decoder else 1.0
    weights = shape.linear_parameters * share + shape.vocab_size * shape.width
    return 2.0 * weights + 4.0 * share * shape.num_layers * shape.attention_width * row_tokens


def training_flops_per_token(shape: Shape, row_tokens: int, *, trains_base: bool, adapter_parameters: int = 0) -> float:
    """FLOPs of one token's forward and backward pass.

    The backward pass costs two forward passes when the base is trained, one when it is frozen (no weight gradients);
    adapters cost 6 per parameter.
    """
    passes = 3.0 if trains_base else 2.0
    return passes * forward_flops_per_token(shape, row_tokens) + 6.0 * adapter_parameters
