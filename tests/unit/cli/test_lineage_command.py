"""`runs lineage` by command: the line of runs, what each round changed, and what that brought."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import write_chat_rows

from foretune import api
from foretune.config.read import resolve_job
from foretune.records.diagnosis import Cause, DiagnosisRecord
from foretune.records.evaluation import Delta, EvaluationRecord, MetricValue, SystemResult
from foretune.records.run import ResolvedRecord
from foretune.steps import create_job_run

Cli = Callable[..., Any]


def answered(run_dir: Path, num_right: int, n: int = 40) -> None:
    """What evaluating leaves: `num_right` of `n` answers are right."""
    accuracy = MetricValue(value=num_right / n, ci_low=0, ci_high=1, n=n, method="wilson")
    systems = [
        SystemResult(name=name, prompt="", metrics={"accuracy": accuracy}, seconds=1) for name in ("base", "tuned")
    ]
    EvaluationRecord(
        run_id=run_dir.name, dataset_version="v", split="test", look=1, primary_metric="accuracy", n=n,
        systems=tuple(systems), baseline="base", candidate="tuned", smallest_visible_difference=0.1, n_needed=None,
        delta=Delta(value=0, ci_low=0, ci_high=0, p_value=1, method="x"), margin=0.02, verdict="better", reason="",
    ).write(run_dir)  # fmt: skip
    rows = [
        {"sample_id": row, "system": "tuned", "expected": "x", "scores": {"accuracy": float(row < num_right)}}
        for row in range(n)
    ]
    (run_dir / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.mark.req("R257", "R404")
def test_rounds_show_what_they_changed_and_what_it_brought(cli: Cli, tiny_job: Path) -> None:
    assert cli("run", tiny_job, "--dry-run").code == 0
    first = Path("runs") / "tiny-001"
    answered(first, 10)
    rate = {"train.learning_rate": 1e-3}
    mode = "learning_rate_too_high"
    cause = Cause(mode=mode, statistic=2.0, evidence=("e",), explanation="x", fixes=("lower it",), patch=rate)
    DiagnosisRecord(run_id=first.name, causes=(cause,), checked=(mode,)).write(first)

    (tiny_job.parent / "rounds").mkdir()
    path, _ = api.next_job(first.name, 1, "rounds/next.toml", runs_dir="runs")
    write_chat_rows(tiny_job.parent / "data" / "colours.jsonl", 75)
    assert cli("run", path, "--dry-run").code == 0
    second = Path("runs") / "tiny-002"
    answered(second, 30)
    DiagnosisRecord(run_id=second.name, causes=(), checked=(mode,)).write(second)

    old, new = cli("runs", "lineage", "--json").document["rounds"]
    assert (old["run_id"], new["run_id"]) == ("tiny-001", "tiny-002")
    assert old["settings"] == [] and old["gain"] is None and old["causes"] == [mode]
    # the data file is named from another folder, and is the same file
    assert new["settings"] == [{"name": "train.learning_rate", "old": 5e-3, "new": 1e-3}]
    assert new["rows"] == {"added": 15, "removed": 0, "changed": 0, "moved": new["rows"]["moved"]}
    assert new["gain"]["difference"] == 0.5 and new["gain"]["n"] == 40 and new["gain"]["verdict"] == "better"

    shown = cli("runs", "lineage", "tiny-002").out
    assert "train.learning_rate: 0.005 -> 0.001" in shown and "data: 15 added" in shown
    assert "diagnosis: learning rate too high -> nothing" in shown and "better: accuracy +0.500" in shown
    assert "Next: foretune compare tiny-001 tiny-002" in shown
    assert "Made from tiny-001: tiny-002" in cli("runs", "lineage", "tiny-001").out
    assert max(map(len, shown.splitlines())) <= 80

    shutil.rmtree(first)
    assert cli("runs", "lineage", "--json").document["gone"] == "tiny-001"
    assert "made from tiny-001, which is not in this runs folder" in cli("runs", "lineage").out


def test_rounds_that_were_not_evaluated_say_so(cli: Cli, tiny_job: Path) -> None:
    for settings in ({}, {"parent": "tiny-001", "train.rank": 8}):
        create_job_run(resolve_job(tiny_job, settings), runs_dir=Path("runs"))
    (last,) = cli("runs", "lineage", "--json").document["rounds"][1:]
    assert last["gain"] is None and last["not_compared"] == "tiny-001 is not evaluated" and last["rows"] is None
    assert [changed["name"] for changed in last["settings"]] == ["train.rank"]
    assert "data: not compared, a version is missing" in cli("runs", "lineage").out


def test_a_run_that_names_itself_ends_the_line(cli: Cli, tiny_job: Path) -> None:
    create_job_run(resolve_job(tiny_job, {"parent": "tiny-001"}), runs_dir=Path("runs"))
    assert len(cli("runs", "lineage", "--json").document["rounds"]) == 1


def test_training_on_an_adapter_makes_its_run_the_parent(tiny_job: Path, tmp_path: Path) -> None:
    first = create_job_run(resolve_job(tiny_job), runs_dir=tmp_path)
    settings = {"train.advanced.base_adapter": first.name}
    assert ResolvedRecord.read(create_job_run(resolve_job(tiny_job, settings), runs_dir=tmp_path)).parent == first.name
