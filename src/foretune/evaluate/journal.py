"""The steps of an evaluation that are done already, so that a killed one goes on where it stood."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from foretune.records.base import write_error

__all__ = ["FINISHED_FILE", "JOURNAL_FILE", "Journal"]

JOURNAL_FILE = "evaluation.partial.jsonl"
FINISHED_FILE = "evaluation.journal.jsonl"


class Journal:
    """One JSON line a step: `{key, step, value}`. Lines of another key, and a torn last line, are not read.

    `key` names everything that the steps depend on, so that no step of another model or job is taken over.
    """

    def __init__(self, run_dir: Path, key: str) -> None:
        self._path = run_dir / JOURNAL_FILE
        self._key = key
        self._done = _steps(self._path, key)

    @property
    def key(self) -> str:
        """What the steps depend on."""
        return self._key

    def __contains__(self, step: str) -> bool:
        return step in self._done

    def once(self, step: str, compute: Callable[[], Any]) -> Any:
        """The value of a step, a JSON value: from the journal, else computed and written down before it is returned."""
        if step not in self._done:
            value = compute()
            self._append({"key": self._key, "step": step, "value": value})
            self._done[step] = value
        return self._done[step]

    def finish(self) -> None:
        """The evaluation is recorded: nothing is left to go on with. Its steps are kept for what is added later."""
        if self._path.is_file():
            self._path.replace(self._path.with_name(FINISHED_FILE))
        self._done = {}

    def reopen(self) -> bool:
        """Go on with the steps of the finished evaluation; whether there are any under this key."""
        finished = self._path.with_name(FINISHED_FILE)
        steps = _steps(finished, self._key)
        if steps:
            finished.replace(self._path)
            self._done = steps
        return bool(steps)

    def _append(self, entry: dict[str, Any]) -> None:
        try:
            with open(self._path, "ab") as file:
                file.write(b"\n" + json.dumps(entry).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise write_error(self._path, error) from error


def _steps(path: Path, key: str) -> dict[str, Any]:
    """The values of the steps done under a key, by name."""
    lines = path.read_bytes().split(b"\n") if path.is_file() else []
    entries = [entry for line in lines if (entry := _parsed(line)).get("key") == key]
    return {entry["step"]: entry["value"] for entry in entries}


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        entry = json.loads(line) if line.strip() else {}
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) and {"key", "step", "value"} <= set(entry) else {}
