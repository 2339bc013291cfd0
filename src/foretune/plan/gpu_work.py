"""What one micro-batch of a setup asks of each device: operations, bytes and launches, before any fitted number."""

# SPDX-License-Identifier: Apache-2.0
#
# Everything is per device and per micro-batch unless a name says otherwise. Switches are 0.0 or 1.0, so that the
# formulas of gpu_step.py work on single numbers and on arrays of many setups alike.
from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal

from foretune.hardware.devices import Device, resolve_device
from foretune.models.shapes import Shape, attention_flops_per_token
from foretune.plan.setup import Setup, weight_bytes
from foretune.plan.time_coefficients import time_family
from foretune.plan.workload import mean_length, padded_length

__all__ = ["NUM_PADDING_DOUBLINGS", "Work", "computed_tokens", "mean_row_tokens", "model_devices", "work_of"]

NUM_PADDING_DOUBLINGS = 0.5  # the longest of twice as many rows is that share of the mean longer
GROUPED_PADDING = 1.05  # padded over mean length where rows are grouped by length
USUAL_SHARE = 0.5  # mean row as a share of the longest, where nothing is known
USUAL_LIMIT = 700.0  # tokens; a longer limit is set for a few rows
USUAL_MICRO_TOKENS = (2048.0, 8192.0)  # of fine-tuning and of pretraining, where no rows a micro-batch are given
TENSOR_LIMIT = 8.0  # devices that share one layer, where only the number of devices of a copy is known
CLUSTER = 256  # devices of a run that is reported in device-hours
NODE = 8  # devices of one server, which the slower network joins to others


@dataclass(frozen=True)
class Work:
    """The work of one micro-batch on one device; see gpu_step.py for what each term costs.

    `passes` counts forward-sized passes of the body: forward 1, gradients of inputs 1, of weights 1, recomputation.
    `micro_per_step` micro-batches make one update; `reported_tokens` of all devices are what a user counts for them.
    """

    peak: float
    has_fp8: float
    has_fp4: float
    fp32_gain: float
    is_lowest: float
    bandwidth: float
    link: float
    is_pcie: float
    crosses_nodes: float
    experts_cross: float
    tokens: float
    row_tokens: float
    body_flops: float
    head_flops: float
    attention_flops: float
    score_bytes: float
    weight_bytes: float
    value_bytes: float
    adapter_bytes: float
    logits: float
    nf4_weights: float
    int4_weights: float
    int8_weights: float
    int8_values: float
    is_double_quantised: float
    trains_base: float
    recompute: float
    recompute_unknown: float
    backward: float
    is_moe: float
    is_fused: float
    layers: float
    adapter_modules: float
    quantised_modules: float
    is_sharded: float
    is_trained_by_hooks: float
    bubble: float
    gathered_bytes: float
    tensor_bytes: float
    expert_bytes: float
    gradient_bytes: float
    optimiser_parameters: float
    moved_parameters: float
    steps: float
    evaluates: float
    is_dpo: float
    is_ppo: float
    generated_bytes: float
    micro_per_step: float
    reported_tokens: float
    replicas: float


WORK_FIELDS: tuple[str, ...] = tuple(field.name for field in fields(Work))


def work_of(setup: Setup) -> Work:
    """The work of one micro-batch of a setup. Raises ConfigError for a device that nothing is known of."""
    device = resolve_device(setup.device, setup.device_memory_gb or None).device
    shape, group = setup.shape, model_devices(setup)
    copies = max(1.0, num_devices(setup) / group)
    setup = _with_usual_rows(setup, copies)
    pairs = 2.0 if setup.objective == "dpo" else 1.0  # the chosen and the rejected answer
    tokens = pairs * setup.micro_batch_size * computed_tokens(setup)
    accum = max(1.0, setup.global_batch_size / (copies * setup.micro_batch_size))
    if setup.counts_device_hours:
        accum = float(max(1, setup.grad_accum_steps))
    return Work(
        **_device_terms(setup, device),
        **_product_terms(setup, tokens, group),
        **_quantised_terms(setup, tokens, group),
        **_mode_terms(setup),
        **_parallel_terms(setup, tokens, group, copies, accum),
        tokens=tokens,
        row_tokens=computed_tokens(setup),
        layers=shape.num_layers * _half(shape) / _split(setup, group)[1],
        adapter_modules=len(setup.targeted) / max(1, shape.num_layers),
        steps=1.0 / accum,
        micro_per_step=accum,
        reported_tokens=copies * setup.micro_batch_size * mean_row_tokens(setup),
        replicas=copies,
    )


def _with_usual_rows(setup: Setup, copies: float) -> Setup:
    """The setup with as many rows a micro-batch as are usual, where they are not given and the batch has them."""
    if "micro_batch" not in setup.unknown:
        return setup
    wanted = USUAL_MICRO_TOKENS[setup.objective == "pretrain"] / max(1.0, mean_row_tokens(setup))
    most = setup.global_batch_size / copies if setup.global_batch_size > copies else wanted
    return setup.changed(micro_batch_size=max(1, int(min(wanted, most))))


def num_devices(setup: Setup) -> int:
    """Devices that share the work; a run told in device-hours is taken as one of a usual cluster."""
    return CLUSTER if setup.counts_device_hours else setup.num_gpus


def model_devices(setup: Setup) -> float:
    """Devices that hold one copy of the model between them: as stated, or as the batch sizes imply."""
    parallel = setup.parallel
    stated = parallel.tensor * parallel.pipeline * parallel.context
    if stated > 1 or "parallelism" not in setup.unknown or setup.counts_device_hours:
        return float(stated)
    copies = setup.global_batch_size / (setup.grad_accum_steps * setup.micro_batch_size)
    return max(1.0, setup.num_gpus / max(1.0, copies))


def is_packed(setup: Setup) -> bool:
    """Whether rows are full: packing, or pretraining, which cuts its text into full rows."""
    return setup.packing or setup.objective == "pretrain"


def mean_row_tokens(setup: Setup) -> float:
    """Mean tokens of a row as a user counts them."""
    if is_packed(setup):
        return float(setup.max_seq_len)
    if setup.row_tokens:
        return mean_length(setup.row_tokens, setup.max_seq_len)
    usual = min(USUAL_SHARE * setup.max_seq_len, USUAL_LIMIT)
    return min(setup.mean_tokens or usual, float(setup.max_seq_len))


def computed_tokens(setup: Setup) -> float:
    """Tokens that a row of a micro-batch is computed with: the longest of it, as padding fills the others up, and a
    soft prompt."""
    return setup.virtual_tokens + _padded_tokens(setup)


def _padded_tokens(setup: Setup) -> float:
    rows, grouped = setup.micro_batch_size, setup.groups_by_length
    if setup.row_tokens and not is_packed(setup):
        return padded_length(setup.row_tokens, rows, setup.max_seq_len, is_grouped=grouped)
    mean = mean_row_tokens(setup)
    if mean >= 0.97 * setup.max_seq_len:
        return float(setup.max_seq_len)
    longer = GROUPED_PADDING if grouped and rows > 1 else 1.0 + NUM_PADDING_DOUBLINGS * math.log2(max(1, rows))
    return min(mean * longer, float(setup.max_seq_len))


def _half(shape: Shape) -> float:
    return 0.5 if shape.is_encoder_decoder else 1.0


def _device_terms(setup: Setup, device: Device) -> dict[str, float]:
    lowest = "compute" in setup.unknown and setup.compute in ("fp8", "nvfp4")
    precision = {"nvfp4": "fp4"}.get(setup.compute, setup.compute)
    has_fp8 = precision in ("fp8", "fp4") and "fp8" in device.tflops and device.peak_flops("fp8") > device.half_flops
    has_fp4 = precision == "fp4" and not lowest and "fp4" in device.tflops
    pcie = device.link.startswith("PCIe") or device.kind in ("cpu", "apple")
    return {
        "peak": device.half_flops,
        "has_fp8": float(has_fp8),
        "has_fp4": float(has_fp4),
        "fp32_gain": device.fp32_flops / device.half_flops if precision == "fp32" else 1.0,
        "is_lowest": float(lowest and has_fp8),
        "bandwidth": device.bandwidth_bytes_per_second,
        "link": device.link_bytes_per_second / 2,
        "is_pcie": float(pcie),
        "crosses_nodes": float(num_devices(setup) > max(NODE, device.link_domain)),
        "experts_cross": float(setup.parallel.expert > max(NODE, device.link_domain)),
    }


def _product_terms(setup: Setup, tokens: float, group: float) -> dict[str, float]:
    """Forward operations and bytes of the products, attention, the values between them, adapters and logits."""
    shape, half = setup.shape, _half(setup.shape)
    kernel: Literal["dense", "causal"] = "dense" if setup.attention == "eager" else "causal"
    row = max(1, round(computed_tokens(setup)))
    attention = attention_flops_per_token(shape, row, kernel=kernel)
    values = 14.0 * shape.width + 4.0 * shape.attention_width + 4.0 * shape.kv_width
    values += (6.0 if shape.has_gate else 5.0) * shape.ffn_width
    scores = tokens * row * shape.num_heads * shape.num_attention_layers * half if kernel == "dense" else 0.0
    stored = weight_bytes(setup.weights) if setup.is_quantised else 2.0
    widths = sum(layer.num_inputs + layer.num_outputs for layer in setup.targeted)
    return {
        "body_flops": 2.0 * tokens * shape.active_linear_parameters * half / group,
        "head_flops": 2.0 * tokens * shape.head_parameters * half / group,
        "attention_flops": tokens * attention / group,
        "score_bytes": 2.0 * scores / group,
        "weight_bytes": _touched_weights(setup, tokens) * stored / group,
        "value_bytes": 2.0 * tokens * shape.num_layers * half * values / group,
        "adapter_bytes": 2.0 * tokens * widths * half / group,
        "logits": tokens * shape.vocab_size * half / group,
    }


def _touched_weights(setup: Setup, tokens: float) -> float:
    """Weights read in one pass: of experts, as many as a batch of tokens is sent to."""
    shape = setup.shape
    if not shape.expert_parameters:
        return shape.linear_parameters * _half(shape)
    share = shape.active_expert_parameters / shape.expert_parameters
    return shape.dense_parameters + shape.expert_parameters * min(1.0, share * tokens)


def _quantised_terms(setup: Setup, tokens: float, group: float) -> dict[str, float]:
    """Weights to unpack before each product, and values that int8 products convert."""
    weights = setup.shape.linear_parameters * _half(setup.shape) / group
    widths = sum(layer.num_inputs for layer in setup.shape.layers) * _half(setup.shape)
    modules = len(setup.shape.layers) / max(1, setup.shape.num_layers)
    return {
        "nf4_weights": weights if setup.weights in ("nf4", "nf4-dq") else 0.0,
        "int4_weights": weights if setup.weights == "int4" else 0.0,
        "int8_weights": weights if setup.weights == "int8" else 0.0,
        "int8_values": 2.0 * tokens * widths / group if setup.weights == "int8" else 0.0,
        "is_double_quantised": float(setup.weights == "nf4-dq"),
        "quantised_modules": modules if setup.is_quantised else 0.0,
    }


def _mode_terms(setup: Setup) -> dict[str, float]:
    family = time_family(setup.framework)
    unknown = "checkpointing" in setup.unknown and family.is_fused
    share = setup.checkpointed_layers / setup.shape.num_layers if setup.checkpointed_layers else 1.0
    recompute = {"full": min(1.0, share), "selective": 0.1}.get(setup.checkpointing, 0.0)
    first_version = setup.method == "adapter" and setup.peft_kind != "v2"
    return {
        "trains_base": float(setup.trains_base),
        "recompute": 0.0 if unknown else recompute,
        "recompute_unknown": float(unknown),
        "backward": 0.6 if first_version else 1.0,  # prompts in the last layers alone need no gradient before them
        "is_moe": float(setup.shape.num_experts > 0),
        "is_fused": float(family.is_fused or setup.is_compiled),
        "is_trained_by_hooks": float(setup.trains_base and family.trains_by_hooks),
        "evaluates": float(setup.includes_evaluation),
        "is_dpo": float(setup.objective == "dpo"),
        "is_ppo": float(setup.objective == "ppo"),
    }


def _parallel_terms(setup: Setup, tokens: float, group: float, copies: float, accum: float) -> dict[str, float]:
    """Bubble of the pipeline and bytes that devices send each other."""
    shape, parallel = setup.shape, setup.parallel
    sharded = parallel.sharding == "zero3" and copies * parallel.context > 1 and not _is_split_by_software(setup)
    own = _own_parameters(setup, group)
    stored = weight_bytes(setup.weights) if setup.is_quantised else 2.0
    trained = own if setup.trains_base else setup.trained_parameters / group
    shards = copies if parallel.sharding in ("zero1", "zero2", "zero3") else 1.0
    tensor, stages = _split(setup, group)
    hidden = tokens * shape.width * shape.num_layers / (stages * parallel.context)
    offloads = parallel.offload != "none"
    return {
        "is_sharded": float(sharded),
        "bubble": (stages - 1.0) / (accum * parallel.virtual_pipeline),
        "gathered_bytes": own * stored if sharded else 0.0,
        "tensor_bytes": 8.0 * hidden * (1.0 - 1.0 / tensor),
        "expert_bytes": 8.0 * hidden / parallel.tensor if parallel.expert > 1 else 0.0,
        "gradient_bytes": 2.0 * trained if copies > 1 and not sharded else 0.0,
        "optimiser_parameters": trained / shards,
        "moved_parameters": (own * stored + (8.0 * own if setup.trains_base else 0.0)) / shards if offloads else 0.0,
        "generated_bytes": own * 2.0 * mean_row_tokens(setup) / 2 if setup.objective == "ppo" else 0.0,
    }


def _is_split_by_software(setup: Setup) -> bool:
    """Whether fused software chose a split that is not told: it takes one whose exchange hides behind computing."""
    return "parallelism" in setup.unknown and time_family(setup.framework).is_fused


def _split(setup: Setup, group: float) -> tuple[float, float]:
    """Devices that share a layer and stages of the pipeline: as stated, or the usual split of a copy's devices."""
    parallel = setup.parallel
    if parallel.tensor * parallel.pipeline * parallel.context > 1:
        return float(parallel.tensor), float(parallel.pipeline)
    tensor = min(group, TENSOR_LIMIT)
    return tensor, max(1.0, group / tensor)


def _own_parameters(setup: Setup, group: float) -> float:
    """Parameters of one device's part of the model; experts are divided among devices that are copies otherwise."""
    shape = setup.shape
    spread = setup.parallel.expert / setup.parallel.tensor
    if setup.parallel.expert == 1 and setup.parallel.sharding == "zero3":
        spread = num_devices(setup) / group  # nobody gathers experts: their tokens travel
    experts = shape.expert_parameters / max(1.0, spread)
    return (shape.parameters - shape.expert_parameters + experts) / group
