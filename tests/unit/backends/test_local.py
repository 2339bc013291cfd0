"""A process on this machine: detached, stopped, and its end explained."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from foretune.backends import local
from foretune.backends.local import failure_of, is_alive, start_detached, stop_process, stop_training
from foretune.errors import CheckpointError, DoesNotFit, ForetuneError
from foretune.records.events import EventLog

STUBBORN = """
import signal, sys, time
from foretune.records.run import locked_run
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with locked_run(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def wait_until_dead(pid: int) -> None:
    """Wait for a process to end."""
    deadline = time.monotonic() + 20
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_alive(pid)


def test_a_detached_process_has_a_session_of_its_own_and_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    pid = start_detached(["timeit", "-n", "1", "-r", "1", "-s", "import os; print('sid', os.getsid(0))"], log=log)
    wait_until_dead(pid)
    assert f"sid {pid}" in log.read_text() and log.read_text().startswith("before\n")
    assert os.getsid(0) != pid


def test_training_is_started_as_a_module_with_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(local, "start_detached", lambda arguments, log: seen.append([*arguments, log.name]) or 7)
    assert local.start_training(tmp_path) == 7
    local.start_training(tmp_path, resume=True)
    assert seen == [
        ["foretune.train", str(tmp_path), "train.log"],
        ["foretune.train", str(tmp_path), "--resume", "train.log"],
    ]


def test_who_lives() -> None:
    assert is_alive(os.getpid())
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    assert is_alive(child.pid)
    stop_process(child.pid, abort=True)
    assert child.wait() == -signal.SIGKILL
    assert not is_alive(child.pid)
    stop_process(child.pid)  # it is gone: nothing to do


def test_a_process_that_does_not_stop_is_named(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", STUBBORN, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    with pytest.raises(ForetuneError, match=f"process {holder.pid}") as caught:
        stop_training(tmp_path, timeout_seconds=0.3)
    assert "--abort" in caught.value.fix
    holder.kill()
    holder.communicate()
    assert not stop_training(tmp_path)


@pytest.mark.parametrize("kind", [DoesNotFit, CheckpointError])
def test_a_failure_keeps_its_name(tmp_path: Path, kind: type[ForetuneError]) -> None:
    with EventLog(tmp_path) as log:
        log.add("train_start")
        log.add("failed", error=kind.__name__, message="what", fix="how")
    error = failure_of(tmp_path)
    assert type(error) is kind and (error.what, error.fix) == ("what", "how")


@pytest.mark.parametrize("name", ["SystemExit", "Fault", "dataclass", "__name__", ""])
def test_a_failure_of_an_unknown_name_is_a_plain_error(tmp_path: Path, name: str) -> None:
    with EventLog(tmp_path) as log:
        log.add("failed", error=name, message="what", fix="")
    assert type(failure_of(tmp_path)) is ForetuneError


def test_an_older_failure_is_not_told_of_a_later_start(tmp_path: Path) -> None:
    with EventLog(tmp_path) as log:
        log.add("failed", error="DoesNotFit", message="old", fix="")
        log.add("train_start")
    (tmp_path / "train.log").write_text("line\n" * 20 + "Killed\n")
    error = failure_of(tmp_path)
    assert "without a word" in error.what and error.what.endswith("train.log: Killed")
    assert error.what.count("train.log") == 5


def test_a_log_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ForetuneError, match="cannot be written"):
        start_detached(["timeit"], log=tmp_path / "nowhere" / "log")
