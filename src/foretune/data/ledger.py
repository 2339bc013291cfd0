"""The ledger of looks at test splits: one look at a dataset version, unless the user says otherwise."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import fcntl
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from foretune.errors import GateRefused
from foretune.records.base import write_error

__all__ = ["LEDGER_FILE", "Look", "TestLedger"]

LEDGER_FILE = "test_ledger.jsonl"


class Look(NamedTuple):
    """One entry: who wanted to open which test split, when, for what, and whether it was allowed.

    `look` counts the allowed looks at this version, this one included (a refused one has the number it would have had).
    """

    time: str
    version: str
    run_id: str
    purpose: str
    look: int
    refused: bool


class TestLedger:
    """The ledger of one runs folder: append-only, safe against two processes at once."""

    __test__ = False  # not a test class, whatever pytest thinks of its name

    def __init__(self, runs_dir: str | Path) -> None:
        self.path = Path(runs_dir) / LEDGER_FILE

    def open_test(self, version: str, run_id: str, purpose: str, *, reuse: bool = False) -> int:
        """Note a look at the test split of a dataset version and return its number, 1 for the first.

        Any earlier look, by whatever run, makes this one a repeated look: it raises GateRefused unless `reuse`.
        Either way it is written down before anything else happens.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "ab+") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                earlier = [look for look in _read(file) if look.version == version and not look.refused]
                refused = bool(earlier) and not reuse
                now = datetime.now(UTC).isoformat(timespec="seconds")
                _append(file, Look(now, version, run_id, purpose, len(earlier) + 1, refused))
        except OSError as error:
            raise write_error(self.path, error) from error
        if refused:
            raise _refusal(earlier, version, self.path)
        return len(earlier) + 1

    def looks(self, version: str = "") -> list[Look]:
        """Every entry in order, refused ones included; of one version or of all."""
        if not self.path.is_file():
            return []
        with open(self.path, "rb") as file:
            return [look for look in _read(file) if not version or look.version == version]


def _read(file: BinaryIO) -> list[Look]:
    """Entries that are whole; a torn last line is skipped."""
    file.seek(0)
    looks = []
    for line in file.read().split(b"\n"):
        values = _parsed(line)
        if values is not None:
            looks.append(values)
    return looks


def _parsed(line: bytes) -> Look | None:
    try:
        values: Any = json.loads(line)
        return Look(**values)
    except (ValueError, TypeError):
        return None


def _append(file: BinaryIO, look: Look) -> None:
    size = file.seek(0, os.SEEK_END)
    if size:
        file.seek(size - 1)
        if file.read(1) != b"\n":
            file.write(b"\n")
    file.write(json.dumps(look._asdict(), ensure_ascii=False).encode() + b"\n")
    file.flush()
    os.fsync(file.fileno())


def _refusal(earlier: list[Look], version: str, path: Path) -> GateRefused:
    first = earlier[0]
    more = f" and {len(earlier) - 1} more since" if len(earlier) > 1 else ""
    return GateRefused(
        f"the test split of dataset {version} is sealed: run {first.run_id} looked at it on {first.time} "
        f"({first.purpose}){more}; each further look makes the result more optimistic",
        fix=f"judge on new data, or accept it with --reuse-test; every look is written to {path}",
    )
