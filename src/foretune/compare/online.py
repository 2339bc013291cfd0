"""The verdict on split traffic: withheld before seven full days, blocked by a hole, safe to look at every hour."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np

from foretune.compare.effect import Effect, estimate
from foretune.compare.guards import Judged, judged_guards, shown_effect, sign_of
from foretune.compare.traffic import DAY_SECONDS, Traffic
from foretune.errors import DataError
from foretune.records.comparison import Experiment, OnlineEffect, OnlineResult, OutcomeSpec, RatioResult, WeekdayEffect
from foretune.stats.design import HYBRID_FACTOR
from foretune.stats.power import POWER
from foretune.stats.sequential import MIN_DAYS, Decision, SequentialPlan, normal_quantile

__all__ = ["DEFAULT_UNITS", "judge_traffic"]

DEFAULT_UNITS = 5000  # a variant, where none are planned
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


class Looks(NamedTuple):
    """The primary effect at the end of every full day, and now; `horizon` is the index of the planned last look."""

    effects: tuple[Effect, ...]
    rows: tuple[int, ...]
    now: Effect
    plan: SequentialPlan
    horizon: int | None
    decision: Decision


def judge_traffic(traffic: Traffic, candidate: str, ratio: RatioResult) -> OnlineResult:
    """Judge one candidate against the baseline. Raises DataError where no row has the primary outcome."""
    primary = traffic.experiment.primary
    if not traffic.has(primary.name):
        found = ", ".join(traffic.values) or "none"
        raise DataError(
            f"no row has the outcome {primary.name!r}; found: {found}",
            fix="--primary OUTCOME, or primary.name in experiment.json",
        )
    reasons = _blocked(traffic, ratio)
    if reasons:
        return _blocked_result(traffic, candidate, reasons)
    looks = _looks(traffic, primary, candidate)
    guards = judged_guards(traffic, candidate, looks.plan, _last_rows(traffic, looks))
    return _judged(traffic, candidate, looks, guards)


def _plan(experiment: Experiment) -> SequentialPlan:
    """Several candidates share alpha evenly (Bonferroni, which any dependence allows)."""
    alpha = experiment.alpha / (len(experiment.variants) - 1)
    return SequentialPlan(2 * (experiment.planned_units or DEFAULT_UNITS), experiment.planned_days, alpha)


def _looks(traffic: Traffic, spec: OutcomeSpec, candidate: str) -> Looks:
    plan = _plan(traffic.experiment)
    rows = tuple(traffic.rows_until(day) for day in traffic.full_days)
    effects = tuple(estimate(traffic.units(spec, candidate, count)) for count in rows)
    horizon = _horizon(traffic.experiment, effects)
    sign = sign_of(spec)
    decision = plan.decide(
        [sign * effect.value for effect in effects],
        [effect.standard_error for effect in effects],
        [effect.num_units for effect in effects],
        np.arange(1, len(effects) + 1),
        horizon,
    )
    return Looks(effects, rows, estimate(traffic.units(spec, candidate)), plan, horizon, decision)


def _horizon(experiment: Experiment, effects: tuple[Effect, ...]) -> int | None:
    """Index of the first whole week at or after the planned days in which both arms have the planned units."""
    if experiment.planned_days is None:
        return None
    needed = experiment.planned_units or 0
    for days in range(experiment.planned_days, len(effects) + 1, 7):
        effect = effects[days - 1]
        if min(effect.baseline_units, effect.candidate_units) >= needed and effect.has_interval:
            return days - 1
    return None


def _last_rows(traffic: Traffic, looks: Looks) -> int | None:
    return looks.rows[looks.horizon] if looks.horizon is not None else None


def _blocked(traffic: Traffic, ratio: RatioResult) -> list[str]:
    reasons = list(traffic.faults)
    if ratio.alarm and not reasons:
        seen = ", ".join(
            f"{name} {count:,} (expected {ratio.expected[name]:,.0f})" for name, count in ratio.observed.items()
        )
        reasons.append(f"users are not split as configured: {seen}, p = {ratio.smallest_p:.2g} on day {ratio.day}")
    return reasons


def _blocked_result(traffic: Traffic, candidate: str, reasons: list[str]) -> OnlineResult:
    return OnlineResult(
        candidate=candidate,
        status="blocked",
        verdict="inconclusive",
        reason=f"No result is shown: {'; '.join(reasons)}.",
        rollback=False,
        rollback_reasons=(),
        full_days=len(traffic.full_days),
        planned_days=traffic.experiment.planned_days,
        decided_day=None,
        primary=None,
        guards=(),
        weekdays=(),
    )


def _judged(traffic: Traffic, candidate: str, looks: Looks, guards: Judged) -> OnlineResult:
    spec, days = traffic.experiment.primary, len(traffic.full_days)
    effect = _shown(spec, candidate, looks)
    rollback = list(guards.rollback)
    if _proven_worse(spec, looks):
        rollback.insert(0, f"{spec.name} is proven worse: {_said(effect)}")
    status, verdict, reason = _verdict(traffic.experiment, looks, effect, guards, days)
    return OnlineResult(
        candidate=candidate,
        status=status,
        verdict=verdict,
        reason=reason,
        rollback=bool(rollback),
        rollback_reasons=tuple(rollback),
        full_days=days,
        planned_days=traffic.experiment.planned_days,
        decided_day=int(looks.decision.look) + 1 if status == "decided" and int(looks.decision.look) >= 0 else None,
        primary=effect,
        guards=guards.results,
        weekdays=_weekdays(traffic, spec, candidate),
    )


class _Said(NamedTuple):
    """Status, verdict and its reason."""

    status: Literal["withheld", "running", "decided"]
    verdict: Literal["better", "not_better", "worse", "inconclusive"]
    reason: str


def _verdict(experiment: Experiment, looks: Looks, effect: OnlineEffect, guards: Judged, days: int) -> _Said:
    seen = _said(effect, int(looks.decision.look) + 1 if int(looks.decision.by) == 1 else 0)
    if days < MIN_DAYS:
        return _Said("withheld", "inconclusive", f"Too early: {days} full days of at least {MIN_DAYS}; so far {seen}.")
    sign = int(looks.decision.sign)
    if sign < 0:
        return _Said("decided", "worse", f"The candidate is worse than the baseline: {seen}.")
    if sign > 0:
        return _guarded(seen, looks, guards)
    if looks.horizon is None:
        return _Said("running", "inconclusive", f"Not proven yet: {seen}; {_waits_for(experiment, looks, days)}.")
    last = looks.effects[looks.horizon]
    margin = experiment.primary.margin * (abs(last.baseline_mean) if experiment.primary.relative else 1.0)
    best = sign_of(experiment.primary) * last.value + float(looks.plan.final_half_width(last.standard_error))
    if best < margin:
        return _Said("decided", "not_better", f"It did not help: a gain of {margin:.3g} is ruled out, {seen}.")
    more = _units_needed(last, margin, looks.plan.alpha)
    reason = f"Not proven: {seen}, which includes 0; a new test with about {more:,} users a variant would settle it."
    return _Said("decided", "inconclusive", reason)


def _guarded(seen: str, looks: Looks, guards: Judged) -> _Said:
    """A gain counts only if every guard holds."""
    if guards.breached:
        why = "; ".join(guards.breached)
        return _Said("decided", "not_better", f"The gain comes at a price: {seen}, but {why}.")
    if not guards.unproven:
        return _Said("decided", "better", f"The candidate is better than the baseline: {seen}.")
    why = "; ".join(guards.unproven)
    status: Literal["running", "decided"] = "running" if looks.horizon is None else "decided"
    return _Said(status, "inconclusive", f"The gain is real, but not yet all guards: {seen}, but {why}.")


def _waits_for(experiment: Experiment, looks: Looks, days: int) -> str:
    if experiment.planned_days is None:
        return "no horizon was planned, so the test runs until its interval leaves 0"
    if days < experiment.planned_days:
        return f"day {days} of {experiment.planned_days} planned"
    fewest = min(looks.now.baseline_units, looks.now.candidate_units)
    return (
        f"{fewest:,} users in the smaller variant of {experiment.planned_units or 100:,} planned, looked at every week"
    )


def _shown(spec: OutcomeSpec, candidate: str, looks: Looks) -> OnlineEffect:
    """The effect that decided, or the one now."""
    look, by = int(looks.decision.look), int(looks.decision.by)
    if looks.horizon is not None and by != 1:
        effect = looks.effects[looks.horizon]
        half, level = float(looks.plan.final_half_width(effect.standard_error)), looks.plan.final_alpha
        return shown_effect(spec, candidate, effect, half, level, "fixed test at the planned horizon")
    effect = looks.effects[look] if by == 1 else looks.now
    half = float(looks.plan.running_half_width(effect.standard_error, effect.num_units))
    return shown_effect(spec, candidate, effect, half, looks.plan.monitor_alpha, "confidence sequence")


def _proven_worse(spec: OutcomeSpec, looks: Looks) -> bool:
    """Whether the confidence sequence lies below 0 at any look, or now; never held back by the seven days."""
    sign = sign_of(spec)
    return any(
        sign * effect.value + float(looks.plan.running_half_width(effect.standard_error, effect.num_units)) < 0
        for effect in (*looks.effects, looks.now)
    )


def _weekdays(traffic: Traffic, spec: OutcomeSpec, candidate: str) -> tuple[WeekdayEffect, ...]:
    weekday = (traffic.seconds_N // DAY_SECONDS + 3) % 7  # 1970-01-01 was a Thursday
    quantile = float(normal_quantile(0.975))
    rows = []
    for day in np.unique(weekday):
        effect = estimate(traffic.units(spec, candidate, mask=weekday == day))
        if not effect.has_interval:
            continue
        half = quantile * effect.standard_error
        rows.append(
            WeekdayEffect(
                weekday=WEEKDAYS[int(day)],
                baseline_mean=effect.baseline_mean,
                candidate_mean=effect.candidate_mean,
                value=effect.value,
                ci_low=effect.value - half,
                ci_high=effect.value + half,
            )
        )
    return tuple(rows)


def _units_needed(effect: Effect, margin: float, alpha: float) -> int:
    """Users a variant that would show the difference seen, or the margin, whichever is larger, in 4 of 5 tests."""
    per_variant = effect.standard_error**2 / (1 / effect.baseline_units + 1 / effect.candidate_units)
    difference = max(abs(effect.value), margin) or effect.standard_error
    quantiles = float(normal_quantile(1 - alpha / 2)) + float(normal_quantile(POWER))
    return math.ceil(2 * HYBRID_FACTOR * per_variant * (quantiles / difference) ** 2)


def _said(effect: OnlineEffect, day: int = 0) -> str:
    """The effect in words; `day`: at the end of which day it was proven, 0 for now."""
    if effect.ci_low is None or effect.ci_high is None:
        users = ", ".join(f"{name} {count:,}" for name, count in effect.units.items())
        return f"too few users or events for an interval ({users}; at least 100 a variant, 10 events and non-events)"
    return (
        f"{effect.outcome} {effect.value:+.4g} ({effect.confidence:.3g} % interval {effect.ci_low:+.4g} to "
        f"{effect.ci_high:+.4g}, {effect.baseline_mean:.4g} against {effect.candidate_mean:.4g}"
        f"{f', day {day}' if day else ''})"
    )
