"""Two processes on the CPU: the same losses as one, whoever goes on with whose checkpoint."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from foretune.backends.processes import check_processes, keep_processes, kept_processes, launched
from foretune.config import JobConfig
from foretune.config.read import resolve_job
from foretune.errors import ConfigError
from foretune.journey import do_stage
from foretune.records.dataset import DatasetRecord
from foretune.records.events import read_events
from foretune.records.training import TrainingRecord
from foretune.steps import Run, create_job_run
from foretune.train.here import train_run
from foretune.train.objective import Row
from foretune.train.processes import Processes, num_processes

SETTINGS: dict[str, Any] = {
    "data.max_rows": 21,
    "train.advanced.max_steps": 6,
    "train.advanced.eval_every": 2,
    "train.advanced.keep_checkpoints": 8,
    "train.advanced.patience": 0,
    "train.advanced.dropout": 0.0,
    "train.advanced.precision": "fp32",
}
LIMIT = 2e-5


def prepared(job: Path, runs_dir: Path, **settings: Any) -> Path:
    """A run with its data, not trained."""
    given = resolve_job(job, {**SETTINGS, **{name.replace("__", "."): value for name, value in settings.items()}})
    run_dir = create_job_run(given, runs_dir=runs_dir)
    do_stage(Run.open(run_dir), "collect")
    return run_dir


def start(run_dir: Path, count: int, *, resume: bool = False) -> subprocess.CompletedProcess[str]:
    """Train a run in `count` processes, as the product starts them."""
    arguments = ["foretune.train", str(run_dir), *(["--resume"] if resume else [])]
    return subprocess.run(
        [sys.executable, "-m", *launched(arguments, count)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def losses(run_dir: Path) -> dict[int, float]:
    """The last loss written for each step."""
    return {event["step"]: event["loss"] for event in read_events(run_dir) if event["kind"] == "step"}


def forget_after(run_dir: Path, step: int) -> None:
    """Take back what came after a checkpoint, as a kill after that step does."""
    for path in (run_dir / "checkpoints").glob("step-*"):
        if int(path.name.removeprefix("step-")) > step:
            shutil.rmtree(path)
    for name in ("training.json", "parity.json"):
        (run_dir / name).unlink(missing_ok=True)


def rows_of(lengths: list[int]) -> list[Row]:
    return [Row(np.arange(n, dtype=np.int32), np.ones(n, dtype=np.float32)) for n in lengths]


def test_shares_are_every_row_once_and_weigh_alike() -> None:
    rows = rows_of([3, 50, 7, 40, 44, 9, 12, 31, 5])
    shares = [Processes(3, number).share(rows) for number in range(3)]
    assert sorted(row.length for share in shares for row in share) == sorted(row.length for row in rows)
    weights = [sum(row.length for row in share) for share in shares]
    assert max(weights) - min(weights) <= 50 // 3
    assert Processes().share(rows) is rows


def test_a_process_alone_sums_nothing() -> None:
    parameter = torch.ones(2, requires_grad=True)
    Processes().sum_gradients([parameter])
    assert parameter.grad is None
    assert Processes().joined({"loss": 2.0}) == {"loss": 2.0} and not Processes().agree(False)


def test_processes_are_kept_with_the_run_and_checked(tmp_path: Path) -> None:
    assert kept_processes(tmp_path) == 1
    keep_processes(tmp_path, JobConfig(), 2)
    assert kept_processes(tmp_path) == 2 and "--nproc-per-node=2" in launched(["x"], kept_processes(tmp_path))
    with pytest.raises(ConfigError, match="whole global batch"):
        check_processes(JobConfig.model_validate({"train": {"method": "kto"}}), 2)
    with pytest.raises(ConfigError, match="at least one each"):
        check_processes(JobConfig.model_validate({"train": {"global_batch_size": 2}}), 3)


def test_threads_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    assert num_processes() == 1
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert num_processes() == 2


@pytest.mark.req("R262")
def test_two_processes_train_as_one_and_go_on_with_each_others_checkpoints(tiny_job: Path, tmp_path: Path) -> None:
    one, two = (prepared(tiny_job, tmp_path / "runs") for _ in range(2))
    num_rows = DatasetRecord.read(one).splits["train"].num_samples
    assert num_rows % 8 == 1  # one row is left for the last update of an epoch: the second share is empty
    theirs = train_run(one)
    done = start(two, 2)
    assert done.returncode == 0, done.stderr
    assert losses(two) == pytest.approx(losses(one), rel=LIMIT) and len(losses(one)) == 6
    ours = TrainingRecord.read(two)
    assert theirs is not None and ours.num_tokens == theirs.num_tokens
    assert [p.loss for p in ours.eval_curve] == pytest.approx([p.loss for p in theirs.eval_curve], rel=LIMIT)
    assert losses(two / "processes" / "1") == losses(two)  # the other one's own log: sums are the same for all

    forget_after(two, 2)  # 2 -> 1
    train_run(two, resume=True)
    forget_after(two, 4)  # 1 -> 2
    done = start(two, 2, resume=True)
    assert done.returncode == 0, done.stderr
    assert losses(two) == pytest.approx(losses(one), rel=LIMIT)
    ours = TrainingRecord.read(two)
    assert [p.loss for p in ours.eval_curve] == pytest.approx([p.loss for p in theirs.eval_curve], rel=LIMIT)
    events = read_events(two)
    assert [event["num_processes"] for event in events if event["kind"] == "train_start"] == [2, 1, 2]
    assert [event["step"] for event in events if event["kind"] == "step"] == [1, 2, 3, 4, 5, 6, 3, 4, 5, 6, 5, 6]
