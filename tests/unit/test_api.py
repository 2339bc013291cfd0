"""The verbs as functions: any form of a job, files without a job, detached and resumed runs."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from conftest import write_chat_rows
from foretune import api, journey
from foretune.config import JobConfig, read_job
from foretune.errors import ConfigError, DataError, NotFound
from foretune.journey import is_journey
from foretune.records.base import Record
from foretune.records.run import ResolvedRecord, run_state
from foretune.steps import Run
from stand_ins import (
    audit_record,
    dataset_record,
    diagnosis_record,
    evaluation_record,
    plan_record,
    training_record,
    use_stand_in_trainer,
    written,
)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stages that only write their record; which of them were done."""
    done: list[str] = []
    records: dict[str, Record] = {
        "collect": dataset_record(),
        "audit": audit_record(),
        "plan": plan_record(),
        "evaluate": evaluation_record(),
        "diagnose": diagnosis_record(),
    }

    def step(stage: str) -> object:
        def do(run: Run, **_: object) -> Record:
            done.append(stage)
            return written(records[stage], run)

        return do

    for stage in records:
        monkeypatch.setattr(journey, f"{stage}_run", step(stage))
    use_stand_in_trainer(monkeypatch)
    return done


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A job file."""
    path = tmp_path / "job.toml"
    path.write_text('# mine\nname = "tale"\n\n[train]\nepochs = 2 # few\n')
    return path


def test_a_run_keeps_the_job_as_it_was_written_and_as_it_was_resolved(
    steps: list[str], job: Path, tmp_path: Path
) -> None:
    outcome = api.run(job, runs_dir=tmp_path / "runs")
    assert outcome.state == "done" and outcome.run_dir.name == "tale-001"
    assert (outcome.run_dir / "job.toml").read_text() == job.read_text()
    resolved = ResolvedRecord.read(outcome.run_dir)
    assert resolved.job["train"]["epochs"] == 2.0 and resolved.origins["train.epochs"] == "project"
    assert resolved.folder == str(tmp_path)
    assert steps == ["collect", "audit", "plan", "evaluate", "diagnose"]


def test_a_job_can_be_given_as_a_model(steps: list[str], tmp_path: Path) -> None:
    outcome = api.run(JobConfig(name="direct", seed=5), runs_dir=tmp_path, dry_run=True)
    assert read_job(outcome.run_dir / "job.toml") == JobConfig(name="direct", seed=5)
    assert steps == ["collect", "audit", "plan"] and run_state(outcome.run_dir) == "created"


def test_a_planned_run_is_finished_by_resume(steps: list[str], job: Path, tmp_path: Path) -> None:
    run_dir = api.run(job, runs_dir=tmp_path, dry_run=True).run_dir
    assert api.resume(run_dir.name, runs_dir=tmp_path).state == "done"
    assert steps == ["collect", "audit", "plan", "evaluate", "diagnose"]
    assert api.run_info(run_dir).state == "evaluated"


def test_training_alone_is_resumed_as_training_alone(
    steps: list[str], job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_stand_in_trainer(monkeypatch, "slow")
    run_dir = api.train(job, runs_dir=tmp_path, detach=True).run_dir
    assert not is_journey(run_dir)
    assert api.run_info(run_dir).stage == "train"
    deadline = time.monotonic() + 60
    while run_state(run_dir) != "training" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert api.stop(run_dir, runs_dir=tmp_path)
    assert run_state(run_dir) == "stopped"
    assert api.resume(run_dir, runs_dir=tmp_path).state == "done"
    assert "evaluate" not in steps and run_state(run_dir) == "trained"
    assert not api.stop(run_dir, runs_dir=tmp_path)


def test_a_detached_run_leaves_the_rest_to_a_process(
    steps: list[str], job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(api, "start_detached", lambda arguments, log: started.append([*arguments, log.name]))
    outcome = api.run(job, runs_dir=tmp_path, detach=True, reuse_test=True)
    assert outcome.state == "running" and is_journey(outcome.run_dir)
    tail = ["--runs-dir", str(tmp_path), "--yes", "--reuse-test", "journey.log"]
    assert started == [["foretune", "runs", "resume", "tale-001", *tail]]
    assert steps == ["collect", "audit", "plan"]
    api.resume("tale-001", runs_dir=tmp_path, detach=True)
    assert started[1] == ["foretune", "runs", "resume", "tale-001", *tail[:3], "journey.log"]


@pytest.mark.req("R210")
def test_smoke_is_two_steps_on_few_rows(steps: list[str], job: Path, tmp_path: Path) -> None:
    run_dir = api.train(job, runs_dir=tmp_path, smoke=True).run_dir
    data, train = (ResolvedRecord.read(run_dir).job[section] for section in ("data", "train"))
    assert data["max_rows"] == 200 and train["advanced"]["max_steps"] == 2 and train["epochs"] == 2.0
    small = api.train(JobConfig.model_validate({"data": {"max_rows": 50}}), runs_dir=tmp_path, smoke=True).run_dir
    assert ResolvedRecord.read(small).job["data"]["max_rows"] == 50


def test_the_generated_corpus_needs_no_stage_before_training(steps: list[str], tmp_path: Path) -> None:
    job = JobConfig.model_validate({"data": {"path": "world"}, "train": {"method": "pretrain"}})
    assert api.run(job, runs_dir=tmp_path).state == "done"
    assert api.train(job, runs_dir=tmp_path).state == "done"
    assert steps == []


def test_a_run_that_was_never_trained_cannot_be_evaluated(steps: list[str], job: Path, tmp_path: Path) -> None:
    run_dir = api.run(job, runs_dir=tmp_path, dry_run=True).run_dir
    for verb in (api.evaluate, api.chat):
        with pytest.raises(NotFound, match="not trained yet"):
            verb(run_dir, runs_dir=tmp_path)  # type: ignore[operator]


def test_runs_are_listed_oldest_first(steps: list[str], job: Path, tmp_path: Path) -> None:
    names = [api.run(job, runs_dir=tmp_path, dry_run=True).run_dir.name for _ in range(3)]
    assert [info.run_id for info in api.runs(tmp_path)] == names
    training_record(names[0]).write(tmp_path / names[0])
    evaluation_record(names[0]).write(tmp_path / names[0])
    info = api.run_info(tmp_path / names[0])
    assert (info.verdict, info.seconds, info.state) == ("better", 70.0, "evaluated")


# --- with the real stages -------------------------------------------------------------------------------------------


def test_a_file_is_audited_without_a_job(tmp_path: Path, tiny_llama: Path) -> None:
    path = write_chat_rows(tmp_path / "rows.jsonl", 40)
    record = api.audit(path, settings={"base": str(tiny_llama)})
    assert record.num_samples == 40 and set(record.tokens) == {"train", "validation", "test"}
    assert not (tmp_path / "runs").exists()


def test_a_broken_file_lists_every_fault(tmp_path: Path, tiny_llama: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"messages": []}\nnonsense\n')
    with pytest.raises(DataError) as caught:
        api.audit(path, settings={"base": str(tiny_llama)})
    assert sorted(fault.line for fault in caught.value.faults) == [1, 2]


def test_a_run_whose_data_cannot_be_read_leaves_nothing_behind(tiny_job: Path) -> None:
    runs_dir = tiny_job.parent / "runs"
    (tiny_job.parent / "data" / "colours.jsonl").write_text("nonsense\n")
    for verb in (api.run, api.train):
        with pytest.raises(DataError):
            verb(tiny_job, runs_dir=runs_dir)  # type: ignore[operator]
    assert api.runs(runs_dir) == [] and list(runs_dir.glob("tiny-*")) == []


def test_a_file_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no file"):
        api.audit(tmp_path / "rows.jsonl")


def test_a_plan_needs_no_run_folder_and_sees_the_real_lengths(tiny_job: Path) -> None:
    record = api.plan(tiny_job)
    assert record.num_train_samples == 48 and record.num_steps == 4 and not record.probed
    assert not (tiny_job.parent / "runs").exists()


@pytest.mark.parametrize("method", ["lora", "classify", "pretrain"])
def test_the_plans_lengths_are_those_of_the_training_rows(tiny_job: Path, tiny_llama: Path, method: str) -> None:
    from foretune.collect.collect import collect
    from foretune.data.tokenizer import Tokenizer
    from foretune.steps import lengths_of
    from foretune.train.rows import build_rows

    run_dir = tiny_job.parent / "runs" / "x-001"
    run_dir.mkdir(parents=True)
    job = read_job(tiny_job).model_copy(
        update={"train": read_job(tiny_job).train.model_copy(update={"method": method})}
    )
    collect(job, folder=tiny_job.parent, runs_dir=run_dir.parent, run_dir=run_dir)
    run, tokenizer = Run(job, run_dir, run_dir.parent, tiny_job.parent), Tokenizer.from_folder(tiny_llama)
    splits = {name: run.split(name) for name in ("train", "validation", "test")}
    found = lengths_of(job, splits, tokenizer, is_seq2seq=False)
    labels = sorted({sample.target for sample in splits["train"]})
    kind = "classify" if method == "classify" else "causal"
    rows = build_rows(
        splits["train"], tokenizer, kind=kind, max_seq_len=512, labels=labels, pack=method == "pretrain"
    ).rows
    assert list(found.train) == [row.length for row in rows]
    assert found.num_labels == (3 if method == "classify" else 0)
    if method == "lora":
        assert list(found.train_answers) == [int(row.weights.sum()) for row in rows]


def test_init_refuses_what_is_there(tmp_path: Path) -> None:
    job = api.init("sentiment", tmp_path / "a", num_rows=12)
    assert len((tmp_path / "a" / "data" / "sentiment.jsonl").read_text().splitlines()) == 12
    assert all(json.loads(line) for line in (tmp_path / "a" / "data" / "sentiment.jsonl").read_text().splitlines())
    assert job == tmp_path / "a" / "job.toml"
    with pytest.raises(ConfigError, match="exists already"):
        api.init("sentiment", tmp_path / "a")


def test_a_forecast_needs_no_job(tmp_path: Path) -> None:
    asked = {"base": "llama-2-7b", "gpu": "A100-80", "num_examples": 1000, "tokens_per_example": 300.0}
    forecast = api.forecast(**asked)
    assert forecast.fits is True and forecast.cost_usd is not None
    best = api.offers(**{**asked, "gpu": None}, max_cost_usd=20.0, methods=("qlora",))[0]
    assert best.is_chosen and best.method == "qlora"
    table = tmp_path / "rows.csv"
    table.write_text("model,method,gpu\nllama-2-7b,lora,H100\n")
    assert api.forecast_table(table)[0]["fits"] is True
    project = tmp_path / "project.toml"
    project.write_text("[situation]\ngoal = 'format'\n")
    around = api.outlook(project, forecast)
    assert around.advice.options and around.timeline.total_weeks.expected > 1
