"""Successive halving as numbers: how many settings reach each rung, at which of their steps, and what that costs.

Jamieson & Talwalkar 2016, arXiv 1502.07943: all settings train a little, the best 1/eta of them eta times as long, and
so on until one is left. No torch.
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from foretune.config.job import JobConfig
from foretune.config.sweep import (
    FEW,
    MANY,
    LogRange,
    Values,
    Variation,
    num_combinations,
    parsed_sweep,
    variations,
    varied,
)
from foretune.config.write import job_toml
from foretune.errors import ConfigError
from foretune.records.base import write_atomically
from foretune.records.plan import Estimate, PlanRecord
from foretune.records.run import JOB_FILE, ResolvedRecord
from foretune.records.sweep import SettingResult, SweepRecord
from foretune.train.optuna_sampler import check_optuna

__all__ = [
    "SWEEP",
    "PlannedSweep",
    "Sampler",
    "Sweep",
    "plan_sweep",
    "planned_fraction",
    "rung_sizes",
    "rung_steps",
    "setting_of",
    "survivors",
    "total_steps",
    "whole_plan",
    "write_setting",
    "write_sweep",
]

SWEEP = "sweep"  # folder of the settings, in the run folder
ETAS = (2, 8)
Sampler = Literal["auto", "optuna"]  # auto: every combination, or so many drawn


def rung_sizes(num_settings: int, eta: int) -> tuple[int, ...]:
    """How many settings reach each rung: 8 by 3 is 8, 3, 1."""
    sizes = [num_settings]
    while sizes[-1] > 1:
        sizes.append(-(-sizes[-1] // eta))
    return tuple(sizes)


def rung_steps(num_steps: int, eval_every: int, num_rungs: int, eta: int) -> tuple[int, ...]:
    """The optimizer step of each rung of a setting with `num_steps`: each 1/eta of the next, the last its end.

    Rungs lie on the setting's own validations, so that halving adds none: rounded up to them, and each a validation
    after the one before it as long as there are steps.
    """
    steps: list[int] = []
    for rung in range(num_rungs):
        wanted = num_steps / eta ** (num_rungs - 1 - rung)
        validations = max(-(-wanted // eval_every), steps[-1] // eval_every + 1 if steps else 1)
        steps.append(num_steps if rung == num_rungs - 1 else min(num_steps, int(validations) * eval_every))
    return tuple(steps)


def planned_fraction(sizes: Sequence[int], eta: int) -> float:
    """Steps that halving takes, as a share of all settings trained to the end; without the rounding to validations."""
    ends: list[float] = [1.0 / eta ** (len(sizes) - 1 - rung) for rung in range(len(sizes))]
    legs = [end - before for end, before in zip(ends, [0.0, *ends], strict=False)]
    total: float = sum(size * leg for size, leg in zip(sizes, legs, strict=True))
    return total / sizes[0]


def survivors(settings: Sequence[SettingResult], rung: int, size: int) -> list[int]:
    """Numbers of the settings that go on after `rung` (from 0), best first; of equal losses the earlier one."""
    measured = [one for one in settings if len(one.eval_losses) > rung and one.state in ("waiting", "kept", "winner")]
    ordered = sorted(measured, key=lambda one: (one.eval_losses[rung], one.number))
    return [one.number for one in ordered[:size]]


@dataclass(frozen=True)
class Sweep:
    """What `--sweep` asks for: `["lr=1e-4,2e-4", "rank=8,16"]`; of `eta` settings one goes on from rung to rung.

    With `num_samples` so many settings are drawn by the job's seed, instead of every combination; the `sampler`
    "optuna" proposes them one after the other, by what came of those before.
    """

    texts: Sequence[str]
    eta: int = 3
    num_samples: int = 0
    sampler: Sampler = "auto"

    def planned(self, job: JobConfig) -> PlannedSweep:
        """The settings and rungs for a job. Raises ConfigError, before anything is written."""
        return PlannedSweep(
            *plan_sweep(job, self.texts, eta=self.eta, num_samples=self.num_samples, sampler=self.sampler)
        )


class PlannedSweep(NamedTuple):
    """A sweep before its first step: its record, without a run's id, and the jobs of its settings."""

    record: SweepRecord
    tried: list[Variation]

    def write(
        self, run_dir: Path, check: Callable[[PlanRecord], object], approve: Callable[[PlanRecord], object] | None
    ) -> Callable[[PlanRecord], None]:
        """Make the run a sweep; what the plan of one setting is to be asked: `check`, `approve` of the whole sweep."""
        write_sweep(run_dir, self.record, self.tried)

        def asked(plan: PlanRecord) -> None:
            whole = whole_plan(plan, self.record)
            check(whole)
            if approve is not None:
                approve(whole)

        return asked


def plan_sweep(
    job: JobConfig, texts: Sequence[str], *, eta: int = 3, num_samples: int = 0, sampler: Sampler = "auto"
) -> tuple[SweepRecord, list[Variation]]:
    """The record of a sweep before its first step, without its run's id, and the job of every setting known by then.

    Raises ConfigError with what is wrong in `--sweep`, MissingDependency without the sampler, before anything is
    written.
    """
    if not ETAS[0] <= eta <= ETAS[1]:
        raise ConfigError(f"--sweep-eta {eta}: expected {ETAS[0]} to {ETAS[1]}", fix="--sweep-eta 3")
    sweep = parsed_sweep(texts)
    if sampler == "optuna":
        _check_proposals(job, sweep, num_samples)
    tried = [] if sampler == "optuna" else variations(job, sweep, num_samples=num_samples)
    sizes = rung_sizes(len(tried) or num_samples, eta)
    settings = tuple(setting_of(number, one) for number, one in enumerate(tried, start=1))
    record = SweepRecord(
        run_id="",
        sampler="optuna" if sampler == "optuna" else "random" if num_samples else "grid",
        fields=tuple(sweep),
        eta=eta,
        rung_sizes=sizes,
        planned_fraction=round(planned_fraction(sizes, eta), 4),
        seed=job.seed,
        settings=settings,
        space=tuple(texts),
    )
    return record, tried


def setting_of(number: int, one: Variation) -> SettingResult:
    """A setting before its first step."""
    return SettingResult(number=number, folder=str(Path(SWEEP) / f"{number:03d}"), values=one.values)


def _check_proposals(job: JobConfig, sweep: Mapping[str, Values], num_samples: int) -> None:
    """Raise ConfigError where settings cannot be proposed one after the other, or a value does not fit its field."""
    check_optuna()
    if not FEW <= num_samples <= MANY:
        raise ConfigError(
            f"--sampler optuna with --sweep-samples {num_samples}: it must know how many to propose, {FEW} to {MANY}",
            fix="--sweep-samples 16",
        )
    if num_combinations(sweep) <= num_samples:
        raise ConfigError(
            f"--sampler optuna: there are only {num_combinations(sweep):.0f} settings to propose {num_samples} of",
            fix="leave --sampler and --sweep-samples out: every combination is tried",
        )
    for field, values in sweep.items():
        for value in (values.low, values.high) if isinstance(values, LogRange) else values:
            varied(job, {field: value})


def whole_plan(plan: PlanRecord, sweep: SweepRecord) -> PlanRecord:
    """The plan of one setting as that of the whole sweep: its time and cost times the settings it amounts to."""
    factor = max(1.0, sweep.rung_sizes[0] * sweep.planned_fraction)
    names = ("train_seconds", "total_seconds", "cost_usd")
    return plan.model_copy(update={name: _times(getattr(plan, name), factor) for name in names})


def _times(estimate: Estimate, factor: float) -> Estimate:
    return Estimate(**{name: value * factor for name, value in estimate.model_dump().items()})


def write_sweep(run_dir: Path, record: SweepRecord, tried: Sequence[Variation]) -> None:
    """Make a run a sweep: a folder with the whole job for every setting, then `sweep.json`."""
    for setting, one in zip(record.settings, tried, strict=True):
        write_setting(run_dir, setting, one)
    record.model_copy(update={"run_id": ResolvedRecord.read(run_dir).run_id}).write(run_dir)


def write_setting(run_dir: Path, setting: SettingResult, one: Variation) -> None:
    """The folder of one setting of a sweep, with its whole job."""
    whole = ResolvedRecord.read(run_dir)
    own = whole.model_copy(
        update={
            "run_id": f"{whole.run_id}/{setting.folder}",
            "job": one.job.model_dump(mode="json"),
            "origins": whole.origins | dict.fromkeys(setting.values, "sweep"),
            "parent": whole.run_id,
        }
    )
    own.write(run_dir / setting.folder)
    comment = f"Setting {setting.number} of the sweep {whole.run_id}"
    write_atomically(run_dir / setting.folder / JOB_FILE, job_toml(one.job, comment=comment))


def total_steps(sizes: Sequence[int], rungs: Sequence[Sequence[int]]) -> int:
    """Optimizer steps of a whole sweep; `rungs` are the steps of each rung, one list for each known setting.

    Exact where all settings have the same schedule; else settings that go on count as the mean of all.
    """
    total = 0.0
    for rung, size in enumerate(sizes):
        legs = [steps[rung] - (steps[rung - 1] if rung else 0) for steps in rungs]
        total += size * sum(legs) / len(legs)
    return round(total)
