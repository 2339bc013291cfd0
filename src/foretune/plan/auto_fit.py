"""What this machine holds of a job: whole passes, smaller ones, four bits; and where nothing fits, what would."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from foretune.config.job import WHOLE_METHODS, JobConfig
from foretune.hardware import Gpu, Machine
from foretune.hardware.devices import DEVICES
from foretune.hardware.prices import hourly_prices
from foretune.models.base import EMBEDDED
from foretune.models.catalogue import find_model
from foretune.models.shapes import model_shape
from foretune.plan.affordable import LADDER
from foretune.plan.answer import CAUTIOUS
from foretune.plan.lengths import Lengths
from foretune.plan.own_data import Choice
from foretune.plan.plan import plan
from foretune.records.plan import PlanRecord

__all__ = ["Fitted", "fitted"]

BITS = "train.advanced.quantise_base"
ROWS = "train.advanced.micro_batch_size"


@dataclass(frozen=True)
class Fitted:
    """The plan of the job as it fits best, and the settings that make it fit.

    Where nothing fits, `device` is the smallest priced one that alone holds it (empty: none does) and `base` the
    largest open model of a ladder that this machine trains (empty: none).
    """

    plan: PlanRecord
    choices: tuple[Choice, ...] = ()
    device: str = ""
    base: str = ""

    @property
    def fits(self) -> bool:
        """Whether this machine holds the job by the plan's own estimate."""
        return self.plan.fits


def fitted(job: JobConfig, config: dict[str, Any], lengths: Lengths, machine: Machine) -> Fitted:
    """The first way in which the free memory of `machine` holds the job: as it is, in smaller passes, in four bits.

    `config` is the base's config.json. Raises ConfigError where the method cannot train this base.
    """
    found = list(_tries(job, config, lengths, machine))
    fitting = next((one for one in found if one.fits), None)
    if fitting is not None:
        return fitting
    device = _smallest_device(job, config, lengths, machine)
    return Fitted(found[0].plan, (), device, _largest_base(job, config, lengths, machine))


def _tries(job: JobConfig, config: dict[str, Any], lengths: Lengths, machine: Machine) -> Iterator[Fitted]:
    """Ways to run the job, the plainest first; ends behind the first that fits."""
    whole: PlanRecord | None = None
    for bits in ("none",) if job.train.method in WHOLE_METHODS else ("none", "4bit"):
        record = _planned(job, config, lengths, machine, {BITS: bits})
        whole = whole or record
        of_bits = () if bits == "none" else (Choice(BITS, bits, _why_bits(whole, record)),)
        most = _most_rows(record, machine)
        if record.fits and most >= record.micro_batch_size:
            yield Fitted(record, of_bits)
            return
        if not _planned(job, config, lengths, machine, {BITS: bits, ROWS: 1}).fits:
            yield Fitted(record, of_bits)
            continue
        for size in _halves(record.micro_batch_size, most):
            smaller = _planned(job, config, lengths, machine, {BITS: bits, ROWS: size})
            if smaller.fits:
                why = f"the most rows of one pass that fit into {smaller.available_memory_gb:.1f} GB free"
                why = "the usual pass for a base of this size, before anything is measured" if size == most else why
                yield Fitted(smaller, (*of_bits, Choice(ROWS, size, why)))
                return


def _planned(
    job: JobConfig, config: dict[str, Any], lengths: Lengths, machine: Machine, changes: dict[str, Any]
) -> PlanRecord:
    advanced = job.train.advanced.model_copy(update={name.rpartition(".")[2]: value for name, value in changes.items()})
    changed = job.model_copy(update={"train": job.train.model_copy(update={"advanced": advanced})})
    return plan(changed, base_config=config, lengths=lengths, machine=machine)


def _why_bits(whole: PlanRecord, packed: PlanRecord) -> str:
    return (
        f"QLoRA: the base as it is needs about {whole.peak_memory_gb.expected:.1f} GB of "
        f"{whole.available_memory_gb:.1f} GB free, in four bits {packed.peak_memory_gb.expected:.1f}"
    )


def _most_rows(record: PlanRecord, machine: Machine) -> int:
    """Rows of a pass that are suggested on a GPU before anything is measured (requirements R207, R208)."""
    if not machine.gpus:
        return record.micro_batch_size
    memory_gb = machine.gpus[0].memory_bytes / 1e9
    capped = (most for size, gb, most, _ in CAUTIOUS if record.total_parameters >= size and memory_gb <= gb)
    return next(capped, record.micro_batch_size)


def _halves(size: int, most: int) -> Iterator[int]:
    while size >= 1:
        if size <= most:
            yield size
        size //= 2


def _smallest_device(job: JobConfig, config: dict[str, Any], lengths: Lengths, machine: Machine) -> str:
    """The smallest priced NVIDIA device that alone holds the job, and how; "" where none does."""
    priced = {row.device for row in hourly_prices()}
    devices = [one for one in DEVICES if one.name in priced and one.kind == "gpu" and one.vendor.lower() == "nvidia"]
    for device in sorted(devices, key=lambda one: one.usable_memory_bytes):
        free = round(device.usable_memory_bytes)
        there = replace(machine, gpus=(Gpu(device.name, free, free, "", device.capability),))
        found = next((one for one in _tries(job, config, lengths, there) if one.fits), None)
        if found is not None:
            return f"{device.name}, {device.memory_gb:g} GB, by {_way(job, found)}"
    return ""


def _way(job: JobConfig, found: Fitted) -> str:
    """The method, as it is called on four bits where these are what makes it fit."""
    if not any(choice.name == BITS for choice in found.choices):
        return job.train.method
    return "qlora" if job.train.method == "lora" else f"{job.train.method} in four bits"


def _largest_base(job: JobConfig, config: dict[str, Any], lengths: Lengths, machine: Machine) -> str:
    """The largest model of the ladder below this base that the machine trains by the same method; "" where none is."""
    own = model_shape(config).parameters
    smaller = [model for name in LADDER if (model := find_model(name)) and model.shape.parameters < own]
    for model in reversed(smaller):
        if any(one.fits for one in _tries(job, model.config, lengths, machine)):
            return model.id
    return "" if job.base == EMBEDDED else EMBEDDED
