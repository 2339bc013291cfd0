"""The sizes of a model, one linear layer at a time, and the reader that takes them from a config.json."""

# SPDX-License-Identifier: Apache-2.0
#
# Counted like `sum(p.numel() for p in model.parameters())`: tied weights once, buffers not at all.
from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from foretune.errors import ConfigError

__all__ = ["Linear", "Parts", "Reader", "Shape"]


@dataclass(frozen=True)
class Linear:
    """One linear layer with its full dotted name."""

    name: str
    num_inputs: int
    num_outputs: int
    has_bias: bool = False

    @cached_property
    def last_name(self) -> str:
        """The last part of its name, by which adapters choose layers."""
        return self.name.rpartition(".")[2]

    @property
    def weights(self) -> int:
        """Weights alone, which is what quantisation shrinks."""
        return self.num_inputs * self.num_outputs

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return self.weights + (self.num_outputs if self.has_bias else 0)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The sizes of a model.

    `width` is the hidden size, `attention_width` that of all queries (multi-head latent attention: the mean of queries
    and values), `kv_width` that of keys, `ffn_width` that of the inner layer a token passes (experts: all of its
    experts together). `layers` are all linear layers but the head; routed experts are stacked tensors and stand in
    `expert_parameters`, what one token passes of them in `active_expert_parameters`. `other_parameters` are norms,
    position biases, routers and convolutions, `max_len` the positions of the model (None without a limit),
    `block_parameters` the parameters of each block. Of `num_attention_layers`, `num_window_layers` look back
    `window_tokens` only; `state_flops` are the forward FLOPs a token of recurrent mixers beyond their linear layers.
    `is_exact` is false for a family counted as if it were a Llama.
    """

    family: str
    num_layers: int
    num_heads: int
    num_kv_heads: int
    width: int
    attention_width: int
    kv_width: int
    ffn_width: int
    vocab_size: int
    max_len: int | None
    embedding_parameters: int
    head_parameters: int
    other_parameters: int
    layers: tuple[Linear, ...]
    is_tied: bool
    block_parameters: tuple[int, ...] = ()
    num_attention_layers: int = 0
    window_tokens: int | None = None
    num_window_layers: int = 0
    state_flops: int = 0
    num_experts: int = 0
    experts_per_token: int = 0
    num_expert_layers: int = 0
    expert_parameters: int = 0
    active_expert_parameters: int = 0
    router_parameters: int = 0
    is_encoder_decoder: bool = False
    has_gate: bool = False
    is_exact: bool = True

    @cached_property
    def dense_parameters(self) -> int:
        """Parameters of the linear layers, head and routed experts excluded."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def linear_parameters(self) -> int:
        """Parameters of all matrix products, the head excluded and every expert counted."""
        return self.dense_parameters + self.expert_parameters

    @property
    def active_linear_parameters(self) -> int:
        """Parameters of the matrix products that one token passes, the head excluded."""
        return self.dense_parameters + self.active_expert_parameters + self.router_parameters

    @property
    def body_parameters(self) -> int:
        """Everything but the language-model head."""
        return self.embedding_parameters + self.other_parameters + self.linear_parameters

    @property
    def parameters(self) -> int:
        """All parameters of the language model; a tied head counts once."""
        return self.body_parameters + (0 if self.is_tied else self.head_parameters)

    @property
    def active_parameters(self) -> int:
        """Parameters that one token uses: all of them but the experts it is not sent to."""
        return self.parameters - self.expert_parameters + self.active_expert_parameters

    @property
    def largest_block_parameters(self) -> int:
        """Parameters of the largest block: what sharded training gathers at a time."""
        return max(self.block_parameters, default=0)


class Reader:
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

    def count(self, *names: str, default: int = 0) -> int:
        """Like `size`, where 0 has a meaning. Raises ConfigError."""
        for name in names:
            value = self.config.get(name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ConfigError(f"config.json: `{name}` is {value!r}, expected a whole number, 0 or more")
            return value
        return default

    def flag(self, name: str, default: bool = False) -> bool:
        """A true or false value."""
        return bool(self.config.get(name, default))

    def words(self, name: str) -> tuple[str, ...]:
        """A list of words, () where there is none. Raises ConfigError."""
        value = self.config.get(name)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ConfigError(f"config.json: `{name}` is {value!r}, expected a list of words")
        return tuple(value)

    def numbers(self, name: str) -> tuple[int, ...]:
        """A list of whole numbers, () where there is none. Raises ConfigError."""
        value = self.config.get(name)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, int) and item >= 0 for item in value):
            raise ConfigError(f"config.json: `{name}` is {value!r}, expected a list of whole numbers")
        return tuple(value)


@dataclass
class Parts:
    """Collects the parts of a model block by block."""

    layers: list[Linear] = field(default_factory=list)
    other: int = 0
    blocks: list[int] = field(default_factory=list)
    experts: int = 0
    active_experts: int = 0
    routers: int = 0
    expert_layers: int = 0
    attention_layers: int = 0
    state_flops: int = 0
    _counted: int = 0

    def linear(self, name: str, num_inputs: int, num_outputs: int, has_bias: bool = False) -> None:
        """Adds a linear layer."""
        self.layers.append(Linear(name, num_inputs, num_outputs, has_bias))

    def loose(self, *counts: int) -> None:
        """Adds parameters outside linear layers: norms, biases of positions, convolutions."""
        self.other += sum(counts)

    def routed(self, each: int, *, num_experts: int, per_token: int, router: int) -> None:
        """Adds a block's routed experts of `each` parameters and the `router` that picks `per_token` of them."""
        if per_token > num_experts:
            raise ConfigError(f"config.json: {per_token} experts per token, but only {num_experts} experts")
        self.experts += each * num_experts
        self.active_experts += each * per_token
        self.routers += router
        self.expert_layers += 1
        self.loose(router)

    def end_block(self) -> None:
        """Closes a block: what was added since the last one belongs to it."""
        total = sum(layer.parameters for layer in self.layers) + self.other + self.experts
        self.blocks.append(total - self._counted)
        self._counted = total

    def start_blocks(self) -> None:
        """What was added so far belongs to no block."""
        self._counted = sum(layer.parameters for layer in self.layers) + self.other + self.experts
