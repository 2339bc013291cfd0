"""`foretune compare`: what it prints of split traffic, and the plan of a split test."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import json
import random
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from conftest import CliResult
from foretune import api
from foretune.errors import NotFound
from foretune.records.comparison import Experiment

Cli = Callable[..., CliResult]
START = datetime(2026, 6, 1, tzinfo=UTC)
PLAN = ("--plan", "test1", "--baseline", "control", "--candidate", "tuned", "--smallest", "0.03")


def log(path: Path, *, days: int = 14, per_day: int = 120, share: float = 0.5, slower: float = 0.0) -> Path:
    """Outcomes of two variants, the candidate better by 20 points and slower by so many seconds."""
    draw = random.Random(3)
    rows = []
    for number in range(days * per_day):
        variant = "tuned" if draw.random() < share else "control"
        done = draw.random() < (0.7 if variant == "tuned" else 0.5)
        latency = draw.uniform(0.9, 1.1) + (slower if variant == "tuned" else 0.0)
        time = START + timedelta(days=number / per_day)
        rows.append([time.isoformat(), f"u{number}", variant, int(done), f"{latency:.3f}"])
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["time", "user", "variant", "task_completion", "latency_seconds"], *rows])
    return path


@pytest.mark.req("R310")
def test_guards_days_of_the_week_and_rollback_are_shown(cli: Cli, tmp_path: Path) -> None:
    result = cli("compare", "--outcomes", log(tmp_path / "o.csv", slower=0.5), "--baseline", "control")
    assert result.code == 0 and "Roll back tuned: latency_seconds is breached" in result.out
    assert "0.4" in result.out and "breached" in result.out.split("guard")[1]
    assert all(day in result.out for day in ("Monday", "Sunday", "split as configured"))
    assert result.out.count("The gain comes at a price") == 1
    lines = result.out.split("\nNext:")[0].splitlines()
    assert max(map(len, lines)) <= 80


def test_the_verdict_is_said_once(cli: Cli, tmp_path: Path) -> None:
    result = cli("compare", "--outcomes", log(tmp_path / "o.csv"), "--baseline", "control")
    assert result.out.startswith("proven: tuned: The candidate is better") and result.out.count("is better than") == 1


def test_a_broken_split_lists_what_to_look_for(cli: Cli, tmp_path: Path) -> None:
    result = cli("compare", "--outcomes", log(tmp_path / "o.csv", share=0.35), "--baseline", "control")
    assert "not split as configured. Look for:" in result.out and "bots or health checks" in result.out


def test_less_latency_is_better_without_a_plan(cli: Cli, tmp_path: Path) -> None:
    log(tmp_path / "o.csv", slower=0.5)
    result = cli("compare", "--outcomes", "o.csv", "--baseline", "control", "--primary", "latency_seconds")
    assert "is worse than the baseline" in result.out
    unknown = (tmp_path / "o.csv").read_text().replace("task_completion", "thumbs")
    (tmp_path / "o.csv").write_text(unknown)
    told = cli("compare", "--outcomes", "o.csv", "--baseline", "control", "--primary", "thumbs").out
    assert "more thumbs is taken to be better" in told


def test_a_plan_holds_days_users_and_guards(cli: Cli, tmp_path: Path) -> None:
    result = cli("compare", *PLAN, "--primary", "task_completion", "--rate", "0.6", "--users-a-day", "500")
    assert result.code == 0 and "21 full days and 4,419 users a variant" in result.out
    plan = Experiment.read(tmp_path / "test1")
    assert (plan.planned_days, plan.planned_units, plan.primary.margin) == (21, 4419, 0.03)
    assert {guard.name for guard in plan.guards} == {"answer_tokens", "latency_seconds", "cost_usd", "error"}
    assert cli("compare", *PLAN, "--primary", "task_completion", "--rate", "0.6", "--users-a-day", "500").code == 2


def test_a_plan_from_a_log_takes_rate_users_and_guards_from_it(cli: Cli, tmp_path: Path) -> None:
    log(tmp_path / "past.csv")
    assert cli("compare", *PLAN, "--primary", "latency_seconds", "--outcomes", "past.csv").code == 0
    plan = Experiment.read(tmp_path / "test1")
    assert plan.primary.better == "lower" and plan.planned_days == 7 and not plan.guards
    other = ("--plan", "test2", *PLAN[2:])
    assert cli("compare", *other, "--primary", "task_completion", "--outcomes", "past.csv").code == 0
    plan = Experiment.read(tmp_path / "test2")
    assert [guard.name for guard in plan.guards] == ["latency_seconds"] and (plan.planned_units or 0) > 4000


def test_a_plan_that_lacks_figures_says_all_of_them(cli: Cli) -> None:
    assert "--baseline and --candidate and --primary and --smallest" in cli("compare", "--plan", "p").err
    assert "--rate and --users-a-day" in cli("compare", *PLAN, "--primary", "task_completion").err


def test_a_faulty_plan_is_told_whole(cli: Cli, tmp_path: Path) -> None:
    log(tmp_path / "o.csv")
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "experiment.json").write_text('{"name": "x", "planned_days": 3}')
    result = cli("compare", "--outcomes", "o.csv", "--experiment", "p")
    assert result.code == 3
    assert all(name in result.err for name in ("baseline:", "allocations:", "primary:", "planned_days:"))
    assert "--plan FOLDER" in cli("compare", "--outcomes", "o.csv", "--experiment", "none").err


def test_an_sqlite_file_without_the_table_is_told_its_name(cli: Cli, tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "o.sqlite")
    connection.execute("create table other (a)")
    connection.commit()
    connection.close()
    assert "table or view named outcomes" in cli("compare", "--outcomes", "o.sqlite").err


def test_a_system_of_a_run_is_found_in_the_runs_folder(cli: Cli) -> None:
    assert "tale-009" in cli("compare", "tale-009:base_few_shot", "tale-009").err


def test_the_function_says_what_the_command_says(cli: Cli, tmp_path: Path) -> None:
    told = json.loads(cli("compare", "--outcomes", log(tmp_path / "o.csv"), "--baseline", "control", "--json").out)
    record = api.compare(outcomes=tmp_path / "o.csv", baseline="control")
    ours, theirs = record.as_dict(), told["comparison"]
    assert ours["online"] == theirs["online"] and ours["online"]
    with pytest.raises(NotFound, match="tale-009"):
        api.compare("tale-009:base_few_shot", "tale-009", runs_dir=tmp_path)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--candidate", "tuned"), "--candidate is part of a plan"),
        (("--users-a-day", "5"), "--users-a-day is part of a plan"),
        (("--metric", "rouge_l"), "--metric compares runs, and none is given"),
        (("--experiment", "p", "--primary", "error"), "--primary is fixed by the plan"),
    ],
)
def test_an_option_that_would_change_nothing_is_refused(
    cli: Cli, tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    result = cli("compare", "--outcomes", log(tmp_path / "o.csv", days=1), *options)
    assert result.code == 2 and said in result.err
    assert "speaks of split traffic" in cli("compare", "run-001", "--baseline", "control").err
    assert "needs the log of its traffic" in cli("compare", "run-001", "--experiment", "p").err
    assert "RUN has no part in a plan" in cli("compare", "run-001", *PLAN).err
    assert "--html has no part in a plan" in cli("compare", *PLAN, "--html", "x.html").err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--candidate", "control"), "both 'control'"),
        (("--rate", "3"), "the rate of task_completion is 3"),
        (("--smallest", "0.9"), "can get better by 0.4 at most"),
        (("--smallest", "-1"), "expected more than 0"),
    ],
)
def test_a_plan_of_impossible_figures_says_what_they_may_be(cli: Cli, options: tuple[str, ...], said: str) -> None:
    given = (*PLAN, "--primary", "task_completion", "--rate", "0.6", "--users-a-day", "500")
    result = cli("compare", *given, *options)
    assert result.code == 2 and said in result.err and "fix: --" in result.err


def rewritten(path: Path, change: Callable[[dict[str, str]], dict[str, str]]) -> Path:
    """The log with every row changed."""
    rows = [change(row) for row in csv.DictReader(path.read_text().splitlines())]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.mark.req("R310")
def test_users_of_the_time_before_have_no_variant_yet(cli: Cli, tmp_path: Path) -> None:
    half = START + timedelta(days=14)

    def early(row: dict[str, str]) -> dict[str, str]:
        number = int(row["user"][1:]) % 840  # the users of the first half come back in the second
        variant = "tuned" if number % 2 else "control"
        return {**row, "user": f"u{number}", "variant": variant if row["time"] >= half.isoformat() else ""}

    path = rewritten(log(tmp_path / "o.csv", days=28, per_day=60), early)
    cli("compare", *PLAN, "--primary", "task_completion", "--outcomes", "o.csv")
    plan = json.loads((tmp_path / "test1" / "experiment.json").read_text())
    plan["allocations"][0]["start"] = half.isoformat()
    (tmp_path / "test1" / "experiment.json").write_text(json.dumps(plan))
    result = cli("compare", "--outcomes", path, "--experiment", "test1")
    assert result.code == 0 and "No result is shown" not in result.out and "(CUPED)" in result.out
    alone = rewritten(path, lambda row: {name: value for name, value in row.items() if name != "variant"})
    other = ("--plan", "test2", *PLAN[2:])
    assert cli("compare", *other, "--primary", "task_completion", "--outcomes", alone).code == 0
    told = cli("compare", "--outcomes", alone)
    assert told.code == 2 and "variants are not named" in told.err and "a column `variant`" in told.err


def test_rows_of_the_test_that_name_no_variant_block_the_verdict(cli: Cli, tmp_path: Path) -> None:
    log(tmp_path / "o.csv")
    lost = rewritten(tmp_path / "o.csv", lambda row: row | ({"variant": ""} if int(row["user"][1:]) % 20 == 19 else {}))
    result = cli("compare", "--outcomes", lost, "--baseline", "control")
    assert "No result is shown" in result.out and "name no variant" in result.out


def test_what_was_odd_in_a_log_is_said_in_words(cli: Cli, tmp_path: Path) -> None:
    path = log(tmp_path / "o.csv")
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:300], *lines[295:300], *lines[400:], *lines[300:400]]) + "\n")
    result = cli("compare", "--outcomes", path, "--baseline", "control").out.replace("\n", " ")
    assert "5 rows logged twice, counted once" in result
    assert "the clock went backwards 1 times; the rows were put in order of time" in result
