"""Advice, timeline, place, pilot, costs and payback as lines for a terminal of 80 columns."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from foretune.cli.show import facts_table, plain_table, warning_lines
from foretune.units import show_count, show_seconds, show_usd

if TYPE_CHECKING:
    from rich.console import RenderableType

    from foretune.plan.money import CostBenefit
    from foretune.plan.pilot import Pilot
    from foretune.plan.place import Place
    from foretune.plan.project import Outlook
    from foretune.plan.project_cost import ProjectCost
    from foretune.plan.whole import WholePlan

__all__ = ["around_shown", "outlook_shown"]

MOST_SWINGS = 6


def around_shown(whole: WholePlan, *, is_asked: bool) -> list[RenderableType]:
    """What a project says of it where one is given, else the pilot alone."""
    if is_asked:
        return ["", *outlook_shown(whole.outlook)]
    pilot = whole.outlook.pilot
    return [] if pilot is None else ["", _pilot(pilot)]


def outlook_shown(outlook: Outlook) -> list[RenderableType]:
    """Advice first, then the weeks it takes, then where, the pilot, the money and the pretraining plan."""
    from foretune.plan.advice import advice_text
    from foretune.plan.timeline import gantt_text

    shown: list[RenderableType] = [
        escape(advice_text(outlook.advice, width=78).partition("\nNext: ")[0]),
        escape(gantt_text(outlook.timeline, width=78)),
        "",
        *_place(outlook.place),
    ]
    if outlook.pilot is not None:
        shown += [_pilot(outlook.pilot)]
    shown += ["", *_costs(outlook.cost)]
    if outlook.payback is not None:
        shown += ["", *_payback(outlook.payback)]
    if outlook.pretraining is not None:
        shown += ["", *_pretraining(outlook.pretraining)]
    return shown


def _place(place: Place) -> list[RenderableType]:
    reasons = "; ".join(reason.text for reason in place.reasons if reason.where == place.where and reason.points > 0)
    words = reasons or "the simplest start; say who runs machines: team under [situation]"
    return [f"where: [bold]{place.where}[/], {escape(words)}", *warning_lines(place.warnings)]


def _pilot(pilot: Pilot) -> str:
    time = "" if pilot.hours is None else f", about {show_seconds(pilot.hours.expected * 3600)}"
    cost = "" if pilot.cost_usd is None else f", {show_usd(pilot.cost_usd.expected)}"
    return f"pilot first: {pilot.num_examples:,} examples, 1 epoch{time}{cost}\n  {escape(pilot.command)}"


def _costs(cost: ProjectCost) -> list[RenderableType]:
    table = plain_table("cost of the project", ">from", ">to", "", "how", title="")
    for line in cost.lines:
        per = "a month" if line.per == "month" else "once"
        table.add_row(line.name, show_usd(line.usd.low), show_usd(line.usd.high), per, escape(line.basis))
    sums = [("all once", cost.once, "once"), ("all a month", cost.per_month, "a month")]
    for name, usd, per in (row for row in sums if row[1].high > 0):
        table.add_row(f"[bold]{name}[/]", show_usd(usd.low), show_usd(usd.high), per, "")
    return [*([table] if cost.lines else []), *[f"[dim]not priced: {escape(one)}[/]" for one in cost.unpriced]]


def _payback(payback: CostBenefit) -> list[RenderableType]:
    rows = {
        "worth it": payback.verdict,
        "a month now": show_usd(payback.monthly_now),
        "a month tuned": show_usd(payback.monthly_tuned),
        "pays back": f"{_months(payback.payback_with_labour)} with labour, "
        f"{_months(payback.payback_training_only)} for training alone",
        "net value": show_usd(payback.net_value),
        "break-even": str(payback.break_even_date or "never"),
    }
    shown: list[RenderableType] = [facts_table(rows, title="money")]
    if payback.sensitivity:
        table = plain_table("if this changes", ">net at half", ">net at 1.5 x", "verdict")
        for swing in payback.sensitivity[:MOST_SWINGS]:
            flips = "[yellow]flips[/]" if swing.flips else "holds"
            table.add_row(swing.name.replace("_", " "), show_usd(swing.net_at_half), show_usd(swing.net_at_more), flips)
        shown += ["", table]
    return shown


def _months(months: float) -> str:
    if math.isinf(months):
        return "never"
    return "within a day" if months < 1 / 30 else f"{months:.2g} months"


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
