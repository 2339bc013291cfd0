"""Peak memory of training by component, from the model's shape and the largest batch, or from the probe's own peak."""

# SPDX-License-Identifier: Apache-2.0
#
# Training keeps everything trainable in fp32: 4 bytes a weight, 4 a gradient, 8 for AdamW's two moments. The frozen
# base is 4 bytes a weight as well.
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

from foretune.config.derive import Derived
from foretune.models.shapes import Shape, targeted_layers
from foretune.plan.lengths import Pass
from foretune.records.plan import Estimate
from foretune.records.probe import ProbeRecord

__all__ = ["NEARLY", "Memory", "Trained", "peak_memory"]

WEIGHT_BYTES, GRADIENT_BYTES, OPTIMISER_BYTES = 4, 4, 8
RUNTIME_BYTES = {"cpu": 430_000_000, "cuda": 600_000_000}  # libraries; a CUDA context
# What padded passes take on top of what autograd keeps: what the backward pass makes, and the holes that batches of
# changing shapes leave in the heap; in fp32 and, as a share of less, under autocast to bf16. On a CPU fitted to runs of
# 12 steps of gpt2 and bloom and to four of pebble (machine A, 2026-11-21).
WORKSPACE_SHARE: dict[str, tuple[float, float]] = {"cpu": (0.8, 1.8), "cuda": (0.15, 0.15)}
# After the few passes of a probe: how much padded steps on a CPU still grow, and what part of the heap's growth (below)
# flat ones have ahead of them, less in fp32, whose large pieces are mapped apart. Fitted to 19 probed runs.
PROBE_STEP_GROWTH = {"fp32": 1.05, "16-bit": 1.4}
PROBE_HEAP_GROWTH = {"fp32": 0.5, "16-bit": 1.0}
AGREEMENT = 4 / 3  # times, either way
FAMILY_WORKSPACE_SHARE: dict[str, tuple[float, float]] = {"gpt2": (0.3, 1.3), "bloom": (0.6, 2.6)}  # on a CPU
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


# Our own decoder on a CPU, fitted to 10 runs of 12 steps with 3.2 M to 57 M parameters and held against 6 others
# (machine A, 2026-11-21; `bench_memory.py` names them), "undropped" to four earlier ones without LoRA dropout. A heap
# is never as full as it is large: freed pieces do not fit the next pass. So what a pass holds is multiplied, by the
# more the more often passes come near the largest: 1 + HEAP_GROWTH ln(times / 5), within what was measured.
FLAT_RUNTIME_BYTES = 460_000_000.0
HEAP_SHARE = {"frozen": 1.19, "undropped": 1.04, "trained": 0.96}  # the base; adapters that drop no inputs
HEAP_GROWTH, HEAP_TIMES, USUAL_TIMES = 0.21, (3.0, 24.0), 5.0
NEARLY = 0.9  # of the largest pass
KEPT_WHILE_SAVING = 0.85  # of a step's memory and gradients, freed but in pieces too small for a checkpoint
HEAD_COPIES = 3  # of a trained head: its gradient, one chunk's share of it, and its product with the loss's gradient
CUDA_SPARE_SHARE = 0.15  # of activations: LoRA dropout's masks and copies
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
    num_large: float = USUAL_TIMES,
) -> Memory:
    """The peak of one training process.

    `largest` is the largest micro-batch of the run, `longest_answer` the most tokens of a row that carry loss;
    `is_flat`: the run computes flat tokens; `recomputes`: activations are computed again in the backward pass;
    `trunk_bytes`: outputs of frozen lower blocks kept in memory; `has_own_products`: bf16 products are our own;
    `num_large`: how many passes of the run are nearly as large as the largest.
    """

    def of_step(recomputing: bool, times: float = num_large) -> dict[str, float]:
        if is_flat:
            step = _flat_step(shape, trained, derived, largest, recomputing, is_whole=not longest_answer)
            return _in_the_heap(step, trained, device, times)
        return _padded_step(shape, trained, derived, largest, longest_answer, device, recomputing)

    components = _static_components(trained, derived) | of_step(recomputes)
    if is_flat and device == "cpu":
        components |= _held_twice(shape, trained, derived, components["weights"])
        # a probe's own peak holds them already; our own products have one kernel for all shapes
        is_without = has_own_products or probe is not None or derived.precision != "bf16"
        components["kernels"] = 0.0 if is_without else BF16_KERNEL_BYTES
    components["runtime"] = FLAT_RUNTIME_BYTES if is_flat and device == "cpu" else RUNTIME_BYTES[device]
    if probe is not None:
        width = "fp32" if derived.precision == "fp32" else "16-bit"
        ahead = (num_large / _num_large(probe)) ** PROBE_HEAP_GROWTH[width]
        calculated = sum(of_step(recomputes).values())
        share = calculated / sum(of_step(probe.recomputes_activations, num_large / ahead).values())
        if not is_flat and device == "cpu":
            share *= PROBE_STEP_GROWTH[width]
        components = _measured(components, probe, largest, device, share, calculated)
    if trunk_bytes:
        components["trunk"] = trunk_bytes
    if device == "cpu":
        components |= _saving(components, trained, is_flat=is_flat, probe=probe)
    return Memory(components, *_interval(components, device, is_probed=probe is not None))


def _held_twice(shape: Shape, trained: Trained, derived: Derived, weights: float) -> dict[str, float]:
    """The weights with what our own decoder copies of them: the file's pages stay as long as any tensor is one of them.

    Frozen weights are cast to bf16, where that loses digits; in fp32 those of merged products are copied.
    """
    merged = shape.width * (shape.attention_width + 2 * shape.kv_width + 2 * shape.ffn_width) * shape.num_layers
    is_cast = derived.precision == "bf16" and not trained.trains_base
    copies = BF16_BYTES * trained.base_parameters if is_cast else WEIGHT_BYTES * merged
    return {"weights": weights + copies}


def _saving(
    components: dict[str, float], trained: Trained, *, is_flat: bool, probe: ProbeRecord | None
) -> dict[str, float]:
    """What a checkpoint takes beyond a step, and what unpacking a quantised base takes, layer by layer, beyond both."""
    step = sum(components[name] for name in ("activations", "logits", "workspace", "gradients"))
    freed = (1 - KEPT_WHILE_SAVING) * step if is_flat else step
    found = {"checkpoint": max(0.0, CHECKPOINT_BYTES * trained.parameters - freed)}
    if probe is not None and probe.saving_memory_bytes:
        found["checkpoint"] = max(0.0, probe.saving_memory_bytes - sum(components.values()))
    unpacked = (WEIGHT_BYTES - trained.weight_bytes) * trained.base_parameters
    if unpacked > 0:
        found["loading"] = max(0.0, unpacked - freed - found["checkpoint"])
    return found


def _flat_step(
    shape: Shape, trained: Trained, derived: Derived, largest: Pass, recomputes: bool, *, is_whole: bool
) -> dict[str, float]:
    """What one flat pass holds at once; `is_whole`: every token carries loss."""
    activations = _flat_activation_bytes(shape, trained, derived, largest, recomputes, is_whole)
    logits = float(LOGIT_BYTES * FLAT_HEAD_ROWS * shape.vocab_size)
    if trained.trains_base:
        logits += HEAD_COPIES * WEIGHT_BYTES * shape.vocab_size * shape.width
    workspace = _flat_workspace_bytes(shape, derived, largest)
    return {"activations": activations, "logits": logits, "workspace": workspace}


def _in_the_heap(step: dict[str, float], trained: Trained, device: str, times: float) -> dict[str, float]:
    """A flat pass's memory with what its allocator holds beside it."""
    if device != "cpu":
        spare = 0.0 if trained.is_without_dropout else CUDA_SPARE_SHARE
        return step | {"workspace": step["workspace"] + spare * (step["activations"] + step["logits"])}
    share = HEAP_SHARE["trained" if trained.trains_base else "undropped" if trained.is_without_dropout else "frozen"]
    low, high = HEAP_TIMES
    share *= 1 + HEAP_GROWTH * math.log(min(max(times, low), high) / USUAL_TIMES)
    return {name: share * size for name, size in step.items()}


def _num_large(probe: ProbeRecord) -> float:
    """Passes of a probe that are nearly as large as its largest, the first one too, which is not timed."""
    sizes = [point.num_rows * point.row_tokens for point in probe.points]
    return 1.0 + sum(size >= NEARLY * max(sizes) for size in sizes)


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
    shares = FAMILY_WORKSPACE_SHARE.get(shape.family) if device == "cpu" else None
    workspace = (shares or WORKSPACE_SHARE[device])[derived.precision != "fp32"] * (activations + logits)
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


def _flat_activation_bytes(
    shape: Shape, trained: Trained, derived: Derived, largest: Pass, recomputes: bool, is_whole: bool
) -> float:
    """What our own decoder keeps: two fp32 sums a layer, the rotated product, attention's result, the gate's halves,
    and the inputs of layers that are trained or adapted (inputs that several layers share once; where LoRA drops them,
    a byte an element). Of the last layer nothing behind attention, but where every token carries loss.

    Recomputing, it keeps the sum before each layer and all of one layer.
    """
    element_bytes = 2.0 if derived.precision == "bf16" else 4.0
    chosen = shape.layers
    if not trained.trains_base:
        chosen = targeted_layers(shape, trained.target_modules) if trained.has_adapters else ()
    names = {layer.last_name for layer in chosen}
    inputs = [width(shape) for group, width in FLAT_INPUTS if names & group]
    behind = 2 * shape.ffn_width + (shape.width + shape.ffn_width if trained.trains_base else 0)
    per_layer = shape.attention_width + 2 * shape.kv_width + 2 * shape.ffn_width + sum(inputs)
    per_layer += 0 if names & {"o_proj"} else shape.attention_width  # of attention itself, else its product's input
    masks = 0 if trained.trains_base or trained.is_without_dropout else sum(inputs)
    whole = 2 * 4.0 * shape.width + element_bytes * per_layer + masks
    num_layers = trained.num_layers(shape)
    if recomputes:
        at_once = 1 if trained.is_without_dropout else 2  # measured: the masks of a layer take about as much again
        return (num_layers * 4.0 * shape.width + at_once * whole) * largest.num_tokens
    pruned = 0.0 if is_whole else 4.0 * shape.width + element_bytes * behind
    return (num_layers * whole - pruned) * largest.num_tokens


def _flat_workspace_bytes(shape: Shape, derived: Derived, largest: Pass) -> float:
    """Gradients of the widest place of one layer on the way back: both halves of the gate and their product."""
    element_bytes = 2.0 if derived.precision == "bf16" else 4.0
    return largest.num_tokens * (element_bytes * 4 * shape.ffn_width + 3 * 4.0 * shape.width)


def _logit_bytes(shape: Shape, largest: Pass, longest_answer: int) -> float:
    rows, tokens, _ = largest
    positions = min(tokens, longest_answer) if shape.family in SPARSE_HEADS and longest_answer else tokens
    return float(LOGIT_BYTES * rows * positions * shape.vocab_size)


def _measured(
    components: dict[str, float], probe: ProbeRecord, largest: Pass, device: str, share: float, calculated: float
) -> dict[str, float]:
    """Components that add up to the probe's own peak, its step scaled where the run has a larger batch.

    `share`: what the run's step takes of the probe's, where one of them recomputes activations or fills the heap more.
    On a CPU the same run repeats within 8 % at best, a probe too: where it agrees with the step `calculated` from the
    shape, the middle of both is nearer than either.
    """
    probed = max((point.num_rows * point.row_tokens for point in probe.points), default=0)
    growth = share * (max(1.0, largest.num_tokens / probed) if probed else 1.0)
    held = sum(components[name] for name in ("weights", "adapters", "gradients", "optimiser"))
    runtime = components["runtime"]
    if device == "cpu":  # libraries count as the process's own, a CUDA context not as its allocator's
        runtime = min(runtime, max(0.0, probe.peak_memory_bytes - held))
        held += runtime
    step = max(0.0, probe.peak_memory_bytes - held) * growth
    if device == "cpu" and 1 / AGREEMENT < step / calculated < AGREEMENT:
        step = math.sqrt(step * calculated)
    logits = min(components["logits"], step / 2)
    return components | {"activations": step - logits, "logits": logits, "workspace": 0.0, "runtime": runtime}
