"""Progress: what is computed from events, and how it looks on and off a terminal."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import math
import random
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from foretune.cli import progress
from foretune.cli.progress import ConsoleWatcher, TrainingState
from stand_ins import estimate, plan_record, training_record


def step(number: int, seconds: float = 1.0, tokens: int = 500, loss: float | None = 0.5) -> dict[str, Any]:
    """A step event."""
    return {"kind": "step", "step": number, "seconds": seconds, "tokens": tokens, "loss": loss}


def fed(*events: dict[str, Any], **known: Any) -> TrainingState:
    """A state that has taken in events."""
    state = TrainingState(**known)
    for event in events:
        state.take(event)
    return state


def test_nothing_is_known_at_first() -> None:
    state = TrainingState()
    assert state.eta_seconds is None and state.tokens_per_second == 0.0
    assert state.line() == "step 0/?"


@pytest.mark.req("R066")
def test_the_eta_is_the_plans_until_the_runs_own_speed_is_measured() -> None:
    plan = plan_record(train_seconds=estimate(100.0))
    start = {"kind": "train_start", "planned_steps": 20}
    assert fed(start, planned=plan).eta_seconds == pytest.approx((80.0, 120.0))
    assert fed(start, *(step(n) for n in (1, 2)), planned=plan).eta_seconds == pytest.approx((72.0, 108.0))
    low, high = fed(start, *(step(n, 2.0) for n in range(1, 11)), planned=plan).eta_seconds or (0, 0)
    assert (low, high) == pytest.approx((20.0, 20.0))


def test_the_eta_counts_validations_and_checkpoints_to_come() -> None:
    def evaluated(step: int) -> list[dict[str, Any]]:
        event = {"kind": "eval", "eval_loss": 0.4, "seconds": 3.0, "step": step}
        return [event, {"kind": "checkpoint", "seconds": 2.0, "step": step}]

    steps = [step(n) for n in range(1, 11)]
    state = fed({"kind": "train_start", "planned_steps": 40}, *evaluated(0), *steps)
    assert state.eta_seconds == pytest.approx((60.0, 60.0))  # 30 steps and, until more is known, one in 5 steps
    state = fed({"kind": "train_start", "planned_steps": 40}, *evaluated(0), *steps, *evaluated(10))
    assert state.eta_seconds == pytest.approx((45.0, 45.0))  # 30 steps and three more at steps 20, 30, 40
    assert state.eval_loss == 0.4


def test_the_eta_interval_holds_nine_times_of_ten() -> None:
    rng, held, trials = random.Random(0), 0, 400
    for _ in range(trials):
        times = [rng.gauss(1.0, 0.2) for _ in range(60)]
        state = fed({"kind": "train_start", "planned_steps": 60}, *(step(n + 1, t) for n, t in enumerate(times[:20])))
        low, high = state.eta_seconds or (0, 0)
        held += low <= sum(times[20:]) <= high
    assert 0.85 <= held / trials <= 0.95


def test_the_end_takes_no_more_time() -> None:
    assert fed({"kind": "train_start", "planned_steps": 1}, step(1)).eta_seconds == (0.0, 0.0)


def test_dollars_so_far() -> None:
    state = fed({"kind": "train_start", "planned_steps": 9}, step(1, 1800.0), price_per_hour_usd=2.0)
    assert state.cost_usd == 1.0 and "$1.00" in state.line()
    assert "$" not in fed(step(1)).line()


def test_the_line_has_step_loss_speed_and_eta_within_80_columns() -> None:
    events = [step(n, 0.2, 12_345, loss=12.3456) for n in range(1, 1000)]
    state = fed({"kind": "train_start", "planned_steps": 100_000}, *events, price_per_hour_usd=30.0)
    state.take({"kind": "eval", "eval_loss": 1.25, "seconds": 1.0})
    line = state.line()
    for part in ("step 999/100000", "loss 12.346", "tok/s", "ETA ", "$"):
        assert part in line
    assert len(line) <= 80
    assert "eval 1.250" in fed({"kind": "eval", "eval_loss": 1.25}).line()


def test_a_loss_that_is_no_number_is_shown_as_none() -> None:
    state = fed(step(1, loss=None))
    assert math.isnan(state.loss) and "loss" not in state.line()


@pytest.fixture
def watcher(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> tuple[ConsoleWatcher, io.StringIO]:
    """A watcher on a fake screen; `True` as parameter makes it a terminal."""
    screen = io.StringIO()
    is_terminal = bool(getattr(request, "param", False))
    made = Console(file=screen, force_terminal=is_terminal, width=80, highlight=False)
    monkeypatch.setattr(progress, "console", lambda file: made)
    return ConsoleWatcher(), screen


def test_off_a_terminal_there_is_a_line_now_and_then(
    watcher: tuple[ConsoleWatcher, io.StringIO], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown, screen = watcher
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    shown.stage_started("train", tmp_path)
    shown.event({"kind": "train_start", "planned_steps": 30})
    for number in range(1, 31):
        now[0] += 1.0
        shown.event(step(number))
        shown.event(None)
    shown.stage_ended("train", training_record(), 30.0)
    lines = screen.getvalue().splitlines()
    steps = [line for line in lines if line.startswith("step ")]
    assert 5 <= len(steps) <= 8
    assert "\x1b" not in screen.getvalue()
    assert lines[-1].startswith("train     8 steps, finished, best eval loss 0.410 at step 8")


@pytest.mark.parametrize("watcher", [True], indirect=True)
def test_on_a_terminal_there_is_a_bar(watcher: tuple[ConsoleWatcher, io.StringIO], tmp_path: Path) -> None:
    shown, screen = watcher
    shown.stage_started("train", tmp_path)
    shown.event({"kind": "train_start", "planned_steps": 4})
    shown.event(step(2))
    shown.event(None)
    shown.close()
    assert "step 2/4" in screen.getvalue() and "━" in screen.getvalue()


def test_notes_are_shown_once(watcher: tuple[ConsoleWatcher, io.StringIO], tmp_path: Path) -> None:
    shown, screen = watcher
    shown.event({"kind": "note", "message": "12 samples are [too] long"})
    shown.event(step(1))
    assert screen.getvalue().count("note: 12 samples are [too] long") == 1


def test_steps_of_an_earlier_start_count_but_print_no_line(
    watcher: tuple[ConsoleWatcher, io.StringIO], tmp_path: Path
) -> None:
    shown, screen = watcher
    shown.stage_started("train", tmp_path)
    now = time.time()
    for event in ({"kind": "train_start", "planned_steps": 9}, step(1), step(2)):
        shown.event({**event, "time": now - 60})
    assert "step 1" not in screen.getvalue() and "step 2" not in screen.getvalue()
    shown.event({**step(3), "time": now + 1})
    assert "step 3/9" in screen.getvalue()


def test_the_badge_says_what_the_curve_shows_so_far() -> None:
    """Nothing before the first diagnosis, then ok, then the cause, which is also a message; the line stays short."""
    start = ({"kind": "train_start", "planned_steps": 200}, *(step(n) for n in range(1, 40)))
    assert "[" not in fed(*start).line()
    sound = {"kind": "diagnosis", "step": 20, "causes": [], "checked": ["overfitting"]}
    assert fed(*start, sound).line().startswith("[ok]  step 39/200")
    cause = {"mode": "learning_rate_too_high", "evidence": "The loss climbed.", "fix": "Lower it."}
    state = fed(*start, sound, {"kind": "eval", "step": 39, "eval_loss": 1.5}, {**sound, "causes": [cause]})
    assert state.line().startswith("[learning rate too high]  step 39/200") and len(state.line()) <= 80
    assert state.message == "learning rate too high: The loss climbed. Lower it."
    state.take(sound)
    assert state.badge == "ok"


def test_a_sweep_moves_by_the_steps_of_all_settings() -> None:
    """The winner's own steps are written when all settings are through; they turn nothing back."""
    start = {"kind": "train_start", "planned_steps": 8}
    state = fed(start, {"kind": "sweep", "step": 24, "planned_steps": 24}, step(1), {"kind": "eval", "eval_loss": 9.0})
    assert state.line().startswith("step 24/24") and "loss" not in state.line() and state.beat == "sweep"
    assert fed(start).beat == "step"


def test_a_resumed_run_says_its_notes_once(watcher: tuple[ConsoleWatcher, io.StringIO], tmp_path: Path) -> None:
    shown, screen = watcher
    for message in ("rank 4 is small", "engine: flat tokens", "rank 4 is small", "engine: flat tokens"):
        shown.event({"kind": "note", "message": message})
    assert screen.getvalue().count("note: ") == 2


@pytest.mark.parametrize("fails", [True, False])
def test_a_failed_training_is_told_where_its_cause_stands(
    watcher: tuple[ConsoleWatcher, io.StringIO], tmp_path: Path, fails: bool
) -> None:
    shown, screen = watcher
    shown.stage_started("train", tmp_path)
    shown.event({"kind": "failed", "error": "ConfigError", "message": "rank 64 is larger"})
    if not fails:
        shown.stage_ended("train", training_record(), 30.0)
    shown.failed()
    assert (f"foretune runs why {tmp_path.name}" in " ".join(screen.getvalue().split())) == fails
    assert "rank 64" not in screen.getvalue()  # the error itself says that
