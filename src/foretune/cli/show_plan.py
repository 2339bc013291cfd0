"""Forecasts, tables and the scorecard as lines for a terminal of 80 columns."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from foretune.cli.show import facts_table, plain_table, warning_lines
from foretune.records.forecast import Forecast, Price
from foretune.records.plan import Estimate
from foretune.units import show_bytes, show_count, show_range, show_seconds, show_usd

if TYPE_CHECKING:
    from rich.console import RenderableType

    from foretune.plan.scorecard import Score
    from foretune.plan.whole import Sizes

__all__ = ["batch_shown", "forecast_shown", "scorecard_shown"]

MOST_ROWS = 20


def forecast_shown(forecast: Forecast, *, explain: bool = False, sizes: Sizes | None = None) -> list[RenderableType]:
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
        **(_size_facts(sizes, explain=explain) if sizes is not None else {}),
    }
    refusal = "It may not fit." if memory.expected <= forecast.device_memory_gb else "It does not fit."
    verdict = {True: "[bold green]It fits.[/]", False: f"[bold red]{refusal}[/]", None: "No device to fit on."}
    shown: list[RenderableType] = [facts_table(facts), verdict[forecast.fits]]
    if explain:
        shown += ["", *_explained(forecast)]
    return [*shown, *warning_lines(forecast.warnings), *[f"[dim]assumed: {escape(a)}[/]" for a in forecast.assumptions]]


def _size_facts(sizes: Sizes, *, explain: bool) -> dict[str, str]:
    """What training leaves on disk; with `explain` the model in three formats and adapters on all linear layers."""
    facts = {"result": f"{show_bytes(sizes.saved)} saved"}
    if explain:
        formats = ", ".join(
            f"{show_bytes(size)} in {bits} bits" for size, bits in zip(sizes[1:4], (16, 8, 4), strict=True)
        )
        facts["weights"] = formats
        if sizes.lora_ratio:
            usual, everywhere = show_count(sizes.lora_usual), show_count(sizes.lora_all_linear)
            facts["adapters"] = (
                f"{usual} on the usual layers, {everywhere} on all linear ones ({sizes.lora_ratio:.2f} x)"
            )
    return facts


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
