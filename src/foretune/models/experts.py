"""Routed experts: how many a model has, how wide they are, and which of its blocks have them, by family."""

# SPDX-License-Identifier: Apache-2.0
#
# transformers 5 keeps the experts of a block in stacked tensors, not in linear layers: PEFT's `all-linear` passes them.
from __future__ import annotations

from dataclasses import dataclass, replace

from foretune.models.blocks import gated
from foretune.models.sizes import Parts, Reader

__all__ = [
    "Moe",
    "add_experts",
    "gpt_oss_moe",
    "llama4_moe",
    "phi_moe",
    "plain_moe",
    "qwen2_moe",
    "qwen_moe",
    "shared_moe",
]


@dataclass(frozen=True)
class Moe:
    """The experts of a model: `ffn` is the inner width of one, `shared_ffn` that of those every token passes."""

    num_experts: int
    per_token: int
    ffn: int
    shared_ffn: int = 0
    shared_name: str = "shared_expert"
    has_shared_gate: bool = False
    has_bias: bool = False
    dense_layers: frozenset[int] = frozenset()
    dense_ffn: int = 0
    block: str = "mlp"
    linear_router: str = ""  # name of the router where it is a linear layer


def add_experts(parts: Parts, name: str, width: int, moe: Moe) -> None:
    each = 3 * width * moe.ffn + (2 * moe.ffn + width if moe.has_bias else 0)
    router = moe.num_experts * (width + (1 if moe.has_bias else 0))
    if moe.linear_router:
        parts.linear(f"{name}.{moe.linear_router}", width, moe.num_experts)
        router = 0
    parts.routed(each, num_experts=moe.num_experts, per_token=moe.per_token, router=router)
    if moe.shared_ffn:
        gated(parts, f"{name}.{moe.shared_name}", width, moe.shared_ffn)
    if moe.has_shared_gate:
        parts.linear(f"{name}.shared_expert_gate", width, 1)


def plain_moe(read: Reader, num_layers: int) -> Moe:
    """Mixtral, OLMoE, Granite-MoE, MiniMax: every block has experts of the usual inner width."""
    experts = read.size("num_local_experts", "num_experts", default=8)
    return Moe(experts, read.size("num_experts_per_tok", default=2), read.size("intermediate_size"))


def phi_moe(read: Reader, num_layers: int) -> Moe:
    """Phi-MoE: as Mixtral, with a linear layer as router."""
    return replace(plain_moe(read, num_layers), linear_router="router")


def gpt_oss_moe(read: Reader, num_layers: int) -> Moe:
    per_token = read.size("num_experts_per_tok", "experts_per_token", default=4)
    return Moe(read.size("num_local_experts", default=128), per_token, read.size("intermediate_size"), has_bias=True)


def qwen_moe(read: Reader, num_layers: int) -> Moe:
    step, plain = read.size("decoder_sparse_step", default=1), read.numbers("mlp_only_layers")
    dense = frozenset(n for n in range(num_layers) if n in plain or (n + 1) % step)
    experts = read.size("num_experts", "num_local_experts", default=128)
    per_token = read.size("num_experts_per_tok", default=8)
    return Moe(experts, per_token, read.size("moe_intermediate_size"), dense_layers=dense)


def qwen2_moe(read: Reader, num_layers: int) -> Moe:
    shared = read.size("shared_expert_intermediate_size", default=5632)
    routed = replace(qwen_moe(read, num_layers), shared_ffn=shared, has_shared_gate=True)
    given = read.size("num_experts", "num_local_experts", default=60)
    return replace(routed, num_experts=given, per_token=read.size("num_experts_per_tok", default=4))


def shared_moe(read: Reader, num_layers: int) -> Moe:
    """DeepSeek's and GLM's experts: the first blocks are dense, some experts serve every token."""
    ffn = read.size("moe_intermediate_size")
    return Moe(
        num_experts=read.size("n_routed_experts", "num_local_experts", "num_experts"),
        per_token=read.size("num_experts_per_tok", default=8),
        ffn=ffn,
        shared_ffn=ffn * read.count("n_shared_experts"),
        shared_name="shared_experts",
        dense_layers=frozenset(range(min(num_layers, read.count("first_k_dense_replace")))),
    )


def llama4_moe(read: Reader, num_layers: int) -> Moe:
    step = read.size("interleave_moe_layer_step", default=1)
    sparse = read.numbers("moe_layers") or tuple(range(step - 1, num_layers, step))
    ffn = read.size("intermediate_size")
    return Moe(
        num_experts=read.size("num_local_experts", default=16),
        per_token=read.size("num_experts_per_tok", default=1),
        ffn=ffn,
        shared_ffn=ffn,
        dense_layers=frozenset(range(num_layers)) - frozenset(sparse),
        dense_ffn=read.size("intermediate_size_mlp", default=16384),
        block="feed_forward",
        linear_router="router",
    )
