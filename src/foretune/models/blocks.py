"""What the decoders of all families share: attention sizes, gated networks, windows, and the finished shape."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from foretune.models.sizes import Parts, Reader, Shape

__all__ = ["FULL", "Attention", "decoder_shape", "gated", "grouped_attention", "windows"]

FULL = "full_attention"


class Attention(NamedTuple):
    """Heads of queries, heads of keys and values, and the width of one."""

    heads: int
    kv_heads: int
    head: int

    @property
    def width(self) -> int:
        """Width of all queries."""
        return self.heads * self.head

    @property
    def kv_width(self) -> int:
        """Width of all keys, which is that of all values."""
        return self.kv_heads * self.head


def grouped_attention(read: Reader) -> Attention:
    """Heads by their usual names."""
    heads = read.size("num_attention_heads")
    head = read.size("head_dim", default=max(1, read.size("hidden_size") // heads))
    return Attention(heads, read.size("num_key_value_heads", default=heads), head)


def gated(parts: Parts, name: str, width: int, ffn: int, has_bias: bool = False) -> None:
    """A feed-forward network of three products: gate, up, down."""
    parts.linear(f"{name}.gate_proj", width, ffn, has_bias)
    parts.linear(f"{name}.up_proj", width, ffn, has_bias)
    parts.linear(f"{name}.down_proj", ffn, width, has_bias)


def windows(
    read: Reader, num_layers: int, share: Literal["none", "all"] | int, flag: str = ""
) -> tuple[int | None, int]:
    """Tokens of the attention window and the number of layers that have it; (None, 0) without one.

    `layer_types` of the config decides; else `share`: no layer, all, or all but every n-th. `flag` names a setting that
    must be on.
    """
    tokens = read.count("sliding_window", "attention_chunk_size")
    if not tokens or (flag and not read.flag(flag)):
        return None, 0
    kinds = read.words("layer_types")
    if kinds:
        number = sum(kind in ("sliding_attention", "chunked_attention") for kind in kinds)
    elif isinstance(share, int):
        every = read.size("sliding_window_pattern", "_sliding_window_pattern", default=share)
        number = num_layers - num_layers // every
    else:
        number = num_layers if share == "all" else 0
    return (tokens, number) if number else (None, 0)


def decoder_shape(
    read: Reader,
    family: str,
    parts: Parts,
    attention: Attention,
    *,
    width: int,
    num_layers: int,
    ffn: int,
    is_tied: bool,
    has_head_bias: bool = False,
    max_len: int | None = -1,
    embedding_width: int = 0,
    extra_embeddings: int = 0,
    **others: Any,
) -> Shape:
    """The shape of a decoder from its parts; `others` are further fields of Shape.

    `max_len` -1 takes the config's; `embedding_width` 0 is the model's own.
    """
    vocab, embedded = read.size("vocab_size"), embedding_width or width
    others.setdefault("attention_width", attention.width)
    others.setdefault("kv_width", attention.kv_width)
    return Shape(
        family=family,
        num_layers=num_layers,
        num_heads=attention.heads,
        num_kv_heads=attention.kv_heads,
        width=width,
        ffn_width=ffn,
        vocab_size=vocab,
        max_len=read.size("max_position_embeddings", default=2048) if max_len == -1 else max_len,
        embedding_parameters=vocab * embedded + extra_embeddings,
        head_parameters=vocab * (embedded + (1 if has_head_bias else 0)),
        other_parameters=parts.other,
        layers=tuple(parts.layers),
        is_tied=is_tied,
        block_parameters=tuple(parts.blocks),
        num_attention_layers=parts.attention_layers,
        num_expert_layers=parts.expert_layers,
        state_flops=parts.state_flops,
        expert_parameters=parts.experts,
        active_expert_parameters=parts.active_experts,
        router_parameters=parts.routers,
        **others,
    )
