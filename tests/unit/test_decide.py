"""`decide` and the journey's gate: what is asked is measured first, a stop ends it, a reason overrides it."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import write_chat_rows
from foretune import api, journey
from foretune.config import JobConfig
from foretune.config.read import ResolvedJob
from foretune.errors import ConfigError, GateRefused
from foretune.evaluate.learning_curve import Part
from foretune.journey import mark_journey, run_stages
from foretune.records.evaluation import MetricValue
from foretune.records.failures import FailuresRecord, Share
from foretune.records.plan import PlanRecord
from foretune.records.procedure import ProcedureRecord
from foretune.steps import Run, create_job_run
from stand_ins import audit_record, dataset_record, plan_record, written

SPLITS = {"train": 800, "validation": 300, "test": 300}


def baseline(value: float, run_id: str = "job-001") -> FailuresRecord:
    """A prompted base at `value` of 300 samples, whose failures are of behaviour."""
    return FailuresRecord(
        run_id=run_id,
        base="pebble",
        dataset_version="0123456789abcdef",
        metric="accuracy",
        prompt="nearest_5",
        prompt_description="",
        num_prompts_tried=5,
        num_chosen_on=64,
        baseline=MetricValue(value=value, ci_low=value - 0.03, ci_high=min(1.0, value + 0.03), n=300, method="wilson"),
        num_failures=round(300 * (1 - value)),
        knowledge=None,
        format=Share(value=0.1, ci_low=0.05, ci_high=0.2),
        behaviour=Share(value=0.9, ci_low=0.8, ci_high=0.95),
        placebo=None,
        context_source="none",
    )


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stages that write records at once; measuring the base leaves a baseline of 95 %, and is noted."""
    from foretune.records.dataset import SplitInfo

    splits = {name: SplitInfo(num_samples=count, sha256="0") for name, count in SPLITS.items()}
    notes: list[str] = []

    def step(record: Any) -> Callable[..., Any]:
        return lambda run, **_: written(record, run)

    def measure(run: Run, *, ask_again: bool) -> FailuresRecord:
        notes.append(f"measured, again {ask_again}")
        record = baseline(0.95)
        record.write(run.run_dir)
        return record

    monkeypatch.setattr(journey, "collect_run", step(dataset_record(splits=splits)))
    monkeypatch.setattr(journey, "audit_run", step(audit_record()))
    monkeypatch.setattr(journey, "plan_run", step(plan_record()))
    monkeypatch.setattr(journey, "measure_base_run", measure)
    return notes


def new_run(tmp_path: Path) -> Path:
    folder = create_job_run(ResolvedJob(JobConfig(), {}, tmp_path), runs_dir=tmp_path / "runs")
    mark_journey(folder)
    return folder


BEFORE: tuple[journey.Stage, ...] = ("collect", "audit", "plan")
TARGET = "[situation.measured]\ntarget = 0.9\n"


def test_a_project_file_has_the_base_asked_and_the_journey_stopped(asked: list[str], tmp_path: Path) -> None:
    (tmp_path / "project.toml").write_text(TARGET)
    run_dir = new_run(tmp_path)
    with pytest.raises(GateRefused, match="reaches the target") as caught:
        run_stages(run_dir, stages=BEFORE)
    assert "--skip-advice" in caught.value.fix and asked == ["measured, again True"]
    assert ProcedureRecord.read(run_dir).action == "prompt" and not PlanRecord.exists(run_dir)
    with pytest.raises(GateRefused):  # resumed, it stops again and measures nothing twice
        run_stages(run_dir, stages=BEFORE)
    assert len(asked) == 1
    run_stages(run_dir, stages=BEFORE, skip_advice="the customer wants it")
    assert PlanRecord.exists(run_dir)


def test_an_opened_test_split_is_no_obstacle(asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decision reads no test row, so it also holds where another run has opened the split; a run does not."""

    def refuse(*_: Any) -> None:
        raise GateRefused("the test split was opened by job-000", fix="--reuse-test")

    monkeypatch.setattr(journey, "check_test", refuse)
    assert journey.decide(new_run(tmp_path)).gates
    with pytest.raises(GateRefused, match="job-000"):
        run_stages(new_run(tmp_path), stages=("collect",))


def test_nobody_asks_nothing_is_measured(asked: list[str], tmp_path: Path) -> None:
    run_dir = new_run(tmp_path)
    run_stages(run_dir, stages=BEFORE)
    assert asked == [] and PlanRecord.exists(run_dir) and not ProcedureRecord.exists(run_dir)


def test_a_decision_holds_for_later_runs_on_the_same_data(asked: list[str], tmp_path: Path) -> None:
    first = new_run(tmp_path)
    run_stages(first, stages=("collect", "audit"))
    baseline(0.99, first.name).write(first)
    second = new_run(tmp_path)
    with pytest.raises(GateRefused, match="too little to train for"):
        run_stages(second, stages=BEFORE)
    assert FailuresRecord.read(second).run_id == first.name and asked == []


def test_an_open_question_does_not_stop_the_journey(asked: list[str], tmp_path: Path) -> None:
    (tmp_path / "project.toml").write_text("[situation]\ngoal = 'behaviour'\n")
    run_dir = new_run(tmp_path)
    run_stages(run_dir, stages=("collect", "audit"))
    baseline(0.5).write(run_dir)
    run_stages(run_dir, stages=BEFORE)
    record = ProcedureRecord.read(run_dir)
    assert record.action is None and record.next_command.endswith("--measure curve") and asked == []


def test_what_cannot_be_measured_is_noted(asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(run: Run, *, ask_again: bool) -> FailuresRecord:
        raise ConfigError("bleu does not score single answers")

    monkeypatch.setattr(journey, "measure_base_run", refuse)
    (tmp_path / "project.toml").write_text(TARGET)
    run_dir = new_run(tmp_path)
    run_stages(run_dir, stages=BEFORE)
    assert PlanRecord.exists(run_dir) and ProcedureRecord.read(run_dir).action is None


def test_decide_on_a_tiny_model_end_to_end(tiny_job: Path, cli: Callable[..., Any]) -> None:
    write_chat_rows(tiny_job.parent / "data" / "colours.jsonl", num_rows=120)
    document = cli("decide", tiny_job, "--json").document
    record = document["procedure"]
    run_dir = tiny_job.parent / "runs" / document["run_id"]
    assert record["action"] == "collect data first" and record["stopped_at"] == "measurable"  # 24 labelled samples
    assert record["measurements"]["prompted"]["value"] < 0.2 and len(record["gates"]) == 5
    rows = [json.loads(line) for line in (run_dir / "failures.jsonl").read_text().splitlines()]
    assert rows and all(row["kind"] in ("format", "knowledge", "behaviour") for row in rows)
    assert "Gate by gate" in (run_dir / "report.html").read_text()
    refused = cli("run", tiny_job)
    assert refused.code == 6 and "measurable" in refused.err


def test_the_curve_trains_the_run_and_its_parts(
    asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = new_run(tmp_path)
    run_stages(run_dir, stages=("collect", "audit"))
    baseline(0.5).write(run_dir)
    staged: list[tuple[str, tuple[str, ...]]] = []
    part = Part(0.25, 200, {"data.max_rows": 7, "train.advanced.max_steps": 3})

    def pretend(folder: Path, *, stages: tuple[str, ...], **options: Any) -> journey.Outcome:
        staged.append((folder.parent.name, stages))
        assert options.get("skip_advice") or stages == ("collect", "audit")
        return journey.Outcome(folder, "done")

    def measure(job: JobConfig, *, train_on: Callable[[Part], Path], **folders: Any) -> None:
        trained = Run.open(train_on(part)).job
        assert (trained.data.max_rows, trained.train.advanced.max_steps) == (7, 3)

    monkeypatch.setattr(journey, "run_stages", pretend)
    monkeypatch.setattr("foretune.evaluate.learning_curve.measure_curve", measure)
    monkeypatch.setattr("foretune.evaluate.learning_curve.measure_early", lambda *_, **__: None)
    monkeypatch.setattr("foretune.evaluate.failure_kinds.measure_left", lambda *_, **__: staged.append(("left", ())))
    curve: tuple[journey.Measure, ...] = ("curve",)
    record = api.decide(run_dir.name, runs_dir=tmp_path / "runs", measure=curve)
    parts = ("collect", "audit", "plan", "train")
    assert staged == [
        ("runs", ("collect", "audit")),
        ("runs", ("plan", "train")),
        ("learning_curve", parts),
        ("left", ()),
    ]
    assert record == ProcedureRecord.read(run_dir) and record.run_id == run_dir.name


def test_faces_say_what_is_wrong(cli: Callable[..., Any], tmp_path: Path) -> None:
    assert "expected baseline, failures, curve" in cli("decide", "job.toml", "--measure", "all").err
    assert "neither a job nor a project" in cli("decide").err
    assert cli("decide", "no-such.toml").code in (2, 4)
    (tmp_path / "project.toml").write_text(TARGET + "zero_shot = {value = 0.95, n = 400}\n")
    (tmp_path / "project.toml").write_text(
        "[situation]\nnum_test_examples = 400\n" + (tmp_path / "project.toml").read_text()
    )
    shown = cli("decide", "--project", "project.toml").out
    assert shown.startswith("prompt: the best prompt") and "reaches the target" in shown
    assert max(len(line) for line in shown.splitlines()) <= 80
