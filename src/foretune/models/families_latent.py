"""Decoders with latent attention: DeepSeek V2 to V4, Kimi K2."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from foretune.models.blocks import Attention, decoder_shape, gated
from foretune.models.experts import add_experts, shared_moe
from foretune.models.sizes import Parts, Reader, Shape

__all__ = ["FAMILIES"]


@dataclass(frozen=True)
class Latent:
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434): queries and keys through narrow products."""

    heads: int
    q_rank: int
    kv_rank: int
    rope: int
    nope: int
    value: int
    has_bias: bool

    @property
    def sizes(self) -> Attention:
        """As ordinary attention: the mean of queries' and values' width, as scores need the one, outputs the other."""
        return Attention(self.heads, self.heads, (self.rope + self.nope + self.value) // 2)

    def add(self, parts: Parts, name: str, width: int) -> None:
        """Adds the products of one block."""
        if self.q_rank:
            parts.linear(f"{name}.q_a_proj", width, self.q_rank, self.has_bias)
            parts.linear(f"{name}.q_b_proj", self.q_rank, self.heads * (self.rope + self.nope))
        else:
            parts.linear(f"{name}.q_proj", width, self.heads * (self.rope + self.nope))
        parts.linear(f"{name}.kv_a_proj_with_mqa", width, self.kv_rank + self.rope, self.has_bias)
        parts.linear(f"{name}.kv_b_proj", self.kv_rank, self.heads * (self.nope + self.value))
        parts.linear(f"{name}.o_proj", self.heads * self.value, width, self.has_bias)
        parts.loose(self.q_rank, self.kv_rank)
        parts.attention_layers += 1


def _latent(read: Reader) -> Latent:
    return Latent(
        heads=read.size("num_attention_heads"),
        q_rank=read.count("q_lora_rank"),
        kv_rank=read.size("kv_lora_rank"),
        rope=read.size("qk_rope_head_dim"),
        nope=read.size("qk_nope_head_dim"),
        value=read.size("v_head_dim"),
        has_bias=read.flag("attention_bias"),
    )


def _deepseek(read: Reader, family: str) -> Shape:
    """DeepSeek V2, V3, R1, V3.2 and Kimi K2; V3.2 adds an indexer that picks the tokens to attend to."""
    width, num_layers = read.size("hidden_size"), read.size("num_hidden_layers")
    latent, moe, parts = _latent(read), shared_moe(read, num_layers), Parts()
    for number in range(num_layers):
        block = f"model.layers.{number}"
        latent.add(parts, f"{block}.self_attn", width)
        if family == "deepseek_v32":
            _indexer(parts, f"{block}.self_attn.indexer", width, latent.q_rank, read)
        if number in moe.dense_layers:
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
        latent.sizes,
        width=width,
        num_layers=num_layers,
        ffn=moe.per_token * moe.ffn + moe.shared_ffn,
        is_tied=read.flag("tie_word_embeddings"),
        has_gate=True,
        num_experts=moe.num_experts,
        experts_per_token=moe.per_token,
    )


def _indexer(parts: Parts, name: str, width: int, q_rank: int, read: Reader) -> None:
    heads, head = read.size("index_n_heads", default=64), read.size("index_head_dim", default=128)
    parts.linear(f"{name}.wq_b", q_rank, heads * head)
    parts.linear(f"{name}.wk", width, head)
    parts.linear(f"{name}.weights_proj", width, heads)
    parts.loose(2 * head)


def _deepseek_v4(read: Reader, family: str) -> Shape:
    """DeepSeek V4: one shared head of keys and values, compressed memories, four residual streams."""
    width, num_layers = read.size("hidden_size"), read.size("num_hidden_layers")
    heads, head = read.size("num_attention_heads"), read.size("head_dim")
    moe = shared_moe(Reader({"n_shared_experts": 1, "num_experts_per_tok": 6, **read.config}), num_layers)
    kinds = read.words("layer_types") or tuple(
        "compressed_sparse_attention" if number >= 2 and number % 2 else "heavily_compressed_attention"
        for number in range(num_layers)
    )
    streams, parts = read.size("hc_mult", default=4), Parts()
    for number, kind in enumerate(kinds):
        block = f"model.layers.{number}"
        _v4_attention(parts, f"{block}.self_attn", width, heads, head, read)
        if kind != "sliding_attention":
            _v4_compressor(parts, f"{block}.self_attn.compressor", width, head, kind, read)
        add_experts(parts, f"{block}.mlp", width, moe)
        mixes = streams * (streams + 2)
        parts.loose(2 * width, 2 * (mixes * streams * width + mixes + 3))
        parts.end_block()
    parts.loose(width, streams * streams * width + streams + 1)
    return decoder_shape(
        read,
        family,
        parts,
        Attention(heads, 1, head),
        width=width,
        num_layers=num_layers,
        ffn=moe.per_token * moe.ffn + moe.shared_ffn,
        is_tied=read.flag("tie_word_embeddings"),
        has_gate=True,
        num_experts=moe.num_experts,
        experts_per_token=moe.per_token,
        window_tokens=read.count("sliding_window", default=128),
        num_window_layers=num_layers,
    )


def _v4_attention(parts: Parts, name: str, width: int, heads: int, head: int, read: Reader) -> None:
    rank, groups, o_rank = read.size("q_lora_rank"), read.size("o_groups", default=8), read.size("o_lora_rank")
    parts.linear(f"{name}.q_a_proj", width, rank)
    parts.linear(f"{name}.q_b_proj", rank, heads * head)
    parts.linear(f"{name}.kv_proj", width, head)
    parts.linear(f"{name}.o_a_proj", heads * head // groups, groups * o_rank)
    parts.linear(f"{name}.o_b_proj", groups * o_rank, width)
    parts.loose(heads, rank, head)
    parts.attention_layers += 1


def _v4_compressor(parts: Parts, name: str, width: int, head: int, kind: str, read: Reader) -> None:
    """Memories of 4 tokens that overlap, with an indexer, or of 128 that do not."""
    is_sparse = kind == "compressed_sparse_attention"
    inner, rate = (2 * head, 4) if is_sparse else (head, 128)
    parts.linear(f"{name}.kv_proj", width, inner)
    parts.linear(f"{name}.gate_proj", width, inner)
    parts.loose(rate * inner, head)
    if is_sparse:
        heads, index = read.size("index_n_heads", default=64), read.size("index_head_dim", default=128)
        parts.linear(f"{name}.indexer.kv_proj", width, 2 * index)
        parts.linear(f"{name}.indexer.gate_proj", width, 2 * index)
        parts.linear(f"{name}.indexer.q_b_proj", read.size("q_lora_rank"), heads * index)
        parts.linear(f"{name}.indexer.scorer.weights_proj", width, heads)
        parts.loose(2 * rate * index, index)


FAMILIES: dict[str, Callable[[Reader, str], Shape]] = {
    "deepseek_v2": _deepseek,
    "deepseek_v3": _deepseek,
    "deepseek_v32": _deepseek,
    "deepseek_v4": _deepseek_v4,
    "kimi_k2": _deepseek,
}
