"""A process on this machine: training started detached, told to stop, and its end explained."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foretune import errors
from foretune.backends.processes import kept_processes, launched
from foretune.errors import ForetuneError
from foretune.records.base import write_error
from foretune.records.events import read_events
from foretune.records.run import run_pid

__all__ = [
    "TRAIN_LOG",
    "exit_code",
    "failure_of",
    "is_alive",
    "named_error",
    "start_detached",
    "start_training",
    "stop_process",
    "stop_training",
]

TRAIN_LOG = "train.log"
_CHILDREN: dict[int, subprocess.Popen[bytes]] = {}  # started by this process, to be reaped


def start_detached(arguments: Sequence[str], *, log: Path) -> int:
    """Start `python -m ARGUMENTS` in a session of its own, output appended to `log`; the process id.

    It outlives whoever started it: neither a closed terminal nor Ctrl-C there reaches it.
    """
    try:
        with open(log, "ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    except OSError as error:
        raise write_error(log, error) from error
    _CHILDREN[process.pid] = process
    return process.pid


def start_training(run_dir: Path, *, resume: bool = False) -> int:
    """Start the training of a run whose `resolved.json` is written, in as many processes as it keeps; the first id."""
    arguments = ["foretune.train", str(run_dir), *(["--resume"] if resume else [])]
    return start_detached(launched(arguments, kept_processes(run_dir)), log=run_dir / TRAIN_LOG)


def is_alive(pid: int) -> bool:
    """Whether the process still runs; a child of ours that ended is reaped here."""
    child = _CHILDREN.get(pid)
    if child is not None:
        return child.poll() is None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def exit_code(pid: int) -> int | None:
    """How a process that we started ended (negative: by that signal); None where it runs or is not ours."""
    child = _CHILDREN.get(pid)
    return None if child is None else child.poll()


def stop_process(pid: int, *, abort: bool = False) -> None:
    """Ask a process to stop (SIGTERM: training checkpoints first), or end it now."""
    try:
        os.kill(pid, signal.SIGKILL if abort else signal.SIGTERM)
    except ProcessLookupError:
        return


def stop_training(run_dir: Path, *, timeout_seconds: float = 120.0) -> bool:
    """Stop the process that writes a run and wait for its checkpoint; False where none was running.

    Raises ForetuneError if it has not ended within `timeout_seconds`.
    """
    pid = run_pid(run_dir)
    if pid is None:
        return False
    stop_process(pid)
    deadline = time.monotonic() + timeout_seconds
    while run_pid(run_dir) is not None:
        if time.monotonic() > deadline:
            raise ForetuneError(
                f"process {pid} of run {run_dir.name} has not stopped after {timeout_seconds:.0f} s",
                fix=f"foretune runs stop {run_dir.name} --abort",
            )
        time.sleep(0.1)
    return True


def failure_of(run_dir: Path) -> ForetuneError:
    """Why the last training process of a run ended without finishing, as the error that it named, or from its log."""
    events = read_events(run_dir)
    last = next((e for e in reversed(events) if e["kind"] in ("failed", "train_start", "train_end")), None)
    if last is not None and last["kind"] == "failed":
        return named_error(last)
    tail = _log_tail(run_dir)
    what = f"the training process of {run_dir.name} ended without a word (killed, or out of memory?)"
    return ForetuneError(f"{what}{tail}", fix=f"foretune runs resume {run_dir.name}")


def named_error(told: Mapping[str, Any]) -> ForetuneError:
    """The error that another process told of: its class by name, its message and its fix."""
    kind = getattr(errors, str(told.get("error")), None)
    known = kind if isinstance(kind, type) and issubclass(kind, ForetuneError) else ForetuneError
    return known(str(told.get("message", "training failed")), fix=str(told.get("fix", "")))


def _log_tail(run_dir: Path, num_lines: int = 5) -> str:
    path = run_dir / TRAIN_LOG
    if not path.is_file():
        return ""
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-num_lines:]
    return "".join(f"\n  {TRAIN_LOG}: {line}" for line in lines)
