"""A sweep: many settings over one loaded base, each trained in legs from rung to rung by the one loop, halved by loss.

A leg ends with a checkpoint and the next begins from it, as a resumed run does, so a setting that reaches its end has
computed what it would have computed alone. The best setting becomes the run itself.
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foretune.config import JobConfig
from foretune.config.job import LORA_METHODS
from foretune.config.sweep import parsed_sweep, varied
from foretune.config.write import job_toml
from foretune.errors import ConfigError, ForetuneError, GateRefused, TrainingDiverged
from foretune.models.linear import head_names
from foretune.records.base import write_atomically
from foretune.records.dataset import DatasetRecord
from foretune.records.events import EventLog, read_events
from foretune.records.run import JOB_FILE, ResolvedRecord
from foretune.records.sweep import SettingRecord, SettingResult, SweepRecord
from foretune.records.training import TrainingRecord
from foretune.train.checkpoint import LoopState, load_checkpoint, prune_checkpoints
from foretune.train.loop import FitResult, fit, trainable
from foretune.train.optuna_sampler import Told, proposed
from foretune.train.setup import Setup, build_setup, derived_again, setup_again
from foretune.train.sweep_plan import rung_steps, setting_of, survivors, total_steps, write_setting
from foretune.train.train import CHECKPOINTS, Guard, announce, finish, guarded, pre_flight, prepare, run_key

__all__ = ["Bench", "sweep"]

SAY_SECONDS = 1.0  # between two events that say how far a sweep is

# Fields of `train` that the loaded base or the rows depend on: settings that differ in them load their own.
OF_THE_BASE = (
    "method",
    "max_seq_len",
    "advanced.quantise_base",
    "advanced.base_adapter",
    "advanced.init",
    "advanced.train_on",
    "advanced.num_threads",
)


@dataclass
class Bench:
    """One base with its rows in memory, on which settings take turns; another is loaded where one needs it."""

    runs_dir: Path
    folder: Path  # of the job
    num_loads: int = 0
    _setup: Setup | None = None
    _key: str = ""
    _heads: dict[str, Tensor] = field(default_factory=dict)

    def setup(self, job: JobConfig, run_dir: Path) -> Setup:
        """The setup of a setting, as if it were made for it alone. Raises ConfigError, DataError, NotFound."""
        key = base_key(job)
        if self._setup is None or not key or key != self._key:
            self._setup = None  # before the next is loaded
            self._setup = build_setup(job, run_dir=run_dir, runs_dir=self.runs_dir, folder=self.folder)
            self._key, self.num_loads = key, self.num_loads + 1
            self._heads = {name: value.detach().clone() for name, value in self._trained_heads(self._setup).items()}
            return self._setup
        with torch.no_grad():
            for name, value in self._trained_heads(self._setup).items():
                value.copy_(self._heads[name])
        self._setup = setup_again(self._setup, job, run_dir=run_dir)
        return self._setup

    @staticmethod
    def _trained_heads(setup: Setup) -> dict[str, Tensor]:
        """A head of classes is a part of the base that is trained, and so must begin anew."""
        heads = tuple(f"{name}." for name in head_names(setup.loaded.model))
        return {n: p for n, p in trainable(setup.loaded.model).items() if n.startswith(heads)} if heads else {}


def base_key(job: JobConfig) -> str:
    """What two jobs must share to train on one loaded base; empty where training changes the base itself."""
    if job.train.method not in LORA_METHODS:
        return ""
    train = job.train.model_dump(mode="json")
    values = {name: _dotted(train, name) for name in OF_THE_BASE}
    return json.dumps([job.base, job.seed, values], sort_keys=True)


def _dotted(tree: Mapping[str, Any], name: str) -> Any:
    for part in name.split("."):
        tree = tree[part]
    return tree


def sweep(run_dir: Path, *, runs_dir: Path, folder: Path) -> TrainingRecord | None:
    """Go through the sweep of a run from where it stands, and make its best setting the run's own model.

    Returns None where it was stopped before the end; calling it again goes on. Raises what training raises, where every
    setting fails.
    """
    with guarded(run_dir) as guard:
        race = _Race(run_dir, Bench(runs_dir, folder), guard, SweepRecord.read(run_dir))
        guard.events.add("train_start", step=race.record.num_steps, planned_steps=0, sweep=race.record.rung_sizes[0])
        reason = race.run()
        record = None if reason == "stopped" else race.crown(reason)
        guard.events.add("train_end", reason=reason, step=race.record.num_steps)
        return record


class _Race:
    """A sweep under way in this process."""

    def __init__(self, run_dir: Path, bench: Bench, guard: Guard, record: SweepRecord) -> None:
        self.run_dir = run_dir
        self.bench = bench
        self.guard = guard
        self.record = record.model_copy(update={"state": "running"})
        self.jobs = {one.number: self._job(one) for one in record.settings}
        self.seconds_before, self.began = record.seconds, time.perf_counter()
        self.is_checked = (run_dir / "token_audit.json").is_file()
        self.planned_steps = 0  # of the whole sweep, once the first setting is loaded
        self.said_at = 0.0

    def _job(self, setting: SettingResult) -> JobConfig:
        """The job of a setting; its folder gets the data's record, so that it is a run folder like any other."""
        own = self.run_dir / setting.folder
        if DatasetRecord.exists(self.run_dir) and not DatasetRecord.exists(own):
            DatasetRecord.read(self.run_dir).write(own)
        return JobConfig.model_validate(ResolvedRecord.read(own).job)

    @property
    def seconds(self) -> float:
        """Wall seconds of the sweep over all its starts."""
        return self.seconds_before + time.perf_counter() - self.began

    def run(self) -> str:
        """Every rung in turn: "finished", or why it ended before: "stopped", "budget"."""
        for rung, size in enumerate(self.record.rung_sizes):
            for number in self._numbers(rung, size):
                reason = self._leg(number, rung)
                if reason:
                    self._write(state=reason)
                    return reason
        return "finished"

    def _numbers(self, rung: int, size: int) -> Iterator[int]:
        """The settings of a rung, in the order in which they train: those of one base together."""
        if rung:
            running = survivors(self.record.settings, rung - 1, size)
            self._drop(rung - 1, running)
            yield from sorted(running, key=lambda one: (base_key(self.jobs[one]), one))
        elif self.record.sampler != "optuna":
            yield from sorted(self.jobs, key=lambda one: (base_key(self.jobs[one]), one))
        else:
            for number in range(1, size + 1):
                if number > len(self.record.settings):
                    self._propose(number)
                yield number

    def _propose(self, number: int) -> None:
        """Add the next setting, by what came of those before at their first rung."""
        told = [Told(one.values, one.eval_losses[0] if one.eval_losses else None) for one in self.record.settings]
        space, total = parsed_sweep(self.record.space), self.record.rung_sizes[0]
        values = proposed(space, told, seed=self.record.seed, num_settings=total)
        one = varied(JobConfig.model_validate(ResolvedRecord.read(self.run_dir).job), values)
        setting = setting_of(number, one)
        write_setting(self.run_dir, setting, one)
        self.jobs[number] = self._job(setting)
        self._write(settings=(*self.record.settings, setting))

    def _setting(self, number: int) -> SettingResult:
        return self.record.settings[number - 1]

    def _leg(self, number: int, rung: int) -> str:
        """Train a setting up to a rung, unless it has been there; why the whole sweep must end now, or ""."""
        before = self._setting(number)
        if len(before.eval_losses) > rung or before.state == "failed":
            return ""
        if before.has_ended:
            self._put(before.model_copy(update={"eval_losses": (*before.eval_losses, before.eval_losses[-1])}))
            return ""
        try:
            setup = self._ready(number)
            steps = self._rungs(setup)
            result = self._fit(number, setup, until=steps[rung])
        except (TrainingDiverged, ConfigError) as error:
            if isinstance(error, ConfigError) and not self.record.num_steps:
                raise  # nothing is lost yet: better to hear of it now
            self._failed(before, error)
            return ""
        return self._taken(before, setup, result, steps, rung)

    def _rungs(self, setup: Setup) -> tuple[int, ...]:
        settings = setup.settings
        return rung_steps(settings.num_steps, settings.eval_every, len(self.record.rung_sizes), self.record.eta)

    def _ready(self, number: int) -> Setup:
        setting, job = self._setting(number), self.jobs[number]
        setup = self.bench.setup(job, self.run_dir / setting.folder)
        if not setup.validation.rows:
            raise ConfigError(
                "a sweep compares settings by validation loss, and there are no validation samples",
                fix="data.validation_fraction = 0.1",
            )
        if not self.is_checked:
            for line in pre_flight(job, setup, self.run_dir):
                self.guard.events.add("note", message=line)
            self.is_checked = True
        if not self.planned_steps:
            self._plan_steps(setup)
        return setup

    def _plan_steps(self, setup: Setup) -> None:
        """Count the steps of the whole sweep, by the rows that are now known."""
        schedules = (derived_again(setup, job) for job in self.jobs.values())
        count, eta = len(self.record.rung_sizes), self.record.eta
        rungs = [rung_steps(one.num_steps, one.eval_every, count, eta) for one in schedules]
        self.planned_steps = total_steps(self.record.rung_sizes, rungs)
        self._say_step(0)

    def _say_step(self, new_steps: int) -> None:
        self.said_at = time.monotonic()
        step = self.record.num_steps + new_steps
        self.guard.events.add("sweep", step=step, planned_steps=max(step, self.planned_steps))

    def _watched(self) -> Callable[[], bool]:
        """Whether to stop, asked after every step; says now and then how far the sweep is."""
        steps = itertools.count(1)

        def asked() -> bool:
            done = next(steps)
            if time.monotonic() - self.said_at >= SAY_SECONDS:
                self._say_step(done)
            return self.guard.flag.is_set

        return asked

    def _fit(self, number: int, setup: Setup, *, until: int) -> FitResult:
        """The loop, from this setting's last checkpoint; what is left of the whole sweep's budget is its own."""
        setting, own = self._setting(number), self.run_dir / self._setting(number).folder
        left = setup.settings.max_seconds - self.seconds
        is_new = not any((own / CHECKPOINTS).glob("step-*"))
        with EventLog(own) as events:
            if is_new:
                announce(self.jobs[number], setup, events, False)
            prepare(self.jobs[number], setup, events, self.run_dir)
            return fit(
                setup.loaded,
                setup.train.rows,
                setup.validation.rows,
                setup.passes,
                replace(setup.settings, max_seconds=setting.seconds + left),
                events=events,
                checkpoints=own / CHECKPOINTS,
                run_key=run_key(self.jobs[number], setup.dataset_version),
                should_stop=self._watched(),
                resume=True,
                until=until,
            )

    def _taken(self, before: SettingResult, setup: Setup, result: FitResult, steps: tuple[int, ...], rung: int) -> str:
        """Write down what a leg came to; why the sweep must end now, or ""."""
        state = result.state
        has_ended = result.stop_reason in ("finished", "early_stopping")
        is_there = has_ended or state.step >= steps[rung]
        losses = (*before.eval_losses, _best(state)) if is_there else before.eval_losses
        after = before.model_copy(
            update={
                "state": "kept",
                "step": state.step,
                "planned_steps": setup.settings.num_steps,
                "has_ended": has_ended,
                "eval_losses": losses,
                "seconds": round(state.seconds, 3),
            }
        )
        SettingRecord(
            result=after,
            best_step=state.best_step,
            train_curve=tuple(state.train_curve),
            eval_curve=tuple(state.eval_curve),
        ).write(self.run_dir / after.folder)
        self._put(after, new_steps=state.step - result.started_from, price=self.jobs[after.number])
        self._say_step(0)
        if is_there:
            self._say(after, rung)
        if self.guard.flag.is_set:
            return "stopped"
        return "budget" if result.stop_reason == "budget" or self.seconds > setup.settings.max_seconds else ""

    def _say(self, setting: SettingResult, rung: int) -> None:
        values = ", ".join(f"{name.rpartition('.')[2]} {value}" for name, value in setting.values.items())
        self.guard.events.add(
            "note",
            message=f"rung {rung + 1}: setting {setting.number} ({values}): validation loss "
            f"{setting.eval_losses[-1]:.4f} at step {setting.step}",
        )

    def _failed(self, before: SettingResult, error: ForetuneError) -> None:
        self._put(before.model_copy(update={"state": "failed", "why": error.what}))
        self.guard.events.add("note", message=f"setting {before.number} failed: {error.what}")
        is_last = len(self.record.settings) == self.record.rung_sizes[0]
        if is_last and all(one.state == "failed" for one in self.record.settings):
            raise error

    def _drop(self, rung: int, kept: list[int]) -> None:
        """Stop the settings that do not go on; of their checkpoints the last one stays."""
        for one in self.record.settings:
            if one.number in kept or one.state in ("stopped", "failed"):
                continue
            why = f"not among the best {len(kept)} after rung {rung + 1}"
            stopped = one.model_copy(update={"state": "stopped", "why": why})
            self._put(stopped)
            known = SettingRecord.read(self.run_dir / one.folder)
            known.model_copy(update={"result": stopped}).write(self.run_dir / one.folder)
            prune_checkpoints(self.run_dir / one.folder / CHECKPOINTS, keep=1, best_step=-1)

    def _put(self, setting: SettingResult, *, new_steps: int = 0, price: JobConfig | None = None) -> None:
        settings = tuple(setting if one.number == setting.number else one for one in self.record.settings)
        usd = price.plan.price_per_hour_usd if price is not None else None
        cost = self.record.cost_usd if usd is None else self.seconds / 3600 * usd
        self._write(settings=settings, num_steps=self.record.num_steps + new_steps, cost_usd=cost)

    def _write(self, **changes: Any) -> None:
        self.record = self.record.model_copy(update={"seconds": round(self.seconds, 3), **changes})
        self.record.write(self.run_dir)

    def crown(self, reason: str) -> TrainingRecord:
        """Make the best setting the run: its job, its events, its artefact and `training.json`."""
        number = self._leader()
        setting, setup = self._setting(number), self._ready(number)
        result = self._final(setting, setup, reason)
        self._become(setting)
        record = finish(self.jobs[number], setup, result, self.run_dir)
        self._put(setting.model_copy(update={"state": "winner"}))
        self._write(winner=number, state="budget" if reason == "budget" else "done")
        return record

    def _leader(self) -> int:
        """The setting with the lowest validation loss of all; of equal ones that which came further."""
        known = [one for one in self.record.settings if one.eval_losses and one.state != "failed"]
        if not known:
            raise GateRefused(
                "the budget ended before any setting reached its first rung",
                fix="foretune train JOB --sweep ... with a larger --max-hours or --max-cost, or fewer settings",
            )
        return min(known, key=lambda one: (one.eval_losses[-1], -len(one.eval_losses), one.number)).number

    def _final(self, setting: SettingResult, setup: Setup, reason: str) -> FitResult:
        """The winner's best parameters, in the model; nothing is trained any more."""
        settings = replace(setup.settings, max_seconds=math.inf)
        own = self.run_dir / setting.folder
        key = run_key(self.jobs[setting.number], setup.dataset_version)
        checkpoints = own / CHECKPOINTS
        with EventLog(own) as events:
            result = fit(
                setup.loaded,
                setup.train.rows,
                setup.validation.rows,
                setup.passes,
                settings,
                events=events,
                checkpoints=checkpoints,
                run_key=key,
                resume=True,
                until=None if setting.has_ended else setting.step,
            )
        if setting.has_ended:
            return result
        if result.state.best_step not in (0, result.state.step):
            best = checkpoints / f"step-{result.state.best_step:06d}"
            load_checkpoint(best, trainable(setup.loaded.model), None, key)
        return result._replace(stop_reason="budget")

    def _become(self, setting: SettingResult) -> None:
        """Give the run the winner's job and its events, once."""
        own, whole = self.run_dir / setting.folder, ResolvedRecord.read(self.run_dir)
        won = ResolvedRecord.read(own)
        values = ", ".join(f"{name} = {value}" for name, value in setting.values.items())
        derived = {**whole.derived, "sweep": f"setting {setting.number} of {len(self.record.settings)}: {values}"}
        whole.model_copy(update={"job": won.job, "origins": won.origins, "derived": derived}).write(self.run_dir)
        write_atomically(self.run_dir / JOB_FILE, job_toml(self.jobs[setting.number], comment=derived["sweep"]))
        if not any(event["kind"] == "step" for event in read_events(self.run_dir)):
            for event in read_events(own):
                if event["kind"] in ("step", "eval"):
                    values_of = {name: value for name, value in event.items() if name not in ("time", "kind")}
                    self.guard.events.add(event["kind"], **values_of)
        reference = own / "reference.json"
        if reference.is_file():
            shutil.copyfile(reference, self.run_dir / reference.name)


def _best(state: LoopState) -> float:
    """The lowest validation loss after the first step: what the setting would deliver if it ended here."""
    return min(point.loss for point in state.eval_curve if point.step > 0)
