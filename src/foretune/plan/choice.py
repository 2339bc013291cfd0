"""Where to run a job: every device, number of devices and method that fits, ranked by price, time or size."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, cast, get_args

from foretune.errors import ConfigError, DoesNotFit, GateRefused
from foretune.hardware.devices import DEVICES, Device, device_named
from foretune.hardware.prices import (
    HourlyPrice,
    billing_words,
    hourly_prices,
    instance_hours,
    price_warnings,
    storage_price,
)
from foretune.plan.forecast import as_price, cost_of, usable_gb
from foretune.plan.gpu_memory import peak_memory
from foretune.plan.gpu_time import throughput
from foretune.plan.hosted import hosted_offers
from foretune.plan.setup import Parallel, Setup
from foretune.records.forecast import Offer, Price, Unavailable
from foretune.records.plan import Estimate
from foretune.units import show_seconds, show_usd

__all__ = ["Goal", "Limits", "goal_named", "hosted_by", "is_stale", "offers"]

Goal = Literal["cheapest", "fastest", "smallest"]
NUMBERS = (1, 2, 4, 8)
SERVING_ROOM = 1.2
STALE = "stale:"  # what the badge of an old price begins with
NO_TPU = ("foretune trains on NVIDIA GPUs and on processors, not on TPUs",)
STORED_BY = ("RunPod", "CoreWeave", "AWS", "Google Cloud", "Azure")
ADAPTED = {"state_bytes": 8.0, "gradient_bytes": 4.0, "adapter_bytes": 4.0}


class Limits(NamedTuple):
    """What an offer may take; None = no limit. Both are judged on the high end of the prediction."""

    max_hours: float | None = None
    max_cost_usd: float | None = None


NO_LIMITS = Limits()


def offers(
    setup: Setup,
    *,
    goal: Goal = "cheapest",
    limits: Limits = NO_LIMITS,
    methods: Sequence[str] = (),
    hosted: bool = True,
    packs: bool = True,
) -> list[Offer]:
    """Every way of running the job that fits, the best by `goal` first and marked as chosen.

    `methods` are tried in place of the setup's own. Devices are those with a price; each provider's offer is a row of
    its own, and so is each provider of hosted fine-tuning unless `hosted` is False; `packs` as in `hosted_job`.
    Offers that cannot be recommended, and prices of more than 90 days, come last. Raises DoesNotFit where nothing
    fits, GateRefused where nothing that fits keeps the limits.
    """
    found = [offer for changed in _setups(setup, methods) for offer in _priced(changed)]
    if hosted:
        found += hosted_by(setup, methods, packs=packs)[0]
    usable = [offer for offer in found if offer.is_recommended]
    if not usable:
        raise DoesNotFit(
            f"no priced device holds this job, not even {NUMBERS[-1]} of them", fix="--method qlora, or a smaller base"
        )
    kept = [offer for offer in found if _keeps(offer, limits)]
    if not any(offer.is_recommended for offer in kept):
        raise GateRefused(_nearest(usable, limits), fix="raise the limit, or try --method qlora")
    ranked = sorted(kept, key=lambda offer: (not offer.is_recommended, is_stale(offer), *_rank(offer, goal)))
    front = _front(ranked)
    marked = [offer.model_copy(update={"is_pareto": index in front}) for index, offer in enumerate(ranked)]
    return [marked[0].model_copy(update={"is_chosen": True, "reason": _reason(marked[0], goal, limits)}), *marked[1:]]


def hosted_by(
    setup: Setup, methods: Sequence[str] = (), *, packs: bool = True
) -> tuple[list[Offer], list[Unavailable]]:
    """Hosted offers for the setup, and why each other provider makes none; LoRA and QLoRA are one at a provider."""
    wanted = dict.fromkeys("full" if method == "full" else "lora" for method in methods or (setup.method,))
    offered: list[Offer] = []
    missing: dict[str, Unavailable] = {}
    for method in wanted:
        found, without = hosted_offers(setup, method, packs=packs)
        offered += found
        missing |= {row.provider: row for row in without}
    return offered, [row for name, row in missing.items() if name not in {offer.provider for offer in offered}]


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
    kind = device_named(setup.device).kind
    for row in hourly_prices():
        if row.device != setup.device:
            continue
        price = as_price(row)
        num_serving = _num_serving(setup)
        store = storage_price(_cloud(row.provider))
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
            micro_batch_size=setup.micro_batch_size,
            basis=_basis(setup, row),
            storage_usd_per_month=None if store is None else store.usd_per_gb_month * memory.disk_gb,
            hosting_usd_per_hour=row.usd_per_hour * row.devices_billed(num_serving),
            hosting_basis=f"{num_serving} x {setup.device} that waits for queries",
            is_recommended=kind != "tpu",
            warnings=(*price_warnings((row,)), *(NO_TPU if kind == "tpu" else ())),
        )


def _num_serving(setup: Setup) -> int:
    """Devices that hold the 16-bit weights with a fifth of room for the caches of queries."""
    return max(1, math.ceil(setup.shape.parameters * 2 * SERVING_ROOM / 1e9 / usable_gb(setup)))


def _cloud(provider: str) -> str:
    """The provider without the machine's name, as storage prices know it."""
    return next((name for name in STORED_BY if provider.startswith(name)), provider)


def _basis(setup: Setup, row: HourlyPrice) -> str:
    """How the provider counts: dollars an hour, whole machines, increments and minimum, the price's date."""
    whole = row.devices_billed(setup.num_gpus)
    machine = f"{whole} paid for (machines of {row.min_gpus}), " if whole > setup.num_gpus else ""
    return f"{show_usd(row.usd_per_hour)} an hour and device, {machine}{billing_words(row.provider)}, {row.date}"


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
    memory = next((device.memory_gb for device in DEVICES if device.name == offer.device), float("inf"))
    memory *= max(1, offer.num_gpus)
    orders = {"cheapest": (cost, hours, memory), "fastest": (hours, cost, memory), "smallest": (memory, cost, hours)}
    return orders[goal]


def is_stale(offer: Offer) -> bool:
    """Whether the offer rests on a price of more than 90 days."""
    return any(STALE in warning for warning in offer.warnings)


def _front(ranked: Sequence[Offer]) -> set[int]:
    """Places of the offers that no other one beats on both hours and dollars.

    Those without either, or without a recommendation, do not take part; stale prices only where there are no others.
    """
    known = {index: offer for index, offer in enumerate(ranked) if offer.is_recommended and offer.cost_usd}
    fresh = {index: offer for index, offer in known.items() if not is_stale(offer)} or known
    points = {
        index: (offer.train_hours.expected, offer.cost_usd.expected)
        for index, offer in fresh.items()
        if offer.train_hours is not None and offer.cost_usd is not None
    }
    return {
        index
        for index, (hours, cost) in points.items()
        if not any(h <= hours and c <= cost and (h, c) != (hours, cost) for h, c in points.values())
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
        parts.append(f"the cheapest may cost {show_usd(cheap.cost_usd.high)} ({cheap.title}, {cheap.provider})")
    if limits.max_hours is not None and quick.train_hours:
        parts.append(
            f"the quickest may take {show_seconds(quick.train_hours.high * 3600)} ({quick.title}, {quick.provider})"
        )
    return "nothing that fits keeps the limits: " + "; ".join(parts)


def goal_named(name: str) -> Goal:
    """The goal of that name. Raises ConfigError with the names that exist."""
    for goal in get_args(Goal):
        if goal == name.lower():
            return cast(Goal, goal)
    raise ConfigError(f"--choices {name}: expected one of {', '.join(get_args(Goal))}", fix="--choices cheapest")
