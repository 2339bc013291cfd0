"""Peak memory of a training job on each device: the terms of its arithmetic, few fitted factors, and an interval."""

# SPDX-License-Identifier: Apache-2.0
#
# peak = resident + max(loss, backward, end of backward, optimiser step, evaluation) + runtime, each term in bytes from
# gpu_terms.py; the factors in coefficients.json are fitted by benchmarks/plan_fit_memory.py with a prior of one.
from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from foretune.plan.frameworks import framework_of
from foretune.plan.gpu_terms import Terms, terms_of
from foretune.plan.setup import Setup, weight_bytes
from foretune.units import GB

__all__ = ["FACTORS", "FitState", "GpuMemory", "Parts", "calibrated", "kind_of", "parts_of", "peak_memory", "regime_of"]

# Name of each factor and what it should be if the arithmetic were all there is. slack: share by which batches of
# unequal length leave gaps in the allocator; runtime and comm in GB: the driver's context, and the buffers of each kind
# of communication (data, tensor, pipeline).
FACTORS: dict[str, float] = {
    "weights": 1.0,
    "saved": 1.0,
    "inputs": 1.0,
    "layer": 1.0,
    "logits": 1.0,
    "quantised_inputs": 1.0,
    "adapter_inputs": 1.0,
    "gathered": 1.0,
    "optimiser": 1.0,
    "scores": 1.0,
    "step": 1.0,
    "slack": 0.05,
    "runtime": 0.7,
    "comm": 0.7,
    "buckets": 1.0,
}
ALLOCATED_SHARE = 0.15  # of the runtime that a framework sees which reports its allocator's bytes only
PAGED_SHARE = 0.85  # of the device's memory that a run with a paged optimiser fills
CERTAIN = 0.5  # doubt about a peak that is all counted state, as a share of that about one without any
COUNTED = ("weights", "adapters", "gradients", "optimiser")  # components that are known from the shape alone
SPREAD_SHARE = 0.7  # of a device's memory that resident state may take before a run must have sharded it
FitState = Literal["yes", "tight", "no"]
PROCESS_GB = 4.0  # host memory of Python, its libraries and the data loader


@dataclass(frozen=True)
class GpuMemory:
    """Peak bytes of one device, in GB = 1e9 bytes. `low` to `high` holds four of five measured runs.

    `fit_gb` is what must be free for the job to be called fitting: 2 to 3 in 100 runs need more. `components` are bytes
    that add up to `expected_gb`, `formulas` say how each came about. Host memory and disk are for the whole job.
    """

    low_gb: float
    expected_gb: float
    high_gb: float
    fit_gb: float
    components: dict[str, float]
    formulas: dict[str, str]
    cpu_ram_gb: float
    disk_gb: float
    regime: str
    assumptions: tuple[str, ...] = ()

    def fits(self, memory_gb: float) -> bool:
        """Whether the job runs on a device with `memory_gb` of usable memory, judged on the upper bounds."""
        return max(self.high_gb, self.fit_gb) <= memory_gb

    def state(self, memory_gb: float) -> FitState:
        """`yes` where even the upper bound fits into `memory_gb`, `tight` where the low end does, else `no`."""
        if self.fits(memory_gb):
            return "yes"
        return "tight" if self.low_gb <= memory_gb else "no"


@dataclass(frozen=True)
class Parts:
    """Bytes by when they are needed; `loss` to `evaluation` are alternatives of which the largest counts.

    Of the resident bytes, `pageable` ones give way to the host where all exceed `room`.
    """

    resident: Any
    loss: Any
    backward: Any
    end: Any
    step: Any
    evaluation: Any
    runtime: Any
    pageable: Any = 0.0
    room: Any = math.inf

    def peak(self, maximum: Callable[..., Any] = max) -> Any:
        """The whole peak in bytes."""
        moving = maximum(self.loss, self.backward, self.end, self.step, self.evaluation)
        total = self.resident + moving + self.runtime
        return maximum(total - self.pageable, -maximum(-total, -self.room))


@dataclass(frozen=True)
class Circumstances:
    """What of a setup, beside its terms, decides the peak; numbers so that a fit can hold many in arrays."""

    accumulates: Any
    kinds: Any
    is_allocated: Any
    varies: Any
    pages: Any
    memory_gb: Any
    framework: Any

    @classmethod
    def of(cls, setup: Setup) -> Circumstances:
        """Those of one setup."""
        facts, parallel = framework_of(setup.framework), setup.parallel
        is_allocated = facts.reports == "allocated" or setup.method == "weights"
        return cls(
            accumulates=float(setup.grad_accum_steps > 1),
            kinds=float((parallel.data > 1) + (parallel.tensor > 1) + (parallel.pipeline > 1)),
            is_allocated=float(is_allocated),
            varies=float(not setup.packing and not is_allocated),
            pages=float(setup.is_paged and setup.device_memory_gb > 0),
            memory_gb=setup.device_memory_gb or math.inf,
            framework=_memory_coefficients()["frameworks"].get(facts.name, 1.0),
        )


@cache
def _memory_coefficients() -> dict[str, Any]:
    text = files("foretune.plan").joinpath("coefficients.json").read_text(encoding="utf-8")
    section: dict[str, Any] = json.loads(text)["memory"]
    return section


def parts_of(terms: Terms, around: Circumstances, factors: Mapping[str, float]) -> Parts:
    """The peak's parts; `terms` and `around` may hold arrays of many setups."""
    kept = (
        factors["saved"] * terms.saved
        + factors["inputs"] * terms.inputs
        + factors["quantised_inputs"] * terms.quantised_inputs
        + factors["adapter_inputs"] * terms.adapter_inputs
        + factors["scores"] * terms.scores
    )
    swell = around.framework * (1 + factors["slack"] * around.varies)
    layer = (factors["layer"] * terms.layer + terms.dequantised) * swell
    held = terms.gradients * around.accumulates
    seen = 1 - (1 - ALLOCATED_SHARE) * around.is_allocated
    return Parts(
        resident=factors["weights"] * (terms.weights + terms.dense)
        + terms.adapters
        + factors["optimiser"] * terms.optimiser
        + factors["gathered"] * terms.gathered
        + factors["buckets"] * terms.buckets,
        loss=(kept + factors["logits"] * terms.logits) * swell + held,
        backward=kept * swell + layer + held,
        end=terms.gradients + layer,
        step=terms.gradients + factors["step"] * terms.step,
        evaluation=terms.evaluation * swell,
        runtime=GB * (factors["runtime"] * seen + factors["comm"] * around.kinds),
        pageable=factors["optimiser"] * terms.optimiser * around.pages,
        room=PAGED_SHARE * GB * around.memory_gb,
    )


def doubt(total: Any, counted: Any) -> Any:
    """How far a peak may be off, as a share of one that is all activations: weights and their state are counted.

    Both may be arrays; `counted` is at most `total`.
    """
    return CERTAIN + (1 - CERTAIN) * (total - counted) / total


def kind_of(setup: Setup) -> str:
    """What of a run decides how far its peak may be off, whoever's framework it uses."""
    if setup.method != "weights" and setup.unknown & {"seq_len", "micro_batch"}:
        return "batch not stated"
    varies = not setup.packing and framework_of(setup.framework).reports != "allocated"
    is_split = setup.parallel.tensor * setup.parallel.pipeline > 1
    return "rows of unequal length" if varies and not is_split and setup.method != "weights" else "rows of equal length"


def regime_of(setup: Setup, known: Collection[str] | None = None) -> str:
    """The kind of run whose residuals give the interval; `known` are the frameworks that the fit has learnt from."""
    kind = kind_of(setup)
    names = _memory_coefficients()["known"] if known is None else known
    is_known = framework_of(setup.framework).name in names
    return kind if kind == "batch not stated" else f"{'known' if is_known else 'new'} framework, {kind}"


def peak_memory(setup: Setup) -> GpuMemory:
    """Peak memory of one device for a setup, with interval, components and formulas."""
    factors = _memory_coefficients()["factors"]
    setup, spread = _spread(setup)
    terms, around = terms_of(setup), Circumstances.of(setup)
    parts = parts_of(terms, around, factors)
    components = _components(parts, terms, around, factors)
    components["optimiser"] -= max(0.0, sum(components.values()) - parts.peak())  # what is paged out
    answer = _answer(setup, components, regime_of(setup))
    return replace(answer, assumptions=(*spread, *answer.assumptions))


def _spread(setup: Setup) -> tuple[Setup, tuple[str, ...]]:
    """Shards the model where a row says nothing of its parallelism and whole copies would not fit the device.

    Over the row's devices, or over as many as it takes where their number is not known either.
    """
    room = SPREAD_SHARE * GB * setup.device_memory_gb
    is_open = "parallelism" in setup.unknown or setup.counts_device_hours
    if not is_open or not room:
        return setup, ()
    terms = terms_of(setup)
    needed = terms.weights + terms.dense + terms.gradients + terms.optimiser
    if needed < room:
        return setup, ()
    devices = setup.num_gpus if setup.num_gpus > 1 else 2 ** math.ceil(math.log2(needed / room))
    parallel = replace(setup.parallel, data=devices, sharding="zero3", shard_group=0, engine="fsdp")
    return setup.changed(parallel=parallel), (f"memory: weights sharded over {devices} devices, since they exceed one",)


def _components(parts: Parts, terms: Terms, around: Circumstances, factors: Mapping[str, float]) -> dict[str, float]:
    """The peak by term; of the alternatives, those of the largest one."""
    moments = {"loss": parts.loss, "backward": parts.backward, "end": parts.end, "step": parts.step}
    worst = max(moments, key=lambda name: moments[name])
    has_gradients = worst in ("end", "step") or around.accumulates
    gradients = terms.gradients if has_gradients else 0.0
    logits = factors["logits"] * terms.logits if worst == "loss" else 0.0
    swell = around.framework * (1 + factors["slack"] * around.varies)
    moving = moments[worst] - gradients - logits * swell
    components = {
        "weights": factors["weights"] * (terms.weights + terms.dense),
        "adapters": terms.adapters,
        "gradients": gradients,
        "optimiser": factors["optimiser"] * terms.optimiser,
        "activations": moving if worst in ("loss", "backward") else 0.0,
        "logits": logits * swell,
        "workspace": moving if worst in ("end", "step") else 0.0,
        "gathered": factors["gathered"] * terms.gathered,
        "communication": factors["buckets"] * terms.buckets + GB * factors["comm"] * around.kinds,
        "evaluation": max(0.0, parts.evaluation - moments[worst]),
        "runtime": parts.runtime - GB * factors["comm"] * around.kinds,
    }
    return components


def _answer(setup: Setup, components: dict[str, float], regime: str) -> GpuMemory:
    """The interval around the components' sum, as wide as the regime's residuals."""
    expected = sum(components.values()) / GB
    counted = sum(components[name] for name in COUNTED) / GB
    spread, width = _memory_coefficients()["intervals"][regime], doubt(expected, min(counted, expected))
    bounds = {name: expected * math.exp(width * spread[name]) for name in ("low", "high", "fit")}
    if framework_of(setup.framework).reports == "allocated":
        bounds["fit"] += _memory_coefficients()["factors"]["runtime"] * (1 - ALLOCATED_SHARE)
    return GpuMemory(
        low_gb=bounds["low"],
        expected_gb=expected,
        high_gb=bounds["high"],
        fit_gb=bounds["fit"],
        components=components,
        formulas=_formulas(setup, components),
        cpu_ram_gb=_host_gb(setup),
        disk_gb=_disk_gb(setup),
        regime=regime,
        assumptions=_assumptions(setup),
    )


def _assumptions(setup: Setup) -> tuple[str, ...]:
    noted = []
    if not setup.shape.is_exact:
        noted.append("model's shape estimated from its size")
    if setup.attention == "unknown":
        noted.append("attention kernel not given: no scores kept")
    if setup.checkpointing == "unknown":
        noted.append("activation checkpointing not given: full")
    return tuple(noted)


def _host_gb(setup: Setup) -> float:
    """Host memory: loading or merging 16-bit weights, and whatever is kept off the devices."""
    weights = 2.0 * setup.shape.parameters
    offloaded = 0.0
    if setup.parallel.offload != "none":
        offloaded = setup.trained_parameters * (setup.state_bytes + setup.gradient_bytes)
    if setup.parallel.offload == "all":
        offloaded += weight_bytes(setup.weights) * setup.shape.parameters
    return PROCESS_GB * min(setup.num_gpus, 8) + max(weights, offloaded) / GB


def _disk_gb(setup: Setup) -> float:
    """Disk: the base's 16-bit files, two checkpoints with optimiser state, and the merged or trained result."""
    base = 2.0 * setup.shape.parameters
    kept = 2.0 if setup.trains_base else setup.adapter_bytes
    checkpoint = setup.trained_parameters * (kept + setup.state_bytes)
    return (2 * base + 2 * checkpoint) / GB


def _formulas(setup: Setup, components: Mapping[str, float]) -> dict[str, str]:
    """How each component of more than a megabyte came about, in words and the setup's own numbers."""
    shape, parallel = setup.shape, setup.parallel
    tokens = f"{setup.micro_batch_size} x {setup.max_seq_len} tokens"
    shards = f" / {parallel.shards} shards" if parallel.sharding != "none" and parallel.shards > 1 else ""
    each = weight_bytes(setup.weights)
    trained = f"{setup.trained_parameters:,} trained parameters"
    texts = {
        "weights": f"{shape.parameters:,} parameters, products at {each:g} bytes ({setup.weights})"
        + (f", the rest at {setup.rest_bytes:g}" if setup.is_quantised else "")
        + (shards if parallel.sharding == "zero3" else "")
        + _split(setup),
        "adapters": f"{trained} x {setup.adapter_bytes:g} bytes",
        "gradients": f"{trained} x {setup.gradient_bytes:g} bytes{_split(setup)}",
        "optimiser": f"{trained} x {setup.state_bytes:g} bytes ({setup.optimiser}){shards}{_split(setup)}",
        "activations": f"{tokens} x {shape.num_layers} layers of width {shape.width}, "
        f"checkpointing {setup.checkpointing}, attention {setup.attention}",
        "logits": f"{tokens} x {shape.vocab_size:,} words, loss kernel {setup.loss}",
        "workspace": f"backward pass of one layer over {tokens}, or copies of the optimiser step",
        "gathered": f"weights fetched from {parallel.shards} shards: two blocks, embedding and head",
        "communication": "gradient buckets and the buffers of the communication library",
        "evaluation": f"keys and values of {setup.eval_batch_size} generated rows beyond the training peak",
        "runtime": "driver context and libraries",
    }
    return {name: text for name, text in texts.items() if abs(components.get(name, 0.0)) > 1e6}


def _split(setup: Setup) -> str:
    tensor, pipeline = setup.parallel.tensor, setup.parallel.pipeline
    return f" / {tensor} tensor x {pipeline} pipeline parts" if tensor * pipeline > 1 else ""


def calibrated(setup: Setup, probes: Sequence[tuple[Setup, float]]) -> GpuMemory:
    """Peak memory after one or more measured peaks of the same job at other batch sizes or lengths.

    `probes` pairs a setup with its measured peak in GB. One probe shifts and stretches the model's own curve; two or
    more fit an offset and a slope to it, with the model as prior. Without probes it is `peak_memory`.
    """
    if not probes:
        return peak_memory(setup)
    prior = peak_memory(setup)
    measured = [(peak_memory(probe), peak_gb) for probe, peak_gb in probes]
    expected = _corrected(prior, measured)
    scale = expected / prior.expected_gb
    components = {name: value * scale for name, value in prior.components.items()}
    regime = "two probes" if len(probes) > 1 else "one probe"
    return _answer(setup, components, regime)


def _moving_gb(memory: GpuMemory) -> float:
    """The part of a peak that grows with the batch."""
    return (memory.components["activations"] + memory.components["logits"] + memory.components["workspace"]) / GB


def _corrected(prior: GpuMemory, measured: Sequence[tuple[GpuMemory, float]]) -> float:
    """The prior's peak moved by the probes: offset + slope x what grows with the batch.

    Least squares on the probes' errors as shares of their peaks, with a ridge: offset and slope have spreads of their
    own around 0, a measured peak a `noise` of its own.
    """
    ridge = _memory_coefficients()["calibration"]
    a11, a12, a22 = ridge["offset"] ** -2, 0.0, ridge["slope"] ** -2
    b1 = b2 = 0.0
    scale = prior.expected_gb
    for memory, peak_gb in measured:
        weight = (ridge["noise"] * peak_gb) ** -2
        moving, error = _moving_gb(memory), peak_gb - memory.expected_gb
        a11, a12, a22 = a11 + weight * scale**2, a12 + weight * scale * moving, a22 + weight * moving**2
        b1, b2 = b1 + weight * scale * error, b2 + weight * moving * error
    determinant = a11 * a22 - a12**2
    offset, slope = (b1 * a22 - b2 * a12) / determinant, (b2 * a11 - b1 * a12) / determinant
    moved: float = scale * (1 + offset) + slope * _moving_gb(prior)
    return max(moved, 0.2 * max(peak_gb for _, peak_gb in measured))
