"""Split traffic end to end: verdicts, the seven days, holes, double logging, clocks, guards, rollback."""

# SPDX-License-Identifier: Apache-2.0
import csv
import json
import sqlite3
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from foretune.compare.assignment import assigned_variant
from foretune.compare.compare import compare
from foretune.compare.outcomes import read_outcomes
from foretune.errors import ConfigError, DataError, NotFound
from foretune.records.comparison import Allocation, ComparisonRecord, Experiment, OutcomeSpec

START = datetime(2026, 6, 1, tzinfo=UTC)
LATENCY = OutcomeSpec(name="latency_seconds", better="lower", margin=0.1, relative=True)
TOKENS = OutcomeSpec(name="answer_tokens", better="lower", margin=0.2, relative=True)
HEADER = ["time", "user", "variant", "id", "task_completion", "latency_seconds", "answer_tokens"]


def planned(**changes):
    allocation = Allocation(start=START, shares={"base": 0.5, "tuned": 0.5})
    given = {"planned_days": 14, "planned_units": 1500, "guards": (LATENCY, TOKENS), "allocations": (allocation,)}
    given |= {"baseline": "base", "primary": OutcomeSpec(name="task_completion")}
    return Experiment(name="x", **{**given, **changes})


def traffic(experiment, days=14, per_day=300, lift=0.0, slower=1.0, longer=1.0, keep=1.0, seed=0):
    """Rows of a log; `keep` is the share of the candidate's users that reach it."""
    rng, rows = np.random.default_rng(seed), []
    for number in range(days * per_day):
        time, user = START + timedelta(days=number / per_day), f"u{number}"
        variant = assigned_variant(experiment, user, time)
        tuned = variant == "tuned"
        if tuned and rng.random() > keep:
            continue
        done = int(rng.random() < 0.4 + lift * tuned)
        latency = rng.gamma(4, 0.25) * (slower if tuned else 1)
        tokens = rng.poisson(80 * (longer if tuned else 1))
        rows.append([time.isoformat(), user, variant, str(number), done, f"{latency:.3f}", tokens])
    return rows


def written(folder, rows, header=HEADER, name="outcomes.csv"):
    path = folder / name
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def judged(folder, experiment, rows, days=14):
    now = START + timedelta(days=days)
    return compare(outcomes=written(folder, rows), experiment=experiment, now=now)


@pytest.mark.req("R310")
def test_nothing_to_find_is_said(tmp_path):
    record = judged(tmp_path, planned(), traffic(planned()))
    result = record.online[0]
    assert result.status == "decided" and result.verdict in ("inconclusive", "not_better")
    assert record.state == "not_proven" and not result.rollback
    assert "Not proven" in record.headline or "did not help" in record.headline
    assert len(result.weekdays) == 7


@pytest.mark.req("R307")
def test_a_gain_is_proven_and_written(tmp_path):
    record = judged(tmp_path, planned(), traffic(planned(), lift=0.12))
    record.write(tmp_path)
    assert record.state == "proven" and record.online[0].verdict == "better"
    assert [guard.status for guard in record.online[0].guards] == ["holds", "holds"]
    assert ComparisonRecord.read(tmp_path) == record


def test_too_few_users_for_an_interval_can_be_read_back(tmp_path):
    record = judged(tmp_path, planned(), traffic(planned(), days=9, per_day=5), days=9)
    assert "too few users or events" in record.headline and record.online[0].primary.ci_low is None
    record.write(tmp_path)
    assert ComparisonRecord.read(tmp_path) == record


@pytest.mark.req("R311")
def test_six_days_are_too_few_whatever_they_show(tmp_path):
    rows = traffic(planned(), days=7, lift=0.4)
    early = judged(tmp_path, planned(), [row for row in rows if row[0] < "2026-06-07"], days=6)
    assert (early.online[0].status, early.online[0].full_days) == ("withheld", 6)
    assert early.state == "not_proven" and "Too early" in early.headline
    assert judged(tmp_path, planned(), rows, days=7).online[0].verdict == "better"


def test_a_loss_is_rolled_back_before_the_week_is_over(tmp_path):
    record = judged(tmp_path, planned(), traffic(planned(), days=4, lift=-0.25), days=4)
    assert record.online[0].status == "withheld" and record.online[0].rollback
    assert record.headline.startswith("Roll back tuned: task_completion is proven worse")


@pytest.mark.req("R313")
def test_longer_answers_are_a_breach(tmp_path):
    record = judged(tmp_path, planned(), traffic(planned(), lift=0.12, longer=1.5))
    result = record.online[0]
    assert result.rollback and result.verdict == "not_better"
    assert "answer_tokens is breached" in result.rollback_reasons[0]


def test_a_guard_that_nobody_logged_keeps_the_verdict_open(tmp_path):
    experiment = planned(guards=(OutcomeSpec(name="cost_usd", better="lower"),))
    result = judged(tmp_path, experiment, traffic(experiment, lift=0.12)).online[0]
    assert result.verdict == "inconclusive" and "cost_usd was not logged" in result.reason


def test_a_mismatch_blocks_everything(tmp_path):
    record = judged(tmp_path, planned(), traffic(planned(), lift=0.12, keep=0.85))
    result = record.online[0]
    assert (result.status, result.verdict, result.primary) == ("blocked", "inconclusive", None)
    assert record.ratio.alarm and record.ratio.checklist
    assert "not split as configured" in record.headline


def test_a_variant_without_traffic_blocks(tmp_path):
    rows = [row for row in traffic(planned()) if row[2] == "base"]
    result = judged(tmp_path, planned(), rows).online[0]
    assert result.status == "blocked" and "'tuned' has no traffic" in result.reason


def test_outcomes_logged_twice_count_once(tmp_path):
    rows = traffic(planned(), lift=0.05)
    once, twice = judged(tmp_path, planned(), rows), judged(tmp_path, planned(), rows + rows[::3])
    assert once.online == twice.online
    assert any("logged twice" in note for note in twice.notes)


def test_a_clock_that_goes_backwards_loses_nothing(tmp_path):
    rows = traffic(planned(), lift=0.05)
    shuffled = rows[2000:] + rows[:2000]
    wrong = [["2031-01-01T00:00:00+00:00", "late", "tuned", "z", 1, 1, 80]]
    straight, mixed = judged(tmp_path, planned(), rows), judged(tmp_path, planned(), shuffled + wrong)
    assert straight.online == mixed.online
    assert any("clock went backwards" in note for note in mixed.notes)
    assert any("later than now" in note for note in mixed.notes)


def test_days_without_traffic_do_not_count(tmp_path):
    rows = [row for row in traffic(planned(), lift=0.3) if not "2026-06-04" <= row[0] < "2026-06-12"]
    record = judged(tmp_path, planned(), rows)
    assert record.online[0].full_days == 6 and record.online[0].status == "withheld"
    assert any("without traffic in some variant" in note for note in record.notes)


def test_looking_more_often_changes_nothing(tmp_path):
    rows = traffic(planned(), days=14, lift=0.12)
    late = judged(tmp_path, planned(), rows)
    again = compare(outcomes=written(tmp_path, rows), experiment=planned(), now=START + timedelta(days=60))
    assert late.online == again.online


def test_a_ramp_is_no_effect(tmp_path):
    shares = [{"base": 0.9, "tuned": 0.1}, {"base": 0.5, "tuned": 0.5}]
    allocations = tuple(Allocation(start=START + timedelta(days=7 * i), shares=s) for i, s in enumerate(shares))
    experiment = planned(allocations=allocations, guards=(), planned_units=1000)
    rows = traffic(experiment, per_day=600)
    for row in rows:
        row[4] = int(float(row[5]) > (0.7 if row[0] < "2026-06-08" else 1.2))  # falls for both after a week
    record = judged(tmp_path, experiment, rows)
    assert not record.ratio.alarm
    assert record.online[0].verdict in ("inconclusive", "not_better") and not record.online[0].rollback


def test_allow_listed_users_are_not_counted(tmp_path):
    experiment = planned(allow_list={f"u{number}": "tuned" for number in range(300)})
    record = judged(tmp_path, experiment, traffic(experiment))
    assert sum(record.ratio.observed.values()) == 14 * 300 - 300
    assert any("allow list" in note for note in record.notes)


@pytest.mark.req("R309")
@pytest.mark.parametrize("outcome", ["task_completion", "satisfaction", "escalation", "revenue"])
def test_the_four_kinds_of_outcome(tmp_path, outcome):
    rows = [[time, user, variant, outcome, 1 - done if outcome == "escalation" else done]
            for time, user, variant, _, done, *_ in traffic(planned(), lift=0.2)]  # fmt: skip
    path = written(tmp_path, rows, ["timestamp", "user_id", "arm", "metric", "value"])
    record = compare(outcomes=path, now=START + timedelta(days=14))
    assert record.online[0].primary.outcome == outcome
    assert record.online[0].verdict == "better" and any("no experiment was planned" in note for note in record.notes)


def test_revenue_counts_users_without_any(tmp_path):
    experiment = planned(primary=OutcomeSpec(name="revenue", per="user"), guards=())
    rows = [[*row[:4], 10 if number % 5 == 0 else ""] for number, row in enumerate(traffic(planned()))]
    path = written(tmp_path, rows, [*HEADER[:4], "revenue"])
    effect = compare(outcomes=path, experiment=experiment, now=START + timedelta(days=14)).online[0].primary
    assert effect.baseline_mean == pytest.approx(2.0, abs=0.3)
    assert sum(effect.units.values()) == 14 * 300


def test_a_period_before_narrows_the_interval(tmp_path):
    rng, rows = np.random.default_rng(0), traffic(planned(guards=()))
    ability = {row[1]: rng.random() for row in rows}
    for row in rows:
        row[4] = ability[row[1]] + 0.3 * rng.random()
    before = [["2026-05-20T00:00:00Z", user, "", f"b{user}", value, "", ""] for user, value in ability.items()]
    before = [[*row[:2], "base", *row[3:]] for row in before]
    experiment = planned(guards=())
    plain, adjusted = (judged(tmp_path, experiment, given).online[0].primary for given in (rows, before + rows))
    assert adjusted.variance_removed > 0.8
    assert adjusted.ci_high - adjusted.ci_low < 0.5 * (plain.ci_high - plain.ci_low)


@pytest.mark.req("R316")
def test_the_gateways_log_with_feedback(tmp_path):
    lines = []
    for number, (time, user, variant, *_) in enumerate(traffic(planned(), per_day=150)):
        request = {"type": "request", "id": f"r{number}", "time": time, "model": "m", "variant": variant, "user": user,
                   "messages": [], "latency_seconds": 0.5, "answer_tokens": 20,
                   "status": 200 if number % 50 else 500}  # fmt: skip
        lines.append(request)
        lines.extend([{"type": "feedback", "id": f"r{number}", "rating": -1}] if number % 2 else [])
        lines.append(
            {"type": "feedback", "id": f"r{number}", "rating": 1 if number % (3 if variant == "base" else 9) else -1}
        )
    path = tmp_path / "requests.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines))
    read = read_outcomes(path)
    assert {"satisfaction", "error", "latency_seconds", "cost_usd", "answer_tokens"} == set(read.values)
    assert np.nanmean(read.values["error"]) == pytest.approx(0.02, abs=0.001)
    record = compare(
        outcomes=path,
        experiment=planned(primary=OutcomeSpec(name="satisfaction"), planned_units=800),
        now=START + timedelta(days=14),
    )
    assert record.online[0].verdict == "better"


def test_outcomes_from_a_database(tmp_path):
    rows = traffic(planned(), days=2)
    connection = sqlite3.connect(tmp_path / "outcomes.sqlite")
    connection.execute(f"CREATE TABLE outcomes ({', '.join(HEADER)})")
    connection.executemany("INSERT INTO outcomes VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
    connection.commit()
    connection.close()
    assert read_outcomes(tmp_path / "outcomes.sqlite").num_rows == len(rows)


def test_bad_rows_are_named_and_many_block(tmp_path):
    rows = traffic(planned())
    few = [*rows, ["yesterday", "u", "base", "q1", 1, 1, 80], [rows[-1][0], "", "base", "q2", 1, 1, 80]]
    read = read_outcomes(written(tmp_path, few))
    assert read.num_set_aside == 2 and "'yesterday'" in str(read.set_aside[0])
    record = judged(tmp_path, planned(), few)
    assert record.online[0].status == "decided" and any("set aside" in note for note in record.notes)
    many = [*rows, *(["yesterday", f"u{n}", "base", f"q{n}", 1, 1, 80] for n in range(100))]
    assert judged(tmp_path, planned(), many).online[0].status == "blocked"


def test_a_broken_line_of_json_is_set_aside(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"time": \n{"time": "2026-06-01", "user": "ann", "variant": "base", "revenue": 3}\n')
    read = read_outcomes(path)
    assert (read.num_rows, read.num_set_aside, read.set_aside[0].line) == (1, 1, 1)


def test_not_a_number_is_set_aside_not_counted(tmp_path):
    rows = traffic(planned(), days=2)
    rows[3][4] = "nan"
    assert read_outcomes(written(tmp_path, rows)).num_set_aside == 1


def test_clear_words_for_what_cannot_be_read(tmp_path):
    with pytest.raises(NotFound):
        read_outcomes(tmp_path / "none.csv")
    with pytest.raises(DataError, match="no column for user"):
        read_outcomes(written(tmp_path, [["2026-06-01", "base", 1]], ["time", "variant", "task_completion"]))
    with pytest.raises(ConfigError, match="variants are not named"):
        compare(outcomes=written(tmp_path, [["2026-06-01", "ann", 1]], ["time", "user", "task_completion"]))
    with pytest.raises(DataError, match="no usable row"):
        read_outcomes(written(tmp_path, []))
    with pytest.raises(DataError, match="no row of"):
        judged(
            tmp_path,
            planned(baseline="a", allocations=(Allocation(start=START, shares={"a": 0.5, "b": 0.5}),)),
            traffic(planned(), days=1),
        )
    with pytest.raises(DataError, match="no row has the outcome 'revenue'"):
        judged(tmp_path, planned(primary=OutcomeSpec(name="revenue")), traffic(planned()))
    with pytest.raises(ConfigError, match="one of them the baseline"):
        compare(outcomes=written(tmp_path, [["2026-06-01", "ann", "x", "1", 1, 1, 1]]))
    with pytest.raises(ConfigError, match="nothing to compare"):
        compare()


@pytest.mark.parametrize(
    ("changes", "said"), [({"planned_days": 10}, "whole weeks"), ({"baseline": "other"}, "baseline")]
)
def test_a_plan_that_contradicts_itself(changes, said):
    with pytest.raises(ValueError, match=said):
        planned(**changes)
