"""A comparison as tables for a terminal of 80 columns: the verdict, what it rests on, and what is merely a view."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.markup import escape

from foretune.cli.show import shown_value
from foretune.cli.tables import facts_table, plain_table, warning_lines
from foretune.records.comparison import (
    ComparisonRecord,
    Experiment,
    OfflineClaim,
    OfflineResult,
    OnlineEffect,
    OnlineResult,
    RatioResult,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["comparison_shown", "experiment_shown"]

MOST_SETTINGS = 12  # that differ, shown; the rest is counted
GUARD_STYLE = {"holds": "green", "unproven": "yellow", "breached": "red", "no data": "yellow"}


def comparison_shown(record: ComparisonRecord) -> list[RenderableType]:
    """The headline, then the samples, then the traffic, each with what it rests on."""
    shown: list[RenderableType] = [f"[bold]{record.state.replace('_', ' ')}[/]: {escape(record.headline)}"]
    if record.offline is not None:
        shown += _offline(record.offline)
    if record.ratio is not None:
        shown += ["", *_ratio(record.ratio)]
    for result in record.online:
        shown += _online(result, record.headline)
    if record.gap:
        shown += ["", f"[bold]samples and traffic side by side[/]: {escape(record.gap)}"]
    warnings = [*record.notes, *(record.offline.warnings if record.offline else ())]
    return [*shown, *warning_lines(warnings)]


def experiment_shown(experiment: Experiment, advice: str) -> list[RenderableType]:
    """What a planned split test takes."""
    shares = ", ".join(f"{name} {share:.0%}" for name, share in experiment.allocations[0].shares.items())
    facts = {
        "starts": experiment.start.isoformat(timespec="minutes"),
        "shares": shares,
        "takes": f"{experiment.planned_days} full days and {experiment.planned_units or 0:,} users a variant",
        "decides": f"{experiment.primary.name}, {experiment.primary.better} is better; "
        f"smallest difference that matters {experiment.primary.margin:g}",
        "guards": ", ".join(guard.name for guard in experiment.guards) or "none",
    }
    told = "[dim]a guard that is not logged never holds: take it out of experiment.json, or log it[/]"
    return [facts_table(facts), *([told] if experiment.guards else []), *warning_lines([advice] if advice else [])]


# --- the same samples -----------------------------------------------------------------------------------------------


def _offline(offline: OfflineResult) -> list[RenderableType]:
    table = plain_table("on the same samples", f">{offline.primary_metric}", ">n")
    for row in offline.variants:
        table.add_row(escape(row.name), f"{row.scores.get(offline.primary_metric, 0.0):.3f}", f"{row.n:,}")
    shown: list[RenderableType] = ["", table, "", _claims(offline.claims)]
    shown += [*_settings(offline), *_slices(offline)]
    return shown


def _claims(claims: Sequence[OfflineClaim]) -> RenderableType:
    several = len({claim.candidate for claim in claims}) > 1
    table = plain_table(*(["candidate"] if several else []), "difference", ">mean", ">95 % interval", ">p, Holm", "")
    for claim in claims:
        said = (claim.verdict or "").replace("_", " ") or ("supported" if claim.supported else "")
        table.add_row(
            *([escape(claim.candidate)] if several else []),
            f"[bold]{claim.metric}[/]" if claim.is_primary else claim.metric,
            f"{claim.value:+.3f}",
            f"{claim.ci_low:+.3f} to {claim.ci_high:+.3f}",
            f"{claim.p_adjusted:.2g}",
            said,
        )
    return table


def _settings(offline: OfflineResult) -> list[RenderableType]:
    """The settings in which the variants differ, side by side."""
    names = sorted({name for row in offline.variants for name in row.settings})
    if not names:
        return []
    table = plain_table("settings that differ", *[escape(row.name) for row in offline.variants])
    for name in names[:MOST_SETTINGS]:
        table.add_row(name, *[escape(shown_value(row.settings.get(name))) for row in offline.variants])
    more = len(names) - MOST_SETTINGS
    return ["", table, *([f"[dim]and {more} more: --json[/]"] if more > 0 else [])]


def _slices(offline: OfflineResult) -> list[RenderableType]:
    flagged = [one for one in offline.slices if one.flagged]
    if not offline.slices:
        return []
    tested = f"{len(offline.slices)} slices tested, {len(flagged)} differ beyond chance"
    small = f"; {offline.slices_too_small} too small to test" if offline.slices_too_small else ""
    if not flagged:
        return ["", f"[dim]{tested}{small}[/]"]
    table = plain_table("slice", ">n", ">difference", ">95 % interval")
    for one in flagged:
        table.add_row(escape(one.slice), f"{one.n:,}", f"{one.value:+.3f}", f"{one.ci_low:+.3f} to {one.ci_high:+.3f}")
    return ["", f"[dim]{tested}{small}[/]", table]


# --- split traffic --------------------------------------------------------------------------------------------------


def _ratio(ratio: RatioResult) -> list[RenderableType]:
    users = ", ".join(f"{escape(name)} {count:,}" for name, count in ratio.observed.items())
    if not ratio.alarm:
        return [f"users: {users}; split as configured (smallest daily p = {ratio.smallest_p:.2g})"]
    return [f"users: {users}; [red]not split as configured[/]. Look for:", *(f"   {line}" for line in ratio.checklist)]


def _online(result: OnlineResult, headline: str) -> list[RenderableType]:
    """What the headline does not say yet."""
    is_told = result.reason in headline
    shown: list[RenderableType] = [] if is_told else ["", f"{escape(result.candidate)}: {escape(result.reason)}"]
    if result.rollback and not headline.startswith(f"Roll back {result.candidate}:"):
        shown += [
            "",
            f"[bold red]roll back {escape(result.candidate)}[/]: {escape('; '.join(result.rollback_reasons))}",
        ]
    days = f"{result.full_days} full days" + (f" of {result.planned_days} planned" if result.planned_days else "")
    decided = f", decided on day {result.decided_day}" if result.decided_day else ""
    shown.append(f"{escape(result.candidate)}: {result.status}, {days}{decided}")
    if result.primary is not None and result.primary.variance_removed > 0:
        shown.append(
            f"the time before the start took {result.primary.variance_removed:.0%} of the variance away (CUPED)"
        )
    return [*shown, *_guards(result), *_weekdays(result)]


def _guards(result: OnlineResult) -> list[RenderableType]:
    if not result.guards:
        return []
    table = plain_table("guard", ">baseline", ">candidate", ">change, 90 %", ">allowed", "")
    for guard in result.guards:
        effect = guard.effect
        table.add_row(
            escape(effect.outcome),
            _number(effect.baseline_mean),
            _number(effect.candidate_mean),
            _interval(effect),
            "–" if guard.status == "no data" else f"{guard.margin:.3g}",
            f"[{GUARD_STYLE[guard.status]}]{guard.status}[/]",
        )
    return ["", table]


def _weekdays(result: OnlineResult) -> list[RenderableType]:
    if not result.weekdays:
        return []
    table = plain_table("day of the week (UTC)", ">baseline", ">candidate", ">change, 95 %")
    for day in result.weekdays:
        change = f"{day.value:+.3g} ({day.ci_low:+.3g} to {day.ci_high:+.3g})"
        table.add_row(day.weekday, _number(day.baseline_mean), _number(day.candidate_mean), change)
    return ["", table, "[dim]a view, not a test[/]"]


def _interval(effect: OnlineEffect) -> str:
    if effect.ci_low is None or effect.ci_high is None:
        return "–"
    return f"{effect.ci_low:+.3g} to {effect.ci_high:+.3g}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
