"""The steps of an evaluation that are done already, so that a killed one goes on where it stood."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from foretune.records.base import write_error

__all__ = ["JOURNAL_FILE", "Journal"]

JOURNAL_FILE = "evaluation.partial.jsonl"


class Journal:
    """One JSON line a step: `{key, step, value}`. Lines of another key, and a torn last line, are not read.

    `key` names everything that the steps depend on, so that no step of another model or job is taken over.
    """

    def __init__(self, run_dir: Path, key: str) -> None:
        self._path = run_dir / JOURNAL_FILE
        self._key = key
        self._done: dict[str, Any] = {}
        for line in self._path.read_bytes().split(b"\n") if self._path.is_file() else ():
            entry = _parsed(line)
            if entry.get("key") == key:
                self._done[entry["step"]] = entry["value"]

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
        """The evaluation is recorded: nothing is left to go on with."""
        self._path.unlink(missing_ok=True)

    def _append(self, entry: dict[str, Any]) -> None:
        try:
            with open(self._path, "ab") as file:
                file.write(b"\n" + json.dumps(entry).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise write_error(self._path, error) from error


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        entry = json.loads(line) if line.strip() else {}
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) and {"key", "step", "value"} <= set(entry) else {}
