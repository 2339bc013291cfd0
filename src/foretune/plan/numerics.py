"""In which formats a row keeps weights, gradients and optimiser state, read from what it says of its precision."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import cast

from foretune.models.shapes import Shape
from foretune.plan.cells import Row
from foretune.plan.frameworks import Framework
from foretune.plan.setup import Method, Objective, Parallel, WeightFormat, weight_bytes

__all__ = ["Job", "Numerics", "numerics_of"]

LARGEST_FP32 = 15e9  # parameters of a model that somebody would still load in fp32

# Moments of one trained parameter, in elements; adamw8bit keeps two of one byte (Dettmers et al. 2022, 2110.02861).
MOMENTS = {"adamw": 2.0, "adafactor": 0.05, "muon": 1.1, "lion": 1.0, "sgd": 0.0}
MOMENTS_8BIT_BYTES = 2.03
OPTIMISERS = (
    (r"(8.?bit|int8)[^|]{0,16}(adam|optim)|adam\w*_?8.?bit", "adamw8bit"),
    (r"adafactor", "adafactor"),
    (r"\bmuon\b", "muon"),
    (r"\blion\b", "lion"),
    (r"\bsgd\b", "sgd"),
)


@dataclass(frozen=True)
class Job:
    """What of a row is known before its formats are."""

    shape: Shape
    method: Method
    objective: Objective
    framework: Framework
    parallel: Parallel
    num_gpus: int
    memory_gb: float

    @property
    def uses_deepspeed(self) -> bool:
        """Whether DeepSpeed holds the state; on one device only a framework that always goes through it."""
        engine = self.parallel.engine or self.framework.engine
        return engine == "deepspeed" or "deepspeed" in self.framework.name.lower()


@dataclass(frozen=True)
class Numerics:
    """Formats and bytes; the names are those of Setup."""

    weights: WeightFormat
    compute: str
    optimiser: str
    state_bytes: float
    gradient_bytes: float
    adapter_bytes: float
    rest_bytes: float
    is_paged: bool
    is_fused_backward: bool


def numerics_of(row: Row, job: Job) -> Numerics:
    """The formats of one row; where it says nothing, those that its framework takes."""
    text = row.text("precision/quantization").lower()
    compute = _compute(text) if text else _usual_precision(row, job)
    if not text:
        row.assume("precision", f"precision not given: {compute}")
    state = _state(text, compute, job)
    weights = _weights(text, row.hints, job.method, compute)
    if job.method == "full" and state == "amp":
        weights = "fp32"
    optimiser, is_fused = _optimiser(row, job)
    state_bytes, gradient_bytes = _state_bytes(state, optimiser, weights, job)
    adapter_bytes = _adapter_bytes(text, job.framework)
    if job.method != "full":
        moments = MOMENTS_8BIT_BYTES if optimiser == "adamw8bit" else adapter_bytes * MOMENTS[optimiser]
        state_bytes, gradient_bytes = moments, adapter_bytes
    upcasts = job.framework.upcasts and job.method != "weights" and job.parallel.sharding != "zero3"
    found = Numerics(
        weights=cast(WeightFormat, weights),
        compute=compute,
        optimiser=optimiser,
        state_bytes=state_bytes,
        gradient_bytes=gradient_bytes,
        adapter_bytes=adapter_bytes,
        rest_bytes=4.0 if upcasts else 2.0,
        is_paged="paged" in row.hints,
        is_fused_backward=is_fused,
    )
    return _squeezed(row, job, found)


def _usual_precision(row: Row, job: Job) -> str:
    """What a framework loads where nobody says; FlashAttention runs in 16 bits only."""
    is_half = job.method == "qlora" or job.shape.parameters > LARGEST_FP32 or "flash" in row.hints
    return "bf16" if is_half else job.framework.precision


def _compute(text: str) -> str:
    for words, precision in (
        (r"nvfp4|mxfp4", "nvfp4"),
        (r"fp8", "fp8"),
        (r"bf16|bfloat", "bf16"),
        (r"fp16|half|float16", "fp16"),
        (r"fp32|float32|tf32", "fp32"),
        (r"int8", "fp16"),
    ):
        if re.search(words, text):
            return precision
    return "bf16"


def _weights(text: str, hints: str, method: Method, compute: str) -> str:
    if method != "weights" and re.search(r"nf4.?dq|(?<!w/o )(?<!no )double.?quant|nested.?quant", text + hints):
        return "nf4-dq"
    if re.search(r"gptq|awq", text):
        return "int8" if "int8" in text else "int4"
    if re.search(r"nf4|int4|4.?bit|(?<!nv)(?<!mx)fp4", text):
        return "int4" if method == "weights" and "nf4" not in text else "nf4"
    if re.search(r"int8|8.?bit", text):
        return "int8"
    if method == "qlora":
        return "nf4"
    return compute if compute in ("fp16", "fp32") else "bf16"


def _state(text: str, compute: str, job: Job) -> str:
    """How a fully trained model keeps its state: all in the weights' format, under autocast, or with a master copy."""
    framework = job.framework
    if re.search(r"true|pure", text) or compute == "fp32":
        return "pure"
    if job.parallel.engine in ("deepspeed", "megatron"):
        return "master"
    if re.search(r"mixed|amp|autocast", text):
        return "master" if framework.full_state == "master" else "amp"
    if job.objective == "pretrain" and framework.name == "any":
        return "master"
    if compute == "fp16" and framework.full_state == "pure":
        return "amp"  # fp16 weights do not train without a fp32 copy
    return framework.full_state


def _state_bytes(state: str, optimiser: str, weights: str, job: Job) -> tuple[float, float]:
    """Bytes of optimiser state and of the gradient of one parameter of a fully trained model."""
    element = 4.0 if state != "pure" or weights == "fp32" else 2.0
    moments = MOMENTS_8BIT_BYTES if optimiser == "adamw8bit" else element * MOMENTS[optimiser]
    if state != "master":
        return moments, element
    # DeepSpeed's stages below 3 keep the fp32 gradients of a partition beside its fp32 weights.
    has_copies = job.uses_deepspeed and job.parallel.sharding != "zero3"
    return moments + (8.0 if has_copies else 4.0), 2.0


def _adapter_bytes(text: str, framework: Framework) -> float:
    if re.search(r"adapters? (in )?(fp32|float32)", text):
        return 4.0
    return 2.0 if framework.adapter == "weights" or re.search(r"true|pure", text) else 4.0


def _optimiser(row: Row, job: Job) -> tuple[str, bool]:
    """Name of the optimiser, and whether it steps inside the backward pass."""
    hints = row.hints
    is_fused = bool(re.search(r"optimi[sz]er.{0,4}in.{0,4}back|fused.{0,10}backward", hints))
    for words, name in OPTIMISERS:
        if re.search(words, hints):
            return name, is_fused
    single = job.framework.optimiser_single
    if job.method == "full" and job.num_gpus == 1 and single:
        row.assume("optimiser", f"optimiser not given: {single} inside the backward pass")
        return single, True
    return job.framework.optimiser, is_fused


def _squeezed(row: Row, job: Job, found: Numerics) -> Numerics:
    """With no optimiser named, what fits the stated device: AdamW in 8 bits, or also stepping inside the backward."""
    memory, count = job.memory_gb * 1e9, job.shape.parameters
    is_named = re.search(r"adam|sgd|\blion|muon|adafactor|optimi|offload|mixed|amp|pure|true|fp32", row.hints)
    is_open = job.method == "full" and job.objective == "sft" and job.num_gpus == 1 and memory and not is_named
    needed = count * (weight_bytes(found.weights) + found.gradient_bytes + found.state_bytes)
    if not is_open or found.optimiser != "adamw" or needed < memory:
        return found
    row.assume("optimiser", f"optimiser not given: 8-bit AdamW, since {needed / 1e9:.0f} GB would exceed the device")
    smaller = replace(found, optimiser="adamw8bit", weights="bf16", gradient_bytes=2.0, state_bytes=MOMENTS_8BIT_BYTES)
    return replace(smaller, is_fused_backward=count * (4.0 + MOMENTS_8BIT_BYTES) > memory)
