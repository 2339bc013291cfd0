"""`plan`: parameters, peak memory, time and cost of a job before it runs, as intervals, with what they rest on."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from foretune.config import JobConfig
from foretune.config.derive import Derived, derive
from foretune.config.job import LORA_METHODS
from foretune.errors import DataError
from foretune.hardware import Machine, detect_machine
from foretune.models.flat_rules import (
    engine_line,
    engine_name,
    frozen_flat_parameters,
    has_bf16_products,
    row_multiple,
    why_not_flat_in,
)
from foretune.models.method_fit import check_method
from foretune.models.shapes import Shape, model_shape
from foretune.plan.cost import run_cost
from foretune.plan.ledger import learned_factors, read_ledger
from foretune.plan.lengths import Cutting, Lengths, Work, training_work
from foretune.plan.memory import NEARLY, Memory, Trained, peak_memory
from foretune.plan.time import (
    PROBED_FACTORS,
    UNPROBED_FACTORS,
    Factors,
    Speed,
    Times,
    busy_factors,
    calculated_speed,
    predicted_times,
    probed_speed,
)
from foretune.plan.trained import trained_by
from foretune.records.plan import Estimate, PlanRecord
from foretune.records.probe import ProbeRecord
from foretune.stats.power import expected_visible_difference
from foretune.units import show_bytes, show_seconds, show_usd

__all__ = ["plan"]

SMALL_RECORDS_BYTES = 5_000_000  # logs, answers and the report
TRUNK_SHARE = 0.25  # of free memory, then of the free disk, as train/trunk.py has it


@dataclass(frozen=True)
class _Basis:
    """Everything that the figures rest on."""

    job: JobConfig
    shape: Shape
    lengths: Lengths
    machine: Machine
    probe: ProbeRecord | None
    derived: Derived
    trained: Trained
    work: Work
    factors: Factors
    cutting: Cutting
    engine: str  # its name with its version
    engine_line: str  # what to say of it
    recomputes: bool = False  # activations, in the backward pass

    @property
    def trunk_share(self) -> float:
        """Share of the layers below everything that is trained."""
        top = self.trained.top_layers
        return 1 - top / self.shape.num_layers if top and self.cutting.is_flat else 0.0

    @property
    def trunk_bytes(self) -> float:
        """At most what the outputs of those layers take, over all rows."""
        num_tokens = sum(self.lengths.train) + sum(self.lengths.validation)
        return 4.0 * self.shape.width * num_tokens * self.cutting.num_sequences

    @property
    def keeps_trunk(self) -> bool:
        """Whether they are computed once; train/trunk.py keeps them in memory, on disk, or not."""
        is_wanted = self.derived.num_epochs > 1 and "cached_trunk" not in self.job.train.advanced.without
        fits = self.trunk_bytes <= TRUNK_SHARE * max(self.machine.training_memory_bytes, self.machine.disk_free_bytes)
        return bool(self.trunk_share) and is_wanted and fits

    @property
    def device(self) -> str:
        """The device by the name that the probe and the training record give it."""
        if self.probe is not None:
            return self.probe.device
        if self.machine.kind == "cuda":
            return self.machine.gpus[0].name
        threads = self.job.train.advanced.num_threads or self.machine.num_cores
        return f"{self.machine.cpu_name} ({threads} threads)"


def plan(
    job: JobConfig,
    *,
    base_config: dict[str, Any],
    lengths: Lengths,
    probe: ProbeRecord | None = None,
    run_dir: Path | None = None,
    machine: Machine | None = None,
) -> PlanRecord:
    """Predict a run; writes `plan.json` where `run_dir` is given.

    `base_config` is the base model's config.json. With `probe` the speed is measured, without it calculated from FLOPs.
    The ledger beside `run_dir` narrows the interval once five runs are in it. Raises DataError without training
    samples, ConfigError on a config or a target module that does not fit.
    """
    if not lengths.train:
        raise DataError("there are no training samples to plan for", fix="check data.path and the split fractions")
    basis = _basis(job, base_config, lengths, probe, run_dir, machine or detect_machine(run_dir or "."))
    basis, memory = _fitted(basis)
    speed = _speed(basis)
    times = predicted_times(
        job,
        basis.derived,
        lengths,
        basis.work,
        basis.shape,
        speed,
        basis.factors,
        basis.cutting,
        trunk_share=basis.trunk_share if basis.keeps_trunk else 0.0,
        recomputes=basis.recomputes and not (probe is not None and probe.recomputes_activations),
    )
    record = _record(basis, memory, speed, times)
    if run_dir is not None:
        record.write(run_dir)
    return record


def _basis(
    job: JobConfig,
    base_config: dict[str, Any],
    lengths: Lengths,
    probe: ProbeRecord | None,
    run_dir: Path | None,
    machine: Machine,
) -> _Basis:
    shape = model_shape(base_config)
    check_method(job.train, shape)
    derived = derive(
        job,
        num_train_samples=len(lengths.train),
        longest_sample_tokens=lengths.longest_train,
        model_max_len=shape.max_len,
        device=machine.kind,
        has_bf16=machine.gpus[0].has_bf16 if machine.gpus else machine.cpu_has_bf16,
        has_fp16=bool(machine.gpus) and machine.gpus[0].has_fp16,
        frozen_flat_parameters=frozen_flat_parameters(
            base_config, job.train, shape.parameters, device=machine.kind, max_seq_len=lengths.longest_train
        ),
    )
    cutting, engine, line = _cutting(job, base_config, derived, machine)
    work = training_work(lengths, derived, seed=job.seed, cutting=cutting)
    trained = trained_by(job, shape, num_labels=lengths.num_labels)
    basis = _Basis(job, shape, lengths, machine, probe, derived, trained, work, UNPROBED_FACTORS, cutting, engine, line)
    return replace(basis, factors=_factors(basis, run_dir))


def _cutting(job: JobConfig, config: dict[str, Any], derived: Derived, machine: Machine) -> tuple[Cutting, str, str]:
    """How training will lay its batches out, the engine, and a line on it; the rules of train/passes.py."""
    advanced, method = job.train.advanced, job.train.method
    reason = why_not_flat_in(config, job.train, device=machine.kind, max_seq_len=derived.max_seq_len)
    dropout = advanced.dropout if method in LORA_METHODS else 0.0
    prompt = advanced.num_prompt_tokens if method in ("prompt", "prefix") else 0
    shares = not reason and not dropout and "shared_prefix" not in advanced.without
    sequences = 2 if method in ("dpo", "orpo") else 1
    multiple = row_multiple(derived.precision, has_kernels="kernels" not in advanced.without)
    cutting = Cutting(not reason, shares, prompt, method != "classify", sequences, multiple)
    return cutting, engine_name(reason), engine_line(reason, dropout=dropout, without=advanced.without)


def _fitted(basis: _Basis) -> tuple[_Basis, Memory]:
    """The basis with what decides the memory, and the memory: activations are recomputed where else it does not fit."""
    wish = basis.job.train.advanced.recompute
    plain = replace(basis, recomputes=wish == "always")
    memory, available = _memory(plain), basis.machine.training_memory_bytes / 1e9
    if wish != "auto" or memory.needed_gb <= available or basis.job.train.method == "prefix":
        return plain, memory
    again = replace(basis, recomputes=True)
    smaller = _memory(again)
    return (again, smaller) if smaller.needed_gb < memory.needed_gb else (plain, memory)


def _memory(basis: _Basis) -> Memory:
    is_in_memory = basis.keeps_trunk and basis.trunk_bytes <= TRUNK_SHARE * basis.machine.training_memory_bytes
    return peak_memory(
        basis.shape,
        basis.trained,
        basis.derived,
        largest=basis.work.largest,
        longest_answer=_longest_answer(basis.job, basis.lengths),
        device=basis.machine.kind,
        probe=basis.probe,
        is_flat=basis.cutting.is_flat,
        recomputes=basis.recomputes,
        trunk_bytes=basis.trunk_bytes if is_in_memory else 0.0,
        has_own_products=has_bf16_products() and "kernels" not in basis.job.train.advanced.without,
        num_large=basis.work.num_large(NEARLY),
    )


def _factors(basis: _Basis, run_dir: Path | None) -> Factors:
    """How far the time may be off: by the machine's own ledger where it has one, wider where the machine is busy."""
    probed = basis.probe is not None
    entries = read_ledger(run_dir.parent) if run_dir is not None else ()
    learned = learned_factors(
        entries, device=basis.device, method=basis.job.train.method, probed=probed, engine=basis.engine
    )
    factors = learned or (PROBED_FACTORS if probed else UNPROBED_FACTORS)
    return busy_factors(factors) if basis.machine.is_busy else factors


def _longest_answer(job: JobConfig, lengths: Lengths) -> int:
    """Most tokens of a row that carry loss; 0 = all of them."""
    if job.train.method in ("classify", "regress"):
        return 1
    whole = job.train.method in ("pretrain", "orpo") or job.train.advanced.train_on == "all"
    return 0 if whole else max(lengths.train_answers, default=0)


def _speed(basis: _Basis) -> Speed:
    if basis.probe is not None:
        return probed_speed(basis.probe)
    return calculated_speed(
        basis.shape,
        basis.machine,
        trains_base=basis.trained.trains_base,
        trainable=basis.trained.parameters,
        is_bf16=basis.derived.precision != "fp32",
        trunk_share=basis.trunk_share,
        keeps_trunk=basis.keeps_trunk,
    )


def _record(basis: _Basis, memory: Memory, speed: Speed, times: Times) -> PlanRecord:
    job, derived, probe = basis.job, basis.derived, basis.probe
    available = basis.machine.training_memory_bytes / 1e9
    epoch_tokens = sum(min(length, derived.max_seq_len) for length in basis.lengths.train)
    fits = memory.needed_gb <= available
    cost = run_cost(times.total, job.plan.price_per_hour_usd)
    disk, num_test = _disk_bytes(basis), _num_test(basis)
    return PlanRecord(
        base=job.base,
        method=job.train.method,
        device=basis.device,
        total_parameters=probe.total_parameters if probe else basis.trained.base_parameters,
        trainable_parameters=probe.trainable_parameters if probe else basis.trained.parameters,
        num_train_samples=len(basis.lengths.train),
        num_train_tokens=epoch_tokens,
        num_steps=derived.num_steps,
        micro_batch_size=derived.micro_batch_size,
        grad_accum_steps=derived.grad_accum_steps,
        max_seq_len=derived.max_seq_len,
        recomputes_activations=basis.recomputes,
        fits=fits,
        available_memory_gb=available,
        peak_memory_gb=memory.peak_gb,
        memory_components=memory.components,
        train_seconds=times.train,
        total_seconds=times.total,
        tokens_per_second=_rate(epoch_tokens * derived.num_epochs, times.train),
        cost_usd=cost,
        price_per_hour_usd=job.plan.price_per_hour_usd,
        disk_bytes=disk,
        probed=probe is not None,
        engine=basis.engine,
        num_test_samples=num_test or None,
        smallest_visible_difference=expected_visible_difference(num_test) if num_test else None,
        assumptions=tuple(_assumptions(basis, speed, times)),
        warnings=(*derived.warnings, *_warnings(basis, memory, times, cost, available, disk)),
    )


def _num_test(basis: _Basis) -> int:
    """Test samples that the systems will answer; none of raw text."""
    most = basis.job.evaluate.advanced.max_test_samples
    num = 0 if basis.job.train.method == "pretrain" else len(basis.lengths.test)
    return min(num, most) if most else num


def _rate(num_tokens: float, seconds: Estimate) -> Estimate:
    low, expected, high = (num_tokens / max(value, 1e-9) for value in (seconds.high, seconds.expected, seconds.low))
    return Estimate(low=low, expected=expected, high=high)


def _disk_bytes(basis: _Basis) -> int:
    """Checkpoints that are kept, the best one and the one being written, 12 bytes a trained weight; and the result."""
    checkpoints = basis.job.train.advanced.keep_checkpoints + 2
    is_on_disk = basis.keeps_trunk and basis.trunk_bytes > TRUNK_SHARE * basis.machine.training_memory_bytes
    trunk = round(basis.trunk_bytes) if is_on_disk else 0
    return (12 * checkpoints + 4) * basis.trained.parameters + SMALL_RECORDS_BYTES + trunk


def _assumptions(basis: _Basis, speed: Speed, times: Times) -> Iterator[str]:
    if speed.is_probed and basis.probe is not None:
        yield f"speed measured in {len(basis.probe.points)} real passes on {basis.device}"
    else:
        yield f"speed calculated from FLOPs and the peak of {basis.device}; measure it with a probe"
    yield f"interval of training: {basis.factors.reason}"
    yield (
        f"expected parts: training {show_seconds(times.train.expected)}, validation {show_seconds(times.validation)}, "
        f"checkpoints {show_seconds(times.saving)}, loading {show_seconds(times.loading)}, "
        f"evaluation {show_seconds(times.evaluation.expected)}"
    )
    yield basis.engine_line
    if basis.recomputes:
        yield "activations are computed again in the backward pass: less memory, about 30 % slower"
    if basis.keeps_trunk:
        frozen = basis.shape.num_layers - basis.trained.top_layers
        yield f"the {frozen} blocks below the adapters are frozen and computed once, not in every epoch"
    yield "all steps run; early stopping makes it shorter"
    yield f"{basis.derived.precision} arithmetic, weights, gradients and AdamW's two moments in fp32: 4 + 4 + 8 bytes"
    if basis.work.is_sampled:
        yield "batches counted on an even sample of the steps"
    if not basis.job.plan.price_per_hour_usd:
        yield "your own machine: $0; set plan.price_per_hour_usd to price its time"
    if not basis.shape.is_exact:
        yield f"family {basis.shape.family} is counted as if it were a Llama"


def _warnings(
    basis: _Basis, memory: Memory, times: Times, cost: Estimate, available_gb: float, disk_bytes: int
) -> Iterator[str]:
    limits, machine = basis.job.plan, basis.machine
    if machine.is_busy:
        yield f"other processes keep this machine busy (load {machine.load_average:.1f} on {machine.num_cores} cores)"
    if memory.needed_gb > available_gb:
        yield (
            f"may not fit: up to {memory.needed_gb:.1f} GB of {available_gb:.1f} GB free; lower "
            "train.advanced.micro_batch_size or train.max_seq_len, or use method lora"
        )
    if disk_bytes > machine.disk_free_bytes:
        yield f"needs {show_bytes(disk_bytes)} of disk, {show_bytes(machine.disk_free_bytes)} are free"
    if limits.max_cost_usd and cost.high > limits.max_cost_usd:
        yield f"may cost {show_usd(cost.high)}, more than max_cost_usd {show_usd(limits.max_cost_usd)}: it would stop"
    if limits.max_hours and times.total.high > limits.max_hours * 3600:
        yield f"may take {show_seconds(times.total.high)}, more than max_hours {limits.max_hours:g}: it would stop"
