"""The verb: variants on the same samples, on split traffic, or both side by side, in one record."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from foretune.compare.answers import variants_of
from foretune.compare.guards import DEFAULT_GUARDS, OUTCOME_KINDS, is_known_outcome, outcome_spec
from foretune.compare.offline import compare_variants
from foretune.compare.online import judge_traffic
from foretune.compare.outcomes import Outcomes, read_outcomes
from foretune.compare.planned import read_experiment
from foretune.compare.traffic import DAY_SECONDS, ratio_of, traffic_of
from foretune.errors import ConfigError
from foretune.records.comparison import (
    Allocation,
    ComparisonRecord,
    Experiment,
    OfflineClaim,
    OfflineResult,
    OnlineResult,
    RatioResult,
)

__all__ = ["compare", "guessed_experiment"]

BASELINE_NAMES = ("baseline", "base", "control", "a")


class Online(NamedTuple):
    """What split traffic says, for every candidate."""

    results: tuple[OnlineResult, ...] = ()
    ratio: RatioResult | None = None
    notes: tuple[str, ...] = ()


def compare(
    runs: Sequence[str | Path] = (),
    *,
    outcomes: str | Path | Outcomes | None = None,
    experiment: Experiment | str | Path | None = None,
    now: datetime | None = None,
    baseline: str = "",
    metric: str = "",
    primary: str = "",
    groups: Mapping[str, str] | None = None,
    slices: Mapping[str, str] | None = None,
    folder: str | Path | None = None,
) -> ComparisonRecord:
    """Compare runs on their samples (`runs`, the baseline first), variants in split traffic (`outcomes`), or both.

    `experiment` is the plan stored before the start, or its folder; without one `baseline` and `primary` name the
    variant and the outcome, equal shares are assumed, and only the confidence sequence judges. `now` is UTC, for the
    days that are over. Writes `comparison.json` to `folder`, where given.
    """
    if not runs and outcomes is None:
        raise ConfigError("nothing to compare", fix="foretune compare RUN RUN, or foretune compare --outcomes FILE.csv")
    offline = None
    if runs:
        offline = compare_variants(variants_of(runs), metric=metric, groups=groups, slices=slices)
    online = Online()
    if outcomes is not None:
        read = outcomes if isinstance(outcomes, Outcomes) else read_outcomes(outcomes)
        online = _online(read, experiment, now or datetime.now(UTC), baseline, primary)
    record = _record(offline, online)
    if folder is not None:
        record.write(folder)
    return record


def guessed_experiment(outcomes: Outcomes, baseline: str = "", primary: str = "") -> Experiment:
    """An experiment read off the log itself: equal shares since the first row, no horizon, guards that were logged.

    Raises ConfigError where the baseline or the primary outcome cannot be told.
    """
    names = outcomes.named_variants
    base = baseline or next((name for name in names if name.lower() in BASELINE_NAMES), "")
    if base not in names or len(names) < 2:
        got = f"variants are {', '.join(names) or 'not named'}" + (f", baseline {baseline!r}" if baseline else "")
        too_few = "log the other variant too, under its own name (has it any traffic?)"
        unnamed = "a column `variant` that says what each user was shown"
        fix = f"--baseline {names[0]}" if len(names) > 1 else too_few if names else unnamed
        raise ConfigError(f"{got}: expected two or more, one of them the baseline", fix=fix)
    guards = tuple(guard for guard in DEFAULT_GUARDS if guard.name in outcomes.values and guard.name != primary)
    first = primary or next((name for name in OUTCOME_KINDS if name in outcomes.values), "")
    if not first:
        found = ", ".join(outcomes.values) or "none"
        raise ConfigError(f"no outcome to judge by; columns found: {found}", fix="--primary OUTCOME")
    shares = {name: 1 / len(names) for name in (base, *(name for name in names if name != base))}
    is_named = np.array([bool(name) for name in outcomes.variants])[outcomes.variant_N]
    start = datetime.fromtimestamp(float(outcomes.seconds_N[is_named][0]) // DAY_SECONDS * DAY_SECONDS, UTC)
    return Experiment(
        name="read from the log",
        baseline=base,
        allocations=(Allocation(start=start, shares=shares),),
        primary=outcome_spec(first),
        guards=guards,
    )


def _online(
    outcomes: Outcomes, given: Experiment | str | Path | None, now: datetime, baseline: str, primary: str
) -> Online:
    notes: list[str] = []
    if given is None:
        experiment = guessed_experiment(outcomes, baseline, primary)
        notes.append(
            "no experiment was planned: equal shares, no horizon, and the variants' first row as start are assumed; "
            "a planned one (--plan) needs about 40 % fewer users"
        )
        if not is_known_outcome(experiment.primary.name):
            name = experiment.primary.name
            notes.append(f"more {name} is taken to be better; a plan (--plan) says where less is: better = lower")
    else:
        experiment = given if isinstance(given, Experiment) else read_experiment(Path(given))
    traffic = traffic_of(experiment, outcomes, now)
    ratio = ratio_of(traffic)
    results = tuple(judge_traffic(traffic, name, ratio) for name in experiment.variants[1:])
    return Online(results, ratio, (*notes, *traffic.notes))


def _record(offline: OfflineResult | None, online: Online) -> ComparisonRecord:
    won_online = [result.candidate for result in online.results if result.verdict == "better"]
    primary = [claim for claim in offline.claims if claim.is_primary] if offline else []
    is_fixed = offline is None or not offline.chosen_after
    won_offline = is_fixed and any(claim.verdict == "better" for claim in primary)
    return ComparisonRecord(
        state="proven" if won_online else "promising" if won_offline and not online.results else "not_proven",
        headline=_headline(offline, online.results, won_online),
        offline=offline,
        online=online.results,
        ratio=online.ratio,
        gap=_gap(offline, online.results),
        notes=online.notes,
    )


def _headline(offline: OfflineResult | None, results: Sequence[OnlineResult], won: Sequence[str]) -> str:
    rollback = [result for result in results if result.rollback]
    if rollback:
        return f"Roll back {rollback[0].candidate}: {'; '.join(rollback[0].rollback_reasons)}."
    if won:
        return next(f"{result.candidate}: {result.reason}" for result in results if result.candidate == won[0])
    if results:
        return f"{results[0].candidate}: {results[0].reason}"
    first = _leading(offline)
    if first is None:
        return "Nothing was compared."
    more = " Production is the last test: split traffic." if first.verdict == "better" else ""
    if offline is not None and offline.chosen_after:
        more = f" A lead, no verdict: {offline.chosen_after} was fixed before training, {first.metric} was not."
    return f"{first.candidate} against {first.baseline} on {first.metric}: {first.reason}{more}"


def _leading(offline: OfflineResult | None) -> OfflineClaim | None:
    """The claim that is told first: of a candidate that is better, else of the first."""
    primary = [claim for claim in offline.claims if claim.is_primary] if offline else []
    return next((claim for claim in primary if claim.verdict == "better"), primary[0] if primary else None)


def _gap(offline: OfflineResult | None, results: Sequence[OnlineResult]) -> str:
    """The difference on samples beside the difference in production; a gain that stays behind is named."""
    claim = _leading(offline)
    effect = next((result.primary for result in results if result.primary is not None), None)
    if claim is None or effect is None:
        return ""
    interval = "no interval yet"
    if effect.ci_low is not None and effect.ci_high is not None:
        interval = f"{effect.ci_low:+.4g} to {effect.ci_high:+.4g}"
    sides = (
        f"offline {claim.metric} {claim.value:+.4g} ({claim.ci_low:+.4g} to {claim.ci_high:+.4g}, n = {claim.n:,}); "
        f"online {effect.outcome} {effect.value:+.4g} ({interval}, {sum(effect.units.values()):,} users)"
    )
    if claim.verdict == "better" and all(result.verdict != "better" for result in results):
        return f"{sides}: the gain on the samples has not been shown in production."
    return f"{sides}."
