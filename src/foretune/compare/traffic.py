"""Split traffic of one experiment, cut to what counts, with the units of any two variants up to any moment."""

# SPDX-License-Identifier: Apache-2.0
#
# Shapes: N rows in order of time, U units (a user within a stratum), S strata, K variants (the baseline first).
from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from foretune.compare.effect import Units
from foretune.compare.outcomes import Outcomes
from foretune.errors import DataError
from foretune.records.comparison import Experiment, OutcomeSpec, RatioResult
from foretune.stats.checks import FloatArray, IntArray
from foretune.stats.srm import daily_ratio_check, expected_counts

__all__ = ["DAY_SECONDS", "Traffic", "ratio_of", "traffic_of"]

DAY_SECONDS = 86_400
CROSSED_SHARE = 0.001  # users seen in two variants of one stratum
QUIET_SECONDS = 21_600  # the last day counts as full if its last row lies in its last six hours
SET_ASIDE_SHARE = 0.01
CHECKLIST = (
    "bots or health checks that reach one variant only",
    "exposure logged after the model call, so that errors or slow answers are lost",
    "a redirect or a fallback that moves users to the other variant",
    "the split was changed without a new allocation in experiment.json",
    "rows dropped on the way (log rotation, filters, joins)",
)


class _Before(NamedTuple):
    """Rows before the start, for CUPED."""

    user_N: IntArray
    values: dict[str, FloatArray]


@dataclass(frozen=True)
class Traffic:
    """Rows since the start; `arm_N` is the variant first seen by the user in the stratum, whatever came later.

    `full_days`: indices, counted from the start, of days that are over and had traffic in every variant in use.
    """

    experiment: Experiment
    start: float
    user_N: IntArray
    arm_N: IntArray
    stratum_N: IntArray
    seconds_N: FloatArray
    values: dict[str, FloatArray]
    before: _Before
    num_users: int
    full_days: tuple[int, ...]
    faults: tuple[str, ...]  # reasons to trust nothing
    notes: tuple[str, ...]

    def rows_until(self, day: int) -> int:
        """How many rows lie before the end of a day, counted from 0."""
        return int(np.searchsorted(self.seconds_N, self.start + (day + 1) * DAY_SECONDS))

    def has(self, outcome: str) -> bool:
        """Whether any row has the outcome."""
        return outcome in self.values

    def units(
        self, spec: OutcomeSpec, candidate: str, rows: int | None = None, mask: NDArray[np.bool_] | None = None
    ) -> Units:
        """Units of baseline and candidate in the first `rows` rows, or in the rows of `mask`."""
        arm = self.experiment.variants.index(candidate)
        keep = (self.arm_N == 0) | (self.arm_N == arm)
        keep[self.user_N.size if rows is None else rows :] = False
        if mask is not None:
            keep &= mask
        values = self.values[spec.name][keep]
        present = np.isfinite(values)
        key = self.stratum_N[keep] * self.num_users + self.user_N[keep]
        unique, first, index = np.unique(key, return_index=True, return_inverse=True)
        weight = np.bincount(index, weights=present, minlength=unique.size).astype(np.float64)
        total = np.bincount(index, weights=np.where(present, values, 0.0), minlength=unique.size)
        return Units(
            user_U=(unique % self.num_users).astype(np.intp),
            stratum_U=(unique // self.num_users).astype(np.intp),
            arm_U=(self.arm_N[keep][first] == arm).astype(np.intp),
            total_U=total.astype(np.float64),
            weight_U=weight if spec.per == "row" else np.ones(unique.size),
            covariate_U=self._past(spec, unique % self.num_users),
            is_binary=spec.per == "row" and bool(np.isin(values[present], (0.0, 1.0)).all()),
        )

    def _past(self, spec: OutcomeSpec, users: IntArray) -> FloatArray | None:
        past = self.before.values.get(spec.name)
        if past is None or not np.isfinite(past).any():
            return None
        present = np.isfinite(past)
        owner = self.before.user_N[present]
        total = np.bincount(owner, weights=past[present], minlength=self.num_users).astype(np.float64)
        count = np.bincount(owner, minlength=self.num_users)
        mean: FloatArray = np.where(count > 0, total / np.maximum(count, 1), np.nan)
        return (mean if spec.per == "row" else total)[users]


def traffic_of(experiment: Experiment, outcomes: Outcomes, now: datetime) -> Traffic:
    """Cut the outcomes to the experiment: known variants, drawn users, between start and now.

    Raises DataError where nothing of the experiment is in the log at all.
    """
    start, notes = experiment.start.timestamp(), list(outcomes.notes)
    arms = np.array([_index(experiment.variants, name) for name in outcomes.variants], dtype=np.intp)[
        outcomes.variant_N
    ]
    listed = np.array([user in experiment.allow_list for user in outcomes.users])[outcomes.user_N]
    early, late = outcomes.seconds_N < start, outcomes.seconds_N > now.timestamp()
    nameless = np.array([not name for name in outcomes.variants])[outcomes.variant_N] & ~early
    unknown = (arms < 0) & ~early & ~nameless
    keep = ~(early | late | unknown | listed | nameless)
    _note(
        notes, int(unknown.sum()), f"rows of variants that are not in the experiment ({_foreign(experiment, outcomes)})"
    )
    _note(
        notes, int(late.sum()), f"rows later than now ({now.isoformat(timespec='minutes')}) left out: a clock is wrong"
    )
    _note(
        notes,
        int((listed & ~early).sum()),
        "rows of users on the allow list: shown a variant, not drawn, so not counted",
    )
    _note(notes, outcomes.num_set_aside, _aside(outcomes))
    _note(notes, int(nameless.sum()), "rows since the start name no variant and are left out")
    if not keep.any():
        raise DataError(
            f"no row of {outcomes.num_rows:,} belongs to experiment {experiment.name!r} (variants "
            f"{', '.join(experiment.variants)} since {experiment.start.isoformat()}); "
            f"the log has {', '.join(outcomes.named_variants) or 'no variant'}",
            fix="check the variant names and the start in experiment.json",
        )
    starts = [allocation.start.timestamp() for allocation in experiment.allocations]
    seconds = outcomes.seconds_N[keep]
    stratum = (np.searchsorted(starts, seconds, side="right") - 1).astype(np.intp)
    arm, crossed = _first_arm(stratum * len(outcomes.users) + outcomes.user_N[keep], arms[keep])
    if crossed > CROSSED_SHARE:
        notes.append(f"{crossed:.1%} of users were seen in two variants; each stays in the first (intention to treat)")
    traffic = Traffic(
        experiment=experiment,
        start=start,
        user_N=outcomes.user_N[keep],
        arm_N=arm,
        stratum_N=stratum,
        seconds_N=seconds,
        values={name: column[keep] for name, column in outcomes.values.items()},
        before=_Before(outcomes.user_N[early], {name: column[early] for name, column in outcomes.values.items()}),
        num_users=len(outcomes.users),
        full_days=(),
        faults=(),
        notes=(),
    )
    full, holes = _days(traffic, now.timestamp())
    _note(notes, holes, f"day{'s' if holes > 1 else ''} without traffic in some variant: no day of the test")
    return replace(traffic, full_days=full, faults=_faults(traffic, outcomes, int(nameless.sum())), notes=tuple(notes))


def ratio_of(traffic: Traffic) -> RatioResult:
    """Users by variant against the configured shares, checked at the end of every day (and now)."""
    experiment = traffic.experiment
    shares = [[part.shares[name] for name in experiment.variants] for part in experiment.allocations]
    strata, variants = len(shares), len(experiment.variants)
    _, first = np.unique(traffic.stratum_N * traffic.num_users + traffic.user_N, return_index=True)
    cell = traffic.stratum_N[first] * variants + traffic.arm_N[first]
    day = ((traffic.seconds_N[first] - traffic.start) // DAY_SECONDS).astype(np.intp)
    looks = int(day.max()) + 1
    daily = np.bincount(day * strata * variants + cell, minlength=looks * strata * variants)
    counts = daily.reshape(looks, strata, variants).cumsum(axis=0)
    check = daily_ratio_check(counts, shares)
    return RatioResult(
        observed=dict(zip(experiment.variants, (int(n) for n in counts[-1].sum(axis=0)), strict=True)),
        expected=dict(zip(experiment.variants, expected_counts(counts[-1].tolist(), shares), strict=True)),
        p_value=check.p_value,
        smallest_p=check.smallest_p,
        day=check.day,
        alarm=check.alarm,
        checklist=CHECKLIST if check.alarm else (),
    )


def _first_arm(key: IntArray, arm: IntArray) -> tuple[IntArray, float]:
    _, first, index = np.unique(key, return_index=True, return_inverse=True)
    settled = arm[first][index]
    crossed = np.bincount(index, weights=settled != arm) > 0
    return settled.astype(np.intp), float(crossed.mean())


def _days(traffic: Traffic, now: float) -> tuple[tuple[int, ...], int]:
    """Days that are over and had every variant in use, and how many days before the last row did not."""
    day = ((traffic.seconds_N - traffic.start) // DAY_SECONDS).astype(np.int64)
    last = int(day[-1])
    over = traffic.start + (last + 1) * DAY_SECONDS
    ends_late = now >= over and float(traffic.seconds_N[-1]) >= over - QUIET_SECONDS
    seen = {int(d) for d in np.unique(day[traffic.arm_N == 0])}
    for arm in np.unique(traffic.arm_N[traffic.arm_N > 0]):
        seen &= {int(d) for d in np.unique(day[traffic.arm_N == arm])}
    full = tuple(d for d in sorted(seen) if d < last or ends_late)
    return full, last - sum(d < last for d in full)


def _faults(traffic: Traffic, outcomes: Outcomes, num_nameless: int) -> tuple[str, ...]:
    faults = []
    for arm, name in enumerate(traffic.experiment.variants):
        used = any(part.shares[name] > 0 for part in traffic.experiment.allocations)
        if used and not (traffic.arm_N == arm).any():
            faults.append(f"variant {name!r} has no traffic: check its route and its name")
    if outcomes.num_set_aside > SET_ASIDE_SHARE * outcomes.num_read:
        faults.append(
            f"{outcomes.num_set_aside / outcomes.num_read:.1%} of the rows cannot be read: {_aside(outcomes)}"
        )
    if num_nameless > SET_ASIDE_SHARE * (traffic.user_N.size + num_nameless):
        faults.append(f"{num_nameless:,} rows since the start name no variant, so nobody knows what they saw")
    return tuple(faults)


def _index(names: tuple[str, ...], name: str) -> int:
    return names.index(name) if name in names else -1


def _foreign(experiment: Experiment, outcomes: Outcomes) -> str:
    return ", ".join(sorted(set(outcomes.named_variants) - set(experiment.variants))[:5])


def _aside(outcomes: Outcomes) -> str:
    return f"rows set aside, the first: {outcomes.set_aside[0]}" if outcomes.set_aside else "rows set aside"


def _note(notes: list[str], count: int, what: str) -> None:
    if count:
        notes.append(f"{count:,} {what}")
