"""`comparison.json`: variants on the same samples and on split traffic; `experiment.json`: a split test as planned."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from foretune.records.base import Record

__all__ = [
    "Allocation",
    "ComparisonRecord",
    "Experiment",
    "GuardResult",
    "OfflineClaim",
    "OfflineResult",
    "OnlineEffect",
    "OnlineResult",
    "OutcomeSpec",
    "RatioResult",
    "SliceResult",
    "VariantRow",
    "WeekdayEffect",
]

Verdict = Literal["better", "not_better", "worse", "inconclusive"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class OutcomeSpec(_Part):
    """How an outcome is read. `per`: mean over the rows that have it, or sum per user (a user without any has 0).

    `margin` is what may be lost (a guard) or is worth having (the primary outcome): a fraction of the baseline's mean
    where `relative`, else in the outcome's own unit.
    """

    name: str
    per: Literal["row", "user"] = "row"
    better: Literal["higher", "lower"] = "higher"
    margin: float = Field(default=0.02, ge=0)
    relative: bool = False


class Allocation(_Part):
    """Shares of the variants from `start` on (UTC); a change of shares starts a new stratum."""

    start: datetime
    shares: dict[str, float]

    @model_validator(mode="after")
    def _adds_up(self) -> Allocation:
        if min(self.shares.values(), default=-1) < 0 or abs(sum(self.shares.values()) - 1) > 1e-9:
            raise ValueError(f"shares are {self.shares}, expected fractions that add up to 1")
        if self.start.tzinfo is None:
            raise ValueError(f"start is {self.start.isoformat()}, expected a time zone: write it with Z")
        return self


class Experiment(Record):
    """A split test, stored before it starts. Without `planned_days` it is judged by its confidence sequence alone.

    `salt` makes the assignment of users; `allow_list` are beta users with a variant of their own, who are shown it but
    never counted, for nobody drew them. `planned_units` is per variant.
    """

    file_name: ClassVar[str] = "experiment.json"
    name: str
    baseline: str
    allocations: tuple[Allocation, ...] = Field(min_length=1)
    primary: OutcomeSpec
    guards: tuple[OutcomeSpec, ...] = ()
    planned_days: int | None = Field(default=None, ge=7)
    planned_units: int | None = Field(default=None, ge=100)
    alpha: float = Field(default=0.05, gt=0, lt=1)
    salt: str = ""
    allow_list: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> Experiment:
        if self.planned_days is not None and self.planned_days % 7:
            raise ValueError(f"planned_days is {self.planned_days}, expected whole weeks: 7, 14, 21 ...")
        first = self.allocations[0].shares
        if any(set(other.shares) != set(first) for other in self.allocations):
            raise ValueError("all allocations must name the same variants; give a paused one the share 0")
        starts = [allocation.start for allocation in self.allocations]
        if starts != sorted(set(starts)):
            raise ValueError("allocations must be in order of start")
        if self.baseline not in first or len(first) < 2:
            raise ValueError(f"baseline is {self.baseline!r}, expected one of at least two variants {sorted(first)}")
        return self

    @property
    def variants(self) -> tuple[str, ...]:
        """The baseline first."""
        return (self.baseline, *(name for name in self.allocations[0].shares if name != self.baseline))

    @property
    def start(self) -> datetime:
        """When the first user could be assigned."""
        return self.allocations[0].start


class SliceResult(_Part):
    """The paired difference within one slice; `flagged` by the false-discovery procedure over all slices tested."""

    slice: str
    n: int
    value: float
    ci_low: float
    ci_high: float
    p_value: float
    flagged: bool


class OfflineClaim(_Part):
    """Candidate minus baseline on one metric; `p_adjusted` is Holm's over all claims of the comparison.

    `verdict` only on the primary metric; other metrics say `supported` or nothing.
    """

    baseline: str
    candidate: str
    metric: str
    is_primary: bool
    n: int
    value: float
    ci_low: float
    ci_high: float
    p_value: float
    p_adjusted: float
    supported: bool
    method: str
    smallest_visible_difference: float
    n_needed: int | None
    verdict: Verdict | None = None
    reason: str = ""


class VariantRow(_Part):
    """One variant with its scores, and the settings in which the variants differ."""

    name: str
    run_id: str
    system: str
    n: int
    scores: dict[str, float]
    settings: dict[str, Any]


class OfflineResult(_Part):
    """All claims on the same samples."""

    primary_metric: str
    chosen_after: str = ""  # the metric fixed before training, where the runs are compared on another one
    n: int
    variants: tuple[VariantRow, ...]
    claims: tuple[OfflineClaim, ...]
    slices: tuple[SliceResult, ...] = ()
    slices_too_small: int = 0
    missing: dict[str, int] = Field(default_factory=dict)  # variant -> samples without an answer
    warnings: tuple[str, ...] = ()


class OnlineEffect(_Part):
    """Candidate minus baseline in split traffic, in the outcome's unit; better is up or down as the outcome says.

    The ends of the interval are None until there are 100 users a variant and, of a 0/1 outcome, 10 events and 10 others
    in each; the means are None without any user.
    """

    outcome: str
    candidate: str
    value: float
    ci_low: float | None
    ci_high: float | None
    confidence: float
    method: str
    baseline_mean: float | None
    candidate_mean: float | None
    units: dict[str, int]
    variance_removed: float = 0.0


class GuardResult(_Part):
    """A guard outcome: `breached` is a proven loss (always-valid) that looks like the margin or more: roll back."""

    effect: OnlineEffect
    margin: float
    status: Literal["holds", "unproven", "breached", "no data"]
    reason: str


class RatioResult(_Part):
    """Sample-ratio check of users against the configured shares."""

    observed: dict[str, int]
    expected: dict[str, float]
    p_value: float
    smallest_p: float
    day: int
    alarm: bool
    checklist: tuple[str, ...] = ()


class WeekdayEffect(_Part):
    """The primary outcome on one day of the week (UTC); a view, not a test."""

    weekday: str
    baseline_mean: float
    candidate_mean: float
    value: float
    ci_low: float
    ci_high: float


class OnlineResult(_Part):
    """One candidate in split traffic.

    `status`: `blocked` (the data cannot be trusted: nothing else is said), `withheld` (too early), `running` (enough
    days, not enough evidence before the horizon), `decided`.
    """

    candidate: str
    status: Literal["blocked", "withheld", "running", "decided"]
    verdict: Verdict
    reason: str
    rollback: bool
    rollback_reasons: tuple[str, ...]
    full_days: int
    planned_days: int | None
    decided_day: int | None
    primary: OnlineEffect | None
    guards: tuple[GuardResult, ...]
    weekdays: tuple[WeekdayEffect, ...]


class ComparisonRecord(Record):
    """`state`: `proven` needs a split test that was won; the best that samples alone can give is `promising`.

    `headline` is the first sentence of any report; `gap` sets the offline difference beside the online one.
    """

    file_name: ClassVar[str] = "comparison.json"
    state: Literal["proven", "promising", "not_proven"]
    headline: str
    offline: OfflineResult | None = None
    online: tuple[OnlineResult, ...] = ()
    ratio: RatioResult | None = None
    gap: str = ""
    notes: tuple[str, ...] = ()
