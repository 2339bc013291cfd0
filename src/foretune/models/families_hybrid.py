"""Decoders that mix attention with recurrence: Nemotron-H, Granite 4, Qwen3-Next and Qwen3.5, LFM2."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from foretune.errors import ConfigError
from foretune.models.blocks import FULL, Attention, decoder_shape, gated, grouped_attention
from foretune.models.experts import Moe, add_experts, qwen2_moe, shared_moe
from foretune.models.sizes import Parts, Reader, Shape

__all__ = ["FAMILIES"]

LINEAR = "linear_attention"
NEMOTRON_BLOCKS = {"M": LINEAR, "E": "moe", "*": FULL, "-": "mlp"}


@dataclass(frozen=True)
class Mamba:
    """A Mamba-2 mixer (Dao and Gu 2024, arXiv 2405.21060)."""

    heads: int
    head: int
    state: int
    groups: int
    kernel: int
    chunk: int
    has_bias: bool
    has_conv_bias: bool

    def add(self, parts: Parts, name: str, width: int) -> None:
        """Adds one mixer; its scan costs a product with the state and one within each chunk."""
        inner, conv = self.heads * self.head, self.heads * self.head + 2 * self.groups * self.state
        parts.linear(f"{name}.in_proj", width, inner + conv + self.heads, self.has_bias)
        parts.linear(f"{name}.out_proj", inner, width, self.has_bias)
        parts.loose(3 * self.heads, conv * (self.kernel + (1 if self.has_conv_bias else 0)), inner)
        parts.state_flops += 4 * inner * self.state + self.chunk * (self.groups * self.state + inner)


def _add_attention(parts: Parts, name: str, width: int, sizes: Attention, has_bias: bool = False) -> None:
    parts.linear(f"{name}.q_proj", width, sizes.width, has_bias)
    parts.linear(f"{name}.k_proj", width, sizes.kv_width, has_bias)
    parts.linear(f"{name}.v_proj", width, sizes.kv_width, has_bias)
    parts.linear(f"{name}.o_proj", sizes.width, width, has_bias)
    parts.attention_layers += 1


def _block_kinds(read: Reader, num_layers: int) -> tuple[str, ...]:
    """Kind of each block; every fourth attends in full where the config does not say."""
    kinds = read.words("layer_types") or read.words("layers_block_type") or read.words("layer_type")
    if kinds:
        return tuple(LINEAR if kind == "mamba" else FULL if kind == "attention" else kind for kind in kinds)
    every = read.size("full_attention_interval", default=4)
    return tuple(LINEAR if (number + 1) % every else FULL for number in range(num_layers))


def _nemotron_h(read: Reader, family: str) -> Shape:
    """Nemotron-H and Nemotron 3: each block is one of state space, attention, network or experts."""
    width, sizes, parts = read.size("hidden_size"), grouped_attention(read), Parts()
    pattern = str(read.config.get("hybrid_override_pattern") or "")
    unknown = set(pattern) - set(NEMOTRON_BLOCKS)
    if unknown:
        raise ConfigError(f"config.json: `hybrid_override_pattern` has {sorted(unknown)}, expected M, E, * and -")
    kinds = tuple(NEMOTRON_BLOCKS[letter] for letter in pattern) or _block_kinds(read, 4)
    mamba = Mamba(
        heads=read.size("mamba_num_heads", default=128),
        head=read.size("mamba_head_dim", default=64),
        state=read.size("ssm_state_size", default=128),
        groups=read.size("n_groups", "mamba_n_groups", default=8),
        kernel=read.size("conv_kernel", "mamba_d_conv", default=4),
        chunk=read.size("chunk_size", default=128),
        has_bias=read.flag("use_bias"),
        has_conv_bias=read.flag("use_conv_bias", True),
    )
    moe, shared = shared_moe(read, 0) if "moe" in kinds else None, read.count("moe_shared_expert_intermediate_size")
    for number, kind in enumerate(kinds):
        name = f"model.layers.{number}.mixer"
        if kind == LINEAR:
            mamba.add(parts, name, width)
        elif kind == FULL:
            _add_attention(parts, name, width, sizes)
        elif moe is not None and kind == "moe":
            _nemotron_experts(parts, name, width, read, moe, shared)
        else:
            _two_products(parts, name, width, read.size("intermediate_size"), read.flag("mlp_bias"))
        parts.loose(width)
        parts.end_block()
    parts.loose(width)
    return decoder_shape(
        read,
        family,
        parts,
        sizes,
        width=width,
        num_layers=len(kinds),
        ffn=moe.per_token * moe.ffn + shared if moe else read.size("intermediate_size"),
        is_tied=read.flag("tie_word_embeddings"),
        num_experts=moe.num_experts if moe else 0,
        experts_per_token=moe.per_token if moe else 0,
    )


def _two_products(parts: Parts, name: str, width: int, ffn: int, has_bias: bool) -> None:
    parts.linear(f"{name}.up_proj", width, ffn, has_bias)
    parts.linear(f"{name}.down_proj", ffn, width, has_bias)


def _nemotron_experts(parts: Parts, name: str, width: int, read: Reader, moe: Moe, shared: int) -> None:
    """Experts of two products, in a narrower latent space where the config has one."""
    latent, has_bias = read.count("moe_latent_size"), read.flag("mlp_bias")
    each = 2 * (latent or width) * moe.ffn
    parts.routed(each, num_experts=moe.num_experts, per_token=moe.per_token, router=moe.num_experts * width)
    _two_products(parts, f"{name}.shared_experts", width, shared, has_bias)
    if latent:
        parts.linear(f"{name}.fc1_latent_proj", width, latent, has_bias)
        parts.linear(f"{name}.fc2_latent_proj", latent, width, has_bias)


@dataclass(frozen=True)
class DeltaNet:
    """A gated delta-rule mixer (Yang et al. 2024, arXiv 2412.06464), as in Qwen3-Next and Qwen3.5."""

    key_heads: int
    value_heads: int
    key_head: int
    value_head: int
    kernel: int

    def add(self, parts: Parts, name: str, width: int, *, is_fused: bool) -> None:
        """Adds one mixer; Qwen3-Next fuses its input products, Qwen3.5 does not."""
        keys, values = self.key_heads * self.key_head, self.value_heads * self.value_head
        if is_fused:
            parts.linear(f"{name}.in_proj_qkvz", width, 2 * keys + 2 * values)
            parts.linear(f"{name}.in_proj_ba", width, 2 * self.value_heads)
        else:
            parts.linear(f"{name}.in_proj_qkv", width, 2 * keys + values)
            parts.linear(f"{name}.in_proj_z", width, values)
            parts.linear(f"{name}.in_proj_b", width, self.value_heads)
            parts.linear(f"{name}.in_proj_a", width, self.value_heads)
        parts.linear(f"{name}.out_proj", values, width)
        parts.loose(2 * self.value_heads, (2 * keys + values) * self.kernel, self.value_head)
        parts.state_flops += 6 * values * self.key_head


def _qwen_hybrid(read: Reader, family: str) -> Shape:
    """Qwen3-Next and Qwen3.5: three blocks with a delta rule, then one with gated attention."""
    width, num_layers = read.size("hidden_size"), read.size("num_hidden_layers")
    kinds, sizes = _block_kinds(read, num_layers), grouped_attention(Reader({"head_dim": 256, **read.config}))
    mixer = DeltaNet(
        key_heads=read.size("linear_num_key_heads", default=16),
        value_heads=read.size("linear_num_value_heads", default=32),
        key_head=read.size("linear_key_head_dim", default=128),
        value_head=read.size("linear_value_head_dim", default=128),
        kernel=read.size("linear_conv_kernel_dim", default=4),
    )
    has_experts = family != "qwen3_5_text"
    moe = _qwen_hybrid_moe(read, num_layers) if has_experts else None
    parts, has_bias = Parts(), read.flag("attention_bias")
    for number, kind in enumerate(kinds):
        block = f"model.layers.{number}"
        if kind == FULL:
            name = f"{block}.self_attn"
            parts.linear(f"{name}.q_proj", width, 2 * sizes.width, has_bias)  # queries and their gate
            parts.linear(f"{name}.k_proj", width, sizes.kv_width, has_bias)
            parts.linear(f"{name}.v_proj", width, sizes.kv_width, has_bias)
            parts.linear(f"{name}.o_proj", sizes.width, width, has_bias)
            parts.loose(2 * sizes.head)
            parts.attention_layers += 1
        else:
            mixer.add(parts, f"{block}.linear_attn", width, is_fused=family == "qwen3_next")
        if moe is None or number in moe.dense_layers:
            gated(parts, f"{block}.mlp", width, read.size("intermediate_size"))
        else:
            add_experts(parts, f"{block}.mlp", width, moe)
        parts.loose(2 * width)
        parts.end_block()
    parts.loose(width)
    return decoder_shape(
        read,
        family,
        parts,
        sizes,
        width=width,
        num_layers=num_layers,
        ffn=moe.per_token * moe.ffn + moe.shared_ffn if moe else read.size("intermediate_size"),
        is_tied=read.flag("tie_word_embeddings"),
        has_gate=True,
        num_experts=moe.num_experts if moe else 0,
        experts_per_token=moe.per_token if moe else 0,
    )


def _qwen_hybrid_moe(read: Reader, num_layers: int) -> Moe:
    next_like = {"num_experts": 512, "num_experts_per_tok": 10, "shared_expert_intermediate_size": 512}
    return qwen2_moe(Reader({**next_like, **read.config}), num_layers)


def _granite_hybrid(read: Reader, family: str) -> Shape:
    """Granite 4: Mamba-2 or attention, then a shared network and, in some sizes, experts."""
    width, num_layers = read.size("hidden_size"), read.size("num_hidden_layers")
    sizes, has_bias, parts = grouped_attention(read), read.flag("attention_bias"), Parts()
    kinds = read.words("layer_types") or read.words("layers_block_type")
    experts, shared = read.count("num_local_experts", default=8), read.size("shared_intermediate_size", default=1024)
    per_token, ffn = read.count("num_experts_per_tok", default=2), read.size("intermediate_size")
    mamba = Mamba(
        heads=read.size("mamba_n_heads", default=128),
        head=read.size("mamba_d_head", default=64),
        state=read.size("mamba_d_state", default=256),
        groups=read.size("mamba_n_groups", default=1),
        kernel=read.size("mamba_d_conv", default=4),
        chunk=read.size("mamba_chunk_size", default=256),
        has_bias=read.flag("mamba_proj_bias"),
        has_conv_bias=read.flag("mamba_conv_bias", True),
    )
    for number in range(num_layers):
        block = f"model.layers.{number}"
        if kinds and kinds[number] in ("attention", FULL):
            _add_attention(parts, f"{block}.self_attn", width, sizes, has_bias)
        else:
            mamba.add(parts, f"{block}.mamba", width)
        if experts:
            each = 3 * width * ffn
            parts.routed(each, num_experts=experts, per_token=per_token, router=experts * width)
        parts.linear(f"{block}.shared_mlp.input_linear", width, 2 * shared)
        parts.linear(f"{block}.shared_mlp.output_linear", shared, width)
        parts.loose(2 * width)
        parts.end_block()
    parts.loose(width)
    return decoder_shape(
        read,
        family,
        parts,
        sizes,
        width=width,
        num_layers=num_layers,
        ffn=(per_token * ffn if experts else 0) + shared,
        is_tied=read.flag("tie_word_embeddings"),
        has_gate=True,
        num_experts=experts,
        experts_per_token=per_token if experts else 0,
    )


def _lfm2(read: Reader, family: str) -> Shape:
    """LFM2: short convolutions and attention."""
    width, num_layers = read.size("hidden_size"), read.size("num_hidden_layers")
    sizes, ffn, parts = grouped_attention(read), read.size("intermediate_size", "block_ff_dim"), Parts()
    if read.flag("block_auto_adjust_ff_dim", True):
        multiple = read.size("block_multiple_of", default=256)
        factor = float(read.config.get("block_ffn_dim_multiplier") or 1.0)
        ffn = -(-int(factor * (2 * ffn // 3)) // multiple) * multiple
    kernel, has_bias = read.size("conv_L_cache", default=3), read.flag("conv_bias")
    full = read.numbers("full_attn_idxs")
    kinds = read.words("layer_types") or tuple(
        FULL if not full or number in full else "conv" for number in range(num_layers)
    )
    for number, kind in enumerate(kinds):
        block = f"model.layers.{number}"
        if kind == FULL:
            name = f"{block}.self_attn"
            parts.linear(f"{name}.q_proj", width, sizes.width)
            parts.linear(f"{name}.k_proj", width, sizes.kv_width)
            parts.linear(f"{name}.v_proj", width, sizes.kv_width)
            parts.linear(f"{name}.out_proj", sizes.width, width)
            parts.loose(2 * sizes.head)
            parts.attention_layers += 1
        else:
            parts.linear(f"{block}.conv.in_proj", width, 3 * width, has_bias)
            parts.linear(f"{block}.conv.out_proj", width, width, has_bias)
            parts.loose(width * (kernel + (1 if has_bias else 0)))
        for name, inputs, outputs in (("w1", width, ffn), ("w3", width, ffn), ("w2", ffn, width)):
            parts.linear(f"{block}.feed_forward.{name}", inputs, outputs)
        parts.loose(2 * width)
        parts.end_block()
    parts.loose(width)
    is_tied = read.flag("tie_word_embeddings", read.flag("tie_embedding", True))
    return decoder_shape(
        read, family, parts, sizes, width=width, num_layers=num_layers, ffn=ffn, is_tied=is_tied, has_gate=True
    )


FAMILIES: dict[str, Callable[[Reader, str], Shape]] = {
    "nemotron_h": _nemotron_h,
    "qwen3_next": _qwen_hybrid,
    "qwen3_5_text": _qwen_hybrid,
    "qwen3_5_moe_text": _qwen_hybrid,
    "granitemoehybrid": _granite_hybrid,
    "lfm2": _lfm2,
}
