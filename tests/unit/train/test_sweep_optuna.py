"""Settings that Optuna proposes: like a grid in everything but who chooses them."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import pytest

from foretune.cli.progress import TrainingState
from foretune.config import JobConfig
from foretune.config.read import resolve_job
from foretune.config.sweep import LogRange, parsed_sweep
from foretune.errors import ConfigError, MissingDependency
from foretune.journey import do_stage
from foretune.records.events import read_events
from foretune.records.run import ResolvedRecord
from foretune.records.sweep import SweepRecord
from foretune.steps import Run, create_job_run
from foretune.train import optuna_sampler
from foretune.train import sweep as sweep_module
from foretune.train.optuna_sampler import Told, check_optuna, proposed
from foretune.train.sweep import sweep
from foretune.train.sweep_plan import plan_sweep, total_steps, write_sweep

needs_optuna = pytest.mark.skipif(importlib.util.find_spec("optuna") is None, reason="Optuna is not installed")
SPACE = ["lr=1e-5..1e-1", "rank=2..8", "target_modules=q_proj,q_proj+v_proj"]


def prepared(job: Path, runs_dir: Path, num_samples: int) -> Path:
    """A sweep whose settings are still to be proposed."""
    steps = {"train.advanced.max_steps": 4, "train.advanced.eval_every": 1, "train.advanced.patience": 0}
    given = resolve_job(job, steps)
    record, tried = plan_sweep(given.job, SPACE, eta=2, num_samples=num_samples, sampler="optuna")
    run_dir = create_job_run(given, runs_dir=runs_dir)
    do_stage(Run.open(run_dir), "collect")
    write_sweep(run_dir, record, tried)
    return run_dir


@needs_optuna
def test_proposals_come_near_to_what_was_good_and_never_twice() -> None:
    space = parsed_sweep(SPACE)

    def loss(values: dict[str, Any]) -> float:
        return abs(math.log10(values["train.learning_rate"]) + 3) + 0.1 * abs(values["train.rank"] - 4)

    told: list[Told] = []
    for number in range(9):
        values = proposed(space, told, seed=0, num_settings=9)
        assert values not in [one.values for one in told]
        assert 1e-5 <= values["train.learning_rate"] <= 1e-1 and values["train.rank"] in range(2, 9)
        told.append(Told(values, None if number == 2 else loss(values)))
    losses = [one.loss for one in told if one.loss is not None]
    assert min(losses[3:]) < 0.5 * min(losses[:3]) and sum(losses[5:]) / 3 < sum(losses[:3]) / 3
    again = [Told(json.loads(json.dumps(one.values)), one.loss) for one in told]  # as a record gives them back
    assert proposed(space, again, seed=0, num_settings=9) == proposed(space, told, seed=0, num_settings=9)


@needs_optuna
def test_a_small_space_is_searched_without_repeating(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optuna_sampler, "TRIES", 2)
    space, told = parsed_sweep(["lr=1e-4,1e-3", "rank=2,4"]), list[Told]()
    for _ in range(4):
        told.append(Told(proposed(space, told, seed=0, num_settings=3), 1.0))
    assert len({json.dumps(one.values) for one in told}) == 4


@needs_optuna
@pytest.mark.req("R193", "R249")
def test_a_sweep_by_proposals_halves_and_goes_on_after_a_stop(
    tiny_job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, run_dir = (prepared(tiny_job, tmp_path / "runs", 4) for _ in range(2))
    folder = Path(ResolvedRecord.read(run_dir).folder)
    assert SweepRecord.read(whole).settings == () and SweepRecord.read(whole).rung_sizes == (4, 2, 1)
    sweep(whole, runs_dir=whole.parent, folder=folder)
    record = SweepRecord.read(whole)
    assert record.state == "done" and record.sampler == "optuna" and len(record.settings) == 4
    assert [len(one.eval_losses) for one in record.settings].count(3) == 1

    propose = sweep_module._Race._propose

    def stops(race: Any, number: int) -> None:
        propose(race, number)
        race.guard.flag.is_set = number == 3

    monkeypatch.setattr(sweep_module._Race, "_propose", stops)
    assert sweep(run_dir, runs_dir=run_dir.parent, folder=folder) is None
    assert SweepRecord.read(run_dir).state == "stopped" and len(SweepRecord.read(run_dir).settings) == 3
    monkeypatch.setattr(sweep_module._Race, "_propose", propose)
    assert sweep(run_dir, runs_dir=run_dir.parent, folder=folder) is not None
    ours = SweepRecord.read(run_dir)
    assert [one.values for one in ours.settings] == [one.values for one in record.settings]
    assert ours.winner == record.winner

    state = TrainingState()
    for event in read_events(whole):
        if event["kind"] in ("train_start", "sweep"):
            state.take(event)
    assert (state.step, state.planned_steps) == (record.num_steps, record.num_steps) == (8, 8)
    assert state.line().startswith("step 8/8")


def test_steps_of_a_sweep_are_those_of_its_rungs() -> None:
    assert total_steps((4, 2, 1), [(1, 2, 4)] * 4) == 4 + 2 + 2
    assert total_steps((8, 3, 1), [(9, 27, 80)]) == 8 * 9 + 3 * 18 + 53
    assert total_steps((2, 1), [(10, 20), (20, 40)]) == 30 + 15


def test_what_proposals_need_is_said_before_anything_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match="Optuna") as missing:
        check_optuna()
    assert "foretune[sweep]" in missing.value.fix
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    for texts, num_samples, fault in (
        (["lr=1e-5..1e-3"], 0, "how many"),
        (["lr=1e-4,1e-3"], 4, "only 2 settings"),
        (["rank=8,sixteen"], 2, "2 settings"),
        (["rank=8..16", "schedule=cosine,constan"], 4, "schedule"),
    ):
        with pytest.raises(ConfigError, match=fault):
            plan_sweep(JobConfig(), texts, num_samples=num_samples, sampler="optuna")


def test_whole_ranges_stay_whole() -> None:
    assert LogRange(4, 64).rounded(63.7) == 64 and LogRange(4, 64).rounded(99.0) == 64
    assert LogRange(1e-5, 1e-3).rounded(1.23456e-4) == 1.235e-4


def test_the_command_asks_for_something_to_choose(tiny_job: Path, cli: Any) -> None:
    assert "nothing to choose" in cli("train", tiny_job, "--sampler", "optuna").err
    assert "expected auto or optuna" in cli("train", tiny_job, "--sampler", "tpe", "--sweep", "lr=1e-4,1e-3").err
