"""Are the verdicts honest? Simulated comparisons with nothing to find, and with something: false alarms and power.

Every number comes from foretune's own functions on simulated data, beside what is done today on the same data.
`python benchmarks/bench_verdicts.py [PART ...]` prints the parts named, or all: paired, clustered, split, users, ratio,
judge, whole, and those of verdicts_offline.py (exact, repeats, metrics, coverage, cross_fit), verdicts_curve.py (curve)
and verdicts_aa.py (aa). All of them take some four minutes of one core.
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri
from verdicts_aa import aa
from verdicts_curve import curve
from verdicts_offline import coverage, cross_fit, exact, metrics, repeats

from foretune.compare.compare import compare
from foretune.compare.effect import Units, estimate
from foretune.compare.outcomes import Outcomes
from foretune.records.comparison import Allocation, Experiment, OutcomeSpec
from foretune.stats.design import units_per_arm
from foretune.stats.multiplicity import holm
from foretune.stats.paired import compare_paired
from foretune.stats.ppi import judged_mean
from foretune.stats.sequential import MIN_EVENTS, MIN_UNITS, SequentialPlan, sequence_half_width
from foretune.stats.srm import ALARM_P, ratio_p_values
from foretune.stats.verdict import verdict

Row = dict[str, Any]
REPS = 4000
MANY_REPS = 20_000  # where 4,000 leave it open on which side of 5.5 % a case lies
SPLIT_REPS = 10_000
RATIO_REPS = 40_000
CHUNK = 500
DAYS = 28


def _binary_pair(rng: np.random.Generator, n: int, rates: tuple[float, float], correlation: float) -> np.ndarray:
    """Two 0/1 systems from latent normal abilities."""
    first, own = rng.standard_normal((2, n))
    second = correlation * first + math.sqrt(1 - correlation**2) * own
    return np.stack([first < ndtri(rates[0]), second < ndtri(rates[1])]).astype(float)


def _share(count: int, reps: int) -> float:
    return round(100 * count / reps, 2)


def _tally(case: str, pairs: Iterator[tuple[Any, ...]], reps: int, kind: str) -> Row:
    """Shares of false differences (p <= .05), of intervals without 0, and of verdicts `better`, percent."""
    by_p = by_interval = better = unpaired = 0
    for baseline, candidate, *groups in pairs:
        result = compare_paired(baseline, candidate, kind, *groups)  # type: ignore[arg-type]
        by_p += result.p_value <= 0.05
        by_interval += result.ci_low > 0 or result.ci_high < 0
        better += verdict(result).value == "better"
        error = math.sqrt((np.var(baseline) + np.var(candidate)) / len(baseline))
        unpaired += abs(result.value) > 1.96 * error
    return {
        "case": case,
        "reps": reps,
        "p_at_5_percent": _share(by_p, reps),
        "interval_without_0_percent": _share(by_interval, reps),
        "better_percent": _share(better, reps),
        "unpaired_z_percent": _share(unpaired, reps),
    }


def paired() -> list[Row]:
    """Binary and graded scores with nothing to find, and the power for +5 points."""
    rows = []
    for n in (30, 50, 100, 500):
        for rate in (0.5, 0.7, 0.95):
            for correlation in (0.0, 0.7):
                rng = np.random.default_rng([n, int(100 * rate), int(10 * correlation)])
                pairs = (tuple(_binary_pair(rng, n, (rate, rate), correlation)) for _ in range(REPS))
                rows.append(_tally(f"binary null n={n} rate={rate} corr={correlation}", pairs, REPS, "binary"))
    for n in (12, 60, 200):
        rng = np.random.default_rng(n)
        graded = (tuple(rng.beta(2, 1, (2, n))) for _ in range(MANY_REPS))
        rows.append(_tally(f"graded null n={n}", graded, MANY_REPS, "graded"))
    for n, rates in ((400, (0.70, 0.75)), (800, (0.70, 0.75)), (100, (0.5, 0.65))):
        rng = np.random.default_rng([n, 1])
        made = [_binary_pair(rng, n, rates, 0.7) for _ in range(REPS)]
        row = _tally(f"power n={n} {rates[0]} to {rates[1]}", (tuple(pair) for pair in made), REPS, "binary")
        row["paired_t_percent"] = _share(sum(_paired_t(pair) for pair in made), REPS)
        rows.append(row)
    return rows


def _paired_t(pair: np.ndarray) -> bool:
    difference = pair[1] - pair[0]
    spread = difference.std(ddof=1)
    return bool(spread > 0 and abs(difference.mean()) > 1.966 * spread / math.sqrt(difference.size))


def clustered() -> list[Row]:
    """Samples in groups, repeated answers, and many metrics, all with nothing to find."""
    rows = []
    for groups, size in ((8, 20), (20, 10), (50, 10), (100, 10)):
        rng = np.random.default_rng(groups)
        owner = np.repeat(np.arange(groups), size).tolist()
        pairs = (_grouped(rng, groups, size, owner) for _ in range(REPS))
        rows.append(_tally(f"clustered null {groups} groups x {size}", pairs, REPS, "graded"))
    rows.append(_naive_groups())
    for correlation in (0.0, 0.5):
        rows.append(_families(correlation))
    return rows


def _grouped(rng: np.random.Generator, groups: int, size: int, owner: list[int]) -> tuple[Any, ...]:
    shift = rng.normal(0, math.sqrt(0.3), groups)[owner] + rng.normal(0, math.sqrt(0.7), groups * size)
    difference = np.clip(0.1 * shift, -1, 1)
    return np.clip(-difference, 0, 1), np.clip(difference, 0, 1), owner


def _naive_groups() -> Row:
    rng, false = np.random.default_rng(3), 0
    owner = np.repeat(np.arange(20), 10).tolist()
    for _ in range(REPS):
        baseline, candidate, _ = _grouped(rng, 20, 10, owner)
        false += compare_paired(baseline, candidate, "graded").p_value <= 0.05
    return {"case": "today: 20 groups x 10 left out", "reps": REPS, "p_at_5_percent": _share(false, REPS)}


def _families(correlation: float) -> Row:
    rng = np.random.default_rng(7)
    common, own = rng.standard_normal((REPS, 1)), rng.standard_normal((REPS, 20))
    z = math.sqrt(correlation) * common + math.sqrt(1 - correlation) * own
    p_values = 2 * ndtr(-np.abs(z))
    return {
        "case": f"20 metrics, correlation {correlation}",
        "reps": REPS,
        "p_at_5_percent": _share(sum(min(holm(list(family))) <= 0.05 for family in p_values), REPS),
        "uncorrected_percent": _share(int((p_values.min(axis=1) <= 0.05).sum()), REPS),
    }


def split() -> list[Row]:
    """Split traffic, looked at daily and hourly for 28 days: hybrid, fixed test, and stopping at the first p < .05."""
    rows = []
    for per_day, rate in ((20, 0.3), (500, 0.02), (500, 0.05), (500, 0.3)):
        rows.append(_peeked(f"null daily {per_day} users an arm, rate {rate}", per_day, (rate, rate), 24))
    rows.append(_peeked("null hourly 500 users an arm a day, rate 0.3", 500, (0.3, 0.3), 1))
    rows.append(_peeked("null hourly 500 users an arm a day, rate 0.05", 500, (0.05, 0.05), 1))
    rows.append(_peeked("power daily 500 users an arm, 0.3 to 0.32", 500, (0.30, 0.32), 24))
    for rates in ((0.30, 0.32), (0.05, 0.06), (0.30, 0.35)):
        planned = math.ceil(1.07 * units_per_arm(rates[0], rates[1] - rates[0]) / DAYS)
        rows.append(
            _peeked(f"power at the planned users ({planned} a day), {rates[0]} to {rates[1]}", planned, rates, 24)
        )
    rows.append(_harm("guard null: error rate 0.05, margin 0.01", 0.05))
    rows.append(_harm("guard harm of twice the margin: 0.05 to 0.07", 0.07))
    return rows


def _counts(
    rng: np.random.Generator, users: float, rate: float, looks: int, per_look: int
) -> tuple[np.ndarray, np.ndarray]:
    """Users and events (CHUNK, looks) so far."""
    arrived = rng.poisson(users * per_look / 24, (CHUNK, looks))
    return arrived.cumsum(axis=1), rng.binomial(arrived, rate).cumsum(axis=1)


def _errors(n: list[np.ndarray], events: list[np.ndarray]) -> np.ndarray:
    """Standard errors of the difference; infinite under 100 users, 10 events or 10 others in an arm."""
    enough = np.ones(n[0].shape, dtype=bool)
    variance = np.zeros(n[0].shape)
    for users, seen in zip(n, events, strict=True):
        enough &= (users >= MIN_UNITS) & (seen >= MIN_EVENTS) & (users - seen >= MIN_EVENTS)
        rate = seen / np.maximum(users, 1)
        variance += rate * (1 - rate) / np.maximum(users, 1)
    return np.where(enough, np.sqrt(variance), np.inf)


def _peeked(case: str, users: float, rates: tuple[float, float], hours: int) -> Row:
    looks = DAYS * 24 // hours
    days = np.arange(1, looks + 1) * hours // 24
    plan = SequentialPlan(round(2 * users * DAYS), DAYS)
    alone = SequentialPlan(round(2 * users * DAYS), None)
    rng = np.random.default_rng([int(users), int(1000 * rates[0]), hours])
    hits = dict.fromkeys(("hybrid", "hybrid_better", "sequence_alone", "fixed", "naive"), 0)
    stop = 0.0
    for _ in range(SPLIT_REPS // CHUNK):
        arms = [_counts(rng, users, rate, looks, hours) for rate in rates]
        n, events = [arm[0] for arm in arms], [arm[1] for arm in arms]
        value = events[1] / np.maximum(n[1], 1) - events[0] / np.maximum(n[0], 1)
        error = _errors(n, events)
        decision = plan.decide(value, error, n[0] + n[1], days, looks - 1)
        hits["hybrid"] += int((decision.sign != 0).sum())
        hits["hybrid_better"] += int((decision.sign > 0).sum())
        hits["sequence_alone"] += int((alone.decide(value, error, n[0] + n[1], days).sign != 0).sum())
        z = np.abs(value) / error
        hits["fixed"] += int((z[:, -1] > 1.959964).sum())
        hits["naive"] += int((z > 1.959964).any(axis=1).sum())
        stop += float(np.where(decision.look >= 0, days[decision.look], DAYS).sum())
    row: Row = {"case": case, "reps": SPLIT_REPS}
    row |= {f"{name}_percent": _share(count, SPLIT_REPS) for name, count in hits.items()}
    return row | {"mean_days": round(stop / SPLIT_REPS, 1)}


def _harm(case: str, rate: float, margin: float = 0.01, guards: int = 4) -> Row:
    """Share of tests in which a guard calls for a rollback within the planned 28 days (400 users an arm a day)."""
    rng, alarms, users = np.random.default_rng(11), 0, 400
    plan = SequentialPlan(2 * users * DAYS, DAYS)
    for _ in range(SPLIT_REPS // CHUNK):
        arms = [_counts(rng, users, each, DAYS, 24) for each in (0.05, rate)]
        n, events = [arm[0] for arm in arms], [arm[1] for arm in arms]
        worse = events[1] / n[1] - events[0] / n[0]
        half = sequence_half_width(_errors(n, events), n[0] + n[1], 2 * plan.monitor_alpha / guards, plan.rho2)
        alarms += int(((worse > half) & (worse >= margin)).any(axis=1).sum())
    return {"case": case, "reps": SPLIT_REPS, "rollback_percent": _share(alarms, SPLIT_REPS)}


def users() -> list[Row]:
    """Many requests a user, a ramp with a trend, and a pre-period, through the product's own estimate."""
    reps = SPLIT_REPS
    rng = np.random.default_rng(5)
    request = [_requests(rng) for _ in range(reps)]
    ramp = [_ramp(rng) for _ in range(reps)]
    plain, past = zip(*(_pre_period(rng) for _ in range(reps)), strict=True)
    return [
        {"case": "1,000 users x 10 requests, ICC .2", "reps": reps, **_rates(request)},
        {"case": "ramp 10 % to 50 % with a weekly trend", "reps": reps, **_rates(ramp)},
        {
            "case": "CUPED, correlation .7",
            "reps": reps,
            "stratified_percent": _share(sum(past), reps),
            "naive_percent": _share(sum(plain), reps),
        },
    ]


def _rates(pairs: list[tuple[bool, bool]]) -> Row:
    ours, naive = (sum(column) for column in zip(*pairs, strict=True))
    return {"stratified_percent": _share(ours, len(pairs)), "naive_percent": _share(naive, len(pairs))}


def _significant(units: Units) -> bool:
    effect = estimate(units)
    return abs(effect.value) > 1.959964 * effect.standard_error


def _requests(rng: np.random.Generator, count: int = 1000, per_user: int = 10) -> tuple[bool, bool]:
    ability = rng.beta(1.2, 2.8, count)  # ICC .2 around a rate of .3
    arm = rng.integers(0, 2, count)
    sent = 1 + rng.poisson(per_user - 1, count)
    total = rng.binomial(sent, ability).astype(float)
    ours = _significant(Units(np.arange(count), np.zeros(count, np.intp), arm, total, sent.astype(float)))
    rate = [total[arm == side].sum() / sent[arm == side].sum() for side in (0, 1)]
    variance = sum(r * (1 - r) / sent[arm == side].sum() for side, r in enumerate(rate))
    return ours, bool(abs(rate[1] - rate[0]) > 1.959964 * math.sqrt(variance))


def _ramp(rng: np.random.Generator, per_week: int = 1000) -> tuple[bool, bool]:
    """Four weeks, shares .1 .2 .3 .5, the level falls every week for both arms."""
    week = np.repeat(np.arange(4), per_week)
    arm = (rng.random(week.size) < np.array([0.1, 0.2, 0.3, 0.5])[week]).astype(np.intp)
    total = (rng.random(week.size) < np.array([0.6, 0.5, 0.4, 0.3])[week]).astype(float)
    user, one = np.arange(week.size), np.ones(week.size)
    ours = _significant(Units(user, week, arm, total, one, is_binary=True))
    return ours, _significant(Units(user, np.zeros_like(week), arm, total, one, is_binary=True))


def _pre_period(rng: np.random.Generator, count: int = 2000, lift: float = 0.1) -> tuple[bool, bool]:
    """A true difference of .1 standard deviations, found without and with the pre-period."""
    past = rng.standard_normal(count)
    arm = rng.integers(0, 2, count)
    total = 0.7 * past + math.sqrt(0.51) * rng.standard_normal(count) + lift * arm
    plain = Units(np.arange(count), np.zeros(count, np.intp), arm, total, np.ones(count))
    adjusted = Units(
        plain.user_U, plain.stratum_U, arm, total, plain.weight_U, np.where(rng.random(count) < 0.9, past, np.nan)
    )
    return _significant(plain), _significant(adjusted)


def ratio() -> list[Row]:
    """Sample-ratio check in 28 daily looks, 1,000 users a day: as configured, and with 5 % of one arm lost."""
    rows = []
    for case, shares, loss in (("50/50", 0.5, 0.0), ("90/10", 0.1, 0.0), ("50/50, 5 % of one arm lost", 0.5, 0.05)):
        rng = np.random.default_rng([17, int(100 * shares), int(100 * loss)])
        smallest = np.concatenate([_smallest_p(rng, shares, loss) for _ in range(RATIO_REPS // CHUNK)])
        row = {"case": case, "reps": RATIO_REPS, "alarm_percent": _share(int((smallest < ALARM_P).sum()), RATIO_REPS)}
        rows.append(row | {"today_p_05_percent": _share(int((smallest < 0.05).sum()), RATIO_REPS)})
    return rows


def _smallest_p(rng: np.random.Generator, share: float, loss: float) -> np.ndarray:
    """The smallest of 28 daily p-values in each of CHUNK tests."""
    arrived = rng.poisson(1000, (CHUNK, DAYS))
    drawn = rng.binomial(arrived, share)
    kept = rng.binomial(drawn, 1 - loss)
    counts = np.stack([arrived - drawn, kept], axis=-1).cumsum(axis=1).reshape(CHUNK * DAYS, 1, 2)
    smallest: np.ndarray = ratio_p_values(counts, [[1 - share, share]]).reshape(CHUNK, DAYS).min(axis=1)
    return smallest


def judge() -> list[Row]:
    """A judge who errs in 10 % and turns 8 % of the answers up for their style; 1,000 comparisons, nothing to find.

    `decided`: what the product lets count. Without human labels, or with fewer than 100, that is nothing.
    """
    rows = []
    for labels in (3, 50, 100, 200):
        for gain in (0.0, 0.15):
            rng = np.random.default_rng([labels, int(100 * gain)])
            rows.append(_judged(rng, labels, gain))
    return rows


def _judged(rng: np.random.Generator, labels: int, gain: float) -> Row:
    hits = dict.fromkeys(("decided", "decided_better", "ppi", "judge_alone", "humans_alone"), 0)
    width = human_width = 0.0
    for _ in range(REPS):
        truth = rng.choice([-1.0, 0.0, 1.0], 1000, p=[0.35 - gain / 2, 0.3, 0.35 + gain / 2])
        seen = np.where(rng.random(1000) < 0.1, rng.choice([-1.0, 0.0, 1.0], 1000), truth)
        seen = np.where(rng.random(1000) < 0.08, np.minimum(seen + 1, 1.0), seen)
        result = judged_mean(truth[:labels], seen[:labels], seen[labels:])
        hits["ppi"] += result.ci_low > 0 or result.ci_high < 0
        hits["decided"] += result.calibrated and (result.ci_low > 0 or result.ci_high < 0)
        hits["decided_better"] += result.calibrated and result.ci_low > 0
        hits["judge_alone"] += bool(abs(seen.mean()) > 1.96 * seen.std() / math.sqrt(1000))
        hits["humans_alone"] += result.human_low > 0 or result.human_high < 0
        width += result.ci_high - result.ci_low
        human_width += result.human_high - result.human_low
    row: Row = {"case": f"{labels} labels, true net preference {gain}", "reps": REPS}
    row |= {f"{name}_percent": _share(count, REPS) for name, count in hits.items()}
    widths = {"width": round(width / REPS, 3), "width_of_humans": round(human_width / REPS, 3)}
    return row | widths | {"width_share": round(width / human_width, 3)}


def whole() -> list[Row]:
    """The verb itself on simulated logs, 14 days: verdicts by case, percent."""
    rows = []
    for case, lift in (("null", 0.0), ("gain of 8 points", 0.08), ("loss of 8 points", -0.08)):
        rng, reps = np.random.default_rng(23), 400
        found = dict.fromkeys(("better", "not_better", "worse", "inconclusive"), 0)
        rollback = blocked = 0
        for _ in range(reps):
            result = _whole_one(rng, lift)
            found[result.verdict] += 1
            rollback += result.rollback
            blocked += result.status == "blocked"
        row: Row = {"case": case, "reps": reps, **{f"{name}_percent": _share(n, reps) for name, n in found.items()}}
        rows.append(row | {"rollback_percent": _share(rollback, reps), "blocked_percent": _share(blocked, reps)})
    return rows


def _whole_one(rng: np.random.Generator, lift: float, days: int = 14, per_day: int = 150) -> Any:
    start = datetime(2026, 1, 5, tzinfo=UTC)
    count = days * per_day
    arm = rng.integers(0, 2, count)
    seconds = (start.timestamp() + np.arange(count) * (86_400 / per_day)).astype(np.float64)
    outcomes = Outcomes(
        users=tuple(f"u{number}" for number in range(count)),
        variants=("base", "tuned"),
        user_N=np.arange(count),
        variant_N=arm,
        seconds_N=seconds,
        values={
            "task_completion": (rng.random(count) < 0.4 + lift * arm).astype(float),
            "latency_seconds": rng.gamma(4, 0.25, count),
        },
        num_read=count,
    )
    experiment = Experiment(
        name="simulated",
        baseline="base",
        allocations=(Allocation(start=start, shares={"base": 0.5, "tuned": 0.5}),),
        primary=OutcomeSpec(name="task_completion"),
        guards=(OutcomeSpec(name="latency_seconds", better="lower", margin=0.1, relative=True),),
        planned_days=days,
        planned_units=900,
    )
    return compare(outcomes=outcomes, experiment=experiment, now=start + timedelta(days=days)).online[0]


PARTS: dict[str, Callable[[], list[Row]]] = {
    part.__name__: part
    for part in (
        paired, clustered, split, users, ratio, judge, whole, exact, repeats, metrics, coverage, cross_fit, curve, aa
    )
}  # fmt: skip


def measure(names: tuple[str, ...] = tuple(PARTS)) -> dict[str, Any]:
    """All parts; each row says how many simulations it stands on."""
    metrics: dict[str, Any] = {}
    for name in names:
        begin = time.process_time()
        metrics[name] = PARTS[name]()
        for row in metrics[name]:
            print(json.dumps(row), file=sys.stderr, flush=True)
        print(f"{name}: {time.process_time() - begin:.0f} s", file=sys.stderr, flush=True)
    config = {"reps": REPS, "split_reps": SPLIT_REPS, "days": DAYS, "alpha": 0.05}
    return {"metrics": metrics, "config": config}


if __name__ == "__main__":
    measure(tuple(sys.argv[1:]) or tuple(PARTS))
