"""Guard outcomes of split traffic: what a gain must not cost, and when to roll back at once."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from foretune.compare.effect import Effect, estimate_rare
from foretune.compare.traffic import Traffic
from foretune.records.comparison import GuardResult, OnlineEffect, OutcomeSpec
from foretune.stats.sequential import SequentialPlan, sequence_half_width

__all__ = [
    "DEFAULT_GUARDS",
    "OUTCOME_KINDS",
    "Judged",
    "is_known_outcome",
    "judged_guards",
    "outcome_spec",
    "shown_effect",
    "sign_of",
]

OUTCOME_KINDS: dict[str, OutcomeSpec] = {
    spec.name: spec
    for spec in (
        OutcomeSpec(name="task_completion", margin=0.02),
        OutcomeSpec(name="satisfaction", margin=0.02),
        OutcomeSpec(name="escalation", better="lower", margin=0.01),
        OutcomeSpec(name="revenue", per="user", margin=0.02, relative=True),
    )
}
DEFAULT_GUARDS: tuple[OutcomeSpec, ...] = (
    OutcomeSpec(name="answer_tokens", better="lower", margin=0.2, relative=True),
    OutcomeSpec(name="latency_seconds", better="lower", margin=0.1, relative=True),
    OutcomeSpec(name="cost_usd", better="lower", margin=0.1, relative=True),
    OutcomeSpec(name="error", better="lower", margin=0.01),
)
GUARD_ALPHA = 0.05  # one-sided; all guards must hold, so they need no correction
Status = Literal["holds", "unproven", "breached", "no data"]


@dataclass(frozen=True)
class Judged:
    """Every guard's result, and the sentences on those that broke, are not proven, or call for a rollback."""

    results: tuple[GuardResult, ...]

    @property
    def breached(self) -> tuple[str, ...]:
        """Why a gain does not count."""
        return tuple(result.reason for result in self.results if result.status == "breached")

    @property
    def unproven(self) -> tuple[str, ...]:
        """What is still open; a guard without data is."""
        return tuple(result.reason for result in self.results if result.status in ("unproven", "no data"))

    @property
    def rollback(self) -> tuple[str, ...]:
        """Why to roll back now."""
        return self.breached


def outcome_spec(name: str) -> OutcomeSpec:
    """How an outcome is read: as it is known by its name, else its mean over rows, the more the better."""
    return OUTCOME_KINDS.get(name) or next((g for g in DEFAULT_GUARDS if g.name == name), OutcomeSpec(name=name))


def is_known_outcome(name: str) -> bool:
    """Whether its name says which way is better."""
    return name in OUTCOME_KINDS or any(guard.name == name for guard in DEFAULT_GUARDS)


def sign_of(spec: OutcomeSpec) -> float:
    """+1 where more is better, -1 where less is."""
    return 1.0 if spec.better == "higher" else -1.0


def judged_guards(traffic: Traffic, candidate: str, plan: SequentialPlan, horizon_rows: int | None) -> Judged:
    """Judge every guard: harm at any look, unharmed only by the data up to the horizon once that is reached.

    Breached: the confidence sequence (one-sided, the monitor's level shared by the guards) proves a loss, and what is
    seen is at least the margin, at the end of any full day or now. Holds: the one-sided bound at 5 % excludes such a
    loss.
    """
    guards = traffic.experiment.guards
    return Judged(tuple(_judged(traffic, guard, candidate, plan, horizon_rows, len(guards)) for guard in guards))


def shown_effect(
    spec: OutcomeSpec, candidate: str, effect: Effect, half: float, alpha: float, method: str
) -> OnlineEffect:
    """An effect with its interval, for the record."""
    return OnlineEffect(
        outcome=spec.name,
        candidate=candidate,
        value=effect.value,
        ci_low=_finite(effect.value - half),
        ci_high=_finite(effect.value + half),
        confidence=round(100 * (1 - alpha), 3),
        method=method,
        baseline_mean=_finite(effect.baseline_mean),
        candidate_mean=_finite(effect.candidate_mean),
        units={"baseline": effect.baseline_units, "candidate": effect.candidate_units},
        variance_removed=effect.variance_removed,
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _judged(
    traffic: Traffic, spec: OutcomeSpec, candidate: str, plan: SequentialPlan, horizon_rows: int | None, count: int
) -> GuardResult:
    if not traffic.has(spec.name):
        nothing = Effect(0.0, math.inf, math.nan, math.nan, 0, 0)
        effect = shown_effect(spec, candidate, nothing, math.inf, GUARD_ALPHA, "no data")
        reason = f"{spec.name} was not logged, so nothing proves that it holds"
        return GuardResult(effect=effect, margin=spec.margin, status="no data", reason=reason)
    ends = (*(traffic.rows_until(day) for day in traffic.full_days), None)
    broke = any(_breached(spec, estimate_rare(traffic.units(spec, candidate, rows)), plan, count) for rows in ends)
    last = estimate_rare(traffic.units(spec, candidate, horizon_rows))
    half = _half(last, plan, horizon_rows is not None)
    margin = _margin(spec, last)
    worst = sign_of(spec) * last.value - half
    status: Status = "breached" if broke else "holds" if worst > -margin else "unproven"
    method = "fixed one-sided test" if horizon_rows is not None else "one-sided confidence sequence"
    effect = shown_effect(spec, candidate, last, half, 2 * GUARD_ALPHA, method)
    return GuardResult(effect=effect, margin=margin, status=status, reason=_reason(spec, last, worst, margin, status))


def _breached(spec: OutcomeSpec, effect: Effect, plan: SequentialPlan, count: int) -> bool:
    if not effect.has_interval:
        return False
    alpha = 2 * plan.monitor_alpha / count
    half = float(sequence_half_width(effect.standard_error, effect.num_units, min(alpha, 0.999), plan.rho2))
    loss = -sign_of(spec) * effect.value
    return loss > half and loss >= _margin(spec, effect)


def _half(effect: Effect, plan: SequentialPlan, at_horizon: bool) -> float:
    if at_horizon:
        return 1.6448536269514722 * effect.standard_error  # normal quantile at 95 %
    return float(sequence_half_width(effect.standard_error, effect.num_units, 2 * GUARD_ALPHA, plan.rho2))


def _margin(spec: OutcomeSpec, effect: Effect) -> float:
    return spec.margin * (abs(effect.baseline_mean) if spec.relative else 1.0)


def _reason(spec: OutcomeSpec, effect: Effect, worst: float, margin: float, status: Status) -> str:
    said = {"holds": "holds", "unproven": "is not proven to hold", "breached": "is breached"}.get(status, status)
    means = f"{effect.baseline_mean:.4g} against {effect.candidate_mean:.4g}"
    at_worst = f"at worst {-worst:.3g} worse where" if worst < 0 else "at worst still no worse;"
    return f"{spec.name} {said}: {means}, {at_worst} {margin:.3g} is allowed"
