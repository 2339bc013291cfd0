"""Sweeps: the grid, the rungs, the winner equal to the one trained alone, budgets, faults and going on after a kill."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from foretune import api
from foretune.config import JobConfig
from foretune.config.read import resolve_job
from foretune.config.sweep import LogRange, parsed_sweep, variations
from foretune.errors import ConfigError, TrainingDiverged
from foretune.journey import do_stage
from foretune.records.events import read_events
from foretune.records.run import ResolvedRecord, run_state
from foretune.records.sweep import SettingRecord, SettingResult, SweepRecord
from foretune.records.training import TrainingRecord
from foretune.steps import Run, create_job_run
from foretune.train import sweep as sweep_module
from foretune.train.sweep import sweep
from foretune.train.sweep_plan import plan_sweep, planned_fraction, rung_sizes, rung_steps, survivors, write_sweep
from foretune.train.train import train

SETTINGS: dict[str, Any] = {"train.advanced.max_steps": 8, "train.advanced.eval_every": 1, "train.advanced.patience": 0}


def prepared(job: Path, runs_dir: Path, *texts: str, eta: int = 2, **settings: Any) -> Path:
    """A sweep whose data is collected and whose settings wait."""
    given = resolve_job(job, {**SETTINGS, **{name.replace("__", "."): value for name, value in settings.items()}})
    record, tried = plan_sweep(given.job, texts, eta=eta)
    run_dir = create_job_run(given, runs_dir=runs_dir)
    do_stage(Run.open(run_dir), "collect")
    write_sweep(run_dir, record, tried)
    return run_dir


def swept(run_dir: Path) -> TrainingRecord | None:
    """Let a prepared sweep run in this process."""
    return sweep(run_dir, runs_dir=run_dir.parent, folder=Path(ResolvedRecord.read(run_dir).folder))


def alone(run_dir: Path, number: int) -> Path:
    """The job of one setting, trained by itself in a run of its own."""
    own = ResolvedRecord.read(run_dir / SweepRecord.read(run_dir).settings[number - 1].folder)
    whole = resolve_job(None, {}, {})
    given = type(whole)(JobConfig.model_validate(own.job), whole.origins, Path(own.folder))
    other = create_job_run(given, runs_dir=run_dir.parent)
    do_stage(Run.open(other), "collect")
    train(given.job, run_dir=other, runs_dir=other.parent, folder=given.folder)
    return other


def adapter(run_dir: Path) -> dict[str, Any]:
    """The tensors of a run's adapter."""
    return dict(load_file(run_dir / "adapter" / "adapter_model.safetensors"))


@pytest.mark.req("R249")
def test_values_become_every_combination() -> None:
    tried = variations(JobConfig(), parsed_sweep(["lr=1e-4,2e-4,2e-4", "rank=8,16", "target_modules=q_proj+v_proj"]))
    assert [one.values["train.learning_rate"] for one in tried] == [1e-4, 1e-4, 2e-4, 2e-4]
    assert [one.job.train.rank for one in tried] == [8, 16, 8, 16]
    assert {one.job.train.advanced.target_modules for one in tried} == {("q_proj", "v_proj")}


def test_random_settings_follow_from_the_seed_and_lie_in_their_range() -> None:
    values = parsed_sweep(["lr=1e-5..1e-3", "rank=4..64"])
    assert values["train.learning_rate"] == LogRange(1e-5, 1e-3)
    first, again = (variations(JobConfig(seed=3), values, num_samples=12) for _ in range(2))
    assert first == again != variations(JobConfig(seed=4), values, num_samples=12)
    assert all(1e-5 <= one.job.train.learning_rate <= 1e-3 and 4 <= one.job.train.rank <= 64 for one in first)
    assert len({json.dumps(one.values) for one in first}) == 12


@pytest.mark.parametrize(
    ("texts", "fault"),
    [
        (["lr"], "expected NAME=VALUE"),
        (["learnig_rate=1e-4,2e-4"], "no such field"),
        (["method=lora,full"], "validation loss"),
        (["rank=8,sixteen"], "rank"),
        (["rank=8"], "1 setting;"),
        (["rank=8,16", "train.rank=4"], "twice"),
        (["lr=1e-5..1e-3"], "range"),
        (["lr=1e-3..1e-5"], "LOW..HIGH"),
    ],
)
def test_what_is_wrong_with_a_sweep_is_said_before_anything_is_made(texts: list[str], fault: str) -> None:
    with pytest.raises(ConfigError, match=fault) as caught:
        plan_sweep(JobConfig(), texts)
    assert caught.value.fix


@pytest.mark.req("R193")
def test_rungs_halve_settings_and_lie_on_validations() -> None:
    assert rung_sizes(8, 3) == (8, 3, 1) and rung_sizes(9, 3) == (9, 3, 1) and rung_sizes(8, 2) == (8, 4, 2, 1)
    assert rung_steps(80, 10, 3, 3) == (10, 30, 80) and rung_steps(100, 1, 3, 3) == (12, 34, 100)
    assert rung_steps(80, 10, 5, 3) == (10, 20, 30, 40, 80)  # one validation after the other
    assert rung_steps(10, 50, 3, 3) == (10, 10, 10)  # nowhere to halve
    assert planned_fraction((8, 3, 1), 3) == pytest.approx((8 / 9 + 3 * 2 / 9 + 2 / 3) / 8)


def test_survivors_are_the_best_that_still_run() -> None:
    losses = {1: (3.0,), 2: (1.0, 0.5), 3: (2.0,), 4: (1.0,), 5: (0.1,)}
    settings = [SettingResult(number=n, folder="", values={}, eval_losses=loss) for n, loss in losses.items()]
    settings[4] = settings[4].model_copy(update={"state": "failed"})
    assert survivors(settings, 0, 3) == [2, 4, 3]
    assert survivors(settings, 1, 3) == [2]


@pytest.mark.req("R193", "R249")
def test_the_winner_is_the_run_and_equals_the_one_trained_alone(
    tiny_job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    benches = []
    bench = sweep_module.Bench
    monkeypatch.setattr(sweep_module, "Bench", lambda *given: benches.append(bench(*given)) or benches[-1])
    run_dir = prepared(tiny_job, tmp_path / "runs", "lr=1e-4,1e-2", "rank=2,4", train__advanced__dropout=0.1)
    record = swept(run_dir)
    assert record is not None and record.stop_reason == "finished" and record.run_id == run_dir.name
    whole = SweepRecord.read(run_dir)
    states = [one.state for one in whole.settings]
    assert whole.state == "done" and sorted(states) == ["stopped", "stopped", "stopped", "winner"]
    assert [len(one.eval_losses) for one in whole.settings if one.state == "winner"] == [3]
    assert whole.num_steps == sum(one.step for one in whole.settings) == 4 * 2 + 2 * 2 + 4
    assert benches[0].num_loads == 1
    winner = whole.settings[whole.winner - 1]
    assert ResolvedRecord.read(run_dir).job["train"]["rank"] == winner.values["train.rank"]
    other = alone(run_dir, whole.winner)
    ours, theirs = adapter(run_dir), adapter(other)
    assert all(ours[name].equal(theirs[name]) for name in theirs) and ours.keys() == theirs.keys()
    assert TrainingRecord.read(other).train_curve == record.train_curve
    assert run_state(run_dir) == "trained" and len(api.runs(run_dir.parent)) == 2


def test_a_stopped_setting_has_its_curve_and_why(tiny_job: Path, tmp_path: Path) -> None:
    run_dir = prepared(tiny_job, tmp_path / "runs", "lr=1e-6,1e-2")
    swept(run_dir)
    loser = SettingRecord.read(run_dir / SweepRecord.read(run_dir).settings[0].folder)
    assert loser.result.state == "stopped" and "after rung 1" in loser.result.why and loser.result.step == 4
    assert [point.step for point in loser.eval_curve] == [0, 1, 2, 3, 4] and loser.train_curve
    assert len(list((run_dir / loser.result.folder / "checkpoints").glob("step-*"))) == 1


def test_a_head_of_classes_begins_anew_for_every_setting(tiny_job: Path, tmp_path: Path) -> None:
    rows = [{"text": f"number {i} is {('odd', 'even')[i % 2 == 0]}", "label": str(i % 2)} for i in range(40)]
    (tmp_path / "data" / "classes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"train__method": "classify", "data__path": "data/classes.jsonl", "data__task": "classify"}
    run_dir = prepared(tiny_job, tmp_path / "runs", "lr=1e-3,2e-3", **settings)
    swept(run_dir)
    other = alone(run_dir, SweepRecord.read(run_dir).winner)
    ours, theirs = adapter(run_dir), adapter(other)
    assert any("score" in name for name in theirs)
    assert all(ours[name].equal(theirs[name]) for name in theirs)


@pytest.mark.parametrize(
    "settings",
    [
        {"train.advanced.precision": "bf16"},
        {"train.advanced.lora_variant": "dora"},
        {"train.advanced.quantise_base": "8bit"},
        {"train.method": "dpo", "data.path": "data/pairs.jsonl", "evaluate.primary_metric": ""},
    ],
    ids=["bf16", "dora", "8bit", "dpo"],
)
def test_turns_on_one_base_leave_no_trace(settings: dict[str, Any], tiny_job: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"colour {i}?", "chosen": f"blue {i % 7}", "rejected": f"dull {i % 5}"} for i in range(40)]
    (tmp_path / "data" / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run_dir = prepared(tiny_job, tmp_path / "runs", "lr=1e-3,2e-3", "rank=2,4", **settings)
    swept(run_dir)
    whole = SweepRecord.read(run_dir)
    other = alone(run_dir, whole.winner)
    assert all(value.equal(adapter(other)[name]) for name, value in adapter(run_dir).items())
    losses = [point.loss for point in TrainingRecord.read(other).eval_curve[1:]]
    assert whole.settings[whole.winner - 1].eval_losses[-1] == min(losses)


def test_settings_of_another_base_load_their_own(tiny_job: Path, tmp_path: Path) -> None:
    run_dir = prepared(tiny_job, tmp_path / "runs", "lr=1e-3,2e-3", train__method="full", eta=2)
    swept(run_dir)
    winner = SweepRecord.read(run_dir).winner
    other = alone(run_dir, winner)
    name = "model.safetensors"
    assert (run_dir / "model" / name).read_bytes() == (other / "model" / name).read_bytes()


class Killed(BaseException):
    """What a process that is gone would raise."""


def test_a_killed_sweep_goes_on_and_ends_as_if_nothing_had_been(
    tiny_job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = prepared(tiny_job, tmp_path / "runs", "lr=1e-4,1e-2", "rank=2,4")
    swept(whole)
    run_dir = prepared(tiny_job, tmp_path / "runs", "lr=1e-4,1e-2", "rank=2,4")
    add = sweep_module.EventLog.add

    def dies(moments: Iterator[int]) -> Any:
        left = next(moments)

        def adds(self: Any, kind: str, **values: Any) -> Any:
            nonlocal left
            left -= kind == "step"
            if left < 0:
                raise Killed
            return add(self, kind, **values)

        return adds

    for steps in (3, 4, 1):
        monkeypatch.setattr(sweep_module.EventLog, "add", dies(iter([steps])))
        with pytest.raises(Killed):
            swept(run_dir)
    monkeypatch.setattr(sweep_module.EventLog, "add", add)
    assert swept(run_dir) is not None
    ours, theirs = SweepRecord.read(run_dir), SweepRecord.read(whole)
    assert [one.eval_losses for one in ours.settings] == [one.eval_losses for one in theirs.settings]
    assert ours.winner == theirs.winner
    assert all(value.equal(adapter(whole)[name]) for name, value in adapter(run_dir).items())


def test_a_setting_that_diverges_does_not_end_the_others(tiny_job: Path, tmp_path: Path) -> None:
    run_dir = prepared(tiny_job, tmp_path / "runs", "lr=1e-3,1e30,2e-3", train__advanced__max_grad_norm=0.0)
    assert swept(run_dir) is not None
    settings = SweepRecord.read(run_dir).settings
    assert [one.state for one in settings].count("failed") == 1 and "finite" in settings[1].why
    large = prepared(tiny_job, tmp_path / "runs", "rank=2,4,999")
    assert swept(large) is not None
    failed = SweepRecord.read(large).settings[2]
    assert failed.state == "failed" and "rank 999" in failed.why
    with pytest.raises(ConfigError, match="rank 999"):
        swept(prepared(tiny_job, tmp_path / "runs", "rank=999,2"))
    bad = prepared(tiny_job, tmp_path / "runs", "lr=1e30,2e30", train__advanced__max_grad_norm=0.0)
    with pytest.raises(TrainingDiverged):
        swept(bad)


def test_the_budget_is_that_of_the_whole_sweep(tiny_job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir = prepared(tiny_job, tmp_path / "runs", "lr=1e-3,5e-3,1e-2", plan__max_hours=1.0)
    monkeypatch.setattr(
        sweep_module._Race, "seconds", property(lambda race: 3700.0 if race.record.num_steps >= 4 else 1.0)
    )
    record = swept(run_dir)
    whole = SweepRecord.read(run_dir)
    assert record is not None and record.stop_reason == "budget" and whole.state == "budget"
    assert whole.settings[2].state == "waiting" and whole.winner in (1, 2)
    assert (run_dir / "adapter" / "adapter_model.safetensors").is_file()


@pytest.mark.req("R193")
def test_the_command_shows_every_setting(tiny_job: Path, cli: Any) -> None:
    result = cli("train", tiny_job, "--sweep", "lr=1e-4,1e-2", "--sweep-eta", "2", "--runs-dir", "runs", "--json")
    assert result.code == 0, result.err
    found = result.document["sweep"]
    assert [len(one["eval_losses"]) for one in found["settings"]].count(2) == 1
    assert found["winner"] == 2 and result.document["state"] == "trained"
    kinds = [event["kind"] for event in read_events(Path("runs") / result.document["run_id"])]
    assert kinds.count("step") == 4 and kinds[-1] != "failed"
    refused = cli("train", tiny_job, "--sweep", "lr=1e-4,1e-2", "--nproc", "2", "--runs-dir", "runs")
    assert refused.code == 2 and "--nproc" in refused.err
