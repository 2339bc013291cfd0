"""Where to run a job: every device, number of devices and method that fits, ranked by price, time or size."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, cast, get_args

from foretune.errors import ConfigError, DoesNotFit, GateRefused
from foretune.hardware.devices import DEVICES, Device
from foretune.hardware.prices import HourlyPrice, hourly_prices, instance_hours
from foretune.plan.forecast import as_price, cost_of, usable_gb
from foretune.plan.gpu_memory import peak_memory
from foretune.plan.gpu_time import throughput
from foretune.plan.setup import Parallel, Setup
from foretune.records.forecast import Offer, Price
from foretune.records.plan import Estimate
from foretune.units import show_usd

__all__ = ["Goal", "Limits", "goal_named", "offers", "sky_task"]

Goal = Literal["cheapest", "fastest", "smallest"]
NUMBERS = (1, 2, 4, 8)
ADAPTED = {"state_bytes": 8.0, "gradient_bytes": 4.0, "adapter_bytes": 4.0}


class Limits(NamedTuple):
    """What an offer may take; None = no limit. Both are judged on the high end of the prediction."""

    max_hours: float | None = None
    max_cost_usd: float | None = None


NO_LIMITS = Limits()


def offers(
    setup: Setup, *, goal: Goal = "cheapest", limits: Limits = NO_LIMITS, methods: Sequence[str] = ()
) -> list[Offer]:
    """Every way of running the job that fits, the best by `goal` first and marked as chosen.

    `methods` are tried in place of the setup's own. Devices are those with a price; each provider's offer is a row of
    its own. Raises DoesNotFit where nothing fits, GateRefused where nothing that fits keeps the limits.
    """
    found = [offer for changed in _setups(setup, methods) for offer in _priced(changed)]
    if not found:
        raise DoesNotFit(
            f"no priced device holds this job, not even {NUMBERS[-1]} of them", fix="--method qlora, or a smaller base"
        )
    kept = [offer for offer in found if _keeps(offer, limits)]
    if not kept:
        raise GateRefused(_nearest(found, limits), fix="raise the limit, or try --method qlora")
    ranked = sorted(kept, key=lambda offer: _rank(offer, goal))
    front = _front(ranked)
    marked = [offer.model_copy(update={"is_pareto": index in front}) for index, offer in enumerate(ranked)]
    return [marked[0].model_copy(update={"is_chosen": True, "reason": _reason(marked[0], goal, limits)}), *marked[1:]]


def _setups(setup: Setup, methods: Sequence[str]) -> Iterator[Setup]:
    priced = {price.device for price in hourly_prices()}
    devices = [device for device in DEVICES if device.name in priced]
    for method in methods or (setup.method,):
        changed = _with_method(setup, method)
        for device in devices:
            for number in NUMBERS:
                fitting = (one for one in _on(changed, device, number) if peak_memory(one).fits(usable_gb(one)))
                yield from itertools.islice(fitting, 1)


def _with_method(setup: Setup, method: str) -> Setup:
    if method == setup.method:
        return setup
    if method == "full":
        return setup.changed(method="full", weights="bf16", state_bytes=8.0, gradient_bytes=2.0)
    weights = "nf4" if method == "qlora" else "bf16"
    return setup.changed(method=method, weights=weights, **ADAPTED)


def _on(setup: Setup, device: Device, number: int) -> Iterator[Setup]:
    """The job on so many devices, with its own micro-batch size and then ever smaller ones."""
    is_sharded = number > 1 and setup.trains_base
    parallel = Parallel(data=number, sharding="zero3" if is_sharded else "none", engine="fsdp" if is_sharded else "ddp")
    size = min(setup.micro_batch_size, max(1, setup.global_batch_size // number))
    while size:
        yield setup.changed(
            device=device.name,
            device_memory_gb=device.memory_gb,
            num_gpus=number,
            parallel=parallel,
            micro_batch_size=size,
            grad_accum_steps=max(1, round(setup.global_batch_size / (size * number))),
        )
        size //= 2


def _priced(setup: Setup) -> Iterator[Offer]:
    memory, time = peak_memory(setup), throughput(setup)
    for row in hourly_prices():
        if row.device != setup.device:
            continue
        price = as_price(row)
        yield Offer(
            device=setup.device,
            num_gpus=setup.num_gpus,
            method=setup.method,
            precision=setup.weights,
            provider=row.provider,
            fits=True,
            peak_memory_gb=Estimate(low=memory.low_gb, expected=memory.expected_gb, high=memory.high_gb),
            train_hours=time.train_hours,
            cost_usd=_billed(time.train_hours, setup.num_gpus, row, price),
            price=price,
        )


def _billed(hours: Estimate | None, num_gpus: int, row: HourlyPrice, price: Price) -> Estimate | None:
    """Dollars with whole machines and started increments, as the provider counts."""
    if hours is None:
        return None
    ends = (instance_hours(value, row.provider) for value in (hours.low, hours.expected, hours.high))
    low, expected, high = ends
    return cost_of(Estimate(low=low, expected=expected, high=high), row.devices_billed(num_gpus), price)


def _keeps(offer: Offer, limits: Limits) -> bool:
    hours, cost = offer.train_hours, offer.cost_usd
    in_time = limits.max_hours is None or (hours is not None and hours.high <= limits.max_hours)
    in_budget = limits.max_cost_usd is None or (cost is not None and cost.high <= limits.max_cost_usd)
    return in_time and in_budget


def _rank(offer: Offer, goal: Goal) -> tuple[float, float, float]:
    hours = offer.train_hours.expected if offer.train_hours else float("inf")
    cost = offer.cost_usd.expected if offer.cost_usd else float("inf")
    memory = next(device.memory_gb for device in DEVICES if device.name == offer.device) * offer.num_gpus
    orders = {"cheapest": (cost, hours, memory), "fastest": (hours, cost, memory), "smallest": (memory, cost, hours)}
    return orders[goal]


def _front(ranked: Sequence[Offer]) -> set[int]:
    """Offers that no other one beats on both hours and dollars."""
    points = [
        (offer.train_hours.expected, offer.cost_usd.expected)
        for offer in ranked
        if offer.train_hours is not None and offer.cost_usd is not None
    ]
    if len(points) < len(ranked):
        return set()
    return {
        index
        for index, (hours, cost) in enumerate(points)
        if not any(h <= hours and c <= cost and (h, c) != (hours, cost) for h, c in points)
    }


def _reason(offer: Offer, goal: Goal, limits: Limits) -> str:
    words = {
        "cheapest": "the cheapest that fits",
        "fastest": "the quickest that fits",
        "smallest": "the smallest device memory that fits",
    }[goal]
    within = [] if limits.max_hours is None else [f"done within {limits.max_hours:g} h even at the slow end"]
    if limits.max_cost_usd is not None:
        within.append(f"within {show_usd(limits.max_cost_usd)} even at the dear end")
    return ", ".join([words, *within])


def _nearest(found: Sequence[Offer], limits: Limits) -> str:
    """What comes nearest to the limits, in one sentence."""
    timed = [offer for offer in found if offer.train_hours and offer.cost_usd]
    if not timed:
        return "no offer can be held against a limit: hours or prices are not known; give --num-examples"
    cheap = min(timed, key=lambda offer: offer.cost_usd.high if offer.cost_usd else 0.0)
    quick = min(timed, key=lambda offer: offer.train_hours.high if offer.train_hours else 0.0)
    parts = []
    if limits.max_cost_usd is not None and cheap.cost_usd:
        parts.append(f"the cheapest may cost {show_usd(cheap.cost_usd.high)} ({cheap.num_gpus} x {cheap.device})")
    if limits.max_hours is not None and quick.train_hours:
        parts.append(f"the quickest may take {quick.train_hours.high:.1f} h ({quick.num_gpus} x {quick.device})")
    return "nothing that fits keeps the limits: " + "; ".join(parts)


def goal_named(name: str) -> Goal:
    """The goal of that name. Raises ConfigError with the names that exist."""
    for goal in get_args(Goal):
        if goal == name.lower():
            return cast(Goal, goal)
    raise ConfigError(f"--choices {name}: expected one of {', '.join(get_args(Goal))}", fix="--choices cheapest")


def sky_task(offer: Offer, job: str = "job.toml") -> str:
    """The SkyPilot task that runs a job on an offer (docs.skypilot.co, task YAML)."""
    accelerator = SKY_NAMES.get(offer.device, offer.device.replace(" ", ""))
    return (
        f"name: foretune\nresources:\n  accelerators: {accelerator}:{offer.num_gpus}\n"
        f"workdir: .\nsetup: pip install foretune\nrun: foretune run {job} -y\n"
    )


# SkyPilot's names of accelerators where they differ from ours (its catalogue, common/accelerators.csv).
SKY_NAMES = {
    "A100-40": "A100",
    "A100-80": "A100-80GB",
    "RTX 4090": "RTX4090",
    "RTX 3090": "RTX3090",
    "RTX A6000": "A6000",
}
