"""Peak memory of training by component, from the model's shape and the largest batch, or from the probe's own peak."""

# SPDX-License-Identifier: Apache-2.0
#
# Training keeps everything trainable in fp32: 4 bytes a weight, 4 a gradient, 8 for AdamW's two moments. The frozen
# base is 4 bytes a weight as well.
from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from foretune.config.derive import Derived
from foretune.models.shapes import Shape, targeted_layers
from foretune.plan.lengths import Pass
from foretune.records.plan import Estimate
from foretune.records.probe import ProbeRecord

__all__ = ["Memory", "Trained", "peak_memory"]

WEIGHT_BYTES, GRADIENT_BYTES, OPTIMISER_BYTES = 4, 4, 8
RUNTIME_BYTES = {"cpu": 420_000_000, "cuda": 600_000_000}  # libraries; a CUDA context
# What the backward pass and batches of changing shapes take on top of the activations. On a CPU measured: the step of
# four runs with pebble took 1.7 to 2.0 times what autograd keeps, and 1.1 to 1.3 times the probe's own step.
WORKSPACE_SHARE = {"cpu": 0.8, "cuda": 0.15}
PROBE_STEP_GROWTH = {"cpu": 1.2, "cuda": 1.0}
LOGIT_BYTES = 12  # fp32 logits, their log-softmax and gradient
CHECKPOINT_BYTES = 2 * (WEIGHT_BYTES + OPTIMISER_BYTES)  # copied, then serialised
# Families whose head is computed at the supervised positions alone.
SPARSE_HEADS = ("llama", "mistral", "qwen2", "qwen3", "gpt2", "gpt_neo", "gpt_neox", "bloom")
BF16_SHARE = 0.6  # autocast keeps products in 2 bytes, norms and softmax in 4


class Saved(NamedTuple):
    """Elements that autograd keeps per layer and token, as multiples of width, keys' width and inner width.

    `scores` are elements per head and pair of positions, 0 where attention never writes its scores down. Counted with
    torch's saved-tensor hooks on small models of each family, transformers 5.23.
    """

    width: float
    kv: float
    ffn: float
    scores: float


SAVED_TRAINED = {
    "gpt2": Saved(10, 0, 5, 3),
    "gpt_neo": Saved(8, 0, 5, 1.1),
    "bloom": Saved(8, 0, 2, 1),
    "t5": Saved(20, 0, 2, 4.5),
}
SAVED_FROZEN = {
    "gpt2": Saved(7.75, 0, 4, 3),
    "gpt_neo": Saved(6.5, 0, 4, 1.1),
    "bloom": Saved(5.75, 0, 1, 1),
    "t5": Saved(15.75, 0, 1, 4.5),
}
LLAMA_TRAINED, LLAMA_FROZEN = Saved(8, 2, 4, 0), Saved(5.5, 2, 3, 0)
ADAPTER_INPUT = 1.25  # a dropped-out copy of the layer's input and its one-byte mask


class Trained(NamedTuple):
    """What is trained: the base itself or `parameters` on top of `base_parameters` frozen ones."""

    base_parameters: int
    parameters: int
    trains_base: bool
    target_modules: tuple[str, ...] = ()
    has_adapters: bool = False
    weight_bytes: float = float(WEIGHT_BYTES)  # of a base weight on average; fewer where the base is quantised
    top_layers: int = 0  # blocks with adapters, the last ones; 0: all
    is_without_dropout: bool = False  # adapters whose inputs are never dropped

    def num_layers(self, shape: Shape) -> int:
        """Blocks that the backward pass goes through."""
        return self.top_layers or shape.num_layers


# Our own decoder on a CPU, fitted to 21 short runs of 3.2 M, 6.5 M and 107 M parameters (machine A, 2026-11-21).
FLAT_RUNTIME_BYTES = 480_000_000.0
FLAT_SPARE_SHARE = 0.15  # of activations: LoRA dropout's masks and copies, and what the allocator holds beside them
BF16_KERNEL_BYTES = 300_000_000.0  # oneDNN keeps a kernel for each shape
BF16_BYTES = 2  # a frozen weight is held twice where bf16 does not hold it exactly
FLAT_HEAD_ROWS = 64  # predictions whose logits exist at once, as models/decoder.py has it
# Layers of our own decoder that read one input, and the width of that input.
FLAT_INPUTS: tuple[tuple[frozenset[str], Callable[[Shape], int]], ...] = (
    (frozenset({"q_proj", "k_proj", "v_proj"}), lambda shape: shape.width),
    (frozenset({"o_proj"}), lambda shape: shape.attention_width),
    (frozenset({"gate_proj", "up_proj"}), lambda shape: shape.width),
    (frozenset({"down_proj"}), lambda shape: shape.ffn_width),
)


class Memory(NamedTuple):
    """Bytes by component, the peak in GB (1e9 bytes), and what must be free for the worst of it.

    The peak is what the process will report: its resident memory on a CPU; on a GPU what the allocator hands out, to
    which the CUDA context (`runtime`) comes on top.
    """

    components: dict[str, float]
    peak_gb: Estimate
    needed_gb: float


def peak_memory(
    shape: Shape,
    trained: Trained,
    derived: Derived,
    *,
    largest: Pass,
    longest_answer: int,
    device: Literal["cpu", "cuda"],
    probe: ProbeRecord | None = None,
    is_flat: bool = False,
    recomputes: bool = False,
    trunk_bytes: float = 0.0,
    has_own_products: bool = False,
) -> Memory:
    """The peak of one training process.

    `largest` is the largest micro-batch of the run, `longest_answer` the most tokens of a row that carry loss;
    `is_flat`: the run computes flat tokens; `recomputes`: activations are computed again in the backward pass;
    `trunk_bytes`: outputs of frozen lower blocks kept in memory; `has_own_products`: bf16 products are our own.
    """

    def of_step(recomputing: bool) -> dict[str, float]:
        if is_flat:
            return _flat_step(shape, trained, derived, largest, recomputing)
        return _padded_step(shape, trained, derived, largest, longest_answer, device, recomputing)

    components = _static_components(trained, derived) | of_step(recomputes)
    if is_flat and derived.precision == "bf16" and device == "cpu":
        # a probe's own peak holds them already; our own products have one kernel for all shapes
        components["kernels"] = 0.0 if has_own_products or probe is not None else BF16_KERNEL_BYTES
        components["weights"] += 0.0 if trained.trains_base else BF16_BYTES * trained.base_parameters
    components["runtime"] = FLAT_RUNTIME_BYTES if is_flat else RUNTIME_BYTES[device]
    if probe is not None:
        share = sum(of_step(recomputes).values()) / sum(of_step(probe.recomputes_activations).values())
        components = _measured(components, probe, largest, device, share)
    if trunk_bytes:
        components["trunk"] = trunk_bytes
    if device == "cpu":
        # what is free again while a checkpoint is copied; flat passes leave their memory in pieces too small for it
        freed = ("gradients",) if is_flat else ("activations", "logits", "workspace", "gradients")
        moment = sum(components[name] for name in freed)
        components["checkpoint"] = max(0.0, CHECKPOINT_BYTES * trained.parameters - moment)
        # A base is read in fp32 before it is packed, layer by layer.
        unpacked = (WEIGHT_BYTES - trained.weight_bytes) * trained.base_parameters
        if unpacked > 0:
            components["loading"] = max(0.0, unpacked - moment - components["checkpoint"])
    return Memory(components, *_interval(components, device, is_probed=probe is not None))


def _flat_step(shape: Shape, trained: Trained, derived: Derived, largest: Pass, recomputes: bool) -> dict[str, float]:
    """What one flat pass takes."""
    activations = _flat_activation_bytes(shape, trained, derived, largest, recomputes)
    logits = float(LOGIT_BYTES * FLAT_HEAD_ROWS * shape.vocab_size)
    spare = 0.0 if trained.is_without_dropout else FLAT_SPARE_SHARE
    workspace = _flat_workspace_bytes(shape, derived, largest) + spare * (activations + logits)
    return {"activations": activations, "logits": logits, "workspace": workspace}


def _padded_step(
    shape: Shape,
    trained: Trained,
    derived: Derived,
    largest: Pass,
    longest_answer: int,
    device: str,
    recomputes: bool,
) -> dict[str, float]:
    """What one padded pass takes."""
    activations = _activation_bytes(shape, trained, derived, largest, recomputes)
    logits = _logit_bytes(shape, largest, longest_answer)
    workspace = WORKSPACE_SHARE[device] * (activations + logits)
    return {"activations": activations, "logits": logits, "workspace": workspace}


def _interval(components: dict[str, float], device: str, *, is_probed: bool) -> tuple[Estimate, float]:
    """The peak with its interval, and the memory that its high end needs. What was measured repeats within a fifth."""
    context = components["runtime"] / 1e9 if device == "cuda" else 0.0
    total = sum(components.values()) / 1e9 - context
    if is_probed:
        return Estimate(low=0.85 * total, expected=total, high=1.2 * total), 1.2 * total + context
    loose = sum(components[name] for name in ("activations", "logits", "workspace")) / 1e9
    runtime = components["runtime"] / 1e9 - context
    high = 1.05 * total + 0.35 * loose + 0.4 * runtime
    return Estimate(low=0.85 * total - 0.3 * loose, expected=total, high=high), high + context


def _static_components(trained: Trained, derived: Derived) -> dict[str, float]:
    copies = 2 if trained.trains_base and derived.precision != "fp32" else 0  # autocast keeps 16-bit copies
    return {
        "weights": (trained.weight_bytes + copies) * trained.base_parameters,
        "adapters": 0.0 if trained.trains_base else float(WEIGHT_BYTES * trained.parameters),
        "gradients": float(GRADIENT_BYTES * trained.parameters),
        "optimiser": float(OPTIMISER_BYTES * trained.parameters),
    }


def _activation_bytes(shape: Shape, trained: Trained, derived: Derived, largest: Pass, recomputes: bool) -> float:
    rows, tokens, _ = largest
    table, usual = (SAVED_TRAINED, LLAMA_TRAINED) if trained.trains_base else (SAVED_FROZEN, LLAMA_FROZEN)
    saved = table.get(shape.family, usual)
    share = 0.5 if shape.is_encoder_decoder else 1.0  # a token passes one half of the layers
    per_token = saved.width * shape.width + saved.kv * shape.kv_width + saved.ffn * shape.ffn_width
    per_token += saved.scores * shape.num_heads * tokens
    num_layers = trained.num_layers(shape)
    elements = share * num_layers * per_token
    if trained.has_adapters:
        layers = targeted_layers(shape, trained.target_modules, trained.top_layers)
        elements += share * ADAPTER_INPUT * sum(layer.num_inputs for layer in layers)
    element_bytes = 4.0 * (BF16_SHARE if derived.precision != "fp32" else 1.0)
    if recomputes:  # what goes into each block, and all of one block
        kept = share * num_layers * 4.0 * shape.width
        return (kept + element_bytes * elements / num_layers) * rows * tokens
    return element_bytes * elements * rows * tokens


def _flat_activation_bytes(shape: Shape, trained: Trained, derived: Derived, largest: Pass, recomputes: bool) -> float:
    """What our own decoder keeps: two fp32 sums a layer, the rotated product, the gate's two halves, and the inputs of
    layers that are trained or adapted (inputs that several layers share once). Recomputing, it keeps the sum before
    each layer and all of one layer."""
    element_bytes = 2.0 if derived.precision == "bf16" else 4.0
    chosen = shape.layers
    if not trained.trains_base:
        chosen = targeted_layers(shape, trained.target_modules) if trained.has_adapters else ()
    per_layer = shape.attention_width + 2 * shape.kv_width + 2 * shape.ffn_width
    names = {layer.last_name for layer in chosen}
    per_layer += sum(width(shape) for group, width in FLAT_INPUTS if names & group)
    whole = 2 * 4.0 * shape.width + element_bytes * per_layer
    num_layers = trained.num_layers(shape)
    if recomputes:
        at_once = 1 if trained.is_without_dropout else 2  # measured: the masks of a layer take about as much again
        return (num_layers * 4.0 * shape.width + at_once * whole) * largest.num_tokens
    per_token = num_layers * whole
    return per_token * largest.num_tokens


def _flat_workspace_bytes(shape: Shape, derived: Derived, largest: Pass) -> float:
    """Gradients of the widest place of one layer on the way back: both halves of the gate and their product."""
    element_bytes = 2.0 if derived.precision == "bf16" else 4.0
    return largest.num_tokens * (element_bytes * 4 * shape.ffn_width + 3 * 4.0 * shape.width)


def _logit_bytes(shape: Shape, largest: Pass, longest_answer: int) -> float:
    rows, tokens, _ = largest
    positions = min(tokens, longest_answer) if shape.family in SPARSE_HEADS and longest_answer else tokens
    return float(LOGIT_BYTES * rows * positions * shape.vocab_size)


def _measured(
    components: dict[str, float], probe: ProbeRecord, largest: Pass, device: str, share: float
) -> dict[str, float]:
    """Components that add up to the probe's own peak, its step scaled where the run has a larger batch.

    `share`: what the run's step takes of the probe's, where one of them recomputes activations.
    """
    static = components["weights"] + components["adapters"]
    probed = max((point.num_rows * point.row_tokens for point in probe.points), default=0)
    growth = share * (max(1.0, largest.num_tokens / probed) if probed else 1.0)
    held = components["gradients"] + components["optimiser"]
    loaded = static if device == "cuda" else max(static, probe.base_memory_bytes)
    step = max(0.0, probe.peak_memory_bytes - loaded - held) * growth
    workspace = step * (PROBE_STEP_GROWTH[device] - 1)
    logits = min(components["logits"], step / 2)
    runtime = components["runtime"] if device == "cuda" else loaded - static
    return components | {
        "activations": step - logits,
        "logits": logits,
        "workspace": workspace,
        "runtime": runtime,
    }
