"""A run on disk: its folder, its state, its lock, and how to find it by id."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import difflib
import re
import shlex
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from foretune.errors import ConfigError, NotFound
from foretune.records.base import Record, write_error
from foretune.records.events import read_events
from foretune.records.lock import held_lock, lock_pid

__all__ = [
    "DEFAULT_RUNS_DIR",
    "JOB_FILE",
    "ResolvedRecord",
    "RunState",
    "create_run",
    "find_run",
    "find_system",
    "list_runs",
    "locked_run",
    "run_pid",
    "run_state",
]

DEFAULT_RUNS_DIR = "runs"
JOB_FILE = "job.toml"
LOCK_FILE = ".lock"
RunState = Literal["created", "training", "stopped", "failed", "interrupted", "trained", "evaluated"]


class ResolvedRecord(Record):
    """`resolved.json`: every setting with its origin, the primary metric fixed before training, and who made it."""

    file_name: ClassVar[str] = "resolved.json"
    run_id: str
    created: str  # ISO 8601, UTC
    foretune_version: str
    job: dict[str, Any]
    origins: dict[str, str]
    folder: str  # what relative paths of the job are relative to
    derived: dict[str, str] = Field(default_factory=dict)  # setting -> value and why
    primary_metric: str = ""
    parent: str = ""  # run id that this job was derived from
    source: str = ""  # the job file as the user named it

    @property
    def job_file(self) -> str:
        """The job file as it stands in a command."""
        return shlex.quote(self.source or JOB_FILE)


def create_run(runs_dir: str | Path, name: str) -> Path:
    """A new folder `<runs_dir>/<name>-NNN`; safe against two processes at once. Raises where it cannot be written."""
    root = Path(runs_dir)
    try:
        root.mkdir(parents=True, exist_ok=True)
        pattern = re.compile(re.escape(name) + r"-(\d+)$")
        taken = [int(match[1]) for path in root.iterdir() if (match := pattern.match(path.name))]
        number = max(taken, default=0) + 1
        while True:
            path = root / f"{name}-{number:03d}"
            try:
                path.mkdir()
                return path
            except FileExistsError:
                number += 1
    except OSError as error:
        raise write_error(root, error) from error


def list_runs(runs_dir: str | Path) -> list[Path]:
    """Every run folder, oldest first."""
    root = Path(runs_dir)
    if not root.is_dir():
        return []
    runs = [path for path in root.iterdir() if path.is_dir() and ResolvedRecord.exists(path)]
    return sorted(runs, key=lambda path: (path.stat().st_ctime, path.name))


def find_run(runs_dir: str | Path, run_id: str = "latest") -> Path:
    """The folder of a run by id, by path, or `latest`. Raises NotFound with the nearest names."""
    runs = list_runs(runs_dir)
    if run_id == "latest":
        if runs:
            return max(runs, key=lambda path: ResolvedRecord.read(path).created)
        raise NotFound(f"no runs in {runs_dir}", fix="foretune run job.toml")
    for path in (Path(runs_dir) / run_id, Path(run_id)):
        if ResolvedRecord.exists(path):
            return path
    close = difflib.get_close_matches(run_id, [path.name for path in runs], n=1)
    hint = f"did you mean {close[0]}?" if close else "foretune runs list"
    raise NotFound(f"no run {run_id} in {runs_dir}", fix=hint)


def find_system(runs_dir: str | Path, name: str) -> str:
    """The folder of a run, with the system behind its colon where `name` is RUN:system. Raises NotFound."""
    run, sign, system = name.rpartition(":")
    try:
        return str(find_run(runs_dir, name))
    except NotFound:
        if not sign or not run:
            raise
        return f"{find_run(runs_dir, run)}:{system}"


def locked_run(run_dir: str | Path) -> AbstractContextManager[None]:
    """Hold a run's lock, so that two processes never write one run. Raises ConfigError where it is held."""
    folder = Path(run_dir)

    def busy(pid: int | None) -> ConfigError:
        return ConfigError(
            f"run {folder.name} is being written by process {pid}", fix=f"foretune runs watch {folder.name}"
        )

    return held_lock(folder / LOCK_FILE, busy=busy)


def run_pid(run_dir: str | Path) -> int | None:
    """The process that writes this run now, or None."""
    return lock_pid(Path(run_dir) / LOCK_FILE)


def run_state(run_dir: str | Path) -> RunState:
    """What a run is doing, from its records, its events and its lock. `interrupted`: killed; it can be resumed."""
    folder = Path(run_dir)
    if run_pid(folder) is not None:
        return "training"
    if (folder / "evaluation.json").is_file():
        return "evaluated"
    if (folder / "training.json").is_file():
        return "trained"
    kinds = [event["kind"] for event in read_events(folder)]
    if "train_start" not in kinds:
        return "failed" if "failed" in kinds else "created"
    last = next((kind for kind in reversed(kinds) if kind in ("train_start", "train_end", "failed")), "train_start")
    return {"train_start": "interrupted", "train_end": "stopped", "failed": "failed"}[last]  # type: ignore[return-value]
