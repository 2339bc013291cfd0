"""Runs on disk: ids, finding, locking, and the state that a run is in."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from foretune.errors import ConfigError, ForetuneError, NotFound
from foretune.records.events import EventLog
from foretune.records.run import (
    ResolvedRecord,
    create_run,
    find_run,
    list_runs,
    locked_run,
    run_pid,
    run_state,
)

HOLDER = """
import sys, time
from foretune.records.run import locked_run
with locked_run(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def make_run(runs_dir: Path, name: str = "job", created: str = "2026-01-01T00:00:00+00:00") -> Path:
    """A run folder with its resolved record."""
    run_dir = create_run(runs_dir, name)
    ResolvedRecord(
        run_id=run_dir.name, created=created, foretune_version="0", job={}, origins={}, folder=str(runs_dir)
    ).write(run_dir)
    return run_dir


def test_run_ids_count_up_by_name(tmp_path: Path) -> None:
    names = [create_run(tmp_path, name).name for name in ("a", "a", "b.c", "a", "b.c")]
    assert names == ["a-001", "a-002", "b.c-001", "a-003", "b.c-002"]


def test_a_deleted_run_does_not_give_its_id_to_a_later_one_while_newer_runs_stand(tmp_path: Path) -> None:
    first = create_run(tmp_path, "a")
    create_run(tmp_path, "a")
    first.rmdir()
    assert create_run(tmp_path, "a").name == "a-003"


def test_many_at_once_get_different_ids(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        names = list(pool.map(lambda _: create_run(tmp_path, "a").name, range(64)))
    assert len(set(names)) == 64


def test_runs_are_found_by_id_by_path_and_as_latest(tmp_path: Path) -> None:
    older = make_run(tmp_path, "a", "2026-01-01T00:00:00+00:00")
    newer = make_run(tmp_path, "b", "2026-01-02T00:00:00+00:00")
    assert find_run(tmp_path, "a-001") == older
    assert find_run("elsewhere", str(newer)) == newer
    assert find_run(tmp_path) == newer
    assert list_runs(tmp_path) == [older, newer]


def test_folders_that_are_no_runs_are_not_listed(tmp_path: Path) -> None:
    (tmp_path / "datasets").mkdir()
    (tmp_path / "ledger.jsonl").write_text("")
    assert list_runs(tmp_path) == []
    assert list_runs(tmp_path / "nowhere") == []


def test_an_unknown_run_is_not_found_with_the_nearest_name(tmp_path: Path) -> None:
    make_run(tmp_path, "sentiment")
    with pytest.raises(NotFound, match="no run sentimnt-001") as caught:
        find_run(tmp_path, "sentimnt-001")
    assert "sentiment-001" in caught.value.fix
    with pytest.raises(NotFound, match="no runs in"):
        find_run(tmp_path / "empty")


def test_a_runs_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ForetuneError, match="cannot be written"):
        create_run(tmp_path / "file" / "runs", "a")


def test_the_lock_is_held_once_and_names_its_holder(tmp_path: Path) -> None:
    assert run_pid(tmp_path) is None
    with locked_run(tmp_path):
        assert run_pid(tmp_path) == os.getpid()
        with pytest.raises(ConfigError, match=str(os.getpid())), locked_run(tmp_path):
            pass
    assert run_pid(tmp_path) is None


def test_a_killed_holder_frees_the_lock(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    assert run_pid(tmp_path) == holder.pid
    os.kill(holder.pid, signal.SIGKILL)
    holder.communicate()
    deadline = time.monotonic() + 10
    while run_pid(tmp_path) is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    with locked_run(tmp_path):
        assert run_pid(tmp_path) == os.getpid()


@pytest.mark.parametrize(
    ("kinds", "state"),
    [
        ([], "created"),
        (["stage"], "created"),
        (["train_start", "step"], "interrupted"),
        (["train_start", "step", "train_end"], "stopped"),
        (["stage", "failed"], "failed"),
        (["train_start", "failed"], "failed"),
        (["train_start", "failed", "train_start", "step"], "interrupted"),
        (["train_start", "train_end", "train_start", "train_end", "note"], "stopped"),
    ],
)
def test_the_state_of_a_run_follows_from_its_events(tmp_path: Path, kinds: list[str], state: str) -> None:
    with EventLog(tmp_path) as log:
        for kind in kinds:
            log.add(kind)
    assert run_state(tmp_path) == state


def test_the_state_of_a_run_follows_from_its_records_and_its_lock(tmp_path: Path) -> None:
    (tmp_path / "training.json").write_text("{}")
    assert run_state(tmp_path) == "trained"
    (tmp_path / "evaluation.json").write_text("{}")
    assert run_state(tmp_path) == "evaluated"
    with locked_run(tmp_path):
        assert run_state(tmp_path) == "training"
