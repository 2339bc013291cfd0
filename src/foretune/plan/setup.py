"""One training configuration, normalised: what the memory and time models of a GPU job are computed from."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from foretune.errors import ConfigError
from foretune.models.shapes import ALL_LINEAR, Linear, Shape, prompt_parameters, targeted_layers

__all__ = ["WEIGHT_BITS", "Parallel", "Setup", "weight_bytes"]

Method = Literal["full", "lora", "qlora", "adapter", "prompt", "peft", "weights"]
Objective = Literal["sft", "pretrain", "dpo", "ppo", "inference"]
WeightFormat = Literal["fp32", "bf16", "fp16", "fp8", "nvfp4", "int8", "int4", "nf4", "nf4-dq"]
Sharding = Literal["none", "zero1", "zero2", "zero3"]
Offload = Literal["none", "optimiser", "all"]
Checkpointing = Literal["none", "selective", "full", "unknown"]
Attention = Literal["flash", "eager", "unknown"]
LossKernel = Literal["full", "half", "chunked", "fused", "unknown"]

# Bytes of one weight of a linear layer, scales included. nf4: half a byte and one fp32 scale for 64 weights; double
# quantisation keeps that scale in 8 bits (Dettmers et al. 2023, arXiv 2305.14314, section 3). int4: GPTQ in groups of
# 128 with a 16-bit scale and a 4-bit zero point. int8: LLM.int8() keeps one fp32 scale a row, below 0.1 %.
WEIGHT_BITS: dict[str, float] = {
    "fp32": 32.0,
    "bf16": 16.0,
    "fp16": 16.0,
    "fp8": 8.0,
    "nvfp4": 4.5,
    "int8": 8.0,
    "int4": 4.16,
    "nf4": 4.5,
    "nf4-dq": 4.127,
}
LONGEST_PROMPT = 1000  # tokens; more trained parameters than these are those of a network that makes the prompt
QUANTISED: frozenset[str] = frozenset({"int8", "int4", "nf4", "nf4-dq"})


def weight_bytes(weights: str) -> float:
    """Bytes of one weight of a linear layer in the format `weights`. Raises ConfigError on an unknown format."""
    if weights not in WEIGHT_BITS:
        raise ConfigError(f"weight format {weights!r} is not known, expected one of: {', '.join(WEIGHT_BITS)}")
    return WEIGHT_BITS[weights] / 8


@dataclass(frozen=True)
class Parallel:
    """How one model is spread over devices. `data` x `tensor` x `pipeline` x `context` is the number of devices.

    `sharding` says what data-parallel copies divide: optimiser state (zero1), gradients too (zero2), weights too
    (zero3 and FSDP). `shard_group` is over how many devices, 0 = all of `data` (and `context`). `engine` names the
    software's way: `fsdp`, `deepspeed`, `megatron`, `ddp` or empty; with `is_sequence_parallel` tensor parallelism
    divides the values between its products too; with `gathers_all` every shard keeps all weights gathered.
    """

    data: int = 1
    tensor: int = 1
    pipeline: int = 1
    virtual_pipeline: int = 1
    context: int = 1
    expert: int = 1
    sharding: Sharding = "none"
    shard_group: int = 0
    offload: Offload = "none"
    engine: str = ""
    is_sequence_parallel: bool = False
    gathers_all: bool = False

    @property
    def devices(self) -> int:
        """Number of devices."""
        return self.data * self.tensor * self.pipeline * self.context

    @property
    def shards(self) -> int:
        """Over how many devices the sharded part is divided."""
        return self.shard_group or self.data * self.context


@dataclass(frozen=True)
class Setup:
    """One training configuration. Sizes are per device where a name says micro; unknown values are already filled.

    `weights` is the format of the frozen or trained base, `compute` that of products. `state_bytes` counts the
    optimiser's moments and any fp32 master copy of one trained parameter, `gradient_bytes` its gradient, and
    `adapter_bytes` one adapter weight; of a quantised base, `rest_bytes` is one weight of embedding, head and norms.
    `mean_tokens` is the mean real length of an example, 0 = rows are full. `row_tokens` are the real lengths where they
    are known, as pairs of tokens and number of examples; `groups_by_length`: batches are of rows of like length.
    `stated_parameters` is a reported number of trained parameters, 0 = count them from the shape. With
    `counts_device_hours` the time is that of all devices of an unknown number together; `steps_are_micro` says that a
    step is one micro-batch, `includes_evaluation` that the reported time holds evaluations.
    """

    shape: Shape
    model: str = ""
    method: Method = "lora"
    objective: Objective = "sft"
    weights: WeightFormat = "bf16"
    compute: str = "bf16"
    optimiser: str = "adamw"
    state_bytes: float = 8.0
    gradient_bytes: float = 2.0
    adapter_bytes: float = 4.0
    rest_bytes: float = 2.0
    is_paged: bool = False
    is_fused_backward: bool = False
    device: str = ""
    device_memory_gb: float = 0.0
    num_gpus: int = 1
    parallel: Parallel = field(default_factory=Parallel)
    max_seq_len: int = 2048
    micro_batch_size: int = 1
    grad_accum_steps: int = 1
    global_batch_size: int = 1
    packing: bool = False
    checkpointing: Checkpointing = "full"
    checkpointed_layers: int = 0
    attention: Attention = "flash"
    loss: LossKernel = "full"
    framework: str = ""
    is_compiled: bool = False
    has_fused_qkv: bool = False
    adapts_head: bool = False
    peft_kind: str = ""
    rank: int = 16
    target_modules: tuple[str, ...] = ()
    num_prompt_tokens: int = 20
    trains_embeddings: bool = False
    stated_parameters: int = 0
    num_examples: int = 0
    tokens_total: float = 0.0
    epochs: float = 0.0
    steps: int = 0
    mean_tokens: float = 0.0
    row_tokens: tuple[tuple[int, int], ...] = ()
    groups_by_length: bool = False
    eval_batch_size: int = 0
    counts_device_hours: bool = False
    steps_are_micro: bool = False
    includes_evaluation: bool = False
    unknown: frozenset[str] = frozenset()

    @cached_property
    def virtual_tokens(self) -> int:
        """Soft-prompt tokens in front of every row; prefixes of keys and values are not computed."""
        if self.method != "prompt" or "prefix" in self.peft_kind:
            return 0
        whole, rest = divmod(self.stated_parameters, self.shape.width)
        return whole if whole and not rest and whole <= LONGEST_PROMPT else self.num_prompt_tokens

    @property
    def micro_tokens(self) -> int:
        """Tokens of the largest micro-batch, padding and soft prompts included."""
        return self.micro_batch_size * (self.max_seq_len + self.virtual_tokens)

    @property
    def is_quantised(self) -> bool:
        """Whether the frozen base is kept in 8 bits or fewer."""
        return self.weights in QUANTISED

    @property
    def trains_base(self) -> bool:
        """Whether the base's own weights are trained."""
        return self.method == "full"

    @cached_property
    def targeted(self) -> tuple[Linear, ...]:
        """The linear layers that carry adapters; Llama's names on another family stand for the family's own."""
        if self.method not in ("lora", "qlora", "peft"):
            return ()
        if self.target_modules == (ALL_LINEAR,) or not self.target_modules:
            return targeted_layers(self.shape, self.target_modules)
        layers = self.shape.layers
        found = tuple(layer for layer in layers if any(f".{layer.name}".endswith(f".{t}") for t in self.target_modules))
        if found or not any(name.endswith("_proj") for name in self.target_modules):
            return found
        return targeted_layers(self.shape, (ALL_LINEAR,) if len(self.target_modules) > 3 else ())

    @cached_property
    def adapter_parameters(self) -> int:
        """Trained parameters beside the base: adapters or prompts."""
        if self.stated_parameters:
            return self.stated_parameters
        if self.method in ("lora", "qlora", "peft"):
            return sum(self.rank * (layer.num_inputs + layer.num_outputs) for layer in self.targeted)
        if self.method == "prompt":
            return prompt_parameters(self.shape, num_prompt_tokens=self.num_prompt_tokens)
        if self.method == "adapter":
            return 10 * self.shape.width * self.shape.num_layers
        return 0

    @property
    def embedding_and_head(self) -> int:
        """Parameters of the token embedding and the head, a tied one once."""
        shape = self.shape
        return shape.vocab_size * shape.width * (1 if shape.is_tied else 2)

    @cached_property
    def trained_parameters(self) -> int:
        """All trained parameters over all devices."""
        if self.trains_base:
            return self.shape.parameters
        if self.method == "weights":
            return 0
        return self.adapter_parameters + (self.embedding_and_head if self.trains_embeddings else 0)

    def with_batch(self, *, micro_batch_size: int, max_seq_len: int) -> Setup:
        """The same job with another largest micro-batch."""
        return replace(self, micro_batch_size=micro_batch_size, max_seq_len=max_seq_len)

    def changed(self, **changes: Any) -> Setup:
        """The same job with some fields changed."""
        return replace(self, **changes)
