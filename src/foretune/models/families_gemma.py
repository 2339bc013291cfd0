"""Gemma 3n and 4: inputs per layer, layers that share keys and values, heads of two widths."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Callable

from foretune.models.blocks import FULL, Attention, decoder_shape, gated, grouped_attention, windows
from foretune.models.sizes import Parts, Reader, Shape

__all__ = ["FAMILIES"]


def _gemma4(read: Reader, family: str) -> Shape:
    """Gemma 4: wider heads in the layers that attend in full, inputs per layer, layers that reuse keys and values."""
    width, num_layers = read.size("hidden_size", default=2304), read.size("num_hidden_layers")
    kinds = read.words("layer_types") or tuple(
        FULL if (number + 1) % 6 == 0 or number == num_layers - 1 else "sliding_attention"
        for number in range(num_layers)
    )
    local = grouped_attention(Reader({"head_dim": 256, "num_key_value_heads": 4, **read.config}))
    per_layer = read.count("hidden_size_per_layer_input", default=256 if family == "gemma4_text" else 0)
    first_shared = num_layers - read.count("num_kv_shared_layers")
    has_same_values, ffn = read.flag("attention_k_eq_v"), read.size("intermediate_size")
    wide = _gemma4_wide(read, local, kinds, has_same_values)
    has_experts, parts = read.flag("enable_moe_block"), Parts()
    if per_layer:
        parts.linear("model.per_layer_model_projection", width, num_layers * per_layer)
        parts.loose(per_layer)
        parts.start_blocks()
    for number, kind in enumerate(kinds):
        block, is_full, shares = f"model.layers.{number}", kind == FULL, number >= first_shared
        sizes = wide if is_full else local
        _gemma4_attention(parts, f"{block}.self_attn", width, sizes, read, shares, has_same_values and is_full)
        gated(parts, f"{block}.mlp", width, ffn * (2 if shares and read.flag("use_double_wide_mlp") else 1))
        parts.loose(4 * width)
        if per_layer:
            parts.linear(f"{block}.per_layer_input_gate", width, per_layer)
            parts.linear(f"{block}.per_layer_projection", per_layer, width)
            parts.loose(width)
        if has_experts:
            _gemma4_experts(parts, f"{block}.router", width, read)
        parts.end_block()
    parts.loose(width)
    num_windows = sum(kind == "sliding_attention" for kind in kinds)
    table = read.size("vocab_size_per_layer_input", default=262_144) * num_layers * per_layer
    routed = read.size("moe_intermediate_size") * read.size("top_k_experts") if has_experts else 0
    return decoder_shape(
        read,
        family,
        parts,
        local,
        width=width,
        num_layers=num_layers,
        ffn=ffn + routed,
        is_tied=read.flag("tie_word_embeddings", True),
        extra_embeddings=table,
        has_gate=True,
        num_experts=read.count("num_experts") if has_experts else 0,
        experts_per_token=read.count("top_k_experts") if has_experts else 0,
        attention_width=_mean(local.width, wide.width, num_windows, num_layers),
        kv_width=_mean(local.kv_width, wide.kv_width, num_windows, num_layers),
        window_tokens=read.count("sliding_window", default=512),
        num_window_layers=num_windows,
    )


def _gemma4_wide(read: Reader, local: Attention, kinds: tuple[str, ...], has_same_values: bool) -> Attention:
    """Heads of the layers that attend in full: published files name them, saved ones list them layer by layer."""
    saved = read.config.get("per_layer_config")
    if isinstance(saved, dict) and FULL in kinds:
        read = Reader(next((own for number, own in saved.items() if int(number) == kinds.index(FULL)), {}))
        kv_heads = read.size("num_key_value_heads", default=local.kv_heads)
        return Attention(local.heads, kv_heads, read.size("head_dim", default=local.head))
    kv_heads = read.size("num_global_key_value_heads", default=local.kv_heads) if has_same_values else local.kv_heads
    return Attention(local.heads, kv_heads, read.size("global_head_dim", default=512))


def _mean(local: int, wide: int, num_windows: int, num_layers: int) -> int:
    return (local * num_windows + wide * (num_layers - num_windows)) // num_layers


def _gemma4_attention(
    parts: Parts, name: str, width: int, sizes: Attention, read: Reader, shares: bool, has_same_values: bool
) -> None:
    has_bias = read.flag("attention_bias")
    parts.linear(f"{name}.q_proj", width, sizes.width, has_bias)
    parts.loose(sizes.head)
    if not shares:
        parts.linear(f"{name}.k_proj", width, sizes.kv_width, has_bias)
        parts.loose(sizes.head)
        if not has_same_values:
            parts.linear(f"{name}.v_proj", width, sizes.kv_width, has_bias)
    parts.linear(f"{name}.o_proj", sizes.width, width, has_bias)
    parts.attention_layers += 1


def _gemma4_experts(parts: Parts, name: str, width: int, read: Reader) -> None:
    experts, ffn = read.size("num_experts"), read.size("moe_intermediate_size")
    parts.linear(f"{name}.proj", width, experts)
    parts.routed(3 * width * ffn, num_experts=experts, per_token=read.size("top_k_experts"), router=0)
    parts.loose(4 * width, experts)


def _gemma3n(read: Reader, family: str) -> Shape:
    """Gemma 3n: four streams (AltUp), low-rank residuals (Laurel), inputs per layer, shared keys and values."""
    width, num_layers = read.size("hidden_size", default=2048), read.size("num_hidden_layers", default=35)
    sizes = grouped_attention(
        Reader({"head_dim": 256, "num_key_value_heads": 2, "num_attention_heads": 8, **read.config})
    )
    inner = read.config.get("intermediate_size", 16384)
    widths = [inner] * num_layers if isinstance(inner, int) else list(read.numbers("intermediate_size"))
    streams, rank = read.size("altup_num_inputs", default=4), read.size("laurel_rank", default=64)
    per_layer = read.size("hidden_size_per_layer_input", default=256)
    first_shared, parts = num_layers - read.count("num_kv_shared_layers", default=15), Parts()
    parts.linear("model.per_layer_model_projection", width, num_layers * per_layer)
    for side in ("projections", "unembed_projections"):
        for number in range(streams - 1):
            parts.linear(f"model.altup_{side}.{number}", width, width)
    parts.loose(per_layer)
    parts.start_blocks()
    for number, ffn in enumerate(widths):
        block = f"model.layers.{number}"
        _gemma4_attention(parts, f"{block}.self_attn", width, sizes, read, number >= first_shared, False)
        gated(parts, f"{block}.mlp", width, ffn)
        parts.linear(f"{block}.altup.correction_coefs", streams, streams)
        parts.linear(f"{block}.altup.prediction_coefs", streams, streams * streams)
        parts.linear(f"{block}.altup.modality_router", width, streams)
        parts.linear(f"{block}.laurel.linear_left", width, rank)
        parts.linear(f"{block}.laurel.linear_right", rank, width)
        parts.linear(f"{block}.per_layer_input_gate", width, per_layer)
        parts.linear(f"{block}.per_layer_projection", per_layer, width)
        parts.loose(8 * width)
        parts.end_block()
    parts.loose(width)
    window, num_windows = windows(read, num_layers, 5)
    return decoder_shape(
        read,
        family,
        parts,
        sizes,
        width=width,
        num_layers=num_layers,
        ffn=max(widths),
        is_tied=read.flag("tie_word_embeddings", True),
        extra_embeddings=read.size("vocab_size_per_layer_input", default=262_144) * num_layers * per_layer,
        has_gate=True,
        window_tokens=window,
        num_window_layers=num_windows,
    )


FAMILIES: dict[str, Callable[[Reader, str], Shape]] = {
    "gemma4_text": _gemma4,
    "gemma4_unified_text": _gemma4,
    "gemma3n_text": _gemma3n,
}
