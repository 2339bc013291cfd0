"""Timeline: the usual 4 to 6 weeks phase by phase, what moves them, dates, critical path, and a chart that fits."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from foretune.plan.timeline import (
    Phase,
    ProjectTask,
    Timeline,
    TimelineInputs,
    add_working_days,
    gantt_text,
    machine_days,
    plan_timeline,
    timeline_bars,
)
from foretune.records.plan import Estimate

MONDAY = datetime.date(2026, 11, 23)
USUAL = plan_timeline()


def phase(timeline: Timeline, id: str) -> Phase:
    return next(phase for phase in timeline.phases if phase.id == id)


def task(timeline: Timeline, id: str) -> ProjectTask:
    return next(task for task in timeline.tasks if task.id == id)


def weeks(days: Estimate) -> tuple[float, float]:
    return days.low / 5, days.high / 5


@pytest.mark.req("R033")
def test_phases_with_minimum_maximum_and_total() -> None:
    text = gantt_text(USUAL)
    for name in ("Data collection and preparation", "Fine-tuning", "Evaluation and testing", "Deployment"):
        assert name in text
    assert text.splitlines()[-1].split() == ["Total", "20-30", "d"]


@pytest.mark.req("R034")
@pytest.mark.req("R038")
@pytest.mark.req("R043")
@pytest.mark.req("R044")
def test_usual_phases() -> None:
    assert weeks(phase(USUAL, "data").days) == (1, 2)
    assert weeks(phase(USUAL, "tuning").days) == (1, 2)
    assert weeks(phase(USUAL, "evaluation").days) == (1, 1)
    assert weeks(phase(USUAL, "deployment").days) == (1, 1)


@pytest.mark.parametrize(
    ("id", "low", "high"),
    [
        pytest.param("collect", 5, 5, marks=pytest.mark.req("R035")),
        pytest.param("clean", 3, 5, marks=pytest.mark.req("R037")),
        pytest.param("setup", 1, 2, marks=pytest.mark.req("R039")),
        pytest.param("train", 1, 2, marks=pytest.mark.req("R040")),
        pytest.param("test", 3, 5, marks=pytest.mark.req("R043")),
        pytest.param("api", 1, 2, marks=pytest.mark.req("R044")),
        pytest.param("maintain", 2, 4, marks=pytest.mark.req("R045")),
    ],
)
def test_usual_tasks(id: str, low: float, high: float) -> None:
    days = task(USUAL, id).days
    assert (days.low, days.high) == (low, high)


@pytest.mark.req("R046")
def test_four_to_six_weeks_without_blockers() -> None:
    assert (USUAL.total_weeks.low, USUAL.total_weeks.high) == (4, 6)
    assert sum(phase.days.low for phase in USUAL.phases) == 20
    assert sum(phase.days.high for phase in USUAL.phases) == 30


@pytest.mark.req("R042")
def test_iteration_buffer_is_a_week_visible_and_editable() -> None:
    assert task(USUAL, "iterate").days.expected == 5
    assert "Iterations (buffer)" in gantt_text(USUAL)
    assert task(plan_timeline(TimelineInputs(iteration_days=10)), "iterate").days.expected == 10
    assert task(plan_timeline(TimelineInputs(num_iterations=6)), "iterate").days.expected == 10
    none = plan_timeline(TimelineInputs(num_iterations=0))
    assert all(task.id != "iterate" for task in none.tasks)
    assert none.total_days.expected == USUAL.total_days.expected - 5


@pytest.mark.req("R036")
def test_manual_curation_extends_the_data_phase() -> None:
    manual = plan_timeline(TimelineInputs(curation="manual"))
    assert phase(manual, "data").days.high > phase(USUAL, "data").days.high
    assert any("500 examples" in line for line in manual.assumptions)
    more_people = plan_timeline(TimelineInputs(curation="manual", num_annotators=4))
    assert phase(more_people, "data").days.high < phase(manual, "data").days.high
    twice = plan_timeline(TimelineInputs(curation="manual", num_examples=500, double_rated_fraction=0.2))
    assert task(twice, "curate").days.expected == pytest.approx(500 * 1.2 * 10 / 60 / 6)


@pytest.mark.req("R040")
def test_predicted_hours_replace_the_usual_days() -> None:
    predicted = plan_timeline(TimelineInputs(train_hours=Estimate(low=40, expected=60, high=96)))
    days = task(predicted, "train").days
    assert (days.low, days.expected, days.high) == (pytest.approx(40 / 24), 2.5, 4)
    assert not any("not predicted" in line for line in predicted.assumptions)
    assert any("not predicted" in line for line in USUAL.assumptions)


@pytest.mark.req("R041")
@given(st.floats(1e6, 1e12), st.floats(1e3, 1e10), st.floats(1, 100))
def test_larger_models_and_more_tokens_never_take_less(parameters: float, tokens: float, factor: float) -> None:
    def total(size: float, count: float) -> Estimate:
        return plan_timeline(TimelineInputs(parameters=size, train_tokens=count)).total_days

    here = total(parameters, tokens)
    for other in (total(parameters * factor, tokens), total(parameters, tokens * factor)):
        assert other.low >= here.low and other.expected >= here.expected and other.high >= here.high


@given(st.floats(0, 5000), st.floats(0, 5000))
def test_machine_days_grow_with_hours(hours: float, more: float) -> None:
    assert machine_days(hours + more) >= machine_days(hours)


def test_machine_works_at_night_and_at_weekends() -> None:
    assert machine_days(1) == 0.25
    assert machine_days(48) == 2
    assert machine_days(21 * 24) == 15


@pytest.mark.req("R047")
@pytest.mark.parametrize(
    "inputs",
    [
        TimelineInputs(complexity="complex"),
        TimelineInputs(complexity="simple"),
        TimelineInputs(data_availability="ready"),
        TimelineInputs(data_availability="partly"),
        TimelineInputs(parameters=70e9),
        TimelineInputs(experience="first"),
        TimelineInputs(experience="expert"),
    ],
)
def test_complexity_data_and_size_move_the_total(inputs: TimelineInputs) -> None:
    assert plan_timeline(inputs).total_days != USUAL.total_days


@pytest.mark.req("R048")
def test_data_takes_at_least_as_long_as_training() -> None:
    assert USUAL.data_days >= USUAL.training_days
    assert any("preparing data takes longer" in note for note in USUAL.notes)


def test_critical_path_is_a_chain_to_the_end() -> None:
    assert USUAL.critical_path == (
        "collect",
        "clean",
        "setup",
        "train",
        "iterate",
        "test",
        "decide",
        "api",
        "maintain",
        "handover",
    )
    assert not task(USUAL, "baseline").critical
    slow = plan_timeline(TimelineInputs(approval_days=60))
    assert slow.critical_path[0] == "approve" and slow.total_days.expected > 60
    assert plan_timeline(TimelineInputs(approval_days=1)).total_days == USUAL.total_days


def test_working_days_skip_weekends_and_holidays() -> None:
    assert add_working_days(MONDAY, 1) == MONDAY
    assert add_working_days(MONDAY, 0.25) == MONDAY
    assert add_working_days(MONDAY, 5) == datetime.date(2026, 11, 27)
    assert add_working_days(MONDAY, 6) == datetime.date(2026, 11, 30)
    assert add_working_days(datetime.date(2026, 11, 28), 1) == datetime.date(2026, 11, 30)
    assert add_working_days(MONDAY, 1, {MONDAY}) == datetime.date(2026, 11, 24)


def test_dates_of_the_usual_project() -> None:
    dated = plan_timeline(TimelineInputs(start=MONDAY))
    assert dated.end == {
        "low": datetime.date(2026, 12, 18),
        "expected": datetime.date(2026, 12, 28),
        "high": datetime.date(2027, 1, 1),
    }
    bars = timeline_bars(dated)
    assert bars[0].start_date == MONDAY and bars[0].end_date == datetime.date(2026, 11, 27)
    for bar in bars:
        assert bar.start_date is not None and bar.end_date is not None and bar.latest_date is not None
        assert bar.start_date <= bar.end_date <= bar.latest_date
        assert bar.start_date.weekday() < 5 and bar.end_date.weekday() < 5
    assert USUAL.end == {} and timeline_bars(USUAL)[0].start_date is None
    off = plan_timeline(TimelineInputs(start=MONDAY, holidays=(datetime.date(2026, 12, 25),)))
    assert off.end["expected"] == datetime.date(2026, 12, 29)


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize(
    "inputs",
    [
        TimelineInputs(),
        TimelineInputs(start=MONDAY),
        TimelineInputs(curation="manual", num_examples=20_000, start=MONDAY),
        TimelineInputs(data_availability="ready", experience="expert", num_iterations=0),
        TimelineInputs(parameters=1e12, approval_days=200),
    ],
)
def test_chart_fits_the_width(inputs: TimelineInputs, width: int) -> None:
    lines = gantt_text(plan_timeline(inputs), width).splitlines()
    assert max(len(line) for line in lines) <= width
    assert all("█" in line for line in lines if line.startswith("*"))
    assert len(lines) == 6 + len(plan_timeline(inputs).tasks)


def test_chart_in_plain_characters() -> None:
    text = gantt_text(USUAL, marks="#.!")
    assert text.isascii() and "! Train" in text and "#" in text


def test_every_range_is_in_order() -> None:
    for inputs in (TimelineInputs(), TimelineInputs(complexity="complex", experience="first", curation="manual")):
        timeline = plan_timeline(inputs)
        for days in [*(task.days for task in timeline.tasks), *(task.end for task in timeline.tasks)]:
            assert 0 <= days.low <= days.expected <= days.high


def test_bad_input_is_refused() -> None:
    for bad in ({"num_annotators": 0}, {"train_hours": -1}, {"complexity": "hard"}, {"iteration": 3}):
        with pytest.raises(ValidationError):
            TimelineInputs.model_validate(bad)
