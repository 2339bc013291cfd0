"""kill -9 of a real training process: resumed, it gives the very numbers of a run that was never killed."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from foretune.config.read import resolve_job
from foretune.records.events import read_events, tail_events
from foretune.records.training import TrainingRecord
from foretune.steps import Run, collect_run, create_job_run


def _training(run_dir: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "foretune.train", str(run_dir), "--resume"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def _killed_after(run_dir: Path, step: int) -> None:
    """Start training and kill it as soon as it has written the event of `step`."""
    process = _training(run_dir)
    for event in tail_events(run_dir, poll_seconds=0.01):
        if event is not None and event["kind"] == "step" and event["step"] >= step:
            break
        assert process.poll() is None, "training ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.communicate()


def _finished(run_dir: Path) -> TrainingRecord:
    process = _training(run_dir)
    _, errors = process.communicate()
    assert process.returncode == 0, errors.decode()
    return TrainingRecord.read(run_dir)


def _losses(run_dir: Path) -> dict[int, float]:
    return {event["step"]: event["loss"] for event in read_events(run_dir) if event["kind"] == "step"}


def _data_for(method: str, job: Path) -> dict[str, str]:
    """Preference pairs beside the job, for the methods that need them."""
    if method not in ("dpo", "kto"):
        return {}
    rows = [{"prompt": f"who is tom {i}?", "chosen": "a cat", "rejected": f"a dog {i % 3}"} for i in range(60)]
    (job.parent / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return {"data.path": "pairs.jsonl"}


@pytest.mark.req("R258", "R259")
@pytest.mark.parametrize("method", ["lora", "full", "prefix", "kto"])
def test_killed_runs_resume_to_the_same_bits(method: str, tiny_job: Path, tmp_path: Path) -> None:
    settings = {
        **_data_for(method, tiny_job),
        "train.method": method,
        "train.advanced.max_steps": 12,
        "train.advanced.save_every": 3,
        "train.advanced.eval_every": 6,
        "train.advanced.precision": "fp32",
        "train.advanced.patience": 0,
    }
    whole = create_job_run(resolve_job(tiny_job, settings), runs_dir=tmp_path / "runs")
    collect_run(Run.open(whole))
    killed = tmp_path / "runs" / "killed"
    shutil.copytree(whole, killed)
    reference = _finished(whole)
    _killed_after(killed, 5)
    _killed_after(killed, 10)
    record = _finished(killed)
    assert _losses(killed) == _losses(whole)
    assert record.train_curve == reference.train_curve and record.eval_curve == reference.eval_curve
    assert record.artefact_sha256 == reference.artefact_sha256
