"""Progress of training from its events: step, tokens/s, loss, an ETA interval and dollars so far."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
import sys
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from foretune.cli.face import console
from foretune.records.dataset import DatasetRecord
from foretune.records.plan import PlanRecord
from foretune.units import show_range, show_seconds, show_usd

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from foretune.records.base import Record

__all__ = ["ConsoleWatcher", "TrainingState"]

LINE_SECONDS = 5.0  # between lines off a terminal
WINDOW_STEPS = 50
USUAL_EVALS = 8  # validations of a run, as long as fewer than two are known
MIN_STEPS = 5  # measured steps before the ETA is the run's own, not the plan's
MAX_COLUMNS = 80
Z = 1.645  # 90 % of a normal distribution
STAGE_WORDS = {
    "collect": "reading the data",
    "audit": "auditing the data",
    "decide": "asking the prompted base",
    "plan": "measuring and predicting",
    "evaluate": "evaluating on the test split",
    "diagnose": "diagnosing",
}


@dataclass
class TrainingState:
    """What is known of a training run from its events; seconds add up over restarts."""

    price_per_hour_usd: float = 0.0
    planned: PlanRecord | None = None
    step: int = 0
    planned_steps: int = 0
    loss: float = math.nan
    eval_loss: float = math.nan
    step_seconds: float = 0.0
    other_seconds: float = 0.0  # validation and checkpoints
    message: str = ""
    is_sweep: bool = False  # steps are those of all settings
    badge: str = ""  # what the curve shows so far
    _eval_steps: list[int] = field(default_factory=list)
    _recent: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=WINDOW_STEPS))

    def take(self, event: Mapping[str, Any]) -> None:
        """Take in one event; kinds that say nothing of progress are passed over."""
        kind = event["kind"]
        if kind == "train_start":
            self.planned_steps = int(event.get("planned_steps", 0))
        elif kind == "sweep":
            self.is_sweep, self.step, self.planned_steps = True, int(event["step"]), int(event["planned_steps"])
        elif self.is_sweep and kind in ("step", "eval"):
            return  # of the winner alone, written when all settings are through
        elif kind == "step":
            self.step, self.loss = int(event["step"]), _number(event["loss"])
            seconds = float(event["seconds"])
            self.step_seconds += seconds
            self._recent.append((int(event["tokens"]), seconds))
        elif kind in ("eval", "checkpoint"):
            self.other_seconds += float(event.get("seconds", 0.0))
            if kind == "eval":
                self.eval_loss = _number(event.get("eval_loss"))
                self._eval_steps.append(int(event.get("step", self.step)))
        elif kind == "diagnosis":
            self._take_diagnosis(event)
        elif kind == "note":
            self.message = str(event.get("message", ""))

    def _take_diagnosis(self, event: Mapping[str, Any]) -> None:
        """The badge, and a message where it is a new one."""
        causes: list[Mapping[str, Any]] = list(event.get("causes") or [])
        found = ", ".join(str(cause["mode"]).replace("_", " ") for cause in causes)
        if found and found != self.badge:
            self.message = f"{found}: {causes[0].get('evidence', '')} {causes[0].get('fix', '')}".rstrip()
        self.badge = found or ("ok" if event.get("checked") else "")

    @property
    def beat(self) -> str:
        """The kind of event that moves the run on."""
        return "sweep" if self.is_sweep else "step"

    @property
    def tokens_per_second(self) -> float:
        """Over the recent steps; 0 before the first."""
        seconds = sum(seconds for _, seconds in self._recent)
        return sum(tokens for tokens, _ in self._recent) / seconds if seconds else 0.0

    @property
    def cost_usd(self) -> float:
        """Dollars so far at the job's price."""
        return (self.step_seconds + self.other_seconds) / 3600 * self.price_per_hour_usd

    @property
    def eta_seconds(self) -> tuple[float, float] | None:
        """Seconds left, 90 % interval: the plan's until enough steps are measured, then from these; None if unknown.

        The mean of k measured steps predicts the sum of r further ones with variance r s^2 + r^2 s^2 / k; validations
        and checkpoints come on top.
        """
        left = self.planned_steps - self.step
        if left <= 0:
            return (0.0, 0.0) if self.planned_steps else None
        if len(self._recent) < MIN_STEPS:
            share = left / self.planned_steps
            return (
                (self.planned.train_seconds.low * share, self.planned.train_seconds.high * share)
                if (self.planned)
                else None
            )
        times = [seconds for _, seconds in self._recent]
        mean = fmean(times) * left + self._other_left(left)
        spread = _t90(len(times) - 1) * stdev(times) * math.sqrt(left + left * left / len(times))
        return max(0.0, mean - spread), mean + spread

    def _other_left(self, left: int) -> float:
        """Seconds of validations and checkpoints still to come: as often and as long as those so far."""
        steps = self._eval_steps
        if not steps:
            return 0.0
        apart = (steps[-1] - steps[0]) / (len(steps) - 1) if steps[-1] > steps[0] else self.planned_steps / USUAL_EVALS
        return self.other_seconds / len(steps) * (left // max(1.0, apart))

    def line(self) -> str:
        """The state as one line of text, at most 80 columns."""
        parts = [f"[{self.badge}]"] if self.badge else []
        parts.append(f"step {self.step}/{self.planned_steps or '?'}")
        if not math.isnan(self.loss):
            parts.append(f"loss {self.loss:.3f}")
        if not math.isnan(self.eval_loss):
            parts.append(f"eval {self.eval_loss:.3f}")
        if self.tokens_per_second:
            parts.append(f"{self.tokens_per_second:,.0f} tok/s")
        eta = self.eta_seconds
        if eta is not None:
            parts.append(f"ETA {show_range(*eta)}")
        if self.price_per_hour_usd:
            parts.append(show_usd(self.cost_usd))
        for dispensable in ("eval ", "ETA ", "loss "):
            if len("  ".join(parts)) > MAX_COLUMNS:
                parts = [part for part in parts if not part.startswith(dispensable)]
        return "  ".join(parts)


def _t90(degrees: int) -> float:
    """95 % quantile of Student's t, to first order (Abramowitz and Stegun 26.7.5): within 3 % from 4 degrees up."""
    return Z + (Z**3 + Z) / (4 * degrees)


def _number(value: Any) -> float:
    return float(value) if value is not None else math.nan


class ConsoleWatcher:
    """Shows a journey on stderr: a line a stage, a bar while training; off a terminal a line every few seconds."""

    def __init__(self, ctrl_c: str = "") -> None:
        self._console: Console = console(sys.stderr)
        self._ctrl_c = f"; {ctrl_c}" if ctrl_c else ""
        self._state = TrainingState()
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._last_line = 0.0
        self._began = time.time()
        self._shown: set[str] = set()  # a resumed run says again what it said at its start
        self._run = ""  # in training

    def stage_started(self, stage: str, run_dir: Path) -> None:
        """A line that says what happens, or the bar for training."""
        if stage == "train":
            self._begin_training(run_dir)
        else:
            self._console.print(f"[bold]{stage:9}[/] {STAGE_WORDS.get(stage, '')} …")

    def stage_ended(self, stage: str, record: Record, seconds: float) -> None:
        """A line that says what came of it."""
        from foretune.cli.show import one_line

        self._end_bar()
        self._run = "" if stage == "train" else self._run
        if self._console.is_terminal:
            self._console.print(" " * (MAX_COLUMNS - 1), end="\r")
        self._console.print(f"[green]{stage:9}[/] {one_line(record)}  [dim]{show_seconds(seconds)}[/]")
        for warning in record.warnings if isinstance(record, DatasetRecord) else ():
            self.note(warning)

    def event(self, event: Mapping[str, Any] | None) -> None:
        """Move the bar, or print a line when the last is old enough."""
        if event is not None:
            self._state.take(event)
            self._say_message()
        if self._bar is not None and self._task is not None:
            self._bar.update(
                self._task,
                completed=self._state.step,
                total=self._state.planned_steps or None,
                description=self._state.line(),
            )
        elif event is None or event["kind"] != self._state.beat or event.get("time", math.inf) < self._began:
            return  # of an earlier start: the state has it, and nobody waits for it
        elif time.monotonic() - self._last_line >= LINE_SECONDS:
            self._last_line = time.monotonic()
            self._console.print(self._state.line(), markup=False)

    def progress(self, what: str, done: int, total: int) -> None:
        """How far an evaluation is: on a terminal a line that is overwritten, else one now and then."""
        if time.monotonic() - self._last_line < (0.2 if self._console.is_terminal else LINE_SECONDS):
            return
        self._last_line = time.monotonic()
        line = f"  {what.replace('_', ' ')} {done}/{total}"[: MAX_COLUMNS - 1].ljust(MAX_COLUMNS - 1)
        self._console.print(line, end="\r" if self._console.is_terminal else "\n", markup=False)

    def note(self, message: str) -> None:
        """One line, above the bar."""
        self._console.print(f"note: {message}", markup=False)

    def failed(self) -> None:
        """Where the cause stands, if it was training that failed."""
        self._end_bar()
        if self._run:
            self.note(f"cause, evidence and settings that mend it: foretune runs why {self._run}")

    def close(self) -> None:
        """Take the bar off the screen."""
        self._end_bar()

    def _say_message(self) -> None:
        if self._state.message and self._state.message not in self._shown:
            self._shown.add(self._state.message)
            self.note(self._state.message)

    def _begin_training(self, run_dir: Path) -> None:
        plan = PlanRecord.read(run_dir) if PlanRecord.exists(run_dir) else None
        price = plan.price_per_hour_usd if plan else 0.0
        self._state = TrainingState(price_per_hour_usd=price, planned=plan)
        self._run = run_dir.name
        self._console.print(f"[bold]{'train':9}[/] run {run_dir.name}{self._ctrl_c}")
        if self._console.is_terminal:
            self._start_bar()

    def _start_bar(self) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            console=self._console,
            transient=True,
            expand=True,
        )
        self._bar.start()
        self._task = self._bar.add_task("starting", total=None)

    def _end_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
