"""A comparison as one self-contained page: the sentence first, then samples, traffic, and both side by side."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

import foretune
from foretune.config.write import toml_value
from foretune.records.base import write_atomically
from foretune.records.comparison import (
    ComparisonRecord,
    GuardResult,
    OfflineClaim,
    OfflineResult,
    OnlineResult,
    RatioResult,
)
from foretune.ui.charts import Scale, axis, interval_bar, scale_of
from foretune.ui.report import environment
from foretune.ui.summary import LABELS, Headline
from foretune.ui.words import metric_name, plural, signed

__all__ = ["ForestRow", "ForestView", "write_comparison_page"]

TONES = {"better": "gained", "worse": "lost"}


@dataclass(frozen=True)
class Difference:
    """One difference with its interval, which is open where there is too little to give one."""

    name: str
    value: float
    low: float | None
    high: float | None
    note: str = ""
    tone: str = "kept"  # gained, lost or kept
    words: str = ""  # the mark beside the name


@dataclass(frozen=True)
class ForestRow:
    """One row of a forest plot, in words and drawn."""

    name: str
    note: str
    tone: str
    words: str
    value: str
    interval: str
    bar: Markup


@dataclass(frozen=True)
class ForestView:
    """Differences on one scale; `is_points`: they are fractions, shown in points."""

    title: str
    lead: str
    rows: tuple[ForestRow, ...]
    axis: Markup
    is_points: bool


def write_comparison_page(path: Path, record: ComparisonRecord) -> Path:
    """Write a comparison as one HTML file and return its path. Raises DoesNotFit where it cannot be written."""
    offline = record.offline
    values = {
        "headline": comparison_headline(record),
        "record": record,
        "forests": forests(record),
        "tables": score_table(offline) if offline else None,
        "settings": settings_table(offline) if offline else None,
        "traffic": [(result, guard_rows(result)) for result in record.online],
        "users": user_rows(record.ratio) if record.ratio else (),
        "warnings": (*record.notes, *(offline.warnings if offline else ())),
        "foretune_version": foretune.__version__,
    }
    write_atomically(path, environment().get_template("comparison.html.j2").render(**values))
    return path


def comparison_headline(record: ComparisonRecord) -> Headline:
    """The record's own sentence, marked by what it is worth."""
    kind, label = {"proven": ("better", "Proven"), "promising": ("open", "Promising")}.get(
        record.state, ("inconclusive", LABELS["inconclusive"])
    )
    claims = [claim for claim in record.offline.claims if claim.is_primary] if record.offline else []
    if any(result.rollback for result in record.online):
        kind, label = "worse", "Roll back"
    elif record.state == "not_proven" and not record.online and claims[0].verdict in ("worse", "not_better"):
        kind, label = str(claims[0].verdict), LABELS[str(claims[0].verdict)]
    elif record.state == "not_proven" and any(result.verdict == "worse" for result in record.online):
        kind, label = "worse", LABELS["worse"]
    facts = [f"{record.offline.n:,} samples"] if record.offline else []
    facts += [f"{sum(record.ratio.observed.values()):,} users"] if record.ratio else []
    facts += [plural(record.online[0].full_days, "full day")] if record.online else []
    return Headline(kind, label, ((record.headline, False),), "", tuple(facts))


def forests(record: ComparisonRecord) -> list[ForestView]:
    """The forest plots: differences on the samples, slices, traffic, its days, and samples beside traffic."""
    found: list[ForestView | None] = []
    if record.offline is not None:
        found += [_claims(record.offline), _slices(record.offline)]
    for result in record.online:
        found += [_days(result)]
    return [_beside(record), *[view for view in found if view]] if record.online else [view for view in found if view]


def _claims(offline: OfflineResult) -> ForestView | None:
    several = len({claim.candidate for claim in offline.claims}) > 1
    rows = [
        Difference(
            f"{claim.candidate}: {metric_name(claim.metric)}" if several else metric_name(claim.metric),
            claim.value,
            claim.ci_low,
            claim.ci_high,
            f"decides, n = {claim.n:,}" if claim.is_primary else f"n = {claim.n:,}",
            *_claimed(claim),
        )
        for claim in offline.claims
        if _is_fraction(offline, claim)
    ]
    lead = (
        f"Each is measured against {offline.variants[0].name}, sample by sample; p values are Holm's over each family."
    )
    return _forest("Differences on the same samples", lead, rows, is_points=True)


def _claimed(claim: OfflineClaim) -> tuple[str, str]:
    """The tone and the words of a claim: a verdict on the metric that decides, `supported` on the others."""
    if claim.verdict is not None:
        return TONES.get(claim.verdict, "kept"), LABELS[claim.verdict].lower()
    if not claim.supported:
        return "kept", ""
    return ("gained" if claim.value > 0 else "lost"), f"supported, p = {claim.p_adjusted:.2g}"


def _is_fraction(offline: OfflineResult, claim: OfflineClaim) -> bool:
    return all(0 <= row.scores.get(claim.metric, 0.0) <= 1 for row in offline.variants) and abs(claim.ci_low) <= 1


def _slices(offline: OfflineResult) -> ForestView | None:
    rows = [
        Difference(one.slice, one.value, one.ci_low, one.ci_high, f"n = {one.n:,}", *_flag(one.flagged, one.value))
        for one in sorted(offline.slices, key=lambda one: one.value)
    ]
    small = f" {plural(offline.slices_too_small, 'slice')} too small to test." if offline.slices_too_small else ""
    lead = f"{metric_name(offline.primary_metric)} within slices; marks hold at a false-discovery rate of 5 %.{small}"
    is_points = all(0 <= row.scores.get(offline.primary_metric, 0.0) <= 1 for row in offline.variants)
    return _forest("Where they differ", lead[:1].upper() + lead[1:], rows, is_points=is_points)


def _flag(flagged: bool, value: float) -> tuple[str, str]:
    if not flagged:
        return "kept", ""
    return ("gained", "better") if value > 0 else ("lost", "worse")


def _days(result: OnlineResult) -> ForestView | None:
    rows = [Difference(day.weekday, day.value, day.ci_low, day.ci_high) for day in result.weekdays]
    primary = result.primary.outcome if result.primary else ""
    is_points = all(0 <= mean <= 1 for day in result.weekdays for mean in (day.baseline_mean, day.candidate_mean))
    lead = f"{metric_name(primary)} of {result.candidate} less the baseline, in UTC. A view, not a test."
    return _forest("Days of the week", lead[:1].upper() + lead[1:], rows, is_points=is_points)


def _beside(record: ComparisonRecord) -> ForestView:
    """The difference on the samples, where there are any, above the differences in traffic."""
    rows: list[Difference] = []
    claims = record.offline.claims if record.offline else ()
    for claim in (claim for claim in claims if claim.is_primary):
        name = f"Samples: {metric_name(claim.metric)}"
        note = f"{claim.candidate}, n = {claim.n:,}"
        rows.append(Difference(name, claim.value, claim.ci_low, claim.ci_high, note, *_claimed(claim)))
    for result in record.online:
        effect = result.primary
        if effect is None:
            continue
        note = f"{result.candidate}, {sum(effect.units.values()):,} users, {effect.method}"
        tone, words = TONES.get(result.verdict, "kept"), LABELS[result.verdict].lower()
        name = f"Traffic: {metric_name(effect.outcome)}"
        rows.append(Difference(name, effect.value, effect.ci_low, effect.ci_high, note, tone, words))
    effects = [result.primary for result in record.online if result.primary is not None]
    is_points = all(0 <= (mean or 0.0) <= 1 for e in effects for mean in (e.baseline_mean, e.candidate_mean))
    title = "Samples and traffic side by side" if claims else "Split traffic"
    lead = record.gap or "Candidate less baseline, in users drawn at random."
    return _forest(title, lead[:1].upper() + lead[1:], rows, is_points=is_points) or ForestView(
        title, "No result is shown.", (), Markup(""), False
    )


def _forest(title: str, lead: str, rows: Sequence[Difference], *, is_points: bool) -> ForestView | None:
    """The rows on one scale that holds 0; None without any."""
    if not rows:
        return None
    ends = [end for row in rows for end in (row.low, row.value, row.high) if end is not None]
    scale = scale_of(min(0.0, *ends), max(0.0, *ends))
    ticks = axis(scale, [_shown(tick, is_points, 3) for tick in scale.ticks])
    return ForestView(title, lead, tuple(_row(row, scale, is_points) for row in rows), ticks, is_points)


def _row(row: Difference, scale: Scale, is_points: bool) -> ForestRow:
    value, interval, bar = _shown(row.value, is_points), "no interval yet", Markup("")
    if row.low is not None and row.high is not None:
        interval = f"{_shown(row.low, is_points)} to {_shown(row.high, is_points)}"
        bar = interval_bar(scale, row.low, row.value, row.high, row.tone, f"{row.name}: {value} ({interval})")
    return ForestRow(row.name, row.note, row.tone, row.words, value, interval, bar)


def _shown(value: float, is_points: bool, digits: int = 2) -> str:
    """A difference with its sign, in points where it is one of fractions."""
    text = f"{100 * value:+.3g}" if is_points else f"{value:+.{digits}g}"
    return signed("0" if float(text) == 0 else text)


# --- tables ---------------------------------------------------------------------------------------------------------


def score_table(offline: OfflineResult) -> list[tuple[str, list[str]]]:
    """Every metric with the score of each variant."""
    names = dict.fromkeys(name for row in offline.variants for name in row.scores)
    return [(metric_name(name), [f"{row.scores[name]:.3f}" for row in offline.variants]) for name in names]


def settings_table(offline: OfflineResult) -> list[tuple[str, list[str]]]:
    """The settings that differ, as they would stand in the job file."""
    names = sorted({name for row in offline.variants for name in row.settings})
    return [(name, [toml_value(row.settings.get(name)) for row in offline.variants]) for name in names]


def user_rows(ratio: RatioResult) -> list[tuple[str, str, str]]:
    """Each variant with its users and those that its share makes one expect."""
    return [(name, f"{count:,}", f"{ratio.expected[name]:,.0f}") for name, count in ratio.observed.items()]


def guard_rows(result: OnlineResult) -> list[tuple[str, str, str, str, str, str]]:
    """Each guard: name, both means, the change that is left open, what is allowed, its tone with its status."""
    return [tuple(_guard(guard)) for guard in result.guards]  # type: ignore[misc]


def _guard(guard: GuardResult) -> Iterable[str]:
    effect = guard.effect
    yield metric_name(effect.outcome)
    for mean in (effect.baseline_mean, effect.candidate_mean):
        yield "–" if mean is None else f"{mean:.4g}"
    is_open = effect.ci_low is None or effect.ci_high is None
    yield "–" if is_open else signed(f"{effect.ci_low:+.3g} to {effect.ci_high:+.3g}")
    yield "–" if guard.status == "no data" else f"{guard.margin:.3g}"
    yield guard.status
