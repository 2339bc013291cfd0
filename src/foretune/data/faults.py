"""Faults of data files, gathered so that the user sees all of them at once."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from foretune.errors import DataError, Fault

__all__ = ["SHOWN_FAULTS", "FaultList", "fault_error", "short"]

SHOWN_FAULTS = 50


def short(value: object, limit: int = 60) -> str:
    """A value as it is shown in a fault: one line, quoted if it is text, cut at `limit` characters."""
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def fault_error(faults: Iterable[Fault], what: str) -> DataError:
    """One error for many faults: at most 50 are printed, the count is exact and `faults` holds all of them."""
    listed = tuple(faults)
    noun = "fault" if len(listed) == 1 else "faults"
    lines = [f"{len(listed)} {noun} in {what}:", *(f"  {fault}" for fault in listed[:SHOWN_FAULTS])]
    if len(listed) > SHOWN_FAULTS:
        lines.append(f"  ... and {len(listed) - SHOWN_FAULTS} more")
    fix = next((fault.fix for fault in listed if fault.fix), f"mend these lines of {what}")
    return DataError("\n".join(lines), fix=fix, faults=listed)


class FaultList:
    """Faults of one file as they are found."""

    def __init__(self, file: str | Path) -> None:
        self.file = str(file)
        self.faults: list[Fault] = []

    def add(self, line: int, what: str, *, value: str = "", expected: str = "", fix: str = "") -> None:
        """Note one fault at a line (0 = the whole file)."""
        self.faults.append(Fault(self.file, line, what, value, expected, fix))
