"""The whole journey through the command line, as a user starts it, on a tiny random model."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from foretune.records.events import read_events
from foretune.records.run import ResolvedRecord, find_run, run_pid, run_state

ENVIRONMENT = {"OMP_NUM_THREADS": "1", "COLUMNS": "80", "HF_HUB_OFFLINE": "1"}
PATIENCE_SECONDS = 120


def foretune(folder: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own and check its exit code."""
    done = subprocess.run(
        [sys.executable, "-m", "foretune", *arguments],
        cwd=folder,
        env=os.environ | ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
    return done


def document(folder: Path, *arguments: str, code: int = 0) -> dict[str, Any]:
    """The JSON answer of a command."""
    result: dict[str, Any] = json.loads(foretune(folder, *arguments, "--json", code=code).stdout)
    return result


def wait_for(what: Any, seconds: float = PATIENCE_SECONDS) -> Any:
    """The first true value of `what()`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = what()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"nothing within {seconds} s")


@pytest.fixture
def long_job(tiny_job: Path) -> Iterator[Path]:
    """A job of many steps, to be stopped on the way; what still runs at the end is ended."""
    text = tiny_job.read_text().replace(
        "max_steps = 4\neval_every = 2", "max_steps = 3000\neval_every = 1000\nsave_every = 5"
    )
    tiny_job.write_text(text)
    yield tiny_job
    for run_dir in (tiny_job.parent / "runs").glob("tiny-*"):
        pid = run_pid(run_dir)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)


@pytest.mark.req("R365")
def test_one_command_leads_from_data_to_a_verdict_and_a_report(tiny_job: Path) -> None:
    folder = tiny_job.parent
    done = foretune(folder, "run", "job.toml", "--json")
    answer = json.loads(done.stdout)
    run_dir = folder / answer["run_dir"]
    assert answer["state"] == "evaluated" and answer["outcome"] == "done"
    assert answer["evaluation"]["verdict"] in ("better", "not_better", "worse", "inconclusive")
    assert {system["name"] for system in answer["evaluation"]["systems"]} >= {"base_zero_shot", "fine_tuned"}
    assert answer["training"]["num_steps"] == 4
    assert {item["quantity"] for item in answer["training"]["reconciliation"]} >= {"train_seconds", "peak_memory_gb"}
    assert Path(folder / answer["report"]).read_text().lower().startswith("<!doctype html>")
    assert "step 4/4" in done.stderr or "train " in done.stderr
    names = {path.name for path in run_dir.iterdir()}
    assert names >= {
        "job.toml",
        "resolved.json",
        "dataset.json",
        "audit.json",
        "probe.json",
        "plan.json",
        "events.jsonl",
        "training.json",
        "checkpoints",
        "adapter",
        "evaluation.json",
        "answers.jsonl",
        "diagnosis.json",
        "report.html",
    }
    refused = document(folder, "evaluate", answer["run_id"], code=6)
    assert refused["error"]["type"] == "GateRefused"
    assert document(folder, "evaluate", answer["run_id"], "--reuse-test")["evaluation"]["look"] == 2
    reply = document(folder, "chat", answer["run_id"], "--message", "colour 1 of the sea?", "--compare-base")
    assert [item["name"] for item in reply["replies"]][1] == answer["run_id"]


@pytest.mark.req("R287")
def test_the_metric_that_decides_is_written_down_before_training(tiny_job: Path) -> None:
    answer = document(tiny_job.parent, "run", "job.toml", "--dry-run")
    run_dir = tiny_job.parent / answer["run_dir"]
    assert run_state(run_dir) == "created" and answer["next"] == f"foretune runs resume {run_dir.name}"
    resolved = ResolvedRecord.read(run_dir)
    assert resolved.primary_metric == "accuracy"
    assert "targets look like" in resolved.derived["primary_metric"]


def test_a_detached_run_goes_on_by_itself_to_the_report(tiny_job: Path) -> None:
    folder = tiny_job.parent
    answer = document(folder, "run", "job.toml", "--detach")
    assert answer["outcome"] == "running"
    run_dir = folder / answer["run_dir"]
    watched = document(folder, "runs", "watch", answer["run_id"])
    assert watched["state"] == "evaluated", (run_dir / "journey.log").read_text()
    assert (run_dir / "report.html").is_file()


def test_ctrl_c_checkpoints_and_resume_finishes_the_journey(long_job: Path) -> None:
    folder = long_job.parent
    process = subprocess.Popen(
        [sys.executable, "-m", "foretune", "run", "job.toml"],
        cwd=folder,
        env=os.environ | ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background job's shell has it ignored
    )
    run_dir = wait_for(lambda: next(iter((folder / "runs").glob("tiny-001")), None))
    wait_for(lambda: any(event["kind"] == "step" for event in read_events(run_dir)))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 130, err
    assert "checkpointing; press Ctrl-C again to abort" in err
    assert "stopped with a checkpoint" in out and "Next: foretune runs resume tiny-001" in out
    assert run_state(run_dir) == "stopped"
    assert list((run_dir / "checkpoints").glob("step-*"))


def test_a_killed_watcher_leaves_training_alone_and_a_killed_training_is_resumed(long_job: Path) -> None:
    folder = long_job.parent
    run_id = document(folder, "train", "job.toml", "--detach")["run_id"]
    run_dir = find_run(folder / "runs", run_id)
    watcher = subprocess.Popen(
        [sys.executable, "-m", "foretune", "runs", "watch", run_id],
        cwd=folder,
        env=os.environ | ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for(lambda: any(event["kind"] == "checkpoint" for event in read_events(run_dir)))
    watcher.kill()
    watcher.wait()
    pid = run_pid(run_dir)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: run_pid(run_dir) is None)
    assert run_state(run_dir) == "interrupted"
    assert document(folder, "runs", "resume", run_id, "--detach")["outcome"] == "running"
    resumed = wait_for(lambda: [e for e in read_events(run_dir) if e["kind"] == "train_start"][1:])
    assert resumed[0]["resumed"] is True
    wait_for(lambda: run_pid(run_dir))
    assert document(folder, "runs", "stop", run_id)["stopped"] is True
    assert run_state(run_dir) == "stopped"


def test_bad_data_is_told_with_every_line_and_exit_3(tiny_job: Path) -> None:
    data = tiny_job.parent / "data" / "colours.jsonl"
    lines = data.read_text().splitlines()
    lines[4] = '{"messages": [{"role": "user", "content": "no answer"}]}'
    lines[7] = '{"messages": ['
    data.write_text("\n".join(lines) + "\n")
    done = foretune(tiny_job.parent, "run", "job.toml", code=3)
    assert "colours.jsonl:5" in done.stderr and "colours.jsonl:8" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_runs_folder_that_cannot_be_written_is_told_in_one_line(tiny_job: Path) -> None:
    (tiny_job.parent / "taken").write_text("a file, not a folder")
    done = foretune(tiny_job.parent, "run", "job.toml", "--runs-dir", "taken", code=7)
    assert "cannot be written" in done.stderr and "--runs-dir FOLDER" in done.stderr
    assert "Traceback" not in done.stderr and (tiny_job.parent / "taken").read_text() == "a file, not a folder"


def test_a_job_that_cannot_be_paid_is_refused(tiny_job: Path) -> None:
    priced = ("--set", "plan.price_per_hour_usd=1000")
    asked = foretune(tiny_job.parent, "run", "job.toml", *priced, code=2)
    assert "there is no terminal to ask on" in asked.stderr
    refused = foretune(tiny_job.parent, "run", "job.toml", *priced, "--max-cost", "0.0001", "-y", code=6)
    assert "the limit is $0.0001" in refused.stderr
