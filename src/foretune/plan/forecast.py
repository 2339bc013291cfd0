"""Memory, time and money of a setup on a named device, put together with price, warnings and what would fit instead."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from foretune.errors import DataError
from foretune.hardware.devices import DEVICES, find_device
from foretune.hardware.prices import HourlyPrice, price_per_hour
from foretune.plan.gpu_memory import GpuMemory, peak_memory
from foretune.plan.gpu_time import throughput
from foretune.plan.setup import Setup
from foretune.records.forecast import Forecast, Price
from foretune.records.plan import Estimate
from foretune.units import GB

__all__ = ["as_price", "cost_of", "forecast", "given_price", "listed_price", "usable_gb", "what_fits"]

MOST_SUGGESTIONS = 3
SHARDED = (1, 2, 4, 8)
VERY_LARGE = 100e9  # parameters
BIG_DEVICE_GB = 80.0


def forecast(
    setup: Setup, *, assumptions: Sequence[str] = (), price: Price | None = None, suggests: bool = True
) -> Forecast:
    """The whole answer for one setup. `suggests` adds what would fit instead where it does not fit."""
    memory = peak_memory(setup)
    time = throughput(setup)
    available = usable_gb(setup)
    fits = memory.fits(available) if available else None
    price = price or listed_price(setup.device, setup.num_gpus)
    return Forecast(
        base=setup.model or f"a {setup.shape.family} by its size",
        method=setup.method if setup.objective in ("sft", "inference") else setup.objective,
        precision=setup.weights,
        device=setup.device,
        num_gpus=setup.num_gpus,
        total_parameters=setup.shape.parameters,
        trainable_parameters=setup.trained_parameters,
        fits=fits,
        fit_state=memory.state(available) if available else None,
        device_memory_gb=available,
        peak_memory_gb=Estimate(low=memory.low_gb, expected=memory.expected_gb, high=memory.high_gb),
        memory_components=dict(memory.components),
        memory_formulas=dict(memory.formulas),
        cpu_ram_gb=memory.cpu_ram_gb,
        disk_gb=memory.disk_gb,
        tokens_per_second=time.tokens_per_second,
        train_hours=time.train_hours,
        time_components=dict(time.components),
        time_formulas=dict(time.formulas),
        mfu=time.mfu,
        cost_usd=cost_of(time.train_hours, setup.num_gpus, price),
        price=price,
        assumptions=tuple(dict.fromkeys((*assumptions, *memory.assumptions, *time.assumptions))),
        warnings=tuple(_warnings(setup, memory, price, fits, suggests=suggests)),
    )


def listed_price(device: str, num_devices: int = 1) -> Price | None:
    """The price of an hour of a device: your own, else the lowest bundled one for so many devices."""
    found = price_per_hour(device, num_devices=num_devices) if device else None
    return as_price(found) if found else None


def given_price(text: str) -> Price | None:
    """A price as a user gives it in text; None for an empty one. Raises DataError where it is no price."""
    if not text.strip():
        return None
    try:
        usd = float(text)
    except ValueError:
        usd = -1.0
    if not 0 <= usd <= 1e6:
        raise DataError(
            f"`price_per_gpu_h` is {text!r}, expected dollars an hour, 0 or more", fix="--price-per-gpu-hour 2"
        )
    today = datetime.date.today().isoformat()
    return Price(usd_per_gpu_hour=usd, provider="as given", source="as given", date=today)


def as_price(found: HourlyPrice) -> Price:
    """A row of the price table as a record."""
    return Price(
        usd_per_gpu_hour=found.usd_per_hour,
        provider=found.provider,
        source=found.source,
        date=found.date.isoformat(),
        is_stale=found.is_stale(),
    )


def cost_of(hours: Estimate | None, num_gpus: int, price: Price | None) -> Estimate | None:
    """Dollars of device time; None where hours or price are not known."""
    if hours is None or price is None:
        return None
    rate = price.usd_per_gpu_hour * num_gpus
    return Estimate(low=hours.low * rate, expected=hours.expected * rate, high=hours.high * rate)


def usable_gb(setup: Setup) -> float:
    """Memory that a process can have on the setup's device, GB = 1e9 bytes; 0.0 where neither device nor size is known.

    A size that the setup states counts as it is, unless it is just the name's size of the device.
    """
    device = find_device(setup.device) if setup.device else None
    if device is None or (setup.device_memory_gb and abs(setup.device_memory_gb - device.memory_gb) > 1):
        return setup.device_memory_gb
    return device.usable_memory_bytes / GB


def _warnings(
    setup: Setup, memory: GpuMemory, price: Price | None, fits: bool | None, *, suggests: bool
) -> Iterator[str]:
    longest = setup.shape.max_len
    if longest and setup.max_seq_len > longest:
        yield f"rows of {setup.max_seq_len:,} tokens are longer than the model's {longest:,} positions"
    if fits is False:
        usable, device = usable_gb(setup), setup.device or "device"
        bound = max(memory.high_gb, memory.fit_gb)
        if memory.state(usable) == "tight":
            yield (
                f"may not fit: {memory.expected_gb:.1f} GB expected, {usable:.1f} GB usable on each {device}; "
                f"1 in 50 runs like this one takes more than {bound:.1f} GB"
            )
        else:
            least = f"{memory.expected_gb:.0f} GB expected, at least {memory.low_gb:.0f} GB"
            yield f"does not fit: {least}; {usable:.1f} GB usable on each {device}"
        if suggests:
            yield from (f"would fit: {text}" for text in what_fits(setup))
    elif fits and memory.high_gb > 0.95 * usable_gb(setup):
        yield "fits barely: a longer row or another library version may break it"
    if setup.shape.parameters >= VERY_LARGE and setup.objective != "inference":
        yield _very_expensive(setup)
    if price is not None and price.is_stale:
        yield f"the price of {setup.device} ({price.provider}) is of {price.date}, over 90 days old: look it up"


def _very_expensive(setup: Setup) -> str:
    """A warning for the largest models: how many devices their weights alone take."""
    weights_gb = 2.0 * setup.shape.parameters / GB
    largest = usable_gb(setup) or BIG_DEVICE_GB
    devices = math.ceil(weights_gb / largest)
    return (
        f"very expensive: {setup.shape.parameters / 1e9:.0f}B parameters are {weights_gb:.0f} GB in 16 bits, "
        f"{devices} such devices for the weights alone; try a smaller model first"
    )


def what_fits(setup: Setup) -> list[str]:
    """The nearest changes that make it fit: smaller batches, adapters, a 4-bit base, more or larger devices."""
    found = [text for text, changed in _smaller(setup) if _fits(changed)][:2]
    if setup.method == "full" or not found:
        found += _larger(setup)
    return found[:MOST_SUGGESTIONS] or [
        "nothing in the catalogue of up to 8 devices; see tensor and pipeline parallelism"
    ]


def _fits(setup: Setup) -> bool:
    return peak_memory(setup).fits(usable_gb(setup))


def _smaller(setup: Setup) -> Iterator[tuple[str, Setup]]:
    """The same device with less to hold, the smallest change first."""
    if setup.checkpointing != "full":
        yield "the same with --checkpointing full", setup.changed(checkpointing="full")
    tight = setup.changed(checkpointing="full", micro_batch_size=1)
    if setup.micro_batch_size > 1:
        yield "the same with --micro-batch-size 1 --checkpointing full", tight
    for length in (2048, 1024, 512):
        if length < setup.max_seq_len:
            flags = f"--micro-batch-size 1 --checkpointing full --max-seq-len {length}"
            yield f"the same with {flags}", tight.changed(max_seq_len=length)
    adapted = {"state_bytes": 8.0, "gradient_bytes": 4.0, "adapter_bytes": 4.0}
    if setup.method == "full":
        yield "--method lora", setup.changed(method="lora", weights="bf16", **adapted)
        yield "--method lora --micro-batch-size 1", tight.changed(method="lora", weights="bf16", **adapted)
    if setup.method != "qlora":
        yield "--method qlora", setup.changed(method="qlora", weights="nf4", **adapted)
        yield "--method qlora --micro-batch-size 1", tight.changed(method="qlora", weights="nf4", **adapted)


def _larger(setup: Setup) -> list[str]:
    """The smallest devices, alone and sharded over up to eight, on which this very setup fits."""
    found: list[str] = []
    for device in sorted(DEVICES, key=lambda one: one.memory_gb):
        for number in SHARDED:
            parallel = replace(setup.parallel, data=number, sharding="zero3" if number > 1 else "none", engine="fsdp")
            changed = setup.changed(
                device=device.name, device_memory_gb=device.memory_gb, num_gpus=number, parallel=parallel
            )
            if device.kind == "gpu" and _fits(changed):
                found.append(
                    f"--gpu '{device.name}' --num-gpus {number}" + (" --parallelism zero3" if number > 1 else "")
                )
                break
        if len(found) == MOST_SUGGESTIONS - 1:
            break
    return found
