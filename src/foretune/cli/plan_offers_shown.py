"""Ranked offers, and what a budget buys, as tables for a terminal of 80 columns."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.markup import escape

from foretune.cli.show import plain_table, warning_lines
from foretune.records.forecast import Offer, Unavailable
from foretune.units import show_count, show_usd

if TYPE_CHECKING:
    from rich.console import RenderableType

    from foretune.plan.affordable import Affordable

__all__ = ["affordable_shown", "offers_shown"]

HOURS_PER_MONTH = 730
MOST_OFFERS = 12
MOST_HOSTED = 3


def offers_shown(offers: Sequence[Offer], missing: Sequence[Unavailable] = ()) -> list[RenderableType]:
    """The ranked table with the numbers of its rows; `*` marks offers that no other beats on both time and money."""
    table = plain_table(">no.", "", "device", "method", "provider", ">peak", ">hours", ">cost")
    for number in _rows_to_show(offers):
        offer = offers[number]
        mark = ("→" if offer.is_chosen else " ") + ("*" if offer.is_pareto else " ")
        hours, cost = offer.train_hours, offer.cost_usd
        table.add_row(
            str(number + 1),
            mark,
            escape(offer.title),
            offer.method,
            escape(offer.provider)
            + ("" if offer.is_recommended else " [red]!![/]")
            + (" [yellow]old[/]" if _is_old(offer) else ""),
            f"{offer.peak_memory_gb.expected:.0f} GB" if offer.peak_memory_gb else "–",
            f"{hours.low:.2g}-{hours.high:.2g}" if hours else "–",
            f"${cost.low:,.2f}-{cost.high:,.2f}" if cost else "–",
        )
    legend = f"[dim]{len(offers):,} offers fit; * no other is both cheaper and quicker; old = price of over 90 days[/]"
    return [table, legend, *_chosen_lines(offers), *_provider_lines(offers, missing)]


def _rows_to_show(offers: Sequence[Offer]) -> list[int]:
    """Places of the rows worth seeing: the chosen one and the front, the cheapest hosted ones, then by rank."""
    first = [index for index, offer in enumerate(offers) if offer.is_chosen or offer.is_pareto]
    hosted = [index for index, offer in enumerate(offers) if offer.kind == "hosted"]
    chosen = dict.fromkeys([*first[:MOST_OFFERS], *hosted[:MOST_HOSTED], *range(len(offers))])
    return sorted(list(chosen)[: max(MOST_OFFERS, len(first[:MOST_OFFERS]) + len(hosted[:MOST_HOSTED]))])


def _is_old(offer: Offer) -> bool:
    from foretune.plan.choice import is_stale

    return is_stale(offer)


def _chosen_lines(offers: Sequence[Offer]) -> list[RenderableType]:
    """Why the first one, how it is billed, and what keeping and serving the result costs there."""
    chosen = next(offer for offer in offers if offer.is_chosen)
    lines: list[RenderableType] = [
        "",
        f"[bold]{escape(chosen.title)}[/], {escape(chosen.provider)}: {escape(chosen.reason)}",
        f"  billed: {escape(chosen.basis)}",
    ]
    if chosen.storage_usd_per_month is not None:
        lines.append(f"  kept: {show_usd(chosen.storage_usd_per_month)} a month for what the run leaves")
    if chosen.hosting_usd_per_hour is not None:
        month = show_usd(chosen.hosting_usd_per_hour * HOURS_PER_MONTH)
        words = f"{show_usd(chosen.hosting_usd_per_hour)} an hour, {month} a month ({chosen.hosting_basis})"
        lines.append(f"  served: {escape(words)}")
    return [*lines, *warning_lines(chosen.warnings)]


def _provider_lines(offers: Sequence[Offer], missing: Sequence[Unavailable]) -> list[RenderableType]:
    """The state of every hosted provider with its date, and who makes no offer; the reasons are in --json."""
    states = {offer.provider: offer.status for offer in offers if offer.kind == "hosted"}
    lines: list[RenderableType] = []
    if states:
        lines.append("[dim]hosted: " + escape("; ".join(f"{name} {state}" for name, state in states.items())) + "[/]")
    closed = [one for one in missing if one.reason.startswith("closed")]
    unpriced = [one for one in missing if one not in closed]
    for words, group in (("no price known", unpriced), ("closed", closed)):
        if group:
            lines.append(f"[dim]{words}: {escape(', '.join(one.provider for one in group))}[/]")
    return ["", *lines] if lines else []


def affordable_shown(rows: Sequence[Affordable], budget_usd: float, said: Sequence[str]) -> list[RenderableType]:
    """What a budget buys, one line a model and method."""
    table = plain_table("model", "method", "cheapest way", ">hours", ">at most", ">examples")
    for row in rows:
        hours, cost = row.offer.train_hours, row.offer.cost_usd
        table.add_row(
            escape(row.base.rpartition("/")[2]),
            row.method,
            escape(f"{row.offer.title}, {row.offer.provider}"),
            f"{hours.expected:.2g}" if hours else "–",
            show_usd(cost.high) if cost else "–",
            show_count(row.examples).replace(" ", ""),
        )
    words = f"the cheapest way of each within {show_usd(budget_usd)}; examples: as many as all of it pays for"
    return [table, f"[dim]{words}[/]", *[f"[dim]assumed: {escape(line)}[/]" for line in said]]
