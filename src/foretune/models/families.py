"""Which family reads which config.json: Llama-like decoders, dense and with experts, and the table of them all."""

# SPDX-License-Identifier: Apache-2.0
#
# Names and counts are those of the transformers classes (5.23); families that ship their own code (ChatGLM, Baichuan,
# the first Qwen) are named as in that code.
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from foretune.models import families_gemma, families_gpt, families_hybrid, families_latent
from foretune.models.blocks import Attention, decoder_shape, windows
from foretune.models.experts import (
    Moe,
    add_experts,
    gpt_oss_moe,
    llama4_moe,
    phi_moe,
    plain_moe,
    qwen2_moe,
    qwen_moe,
    shared_moe,
)
from foretune.models.sizes import Parts, Reader, Shape

__all__ = ["FAMILIES", "LLAMA", "llama_like"]

Family = Callable[[Reader, str], Shape]


@dataclass(frozen=True)
class Flag:
    """A setting that the config may change."""

    name: str
    default: bool = False

    def read(self, read: Reader) -> bool:
        """The config's word, else the default."""
        return read.flag(self.name, self.default)


@dataclass(frozen=True)
class Style:
    """How the blocks of a family differ from Llama's.

    `norms` counts the block's norms as wide as the model, `qk_norm` the norms of queries and keys: one for all heads,
    or one as wide as all of them. `window` is the share of layers with a sliding window: none, all, or all but every
    n-th.
    """

    kv_heads: int = 0  # where the config names none; 0 = as many as heads
    head: int = 0  # likewise; 0 = width / heads
    is_tied: bool = False
    qkv_bias: bool | Flag = False
    output_bias: bool | Flag = False
    mlp_bias: bool | Flag = False
    head_bias: bool | Flag = False
    qk_norm: Literal["none", "head", "wide"] | Flag = "none"
    norms: int = 2
    norm_bias: bool = False
    has_final_norm: bool = True
    attention: Literal["split", "fused"] = "split"
    output_name: str = "o_proj"
    mlp: Literal["gated", "fused", "plain"] = "gated"
    mlp_names: tuple[str, str] = ("up_proj", "down_proj")
    loose: int = 0  # single parameters of a block
    sinks: bool = False  # one parameter a head
    window: Literal["none", "all"] | int = "none"
    window_flag: str = ""
    moe: Callable[[Reader, int], Moe] | None = None
    is_exact: bool = True


def _on(setting: bool | Flag, read: Reader) -> bool:
    return setting.read(read) if isinstance(setting, Flag) else setting


def llama_like(read: Reader, family: str, style: Style) -> Shape:
    """The shape of a decoder whose blocks are attention and a feed-forward network behind norms."""
    width, num_layers = read.size("hidden_size"), read.size("num_hidden_layers")
    attention = _attention(read, width, style)
    moe = style.moe(read, num_layers) if style.moe else None
    ffn = moe.ffn if moe and not read.config.get("intermediate_size") else read.size("intermediate_size")
    parts = Parts()
    for number in range(num_layers):
        block = f"model.layers.{number}"
        _attention_layers(parts, f"{block}.self_attn", attention, width, read, style)
        if moe is None or number in moe.dense_layers:
            _mlp(
                parts,
                f"{block}.{moe.block if moe else 'mlp'}",
                width,
                moe.dense_ffn or ffn if moe else ffn,
                read,
                style,
            )
        else:
            add_experts(parts, f"{block}.{moe.block}", width, moe)
        parts.loose(style.norms * width * (2 if style.norm_bias else 1), style.loose)
        parts.end_block()
    parts.loose(width * (2 if style.norm_bias else 1) if style.has_final_norm else 0)
    window, num_windows = windows(read, num_layers, style.window, style.window_flag)
    if moe:
        ffn = moe.per_token * moe.ffn + moe.shared_ffn
    return decoder_shape(
        read,
        family,
        parts,
        attention,
        width=width,
        num_layers=num_layers,
        ffn=ffn,
        is_tied=read.flag("tie_word_embeddings", style.is_tied),
        has_head_bias=_on(style.head_bias, read),
        has_gate=style.mlp != "plain",
        num_experts=moe.num_experts if moe else 0,
        experts_per_token=moe.per_token if moe else 0,
        window_tokens=window,
        num_window_layers=num_windows,
        is_exact=style.is_exact,
    )


def _attention(read: Reader, width: int, style: Style) -> Attention:
    heads = read.size("num_attention_heads")
    kv_heads = read.size("num_key_value_heads", default=style.kv_heads or heads)
    return Attention(heads, kv_heads, read.size("head_dim", default=style.head or max(1, width // heads)))


def _attention_layers(parts: Parts, name: str, sizes: Attention, width: int, read: Reader, style: Style) -> None:
    qkv_bias, output_bias = _on(style.qkv_bias, read), _on(style.output_bias, read)
    if style.attention == "fused":
        parts.linear(f"{name}.qkv_proj", width, sizes.width + 2 * sizes.kv_width, qkv_bias)
    else:
        parts.linear(f"{name}.q_proj", width, sizes.width, qkv_bias)
        parts.linear(f"{name}.k_proj", width, sizes.kv_width, qkv_bias)
        parts.linear(f"{name}.v_proj", width, sizes.kv_width, qkv_bias)
    parts.linear(f"{name}.{style.output_name}", sizes.width, width, output_bias)
    norm = ("head" if style.qk_norm.read(read) else "none") if isinstance(style.qk_norm, Flag) else style.qk_norm
    if norm == "wide":
        parts.loose(sizes.width + sizes.kv_width)
    elif norm == "head":
        parts.loose(2 * sizes.head)
    parts.loose(sizes.heads if style.sinks else 0)
    parts.attention_layers += 1


def _mlp(parts: Parts, name: str, width: int, ffn: int, read: Reader, style: Style) -> None:
    has_bias = _on(style.mlp_bias, read)
    up, down = style.mlp_names
    if style.mlp == "fused":
        parts.linear(f"{name}.gate_up_proj", width, 2 * ffn, has_bias)
    elif style.mlp == "gated":
        parts.linear(f"{name}.gate_proj", width, ffn, has_bias)
    if style.mlp != "fused":
        parts.linear(f"{name}.{up}", width, ffn, has_bias)
    parts.linear(f"{name}.{down}", ffn, width, has_bias)


LLAMA_BIAS, BIAS = Flag("attention_bias"), Flag("attention_bias", True)
USE_BIAS = Flag("use_bias")
LLAMA = Style(qkv_bias=LLAMA_BIAS, output_bias=LLAMA_BIAS, mlp_bias=Flag("mlp_bias"))
ATTENTION_BIAS = Style(qkv_bias=LLAMA_BIAS, output_bias=LLAMA_BIAS)
GEMMA = replace(ATTENTION_BIAS, is_tied=True, kv_heads=16, head=256)
GEMMA_2 = replace(GEMMA, norms=4, kv_heads=4, window=2)
STYLES: dict[str, Style] = {
    "llama": LLAMA,
    "internlm3": LLAMA,
    "mistral": Style(kv_heads=8, window="all"),
    "ministral": Style(kv_heads=8, window="all"),
    "ministral3": Style(kv_heads=8, window="all"),
    "mixtral": Style(kv_heads=8, window="all", moe=plain_moe),
    "qwen2": Style(kv_heads=32, qkv_bias=True, window="all", window_flag="use_sliding_window"),
    "qwen2_moe": Style(kv_heads=16, qkv_bias=Flag("qkv_bias", True), moe=qwen2_moe),
    "qwen3": replace(ATTENTION_BIAS, kv_heads=32, head=128, qk_norm="head"),
    "qwen3_moe": replace(ATTENTION_BIAS, kv_heads=4, qk_norm="head", moe=qwen_moe),
    "gemma": GEMMA,
    "gemma2": GEMMA_2,
    "gemma3_text": replace(GEMMA_2, qk_norm="head", window=6),
    "phi": Style(
        qkv_bias=True,
        output_bias=True,
        mlp_bias=True,
        head_bias=True,
        norms=1,
        norm_bias=True,
        output_name="dense",
        mlp="plain",
        mlp_names=("fc1", "fc2"),
    ),
    "phi3": Style(attention="fused", mlp="fused", window="all"),
    "phimoe": replace(ATTENTION_BIAS, kv_heads=8, norm_bias=True, head_bias=Flag("lm_head_bias"), moe=phi_moe),
    "smollm3": replace(LLAMA, is_tied=True, kv_heads=4, window_flag="use_sliding_window"),
    "olmo": replace(ATTENTION_BIAS, norms=0, has_final_norm=False),
    "olmo2": replace(ATTENTION_BIAS, qk_norm="wide"),
    "olmo3": replace(ATTENTION_BIAS, qk_norm="wide", window=4),
    "olmoe": replace(ATTENTION_BIAS, qk_norm="wide", moe=plain_moe),
    "gpt_oss": Style(kv_heads=8, head=64, qkv_bias=BIAS, output_bias=BIAS, sinks=True, window=2, moe=gpt_oss_moe),
    "glm": Style(kv_heads=2, head=128, qkv_bias=BIAS, mlp="fused"),
    "glm4": Style(kv_heads=2, head=128, qkv_bias=BIAS, mlp="fused", norms=4),
    "glm4_moe": Style(kv_heads=8, qkv_bias=LLAMA_BIAS, qk_norm=Flag("use_qk_norm"), moe=shared_moe),
    "stablelm": Style(qkv_bias=Flag("use_qkv_bias"), norm_bias=True),
    "nemotron": Style(
        qkv_bias=LLAMA_BIAS, output_bias=LLAMA_BIAS, mlp_bias=Flag("mlp_bias"), norm_bias=True, mlp="plain"
    ),
    "apertus": replace(ATTENTION_BIAS, qk_norm="head", mlp="plain", loose=2),
    "arcee": replace(LLAMA, mlp="plain"),
    "granite": LLAMA,
    "granitemoe": replace(ATTENTION_BIAS, moe=plain_moe),
    "seed_oss": Style(
        kv_heads=8, head=128, qkv_bias=BIAS, output_bias=Flag("attention_out_bias"), mlp_bias=LLAMA.mlp_bias
    ),
    "cohere": replace(ATTENTION_BIAS, is_tied=True, norms=1),
    "cohere2": replace(ATTENTION_BIAS, is_tied=True, norms=1, window=4),
    "starcoder2": Style(
        kv_heads=2,
        is_tied=True,
        qkv_bias=Flag("use_bias", True),
        output_bias=Flag("use_bias", True),
        mlp_bias=Flag("use_bias", True),
        norm_bias=True,
        mlp="plain",
        mlp_names=("c_fc", "c_proj"),
        window="all",
    ),
    "nanochat": replace(ATTENTION_BIAS, norms=0, has_final_norm=False, mlp="plain", mlp_names=("fc1", "fc2")),
    "llama4_text": replace(ATTENTION_BIAS, kv_heads=8, head=128, window=4, moe=llama4_moe),
    "exaone4": Style(qk_norm="head", window=4),
    "ernie4_5": Style(
        kv_heads=2,
        head=128,
        is_tied=True,
        qkv_bias=Flag("use_bias"),
        output_bias=Flag("use_bias"),
        mlp_bias=Flag("use_bias"),
    ),
    "minimax_m2": Style(kv_heads=8, head=128, qk_norm="wide", moe=plain_moe),
}


# Language models inside others that see, by the model_type of their part of the config or of the older flat file.
WITHIN = {
    "qwen2_vl": "qwen2",
    "qwen2_vl_text": "qwen2",
    "qwen2_5_vl": "qwen2",
    "qwen2_5_vl_text": "qwen2",
    "qwen3_vl_text": "qwen3",
    "qwen3_vl_moe_text": "qwen3_moe",
}
# Sizes that published files leave out because they are the family's own.
DEFAULTS: dict[str, dict[str, int]] = {
    "gemma3_text": {"num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 262_208},
}


def _styled(read: Reader, family: str) -> Shape:
    family = WITHIN.get(family, family)
    full = Reader({**DEFAULTS.get(family, {}), **read.config})
    return llama_like(full, family, STYLES[family])


FAMILIES: dict[str, Family] = {
    **dict.fromkeys([*STYLES, *WITHIN], _styled),
    **families_gpt.FAMILIES,
    **families_latent.FAMILIES,
    **families_hybrid.FAMILIES,
    **families_gemma.FAMILIES,
}
