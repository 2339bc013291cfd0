"""Forecasts, offers, advice and timelines as tables and lines for a terminal of 80 columns."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from foretune.cli.show import facts_table, plain_table, warning_lines
from foretune.records.forecast import Forecast, Offer, Price
from foretune.records.plan import Estimate
from foretune.units import show_bytes, show_count, show_range, show_seconds, show_usd

if TYPE_CHECKING:
    from rich.console import RenderableType

    from foretune.plan.project import Outlook
    from foretune.plan.scorecard import Score

__all__ = ["batch_shown", "forecast_shown", "offers_shown", "outlook_shown", "scorecard_shown"]

MOST_OFFERS = 12
MOST_ROWS = 20


def forecast_shown(forecast: Forecast, *, explain: bool = False) -> list[RenderableType]:
    """Whether it fits, memory, time and money with their intervals; `explain` adds every term with its formula."""
    share = forecast.trainable_parameters / max(1, forecast.total_parameters)
    memory = forecast.peak_memory_gb
    facts = {
        "base": f"{forecast.base}, {show_count(forecast.total_parameters)} parameters",
        "method": f"{forecast.method}, {show_count(forecast.trainable_parameters)} trainable ({share:.2%})",
        "device": f"{forecast.num_gpus} x {forecast.device or 'not known'}",
        "peak memory": f"{memory.expected:.1f} GB a device ({memory.low:.1f} to {memory.high:.1f})"
        + (f" of {forecast.device_memory_gb:.1f}" if forecast.device_memory_gb else ""),
        "training": _hours(forecast.train_hours),
        "speed": _speed(forecast),
        "cost": _cost(forecast.cost_usd, forecast.price),
        "host memory": f"{forecast.cpu_ram_gb:.1f} GB, disk {forecast.disk_gb:.1f} GB",
    }
    refusal = "It may not fit." if memory.expected <= forecast.device_memory_gb else "It does not fit."
    verdict = {True: "[bold green]It fits.[/]", False: f"[bold red]{refusal}[/]", None: "No device to fit on."}
    shown: list[RenderableType] = [facts_table(facts), verdict[forecast.fits]]
    if explain:
        shown += ["", *_explained(forecast)]
    return [*shown, *warning_lines(forecast.warnings), *[f"[dim]assumed: {escape(a)}[/]" for a in forecast.assumptions]]


def _hours(hours: Estimate | None) -> str:
    if hours is None:
        return "not known: give --num-examples and --tokens-per-example, or --data"
    seconds = f"{show_seconds(hours.expected * 3600)}"
    return f"{seconds} ({show_range(hours.low * 3600, hours.high * 3600)})"


def _speed(forecast: Forecast) -> str:
    speed = forecast.tokens_per_second
    if speed is None:
        return "not known"
    mfu = f", {forecast.mfu:.0%} of the device's peak" if forecast.mfu else ""
    return f"{speed.expected:,.0f} tokens/s ({speed.low:,.0f} to {speed.high:,.0f}){mfu}"


def _cost(cost: Estimate | None, price: Price | None) -> str:
    if price is None:
        return "no price known: --price-per-gpu-hour 2"
    rate = f"{show_usd(price.usd_per_gpu_hour)} an hour and device, {price.provider}, {price.date}"
    stale = " [stale]" if price.is_stale else ""
    return (
        f"{show_usd(cost.expected)} ({show_usd(cost.low)} to {show_usd(cost.high)}) at {rate}{stale}" if cost else rate
    )


def _explained(forecast: Forecast) -> list[RenderableType]:
    memory = plain_table("memory for", ">size", "how")
    for name, size in sorted(forecast.memory_components.items(), key=lambda item: -item[1]):
        memory.add_row(name.replace("_", " "), show_bytes(size), escape(forecast.memory_formulas.get(name, "")))
    time = plain_table("time of a step for", ">seconds", "how")
    for name, seconds in sorted(forecast.time_components.items(), key=lambda item: -item[1]):
        time.add_row(name.replace("_", " "), f"{seconds:.4f}", escape(forecast.time_formulas.get(name, "")))
    return [memory, "", time, ""]


def offers_shown(offers: Sequence[Offer]) -> list[RenderableType]:
    """The ranked table; `*` marks offers that no other beats on both time and money."""
    table = plain_table("", "device", "method", "provider", ">peak GB", ">time", ">cost")
    shown = [offer for offer in offers if offer.is_chosen or offer.is_pareto]
    shown += [offer for offer in offers if offer not in shown]
    for offer in sorted(shown[:MOST_OFFERS], key=offers.index):
        mark = ("→" if offer.is_chosen else " ") + ("*" if offer.is_pareto else " ")
        hours, cost = offer.train_hours, offer.cost_usd
        table.add_row(
            mark,
            f"{offer.num_gpus} x {offer.device}",
            offer.method,
            offer.provider,
            f"{offer.peak_memory_gb.expected:.0f}",
            show_range(hours.low * 3600, hours.high * 3600) if hours else "–",
            f"{show_usd(cost.low)}-{show_usd(cost.high)}" if cost else "–",
        )
    chosen = next(offer for offer in offers if offer.is_chosen)
    words = f"[bold]{chosen.num_gpus} x {escape(chosen.device)}[/], {escape(chosen.provider)}: {chosen.reason}"
    return [table, f"[dim]{len(offers):,} offers fit; * no other is both cheaper and quicker[/]", words]


def outlook_shown(outlook: Outlook) -> list[RenderableType]:
    """Advice first, then the weeks it takes, then the money, then the pretraining plan."""
    from foretune.plan.advice import advice_text
    from foretune.plan.timeline import gantt_text

    shown: list[RenderableType] = [
        escape(advice_text(outlook.advice, width=78)),
        "",
        escape(gantt_text(outlook.timeline, width=78)),
    ]
    if outlook.payback is not None:
        shown += ["", *_payback(outlook.payback)]
    if outlook.pretraining is not None:
        shown += ["", *_pretraining(outlook.pretraining)]
    return shown


def _payback(payback: Any) -> list[RenderableType]:
    rows = {
        "worth it": payback.verdict,
        "a month now": show_usd(payback.monthly_now),
        "a month tuned": show_usd(payback.monthly_tuned),
        "net value": show_usd(payback.net_value),
        "break-even": str(payback.break_even_date or "never"),
    }
    return [facts_table(rows, title="money")]


def _pretraining(plan: Any) -> list[RenderableType]:
    rows = {
        "model": f"{show_count(plan.parameters)} parameters, {show_count(plan.tokens)} tokens "
        f"({plan.tokens_per_parameter:.0f} a parameter)",
        "devices": f"{plan.num_gpus:,} (at least {plan.min_gpus:,})",
        "days": f"{plan.days.expected:.1f} ({plan.days.low:.1f} to {plan.days.high:.1f})",
        "device-hours": f"{plan.gpu_hours.expected:,.0f}",
    }
    if plan.cost_usd is not None:
        rows["cost"] = f"{show_usd(plan.cost_usd.low)} to {show_usd(plan.cost_usd.high)}"
    return [facts_table(rows, title="pretraining"), *warning_lines(plan.warnings)]


def scorecard_shown(scores: Sequence[Score]) -> list[RenderableType]:
    """How good the predictions of this machine have been."""
    if not scores:
        return ["no finished run in the ledger yet: foretune run job.toml"]
    table = plain_table("quantity", "method", "measured", ">runs", ">median error", ">within 20 %", ">in interval")
    for score in scores:
        table.add_row(
            score.quantity.replace("_", " "),
            score.method,
            "yes" if score.probed else "no",
            f"{score.num_runs:,}",
            f"{score.median_error:.1%}",
            f"{score.near:.0%}",
            f"{score.held:.0%}",
        )
    return [table, *[f"[dim]{name}[/]" for name in sorted({escape(score.device) for score in scores})]]


def batch_shown(rows: Sequence[dict[str, Any]]) -> list[RenderableType]:
    """The first rows of a table; all of them with --json."""
    table = plain_table("id", "fits", ">peak GB", ">hours", ">cost")
    for row in rows[:MOST_ROWS]:
        if "error" in row:
            table.add_row(escape(str(row["id"])), "[red]error[/]", "", "", escape(row["error"])[:40])
            continue
        hours, cost = row["train_hours"], row["cost_usd"]
        fits = {True: "yes", False: "[red]no[/]", None: "–"}[row["fits"]]
        peak, known = row["peak_memory_gb"]["expected"], "–"
        table.add_row(
            escape(str(row["id"])),
            fits,
            f"{peak:.1f}",
            f"{hours['expected']:.2f}" if hours else known,
            show_usd(cost["expected"]) if cost else known,
        )
    more = len(rows) - MOST_ROWS
    return [table, *([f"[dim]and {more:,} more rows: --json[/]"] if more > 0 else [])]
