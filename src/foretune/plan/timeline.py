"""Timeline: the phases of a whole project as ranges of working days, with dates, critical path and a Gantt chart."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Collection
from typing import Literal, NamedTuple

from pydantic import Field

from foretune.config import Strict
from foretune.records.plan import Estimate

__all__ = [
    "Bar",
    "Phase",
    "ProjectTask",
    "Timeline",
    "TimelineInputs",
    "add_working_days",
    "gantt_text",
    "machine_days",
    "plan_timeline",
    "timeline_bars",
]

Case = Literal["low", "expected", "high"]
CASES: tuple[Case, ...] = ("low", "expected", "high")
DAYS_PER_WEEK = 5
# Working days of the usual project, R034-R046: four phases that together take 4 to 6 weeks.
COLLECT_DAYS = Estimate(low=5, expected=5, high=5)
CLEAN_DAYS = Estimate(low=3, expected=4, high=5)
SETUP_DAYS = Estimate(low=1, expected=1.5, high=2)
TRAIN_DAYS = Estimate(low=1, expected=1.5, high=2)
TEST_DAYS = Estimate(low=3, expected=4, high=5)
API_DAYS = Estimate(low=1, expected=1.5, high=2)
MAINTAIN_DAYS = Estimate(low=2, expected=3, high=4)
BASELINE_DAYS = Estimate(low=0.5, expected=1, high=2)
ITERATION_DAYS = 5 / 3  # three rounds of trial and error make the extra week
ITERATION_SPREAD = Estimate(low=0.6, expected=1, high=1.2)
CURATION_SPREAD = Estimate(low=0.7, expected=1, high=1.6)  # people differ; assumed
WEEK_DAYS = 5.0  # evaluation and deployment take a week each, report and hand-over included
# How much of the collection must be there before cleaning, curation and the first baseline can begin.
COLLECTED_SHARE = Estimate(low=0.4, expected=0.7, high=1.0)
PRODUCTIVE_HOURS = 6.0  # of a working day; assumed
USUAL_EXAMPLES = 500
USUAL_PARAMETERS, USUAL_TOKENS = 7e9, 15e6  # what the 1 to 2 days of training stand for: 10,000 x 500 tokens x 3
COMPLEXITY = {"simple": 0.75, "usual": 1.0, "complex": 1.5}
EXPERIENCE = {"first": 1.3, "some": 1.0, "expert": 0.8}
COLLECTION = {"ready": 0.1, "partly": 0.5, "collect": 1.0}
PHASES = (
    ("data", "Data collection and preparation"),
    ("tuning", "Fine-tuning"),
    ("evaluation", "Evaluation and testing"),
    ("deployment", "Deployment"),
)


class TimelineInputs(Strict):
    """What the length of a project follows from; everything has a usual value."""

    data_availability: Literal["ready", "partly", "collect"] = Field("collect", description="Is the data there?")
    curation: Literal["automatic", "manual"] = Field("automatic", description="Are the targets written by hand?")
    num_examples: int | None = Field(None, ge=0, description="Examples to write or approve by hand.")
    minutes_per_example: float = Field(10.0, gt=0, description="Work on one of them.")
    num_annotators: int = Field(1, gt=0, description="People who do it at the same time.")
    double_rated_fraction: float = Field(0.0, ge=0, le=1, description="Share that two people do.")
    complexity: Literal["simple", "usual", "complex"] = Field("usual", description="Of the task.")
    experience: Literal["first", "some", "expert"] = Field("some", description="With such projects.")
    parameters: float | None = Field(None, gt=0, description="Size of the model.")
    train_tokens: float | None = Field(None, gt=0, description="Tokens of all epochs.")
    train_hours: Estimate | None = Field(None, description="Predicted hours of one training; replaces the usual days.")
    num_iterations: int = Field(3, ge=0, description="Rounds of trial and error after the first training.")
    iteration_days: float | None = Field(None, ge=0, description="Days for all of them; by default 5/3 each.")
    approval_days: float = Field(0.0, ge=0, description="Licence, privacy and other approval, beside the work.")
    start: datetime.date | None = Field(None, description="First working day.")
    holidays: tuple[datetime.date, ...] = Field((), description="Days on which nobody works.")


class ProjectTask(Strict):
    """One task: working days it takes, from which to which, counted from the start of the project."""

    id: str
    name: str
    phase: str
    days: Estimate
    start: Estimate
    end: Estimate
    critical: bool
    after: tuple[str, ...]


class Phase(Strict):
    """One phase, from its first task to its last."""

    id: str
    name: str
    days: Estimate
    start: Estimate
    end: Estimate


class Timeline(Strict):
    """The whole project in working days; `low` is without blockers, `high` with the usual ones."""

    phases: tuple[Phase, ...]
    tasks: tuple[ProjectTask, ...]
    total_days: Estimate
    total_weeks: Estimate
    critical_path: tuple[str, ...]
    data_days: float
    training_days: float
    start: datetime.date | None
    end: dict[Case, datetime.date]
    holidays: tuple[datetime.date, ...]
    notes: tuple[str, ...]
    assumptions: tuple[str, ...]


class Bar(NamedTuple):
    """One line of a Gantt chart: solid from `start` to `end` (expected), faint up to `latest` (high), in days."""

    id: str
    name: str
    phase: str
    start: float
    end: float
    latest: float
    critical: bool
    start_date: datetime.date | None
    end_date: datetime.date | None
    latest_date: datetime.date | None


class _Spec(NamedTuple):
    """A task before it is scheduled: what it waits for, and which share of that must be done."""

    id: str
    name: str
    phase: str
    days: Estimate
    after: tuple[tuple[str, Estimate], ...]


DONE = Estimate(low=1, expected=1, high=1)


def plan_timeline(inputs: TimelineInputs | None = None) -> Timeline:
    """Phases, tasks, critical path and dates of a project; 4 to 6 weeks with nothing given."""
    given = inputs or TimelineInputs()
    assumptions: list[str] = []
    specs = _specs(given, assumptions)
    passes = {case: _scheduled(specs, case) for case in CASES}
    path = _critical_path(specs, passes["expected"])
    tasks = tuple(_task(spec, passes, path) for spec in specs)
    phases = tuple(_phase(id, name, tasks) for id, name in PHASES)
    total = _estimate(lambda case: max(end for _, end in passes[case].values()))
    data, training = phases[0].days.expected, _days_of(tasks, "train") + _days_of(tasks, "iterate")
    return Timeline(
        phases=phases,
        tasks=tasks,
        total_days=total,
        total_weeks=_scaled(total, 1 / DAYS_PER_WEEK),
        critical_path=path,
        data_days=data,
        training_days=training,
        start=given.start,
        end=_ends(given, total),
        holidays=given.holidays,
        notes=tuple(_notes(given, total, data, training)),
        assumptions=tuple(assumptions),
    )


def machine_days(hours: float) -> float:
    """Working days that a machine's hours take: it runs at night, and from a week on at weekends; at least 0.25."""
    days = hours / 24
    return max(0.25, days if days <= 5 else max(5.0, days * 5 / 7))


def add_working_days(start: datetime.date, days: float, holidays: Collection[datetime.date] = ()) -> datetime.date:
    """The date on which the work of `days` working days ends, when it begins on the morning of `start`."""
    day = _next_working_day(start, holidays)
    for _ in range(max(0, math.ceil(days - 1e-9) - 1)):
        day = _next_working_day(day + datetime.timedelta(days=1), holidays)
    return day


def timeline_bars(timeline: Timeline) -> tuple[Bar, ...]:
    """The bars of a page's Gantt chart, in the order of the tasks; dates where the timeline has a start."""
    return tuple(_bar(task, timeline) for task in timeline.tasks)


def gantt_text(timeline: Timeline, width: int = 80, marks: str = "█░*") -> str:
    """The Gantt chart as text: expected time solid, the worst case faint, `*` on the critical path.

    `width` is the longest line; `marks` are the three characters used.
    """
    shown = [timeline.total_days, *(phase.days for phase in timeline.phases), *(task.days for task in timeline.tasks)]
    column = max(len(_day_range(days)) for days in shown)
    names = max(12, min(34, width * 2 // 5))
    room = width - names - column - 1
    scale = room / max(timeline.total_days.high, 1e-9)
    lines = [f"{'':{names}}{_week_marks(timeline, scale, room)}"]
    for phase in timeline.phases:
        lines.append(f"{_cut(phase.name, names + room):{names + room}} {_day_range(phase.days):>{column}}")
        for bar in (bar for bar in timeline_bars(timeline) if bar.phase == phase.id):
            task = next(task for task in timeline.tasks if task.id == bar.id)
            name = f"{marks[2] if bar.critical else ' '} {_cut(bar.name, names - 3)}"
            lines.append(f"{name:{names}}{_drawn(bar, scale, room, marks)} {_day_range(task.days):>{column}}")
    lines.append(f"{'Total':{names + room}} {_day_range(timeline.total_days):>{column}}")
    return "\n".join(line.rstrip() for line in lines)


def _specs(given: TimelineInputs, assumptions: list[str]) -> tuple[_Spec, ...]:
    """Every task with its days and what it waits for."""
    people = COMPLEXITY[given.complexity] * EXPERIENCE[given.experience]
    train = _train_days(given, assumptions)
    collected = ((("collect", COLLECTED_SHARE)),)
    specs = [
        _Spec("collect", "Set up data collection", "data", _collect_days(given, people), ()),
        _Spec("clean", "Clean and format", "data", _scaled(CLEAN_DAYS, people), collected),
        _Spec("baseline", "Measure the prompted baseline", "data", BASELINE_DAYS, collected),
    ]
    curation = _curation_days(given, assumptions)
    if curation is not None:
        specs.insert(1, _Spec("curate", "Write and approve examples", "data", curation, collected))
    specs += _tuning_specs(given, train, people, _done(specs))
    specs += _closing_specs(given, people)
    return tuple(specs)


def _tuning_specs(
    given: TimelineInputs, train: Estimate, people: float, ready: tuple[tuple[str, Estimate], ...]
) -> list[_Spec]:
    setup = _scaled(SETUP_DAYS, people * _size_factor(given))
    tasks = [
        _Spec("setup", "Choose and set up the model", "tuning", setup, ready),
        _Spec("train", "Train", "tuning", train, (("setup", DONE),)),
    ]
    rounds = _iteration_days(given, train)
    if rounds.high > 0:
        tasks.append(_Spec("iterate", "Iterations (buffer)", "tuning", rounds, (("train", DONE),)))
    return tasks


def _closing_specs(given: TimelineInputs, people: float) -> list[_Spec]:
    """Evaluation and deployment: a week each, the rest of it for the decision and the hand-over."""
    week = WEEK_DAYS * people
    last: tuple[tuple[str, Estimate], ...] = (
        ("iterate" if _iteration_days(given, TRAIN_DAYS).high > 0 else "train", DONE),
    )
    test, api, maintain = (_scaled(days, people) for days in (TEST_DAYS, API_DAYS, MAINTAIN_DAYS))
    first_day = _estimate(lambda case: min(1.0, 1 / getattr(api, case)))
    served = _estimate(lambda case: _later(api, maintain, first_day, case))
    specs = [
        _Spec("test", "Test on unseen data", "evaluation", test, last),
        _Spec("decide", "Error analysis and decision", "evaluation", _rest(week, test), (("test", DONE),)),
    ]
    cleared: tuple[tuple[str, Estimate], ...] = (("decide", DONE),)
    if given.approval_days:
        days = _scaled(DONE, given.approval_days)
        specs.append(_Spec("approve", "Licence, privacy, approval", "deployment", days, ()))
        cleared = (*cleared, ("approve", DONE))
    return [
        *specs,
        _Spec("api", "Deploy behind an API", "deployment", api, cleared),
        _Spec("maintain", "Set up monitoring", "deployment", maintain, (("api", first_day),)),
        _Spec("handover", "Roll out and hand over", "deployment", _rest(week, served), (("maintain", DONE),)),
    ]


def _later(api: Estimate, maintain: Estimate, first_day: Estimate, case: Case) -> float:
    days, wait = getattr(api, case), getattr(first_day, case)
    return float(max(days, days * wait + getattr(maintain, case)))


def _collect_days(given: TimelineInputs, people: float) -> Estimate:
    return _scaled(COLLECT_DAYS, COLLECTION[given.data_availability] * people)


def _curation_days(given: TimelineInputs, assumptions: list[str]) -> Estimate | None:
    """Days of writing by hand; None where nothing is written."""
    if given.curation == "automatic":
        return None
    count = given.num_examples
    if count is None:
        count = USUAL_EXAMPLES
        assumptions.append(f"{count} examples are written by hand, {given.minutes_per_example:g} minutes each")
    hours = count * (1 + given.double_rated_fraction) * given.minutes_per_example / 60
    return _scaled(CURATION_SPREAD, hours / PRODUCTIVE_HOURS / given.num_annotators)


def _train_days(given: TimelineInputs, assumptions: list[str]) -> Estimate:
    """Days of one training: predicted where hours are given, else the usual ones grown with model and data."""
    if given.train_hours is not None:
        hours = given.train_hours
        return _estimate(lambda case: machine_days(getattr(hours, case)))
    growth = max(1.0, (given.train_tokens or 0) / USUAL_TOKENS) * max(1.0, (given.parameters or 0) / USUAL_PARAMETERS)
    assumptions.append("training time is the usual 1 to 2 days, not predicted from your data and hardware")
    return _scaled(TRAIN_DAYS, growth)


def _iteration_days(given: TimelineInputs, train: Estimate) -> Estimate:
    """Trial and error after the first training; where one training takes over half a day, each round waits for it."""
    if given.iteration_days is not None:
        return _scaled(ITERATION_SPREAD, given.iteration_days)
    wait = max(0.0, train.expected - TRAIN_DAYS.expected)
    return _scaled(ITERATION_SPREAD, given.num_iterations * (ITERATION_DAYS + wait))


def _size_factor(given: TimelineInputs) -> float:
    """Larger models need more devices, and each doubling a quarter more time to set up."""
    return 1 + 0.25 * math.log2(max(1.0, (given.parameters or 0) / USUAL_PARAMETERS))


def _scheduled(specs: tuple[_Spec, ...], case: Case) -> dict[str, tuple[float, float]]:
    """Start and end of every task in one case; tasks stand after those that they wait for."""
    found: dict[str, tuple[float, float]] = {}
    for spec in specs:
        start = max((_released(found[other], share, case) for other, share in spec.after), default=0.0)
        found[spec.id] = (start, start + getattr(spec.days, case))
    return found


def _released(times: tuple[float, float], share: Estimate, case: Case) -> float:
    start, end = times
    return start + (end - start) * float(getattr(share, case))


def _critical_path(specs: tuple[_Spec, ...], times: dict[str, tuple[float, float]]) -> tuple[str, ...]:
    """The chain of tasks that decides the end: backwards, each time to the one that released the task."""
    by_id = {spec.id: spec for spec in specs}
    current = max(specs, key=lambda spec: times[spec.id][1])
    path = [current.id]
    while current.after:
        other, _ = max(current.after, key=lambda pair: _released(times[pair[0]], pair[1], "expected"))
        current = by_id[other]
        path.append(other)
    return tuple(reversed([id for id in path if times[id][1] > times[id][0]]))


def _task(spec: _Spec, passes: dict[Case, dict[str, tuple[float, float]]], path: tuple[str, ...]) -> ProjectTask:
    return ProjectTask(
        id=spec.id,
        name=spec.name,
        phase=spec.phase,
        days=_sorted(spec.days),
        start=_estimate(lambda case: passes[case][spec.id][0]),
        end=_estimate(lambda case: passes[case][spec.id][1]),
        critical=spec.id in path,
        after=tuple(other for other, _ in spec.after),
    )


def _phase(id: str, name: str, tasks: tuple[ProjectTask, ...]) -> Phase:
    own = [task for task in tasks if task.phase == id and task.id != "approve"]
    start = _estimate(lambda case: min(getattr(task.start, case) for task in own))
    end = _estimate(lambda case: max(getattr(task.end, case) for task in own))
    days = _estimate(lambda case: getattr(end, case) - getattr(start, case))
    return Phase(id=id, name=name, days=days, start=start, end=end)


def _notes(given: TimelineInputs, total: Estimate, data: float, training: float) -> list[str]:
    weeks = _scaled(total, 1 / DAYS_PER_WEEK)
    found = [
        f"{weeks.low:.1f} to {weeks.high:.1f} weeks, {weeks.expected:.1f} expected; it follows the complexity of the "
        "task, whether the data is there, and the size of the model"
    ]
    if data >= training:
        found.append(f"preparing data takes longer ({data:.1f} days) than training and trying again ({training:.1f})")
    if given.experience == "first":
        found.append("a first project: 30 % longer than for people who have done it before (assumed)")
    return found


def _ends(given: TimelineInputs, total: Estimate) -> dict[Case, datetime.date]:
    if given.start is None:
        return {}
    start, holidays = given.start, given.holidays
    return {
        "low": add_working_days(start, total.low, holidays),
        "expected": add_working_days(start, total.expected, holidays),
        "high": add_working_days(start, total.high, holidays),
    }


def _bar(task: ProjectTask, timeline: Timeline) -> Bar:
    begin, end, latest = task.start.expected, task.end.expected, max(task.end.high, task.end.expected)
    dates: list[datetime.date | None] = [None, None, None]
    if timeline.start is not None:
        first = math.floor(begin + 1e-9) + 1  # the task begins on the day that this many days end on
        dates = [add_working_days(timeline.start, days, timeline.holidays) for days in (first, end, latest)]
    return Bar(task.id, task.name, task.phase, begin, end, latest, task.critical, dates[0], dates[1], dates[2])


def _week_marks(timeline: Timeline, scale: float, room: int) -> str:
    """The week numbers, or the dates of the Mondays-to-be, over the bars; only as many as have room."""
    labels = [" "] * room
    free = 0
    for week in range(math.ceil(timeline.total_days.high / DAYS_PER_WEEK)):
        place = round(week * DAYS_PER_WEEK * scale)
        text = f"W{week + 1}"
        if timeline.start is not None:
            date = add_working_days(timeline.start, week * DAYS_PER_WEEK + 1, timeline.holidays)
            text = f"{date:%d %b}"
        if place >= free and place + len(text) <= room:
            labels[place : place + len(text)] = text
            free = place + len(text) + 1
    return "".join(labels)


def _drawn(bar: Bar, scale: float, room: int, marks: str) -> str:
    begin, end, latest = (min(room, round(day * scale)) for day in (bar.start, bar.end, bar.latest))
    begin = min(begin, room - 1)
    end = max(end, begin + 1)
    latest = max(latest, end)
    return " " * begin + marks[0] * (end - begin) + marks[1] * (latest - end) + " " * (room - latest)


def _day_range(days: Estimate) -> str:
    low, high = (f"{day:,.0f}" if day >= 100 else f"{round(day, 1):g}" for day in (days.low, days.high))
    return f"{low} d" if low == high else f"{low}-{high} d"


def _cut(text: str, size: int) -> str:
    return text if len(text) <= size else text[: size - 1] + "…"


def _done(specs: list[_Spec]) -> tuple[tuple[str, Estimate], ...]:
    return tuple((spec.id, DONE) for spec in specs)


def _days_of(tasks: tuple[ProjectTask, ...], id: str) -> float:
    return sum(task.days.expected for task in tasks if task.id == id)


def _rest(whole: float, used: Estimate) -> Estimate:
    """What is left of the week: most where the rest was quick, so `low` may exceed `high`."""
    return _estimate(lambda case: max(0.0, whole - getattr(used, case)))


def _scaled(days: Estimate, factor: float) -> Estimate:
    return Estimate(low=days.low * factor, expected=days.expected * factor, high=days.high * factor)


def _sorted(days: Estimate) -> Estimate:
    low, expected, high = sorted((days.low, days.expected, days.high))
    return Estimate(low=low, expected=expected, high=high)


def _estimate(value: Callable[[Case], float]) -> Estimate:
    low, expected, high = (round(value(case), 6) for case in CASES)
    return Estimate(low=low, expected=expected, high=high)


def _next_working_day(day: datetime.date, holidays: Collection[datetime.date]) -> datetime.date:
    while day.weekday() >= DAYS_PER_WEEK or day in holidays:
        day += datetime.timedelta(days=1)
    return day
