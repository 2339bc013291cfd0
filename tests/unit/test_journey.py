"""The journey: stages in order, gates closed with the right error, stopped and killed runs gone on with."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from foretune import journey
from foretune.backends.local import is_alive, stop_training
from foretune.config import JobConfig
from foretune.config.read import ResolvedJob
from foretune.data.ledger import TestLedger
from foretune.diagnose import LiveDiagnosis
from foretune.errors import ConfigError, DataError, DoesNotFit, ForetuneError, GateRefused, TrainingDiverged
from foretune.journey import STAGES, mark_journey, run_stages
from foretune.records.audit import Finding
from foretune.records.base import Record
from foretune.records.diagnosis import DiagnosisRecord
from foretune.records.evaluation import EvaluationRecord
from foretune.records.events import EventLog, read_events
from foretune.records.plan import PlanRecord
from foretune.records.run import run_pid, run_state
from foretune.records.training import TrainingRecord
from foretune.steps import Run, Silent, create_job_run
from stand_ins import (
    audit_record,
    dataset_record,
    diagnosis_record,
    evaluation_record,
    plan_record,
    use_stand_in_trainer,
    written,
)

BAD = Finding(id="DATA001", severity="error", title="empty answer", count=2, places=("d.jsonl:3", "d.jsonl:9"), fix="x")


class Notebook(Silent):
    """A watcher that writes down what it is told, and does `on_event` at each event."""

    def __init__(self, on_event: Callable[[Mapping[str, Any]], None] = lambda event: None) -> None:
        self.lines: list[str] = []
        self.on_event = on_event

    def stage_started(self, stage: str, run_dir: Path) -> None:
        self.lines.append(f"{stage} starts")

    def stage_ended(self, stage: str, record: Record, seconds: float) -> None:
        self.lines.append(f"{stage} ends with {type(record).file_name}")

    def event(self, event: Mapping[str, Any] | None) -> None:
        if event is not None and event["kind"] == "step":
            self.lines.append(f"step {event['step']}")
            self.on_event(event)

    def note(self, message: str) -> None:
        self.lines.append(message)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> dict[str, Record]:
    """Stages that write the record that stands here, and a training process that finishes."""
    records: dict[str, Record] = {
        "collect": dataset_record(),
        "audit": audit_record(),
        "plan": plan_record(),
        "evaluate": evaluation_record(),
        "diagnose": diagnosis_record(),
    }

    def step(stage: str) -> Callable[..., Record]:
        def do(run: Run, **_: object) -> Record:
            return written(records[stage], run)

        return do

    for stage in records:
        monkeypatch.setattr(journey, f"{stage}_run", step(stage))
    use_stand_in_trainer(monkeypatch)
    return records


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run that is to go through the whole journey."""
    folder = create_job_run(ResolvedJob(JobConfig(), {}, tmp_path), runs_dir=tmp_path / "runs")
    mark_journey(folder)
    return folder


def stage_events(run_dir: Path) -> list[str]:
    """`collect start`, `collect end` ..."""
    return [f"{event['stage']} {event['state']}" for event in read_events(run_dir) if event["kind"] == "stage"]


def test_the_stages_come_in_order_each_with_its_record(steps: dict[str, Record], run_dir: Path) -> None:
    watcher, ended = Notebook(), []
    outcome = run_stages(run_dir, watcher=watcher, at_end=ended.append)
    assert (outcome.state, ended) == ("done", [run_dir])
    assert [line for line in watcher.lines if line.endswith("starts")] == [f"{stage} starts" for stage in STAGES]
    assert "train ends with training.json" in watcher.lines
    assert [line for line in watcher.lines if line.startswith("step")] == [f"step {n}" for n in range(1, 9)]
    assert stage_events(run_dir) == ["journey start"] + [f"{s} {state}" for s in STAGES for state in ("start", "end")]
    assert run_state(run_dir) == "evaluated"


def test_the_plan_is_reconciled_with_what_it_took(steps: dict[str, Record], run_dir: Path) -> None:
    run_stages(run_dir)
    found = {item.quantity: item for item in TrainingRecord.read(run_dir).reconciliation}
    assert found["train_seconds"].held and found["train_seconds"].actual == 62.0
    assert found["peak_memory_gb"].held
    assert found["total_seconds"].actual == pytest.approx(70.0, abs=5.0)


def test_a_finished_journey_does_nothing_twice(steps: dict[str, Record], run_dir: Path) -> None:
    run_stages(run_dir)
    watcher = Notebook()
    assert run_stages(run_dir, watcher=watcher).state == "done"
    assert watcher.lines == []


def test_audit_errors_stop_the_journey_before_training(steps: dict[str, Record], run_dir: Path) -> None:
    steps["audit"] = audit_record(BAD)
    ended: list[Path] = []
    with pytest.raises(DataError, match="1 error in the data") as caught:
        run_stages(run_dir, at_end=ended.append)
    assert caught.value.exit_code == 3
    assert [(fault.file, fault.line) for fault in caught.value.faults] == [("d.jsonl", 3)]
    assert not PlanRecord.exists(run_dir)
    assert ended == [run_dir]


@pytest.mark.parametrize(
    ("plan", "job", "error", "code"),
    [
        ({"fits": False}, {}, DoesNotFit, 7),
        ({"disk_bytes": 10**18}, {}, DoesNotFit, 7),
        ({"cost_usd": {"low": 1, "expected": 2, "high": 3}}, {"max_cost_usd": 1.5}, GateRefused, 6),
        ({"total_seconds": {"low": 7000, "expected": 7300, "high": 8000}}, {"max_hours": 2}, GateRefused, 6),
    ],
)
def test_the_plan_closes_the_gate(
    steps: dict[str, Record], tmp_path: Path, plan: dict[str, Any], job: dict[str, Any], error: type, code: int
) -> None:
    steps["plan"] = plan_record(**plan)
    config = JobConfig.model_validate({"plan": job})
    folder = create_job_run(ResolvedJob(config, {}, tmp_path), runs_dir=tmp_path / "runs")
    with pytest.raises(error) as caught:
        run_stages(folder)
    assert caught.value.exit_code == code and caught.value.fix
    assert "train start" not in stage_events(folder)


def test_a_plan_within_the_budget_passes(steps: dict[str, Record], tmp_path: Path) -> None:
    steps["plan"] = plan_record(cost_usd={"low": 1, "expected": 2, "high": 3})
    config = JobConfig.model_validate({"plan": {"max_cost_usd": 2.0, "max_hours": 1.0}})
    folder = create_job_run(ResolvedJob(config, {}, tmp_path), runs_dir=tmp_path / "runs")
    asked: list[PlanRecord] = []
    assert run_stages(folder, approve=asked.append).state == "done"
    assert asked == [steps["plan"]]


def test_a_price_that_is_not_agreed_to_starts_nothing(steps: dict[str, Record], run_dir: Path) -> None:
    def refuse(plan: PlanRecord) -> None:
        raise GateRefused("no")

    with pytest.raises(GateRefused):
        run_stages(run_dir, approve=refuse)
    assert "train start" not in stage_events(run_dir)


def test_a_test_split_that_another_run_opened_stops_the_journey_before_training(
    steps: dict[str, Record], run_dir: Path
) -> None:
    ledger = TestLedger(run_dir.parent)
    ledger.open_test("another version", "other-001", "evaluate")
    ledger.open_test(dataset_record().version, run_dir.name, "evaluate")
    journey.do_stage(Run.open(run_dir), "collect")
    assert run_stages(run_dir, stages=("collect",)).state == "done"
    ledger.open_test(dataset_record().version, "other-001", "evaluate", reuse=True)
    with pytest.raises(GateRefused, match="other-001") as caught:
        run_stages(run_dir)
    assert "--reuse-test" in caught.value.fix
    assert "train start" not in stage_events(run_dir)
    assert run_stages(run_dir, reuse_test=True).state == "done"


def test_divergence_has_its_name_and_exit_code(
    steps: dict[str, Record], run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_stand_in_trainer(monkeypatch, "diverge")
    with pytest.raises(TrainingDiverged, match="NaN at step 3") as caught:
        run_stages(run_dir)
    assert (caught.value.exit_code, caught.value.fix) == (3, "lower the rate")
    assert not EvaluationRecord.exists(run_dir)


def test_a_training_process_that_dies_without_a_word_is_told_with_its_log(
    steps: dict[str, Record], run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_stand_in_trainer(monkeypatch, "die")
    with pytest.raises(ForetuneError, match="the last words") as caught:
        run_stages(run_dir)
    assert caught.value.fix == f"foretune runs resume {run_dir.name}"
    assert run_state(run_dir) == "interrupted"


def interrupt_at(step: int) -> Callable[[Mapping[str, Any]], None]:
    """Ctrl-C when a step is reached."""

    def on_event(event: Mapping[str, Any]) -> None:
        if event["step"] == step:
            raise KeyboardInterrupt

    return on_event


def test_ctrl_c_stops_training_with_a_checkpoint_and_resume_goes_on(
    steps: dict[str, Record], run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_stand_in_trainer(monkeypatch, "slow")
    watcher = Notebook(interrupt_at(4))
    outcome = run_stages(run_dir, watcher=watcher)
    assert (outcome.state, outcome.interrupted) == ("stopped", True)
    assert "checkpointing; press Ctrl-C again to abort" in watcher.lines
    assert run_state(run_dir) == "stopped"
    assert not EvaluationRecord.exists(run_dir)
    watcher = Notebook()
    assert run_stages(run_dir, watcher=watcher).state == "done"
    assert watcher.lines[:2] == ["train starts", "step 1"] and "step 8" in watcher.lines
    assert DiagnosisRecord.exists(run_dir)


def test_notes_of_earlier_starts_are_not_said_again(
    steps: dict[str, Record], run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Listener(Notebook):
        def event(self, event: Mapping[str, Any] | None) -> None:
            super().event(event)
            if event is not None and event["kind"] == "note":
                self.lines.append(str(event["message"]))

    use_stand_in_trainer(monkeypatch, "finish")
    with EventLog(run_dir) as log:
        log.add("train_start", step=0, planned_steps=8)
        log.add("step", step=1, loss=3.0, tokens=100, seconds=0.01)
        log.add("note", message="step-000001: the file is damaged")
    watcher = Listener()
    assert run_stages(run_dir, watcher=watcher).state == "done"
    assert "step 1" in watcher.lines and "step 8" in watcher.lines  # steps count for the curve
    assert not any("damaged" in line for line in watcher.lines)


class Impatient(Notebook):
    """Presses Ctrl-C at step 4 and again when nothing comes."""

    def event(self, event: Mapping[str, Any] | None) -> None:
        super().event(event)
        if event is None and self.lines[-1].startswith("checkpointing"):
            raise KeyboardInterrupt


def test_a_second_ctrl_c_aborts(steps: dict[str, Record], run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_stand_in_trainer(monkeypatch, "stubborn")
    with pytest.raises(KeyboardInterrupt):
        run_stages(run_dir, watcher=Impatient(interrupt_at(4)))
    deadline = time.monotonic() + 10
    while run_pid(run_dir) is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert run_state(run_dir) == "interrupted"


def test_leaving_a_watched_run_does_not_touch_it(
    steps: dict[str, Record], run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_stand_in_trainer(monkeypatch, "slow")
    assert run_stages(run_dir, detach=True).state == "running"
    with pytest.raises(KeyboardInterrupt):
        journey.watch_run(run_dir, watcher=Notebook(interrupt_at(3)))
    assert run_state(run_dir) == "training"
    assert stop_training(run_dir)
    assert journey.watch_run(run_dir).state == "stopped"


def test_watching_tells_of_a_training_that_was_killed(
    steps: dict[str, Record], run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_stand_in_trainer(monkeypatch, "die")
    run_stages(run_dir, detach=True)
    with pytest.raises(ForetuneError, match="ended without a word"):
        journey.watch_run(run_dir)


def test_watching_follows_a_run_to_its_end(steps: dict[str, Record], run_dir: Path) -> None:
    run_stages(run_dir, stages=("collect", "audit", "plan", "train"), detach=True)
    watcher = Notebook()
    assert journey.watch_run(run_dir, watcher=watcher).state == "done"
    assert "step 8" in watcher.lines and "train starts" in watcher.lines


def test_a_journey_joins_training_that_goes_on(
    steps: dict[str, Record], run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_stand_in_trainer(monkeypatch, "slow")
    run_stages(run_dir, detach=True)
    first = journey.started_pid(run_dir) or run_pid(run_dir)
    assert first is not None

    def stop_when_trained() -> None:
        while run_pid(run_dir) is None:
            time.sleep(0.01)
        time.sleep(0.2)
        os.kill(first, signal.SIGTERM)

    helper = threading.Thread(target=stop_when_trained)
    helper.start()
    outcome = run_stages(run_dir)
    helper.join()
    assert outcome.state == "stopped"
    assert len([event for event in read_events(run_dir) if event["kind"] == "process"]) == 1
    assert not is_alive(first)


def test_two_journeys_never_take_the_same_run(steps: dict[str, Record], run_dir: Path) -> None:
    with journey.journey_lock(run_dir):
        assert journey.journey_pid(run_dir) == os.getpid()
        with pytest.raises(ConfigError, match="already under way"):
            run_stages(run_dir)
    assert journey.journey_pid(run_dir) is None


def test_a_report_that_cannot_be_written_does_not_hide_the_verdict(steps: dict[str, Record], run_dir: Path) -> None:
    def fail(folder: Path) -> None:
        raise DoesNotFit("the disk is full")

    watcher = Notebook()
    assert run_stages(run_dir, watcher=watcher, at_end=fail).state == "done"
    assert watcher.lines[-1] == "no report: the disk is full"
    steps["audit"] = audit_record(BAD)
    (run_dir / "audit.json").unlink()
    with pytest.raises(DataError):
        run_stages(run_dir, at_end=fail)


def test_after_a_validation_the_curve_so_far_goes_to_the_event_log(run_dir: Path) -> None:
    """One diagnosis a validation, once nothing newer waits; another follower of the same log adds none."""
    start = {"kind": "train_start", "planned_steps": 40}
    curve = [
        {"kind": "step", "step": n, "loss": 3.0 / n, "learning_rate": 1e-4, "grad_norm": 1.0} for n in range(1, 25)
    ]
    live, other = (LiveDiagnosis(JobConfig(), run_dir.name) for _ in range(2))
    for event in (start, *curve, {"kind": "eval", "step": 24, "eval_loss": 0.2}, None, None):
        journey._diagnose_live(run_dir, live, event)
    told = [event for event in read_events(run_dir) if event["kind"] == "diagnosis"]
    assert [event["step"] for event in told] == [24]
    assert told[0]["causes"] == [] and "learning_rate_too_high" in told[0]["checked"]
    for event in (start, *curve, {"kind": "eval", "step": 24, "eval_loss": 0.2}, *told, None):
        journey._diagnose_live(run_dir, other, event)
    assert [event["kind"] for event in read_events(run_dir)].count("diagnosis") == 1
