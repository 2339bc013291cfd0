"""Figures in the answers of the FAQ, computed by the planner when they are printed, with the dates of their prices."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from foretune.errors import ForetuneError
from foretune.hardware.prices import price_per_hour
from foretune.plan.answer import answer, requested_setup
from foretune.plan.choice import offers
from foretune.plan.cost import batch_speed_up
from foretune.plan.hosted import provider_status
from foretune.plan.place import self_host_break_even
from foretune.plan.providers import PROVIDERS
from foretune.plan.request import plan_request
from foretune.plan.serving import decode_speed_up, model_sizes, serverless_saving, sporadic_arrivals
from foretune.plan.timeline import plan_timeline
from foretune.records.plan import Estimate
from foretune.units import show_bytes, show_seconds, show_usd

__all__ = ["FIGURES"]

# Base, method, device, number of devices, examples: from what takes minutes to what takes days.
JOBS: tuple[tuple[str, str, str, int, int], ...] = (
    ("meta-llama/Llama-3.2-1B", "lora", "L4", 1, 1_000),
    ("meta-llama/Llama-3.1-8B", "lora", "A100-80", 1, 5_000),
    ("meta-llama/Llama-3.1-8B", "full", "A100-80", 8, 50_000),
    ("meta-llama/Llama-3.1-70B", "qlora", "H100", 1, 50_000),
)
TOKENS = 500.0
SMALLEST: tuple[tuple[str, str], ...] = (
    ("meta-llama/Llama-3.2-1B", "lora"),
    ("meta-llama/Llama-3.1-8B", "qlora"),
    ("meta-llama/Llama-3.1-8B", "lora"),
    ("meta-llama/Llama-3.1-70B", "qlora"),
)
RENTED = ("T4", "L4", "RTX 4090", "A100-80", "H100")
SPORADIC_QUERIES = 200


def _short(base: str) -> str:
    return base.rpartition("/")[2]


def _request(base: str, method: str, examples: int, **more: Any) -> Any:
    return plan_request(base=base, method=method, num_examples=examples, tokens_per_example=TOKENS, epochs=3.0, **more)


def _span(hours: Estimate) -> str:
    return f"{show_seconds(hours.low * 3600)} to {show_seconds(hours.high * 3600)}"


def durations() -> str:
    """Hours of four jobs, from a small one to a large one."""
    lines = []
    for base, method, gpu, number, examples in JOBS:
        found = answer(_request(base, method, examples, gpu=gpu, num_gpus=number))
        if found.train_hours is not None:
            lines.append(
                f"  {_short(base)}, {method}, {examples:,} examples, {number} x {gpu}: {_span(found.train_hours)}"
            )
    return "\n".join(lines)


def project_weeks() -> str:
    """Weeks of the usual project."""
    weeks = plan_timeline().total_weeks
    return f"{weeks.low:.1f} to {weeks.high:.1f} weeks"


def providers() -> str:
    """State of every provider with its date, and whether the weights can be taken along."""
    export = {True: "weights can be downloaded", False: "weights stay there", None: "weights: not known"}
    return "\n".join(f"  {one.name}: {provider_status(one)}; {export[one.weights_export]}" for one in PROVIDERS)


def minimum_gpus() -> str:
    """The smallest device of the price table that holds each of four jobs."""
    lines = []
    for base, method in SMALLEST:
        setup, _ = requested_setup(_request(base, method, 1_000))
        best = offers(setup, goal="smallest", methods=(method,), hosted=False)[0]
        peak = best.peak_memory_gb
        need = f"{peak.expected:.0f} GB, up to {peak.high:.0f}" if peak else "not known"
        lines.append(f"  {_short(base)}, {method}: {best.title} ({need})")
    return "\n".join(lines)


def costs() -> str:
    """Dollars of training for jobs of three sizes at the cheapest dated offer."""
    lines = []
    for base, method, _, _, examples in JOBS:
        setup, _ = requested_setup(_request(base, method, examples))
        best = offers(setup, methods=(method,))[0]
        if best.cost_usd is not None:
            usd = f"{show_usd(best.cost_usd.low)} to {show_usd(best.cost_usd.high)}"
            when = f", price of {best.price.date}" if best.price else ""
            lines.append(
                f"  {_short(base)}, {method}, {examples:,} examples: {usd} ({best.title}, {best.provider}{when})"
            )
    return "\n".join(lines)


def clouds() -> str:
    """The lowest dated price of an hour of some devices."""
    found = [(device, price) for device in RENTED if (price := price_per_hour(device)) is not None]
    ranked = sorted(found, key=lambda pair: pair[1].usd_per_hour)
    return "\n".join(
        f"  {device}: {show_usd(price.usd_per_hour)} an hour, {price.provider}, {price.date}"
        + (" (over 90 days old)" if price.is_stale() else "")
        for device, price in ranked
    )


def speed_up() -> str:
    """How much faster a small model is at most."""
    tenth, less = decode_speed_up(70e9, 7e9), decode_speed_up(70e9, 20e9)
    return f"beside one of 70B a model of 7B writes up to {tenth:.0f} times as fast, one of 20B up to {less:.1f} times"


def sizes() -> str:
    """Bytes of 7e9 weights in three formats."""
    found = model_sizes(7e9)
    return f"{show_bytes(found.bits16)} in 16 bits, {show_bytes(found.bits8)} in 8, {show_bytes(found.bits4)} in 4"


def serverless() -> str:
    """A sporadic day by the second against a machine that always runs."""
    found = serverless_saving(sporadic_arrivals(SPORADIC_QUERIES), usd_per_hour=2.0)
    bills = f"{show_usd(found.serverless_usd)} by the second against {show_usd(found.always_on_usd)} always on"
    saved = f"{found.saved_fraction:.0%} saved, {found.cold_starts} slow first answers"
    return f"{SPORADIC_QUERIES} queries in bursts over a working day: {bills}, {saved}."


def batch() -> str:
    """Throughput of a batch of 8 in 1.2 times the time."""
    return f"{batch_speed_up(8, 1.2):.2f}"


def break_even() -> str:
    """Queries a month from which a machine pays."""
    return f"{self_host_break_even(2.0, 0.002):,.0f}"


def guarded(figure: Callable[[], str]) -> str:
    """A figure, or why there is none: a price file of the user's own may leave nothing that fits."""
    try:
        return figure()
    except ForetuneError as error:
        return f"  not known here: {error.what}"


FIGURES: dict[str, Callable[[], str]] = {
    one.__name__: one
    for one in (
        durations,
        project_weeks,
        providers,
        minimum_gpus,
        costs,
        clouds,
        speed_up,
        sizes,
        serverless,
        batch,
        break_even,
    )
}
