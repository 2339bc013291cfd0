"""The append-only event log of a run: one JSON object a line, a torn last line is ignored."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from foretune.records.base import write_error

__all__ = ["EVENTS_FILE", "EventLog", "read_events", "tail_events"]

EVENTS_FILE = "events.jsonl"


class EventLog:
    """Appends events to `run_dir/events.jsonl`; each line reaches the operating system before `add` returns.

    A process killed in the middle of a line leaves a torn line; the next writer ends it with a newline first, and
    readers skip what does not parse.
    """

    def __init__(self, run_dir: str | Path) -> None:
        self._path = Path(run_dir) / EVENTS_FILE
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self._path, "ab+", buffering=0)  # noqa: SIM115
            self._end_torn_line()
        except OSError as error:
            raise write_error(self._path, error) from error

    def _end_torn_line(self) -> None:
        size = self._file.seek(0, os.SEEK_END)
        if size == 0:
            return
        self._file.seek(size - 1)
        if self._file.read(1) != b"\n":
            self._file.write(b"\n")

    def add(self, kind: str, **values: Any) -> dict[str, Any]:
        """Append one event `{time, kind, ...}`; `time` is seconds since the epoch. Raises DoesNotFit on a full disk."""
        event = {"time": round(time.time(), 3), "kind": kind, **values}
        try:
            self._file.write(json.dumps(event, allow_nan=True).encode() + b"\n")
        except OSError as error:
            raise write_error(self._path, error) from error
        return event

    def close(self) -> None:
        """Flush to disk and close."""
        os.fsync(self._file.fileno())
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def read_events(run_dir: str | Path) -> list[dict[str, Any]]:
    """Every whole event of a run, in order; [] if there is none yet."""
    path = Path(run_dir) / EVENTS_FILE
    if not path.is_file():
        return []
    events = (_parsed(line) for line in path.read_bytes().split(b"\n") if line.strip())
    return [event for event in events if event is not None]


def tail_events(run_dir: str | Path, *, poll_seconds: float = 0.2) -> Iterator[dict[str, Any] | None]:
    """Events as they come, from the first; yields None whenever there is nothing new, so that the caller can stop."""
    path = Path(run_dir) / EVENTS_FILE
    offset, rest = 0, b""
    while True:
        chunk = b""
        if path.is_file():
            with open(path, "rb") as file:
                file.seek(offset)
                chunk = file.read()
        if not chunk:
            yield None
            time.sleep(poll_seconds)
            continue
        offset += len(chunk)
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            event = _parsed(line) if line.strip() else None
            if event is not None:
                yield event
