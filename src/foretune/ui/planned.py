"""The plan as the templates lay it out: memory, costs, timeline, advice and payback, of a run or of a plan alone."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from foretune.plan import timeline as timelines
from foretune.plan.choice import is_stale
from foretune.plan.serving import saved_bytes
from foretune.records.decision import DecisionRecord
from foretune.records.forecast import Forecast, Offer
from foretune.records.plan import Estimate, PlanRecord
from foretune.records.procedure import ProcedureRecord
from foretune.ui.charts import Scale, axis, bar, dot, line, scale_of, share_bar, svg
from foretune.ui.run_folder import RunFolder
from foretune.ui.summary import Prediction, predictions
from foretune.ui.words import show_quantity, show_span
from foretune.units import show_bytes, show_count, show_usd

__all__ = [
    "GanttRow",
    "GanttView",
    "MemoryView",
    "OfferRow",
    "PaybackView",
    "PlanView",
    "forecast_predictions",
    "forecast_view",
    "offer_rows",
    "outlook_view",
    "plan_view",
]

SHADES = 8
MOST_TICKS = 4  # of the timeline, so that dates have room on a phone
TOP_OPTIONS, TOP_REASONS, MOST_SWINGS = 5, 3, 8
MOST_OFFERS = 14
DECISIONS = {
    "follows": "Training follows the advice, or is reasonable by it.",
    "against": "Training was advised against, and went on.",
    "unasked": "Nobody was asked: this rests on the data alone.",
    "skipped": "The advice was skipped",
}


@dataclass(frozen=True)
class MemoryView:
    """What the memory goes to: a bar and its rows as (shade, name, size, formula)."""

    bar: Markup
    rows: tuple[tuple[int, str, str, str], ...]


@dataclass(frozen=True)
class GanttRow:
    """One task of the timeline: its bar, how long it takes, and its dates where the project has a start."""

    phase: str  # the name of the phase, on its first task
    name: str
    bar: Markup
    days: str
    dates: str
    critical: bool


@dataclass(frozen=True)
class GanttView:
    """The timeline: rows, the scale below, the whole in words, notes."""

    rows: tuple[GanttRow, ...]
    axis: Markup
    total: str
    notes: tuple[str, ...]
    assumptions: tuple[str, ...]


@dataclass(frozen=True)
class PaybackView:
    """Does it pay: the verdict, its figures, and each input with the net value that it swings to."""

    verdict: str
    is_worth_it: bool
    facts: tuple[tuple[str, str], ...]
    swings: tuple[tuple[str, Markup, str, bool], ...]  # input, bar, net values, flips
    axis: Markup | None


@dataclass(frozen=True)
class OfferRow:
    """One way of running the job: a rented machine or a provider, what it takes, and what to know of it."""

    number: int
    title: str
    provider: str
    state: str
    method: str
    peak: str
    hours: str
    cost: str
    is_chosen: bool
    is_pareto: bool
    is_old: bool
    note: str


@dataclass(frozen=True)
class PlanView:
    """Everything of the plan section; None or empty where nothing is known."""

    facts: tuple[tuple[str, str], ...] = ()
    predictions: tuple[tuple[str, str, str, str, bool | None], ...] = ()  # name, expected, interval, actual, held
    memory: MemoryView | None = None
    decision: str = ""
    procedure: ProcedureRecord | None = None
    advice: Mapping[str, Any] | None = None
    options: tuple[Mapping[str, Any], ...] = ()
    place: Mapping[str, Any] | None = None
    pilot: Mapping[str, Any] | None = None
    pilot_words: str = ""
    costs: tuple[tuple[str, str, str, str], ...] = ()  # name, dollars, how often, how
    unpriced: tuple[str, ...] = ()
    gantt: GanttView | None = None
    payback: PaybackView | None = None
    offers: tuple[OfferRow, ...] = ()
    offers_note: str = ""
    assumptions: tuple[str, ...] = ()


def plan_view(run: RunFolder) -> PlanView | None:
    """The plan of a run: what was predicted and what happened, and what was advised before; None without either."""
    decision = DecisionRecord.read(run.path) if DecisionRecord.exists(run.path) else None
    procedure = ProcedureRecord.read(run.path) if ProcedureRecord.exists(run.path) else None
    if run.plan is None and decision is None and procedure is None:
        return None
    around = outlook_view(decision.outlook if decision else {})
    words = (
        "" if decision is None else DECISIONS[decision.decision] + (f": {decision.reason}" if decision.reason else "")
    )
    return PlanView(
        **{
            **vars(around),
            "facts": _run_facts(run),
            "predictions": tuple(_prediction_row(one) for one in predictions(run)),
            "memory": _memory(run.plan.memory_components, {}) if run.plan else None,
            "decision": words,
            "procedure": procedure,
            "pilot": around.pilot if run.training is None else None,  # too late once it is trained
            "assumptions": run.plan.assumptions if run.plan else (),
        }
    )


def forecast_view(forecast: Forecast, outlook: Mapping[str, Any], sizes: Mapping[str, Any]) -> PlanView:
    """A plan alone: the forecast with its memory, and what is around it."""
    return PlanView(
        **{
            **vars(outlook_view(outlook)),
            "facts": _forecast_facts(forecast, sizes),
            "memory": _memory(forecast.memory_components, forecast.memory_formulas),
            "assumptions": forecast.assumptions,
        }
    )


def offer_rows(offers: Sequence[Offer], most: int = MOST_OFFERS) -> tuple[OfferRow, ...]:
    """The chosen row, those that no other beats, and the hosted ones, in the order of the ranking."""
    wanted = [index for index, offer in enumerate(offers) if offer.is_chosen or offer.is_pareto]
    hosted = [index for index, offer in enumerate(offers) if offer.kind == "hosted"]
    places = sorted({*wanted[:most], *hosted[:most]})
    return tuple(_offer_row(place + 1, offers[place]) for place in places)


def _offer_row(number: int, offer: Offer) -> OfferRow:
    hours, cost, peak = offer.train_hours, offer.cost_usd, offer.peak_memory_gb
    return OfferRow(
        number=number,
        title=offer.title,
        provider=offer.provider,
        state=offer.status,
        method=offer.method,
        peak=f"{peak.expected:.0f} GB" if peak else "–",
        hours=show_span("train_seconds", hours.low * 3600, hours.high * 3600) if hours else "–",
        cost=_dollars(cost.model_dump()) if cost else "–",
        is_chosen=offer.is_chosen,
        is_pareto=offer.is_pareto,
        is_old=is_stale(offer),
        note="; ".join((offer.reason, offer.basis)[not offer.reason :] if offer.is_chosen else offer.warnings),
    )


def _prediction_row(one: Prediction) -> tuple[str, str, str, str, bool | None]:
    expected = show_quantity(one.quantity, one.predicted.expected)
    return one.title, expected, one.span, "–" if one.actual is None else one.shown, one.held


def forecast_predictions(forecast: Forecast) -> tuple[Prediction, ...]:
    """Time, memory and dollars of a forecast, as far as they are known."""
    found = [Prediction("peak_memory_gb", forecast.peak_memory_gb, None)]
    hours = forecast.train_hours
    if hours is not None:
        found.insert(0, Prediction("train_seconds", _times(hours, 3600), None))
    if forecast.cost_usd is not None:
        found.append(Prediction("cost_usd", forecast.cost_usd, None))
    return tuple(found)


def outlook_view(outlook: Mapping[str, Any]) -> PlanView:
    """Advice, place, pilot, costs, timeline and payback from the values of `foretune plan --json`."""
    advice, cost, pilot = outlook.get("advice"), outlook.get("project_cost") or {}, outlook.get("pilot")
    timeline = outlook.get("timeline")
    return PlanView(
        advice=advice,
        options=tuple(_option(option) for option in (advice or {}).get("options", ())[:TOP_OPTIONS]),
        place=outlook.get("place"),
        pilot=pilot,
        pilot_words=_pilot_words(pilot) if pilot else "",
        costs=tuple(_cost_row(row) for row in cost.get("lines", ())) + tuple(_sums(cost)),
        unpriced=tuple(cost.get("unpriced", ())),
        gantt=_gantt(timelines.Timeline.model_validate(timeline)) if timeline else None,
        payback=_payback(outlook["payback"]) if outlook.get("payback") else None,
    )


# --- the forecast ---------------------------------------------------------------------------------------------------


def _run_facts(run: RunFolder) -> tuple[tuple[str, str], ...]:
    """What was planned, with the size of the result as predicted and as it is."""
    plan = run.plan
    if plan is None:
        return ()
    facts = [
        ("Base", f"{plan.base}, {show_count(plan.total_parameters)} parameters"),
        ("Trained", _share(plan)),
        ("Data", f"{plan.num_train_samples:,} samples, {show_count(plan.num_train_tokens)} tokens an epoch"),
        ("Steps", f"{plan.num_steps:,} of {plan.micro_batch_size} x {plan.grad_accum_steps} samples"),
        ("Speed measured before", "yes, by real steps" if plan.probed else "no, calculated"),
        ("Result on disk", _saved_words(run, plan)),
    ]
    if plan.num_test_samples and plan.smallest_visible_difference is not None:
        points = 100 * plan.smallest_visible_difference
        facts.append(("Test", f"{plan.num_test_samples:,} samples: below about {points:.0f} points most gains unseen"))
    return tuple(facts)


def _share(plan: PlanRecord) -> str:
    share = plan.trainable_parameters / max(1, plan.total_parameters)
    return f"{show_count(plan.trainable_parameters)} ({100 * share:.3g} %), {plan.method}"


def _saved_words(run: RunFolder, plan: PlanRecord) -> str:
    predicted = f"{show_bytes(saved_bytes(plan.trainable_parameters))} predicted"
    if run.training is None or not run.training.artefact:
        return predicted
    folder = run.path / run.training.artefact
    size = sum(file.stat().st_size for file in folder.rglob("*.safetensors")) if folder.is_dir() else 0
    return f"{predicted}, {show_bytes(size)} written" if size else predicted


def _forecast_facts(forecast: Forecast, sizes: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    share = forecast.trainable_parameters / max(1, forecast.total_parameters)
    facts = [
        ("Base", f"{forecast.base}, {show_count(forecast.total_parameters)} parameters"),
        ("Trained", f"{show_count(forecast.trainable_parameters)} ({100 * share:.3g} %), {forecast.method}"),
        ("Device", f"{forecast.num_gpus} x {forecast.device}" if forecast.device else "not known"),
        ("Result on disk", f"{show_bytes(sizes.get('saved', 0))} predicted"),
    ]
    if forecast.tokens_per_second is not None:
        speed = forecast.tokens_per_second
        facts.append(("Speed", f"{speed.expected:,.0f} tokens a second ({speed.low:,.0f} to {speed.high:,.0f})"))
    if forecast.price is not None:
        price = forecast.price
        old = ", over 90 days old" if price.is_stale else ""
        facts.append(("Price", f"{show_usd(price.usd_per_gpu_hour)} an hour, {price.provider}, {price.date}{old}"))
    return tuple(facts)


def _memory(components: Mapping[str, float], formulas: Mapping[str, str]) -> MemoryView | None:
    known = sorted(((name, size) for name, size in components.items() if size > 0), key=lambda item: -item[1])
    if not known:
        return None
    total = sum(size for _, size in known)
    names = [name.removesuffix("_bytes").replace("_", " ") for name, _ in known]
    shares = [
        (size, f"part{_shade(place)}", f"{name}: {show_bytes(size)}")
        for place, ((_, size), name) in enumerate(zip(known, names, strict=True))
    ]
    rows = tuple(
        (_shade(place), name, show_bytes(size), formulas.get(key, ""))
        for place, ((key, size), name) in enumerate(zip(known, names, strict=True))
    )
    return MemoryView(share_bar(shares, f"Memory by part, {show_bytes(total)} in all"), rows)


def _shade(place: int) -> int:
    return min(place, SHADES - 1)


# --- advice, pilot, money -------------------------------------------------------------------------------------------


def _option(option: Mapping[str, Any]) -> Mapping[str, Any]:
    """An option with its strongest reasons only."""
    reasons = sorted(option["reasons"], key=lambda reason: -abs(reason["points"]))[:TOP_REASONS]
    return {**option, "reasons": reasons}


def _pilot_words(pilot: Mapping[str, Any]) -> str:
    words = f"{pilot['num_examples']:,} examples, one epoch"
    for name, quantity, factor in (("hours", "train_seconds", 3600.0), ("cost_usd", "cost_usd", 1.0)):
        if pilot[name] is not None:
            words += f", {show_span(quantity, factor * pilot[name]['low'], factor * pilot[name]['high'])}"
    return words


def _cost_row(row: Mapping[str, Any]) -> tuple[str, str, str, str]:
    return row["name"], _dollars(row["usd"]), _often(row["per"]), row["basis"]


def _sums(cost: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    rows = (("all once", "once", "once"), ("all a month", "per_month", "month"))
    return [(name, _dollars(cost[key]), _often(per), "") for name, key, per in rows if cost and cost[key]["high"] > 0]


def _often(per: str) -> str:
    return "every month" if per == "month" else "once"


def _dollars(usd: Mapping[str, float]) -> str:
    return show_span("cost_usd", usd["low"], usd["high"])


def _payback(values: Mapping[str, Any]) -> PaybackView:
    months = [("with labour", values["payback_with_labour"]), ("training alone", values["payback_training_only"])]
    facts = [
        ("A month now", show_usd(values["monthly_now"])),
        ("A month tuned", show_usd(values["monthly_tuned"])),
        *((f"Pays back, {name}", _months(one)) for name, one in months),
        ("Net value", _signed(values["net_value"])),
        ("Break-even", values["break_even_date"] or "never"),
    ]
    verdict = str(values["verdict"]).partition(": ")[2] or str(values["verdict"])
    swings = [_named(swing) for swing in values["sensitivity"][:MOST_SWINGS]]
    net = values["net_value"]
    if not swings:
        return PaybackView(verdict, values["is_worth_it"], tuple(facts), (), None)
    ends = [0.0, net, *(end for swing in swings for end in (swing["net_at_half"], swing["net_at_more"]))]
    scale = scale_of(min(ends), max(ends), 4)
    rows = tuple(_swing_row(swing, net, scale) for swing in swings)
    labels = [_signed(tick) for tick in scale.ticks]
    return PaybackView(verdict, values["is_worth_it"], tuple(facts), rows, axis(scale, labels))


def _months(months: float | None) -> str:
    if months is None:
        return "never"
    return "within a day" if months < 1 / 30 else f"{months:.2g} months"


def _named(swing: Any) -> dict[str, Any]:
    """A swing by its names; records keep it as the list that a NamedTuple becomes."""
    if isinstance(swing, Mapping):
        return dict(swing)
    return dict(zip(("name", "net_at_half", "net_at_more", "flips"), swing, strict=True))


def _swing_row(swing: Mapping[str, Any], net: float, scale: Scale) -> tuple[str, Markup, str, bool]:
    low, high = sorted((swing["net_at_half"], swing["net_at_more"]))
    name = str(swing["name"]).replace("_", " ")
    words = f"{_signed(swing['net_at_half'])} at half, {_signed(swing['net_at_more'])} at one and a half times"
    ends = f"{_signed(swing['net_at_half'])} to {_signed(swing['net_at_more'])}"
    colour = "lost" if swing["flips"] else "kept"
    drawn = svg(
        30,
        f"{name}: {words}",
        *(line(scale.at(tick), 0, scale.at(tick), 100, "grid") for tick in scale.ticks),
        line(scale.at(0.0), 0, scale.at(0.0), 100, "nought"),
        line(scale.at(low), 50, scale.at(high), 50, f"interval {colour}"),
        dot(scale.at(net), 50, 5, f"fill {colour}", words),
    )
    return name, drawn, ends, bool(swing["flips"])


def _signed(usd: float) -> str:
    """Whole dollars with the sign before the currency."""
    return f"{'−' if usd < 0 else ''}${abs(usd):,.0f}"


# --- the timeline ---------------------------------------------------------------------------------------------------


def _gantt(timeline: timelines.Timeline) -> GanttView:
    """Bars over working days: expected solid, the worst case faint, the critical path in the strong colour."""
    last = max(timeline.total_days.high, 1.0)
    step = timelines.DAYS_PER_WEEK * max(1, -(-last // (timelines.DAYS_PER_WEEK * MOST_TICKS)))
    scale = Scale(0.0, step * -(-last // step), step)
    titles = {phase.id: phase.name for phase in timeline.phases}
    days = {task.id: task.days for task in timeline.tasks}
    rows, seen = [], set[str]()
    for one in timelines.timeline_bars(timeline):
        phase = "" if one.phase in seen else titles[one.phase]
        seen.add(one.phase)
        rows.append(_gantt_row(one, phase, days[one.id], scale))
    weeks = timeline.total_weeks
    total = f"{weeks.low:.1f} to {weeks.high:.1f} weeks, {weeks.expected:.1f} expected"
    return GanttView(
        tuple(rows), axis(scale, _day_labels(timeline, scale.ticks)), total, timeline.notes, timeline.assumptions
    )


def _gantt_row(one: timelines.Bar, phase: str, days: Estimate, scale: Scale) -> GanttRow:
    colour = "tuned" if one.critical else "zero"
    span = _days(days)
    label = f"{one.name}: {span}, from day {one.start:.1f} to {one.end:.1f}, at the latest {one.latest:.1f}"
    dates = f"{one.start_date:%d %b} – {one.end_date:%d %b}" if one.start_date and one.end_date else ""
    parts = [
        *(line(scale.at(tick), 0, scale.at(tick), 100, "grid") for tick in scale.ticks),
        bar(scale.at(one.end), scale.at(one.latest) - scale.at(one.end), "9", "12", f"fill {colour} late", label),
        bar(scale.at(one.start), max(0.6, scale.at(one.end) - scale.at(one.start)), "9", "12", f"fill {colour}", label),
    ]
    return GanttRow(phase, one.name, svg(30, label, *parts), span, dates, one.critical)


def _days(days: Estimate) -> str:
    low, high = (f"{day:,.0f}" if day >= 100 else f"{round(day, 1):g}" for day in (days.low, days.high))
    return f"{low} d" if low == high else f"{low}–{high} d"


def _day_labels(timeline: timelines.Timeline, ticks: Sequence[float]) -> list[str]:
    """Week numbers, or the dates on which the weeks begin."""
    if timeline.start is None:
        return [f"week {day / timelines.DAYS_PER_WEEK:.0f}" if day else "start" for day in ticks]
    dates = [timelines.add_working_days(timeline.start, day + 1, timeline.holidays) for day in ticks]
    return [f"{date:%d %b}" for date in dates]


def _times(estimate: Estimate, factor: float) -> Estimate:
    return Estimate(low=estimate.low * factor, expected=estimate.expected * factor, high=estimate.high * factor)
