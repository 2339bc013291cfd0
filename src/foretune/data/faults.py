"""Faults of data files, gathered so that the user sees all of them at once, and the bad rows put aside."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from foretune.errors import DataError, Fault
from foretune.records.base import write_error

__all__ = ["KEPT_FAULTS", "REJECTED_FILE", "SHOWN_FAULTS", "FaultList", "RejectedRows", "fault_error", "short"]

SHOWN_FAULTS = 50  # lines
SHOWN_ALIKE = 5  # faults of one kind
SHOWN_RANGES = 12  # of lines of one kind of fault
NUMBER = re.compile(r"\d+")
KEPT_FAULTS = 10_000  # more than these are counted and put aside, but not kept in memory
REJECTED_FILE = "rejected.jsonl"
MAX_RAW_CHARS = 20_000  # of a rejected row that are written down


def short(value: object, limit: int = 60) -> str:
    """A value as it is shown in a fault: one line, quoted if it is text, cut at `limit` characters."""
    text = repr(value[: limit + 1]) if isinstance(value, str) else str(value)
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 3]}..."


def fault_error(faults: Iterable[Fault], what: str, *, count: int = 0) -> DataError:
    """One error for many faults; `faults` holds all that were kept.

    Of faults of one kind the first 5 are printed and the others counted, of all kinds at most 50 lines. `count` is
    their true number, where not all of them were kept.
    """
    listed = tuple(faults)
    total = max(count, len(listed))
    noun = "fault" if total == 1 else "faults"
    kinds: dict[tuple[str, ...], list[Fault]] = {}
    for fault in listed:
        kinds.setdefault(_kind(fault), []).append(fault)
    lines = [line for alike in kinds.values() for line in _shown(alike)]
    head = f"{total} {noun} in {what}:"
    rest = [f"  ... and faults of {len(kinds)} kinds in all"] if len(lines) > SHOWN_FAULTS else []
    if total > len(listed):
        rest.append(f"  ... and {total - len(listed)} more")
    fix = next((fault.fix for fault in listed if fault.fix), f"mend these lines of {what}")
    return DataError("\n".join([head, *lines[:SHOWN_FAULTS], *rest]), fix=fix, faults=listed)


def _kind(fault: Fault) -> tuple[str, ...]:
    """What faults of one kind have in common: their words but for figures, whatever stood there."""
    return (fault.file, NUMBER.sub("#", fault.what), NUMBER.sub("#", fault.expected))


def _shown(alike: list[Fault]) -> list[str]:
    """Faults of one kind: the first ones, and in which lines the others stand."""
    lines = [f"  {fault}" for fault in alike[:SHOWN_ALIKE]]
    rest = alike[SHOWN_ALIKE:]
    if rest:
        where = _ranges([fault.line for fault in rest if fault.line])
        lines.append(f"  ... and {len(rest)} more like these{f' in lines {where}' if where else ''}")
    return lines


def _ranges(numbers: Iterable[int]) -> str:
    """Line numbers in short: `6-60`, `8, 10, 12-14`; of many ranges the first ones and the last."""
    spans: list[list[int]] = []
    for number in sorted(set(numbers)):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    shown = [str(first) if first == last else f"{first}-{last}" for first, last in spans]
    return ", ".join(shown if len(shown) <= SHOWN_RANGES else [*shown[: SHOWN_RANGES - 1], "...", shown[-1]])


class RejectedRows:
    """Rows that could not be read, one JSON object a line: `file`, `line`, `reasons`, `raw`, and `cut` if it was long.

    The file is made with the first such row. Use it in a `with` block; `num_rows` counts rows, not reasons. `shown` is
    how the file is told to the user, if not by its path. Raises DoesNotFit or ForetuneError where the file cannot be
    written.
    """

    def __init__(self, path: str | Path, *, shown: str = "") -> None:
        self.path = Path(path)
        self.shown = shown or str(path)
        self.num_rows = 0
        self._file: TextIO | None = None
        self._waiting: dict[str, Any] = {}

    def __enter__(self) -> RejectedRows:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self.close()

    def add(self, fault: Fault, raw: str = "") -> None:
        """Put a row aside; several faults of one row become one line with several reasons."""
        if (self._waiting.get("file"), self._waiting.get("line")) != (fault.file, fault.line):
            self._flush()
            self._waiting = {"file": fault.file, "line": fault.line, "reasons": [], "raw": ""}
            self.num_rows += 1
        self._waiting["reasons"].append(_reason(fault))
        if raw and not self._waiting["raw"]:
            self._waiting["raw"] = raw[:MAX_RAW_CHARS]
            if len(raw) > MAX_RAW_CHARS:
                self._waiting["cut"] = True

    def close(self) -> None:
        """Write what is waiting, and close the file."""
        self._flush()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _flush(self) -> None:
        if not self._waiting:
            return
        line = json.dumps(self._waiting, ensure_ascii=False).encode("utf-8", "replace").decode()
        self._waiting = {}
        try:
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = open(self.path, "w", encoding="utf-8", newline="\n")  # noqa: SIM115 (closed by close)
            self._file.write(line + "\n")
        except OSError as error:
            raise write_error(self.path, error) from error


def _reason(fault: Fault) -> str:
    """What is wrong, without the place, which stands beside it."""
    got = f", got {fault.value}" if fault.value else ""
    expected = f", expected {fault.expected}" if fault.expected else ""
    return f"{fault.what}{got}{expected}"


class FaultList:
    """Faults of one file as they are found; the first 10,000 are kept, all are counted and put aside.

    `row` is the row that is being read, for those who put it aside; a reader that has the raw line hands it over.
    """

    def __init__(self, file: str | Path, rejected: RejectedRows | None = None) -> None:
        self.file = str(file)
        self.faults: list[Fault] = []
        self.count = 0
        self.row: Any = None
        self._rejected = rejected

    def add(
        self, line: int, what: str, *, value: str = "", expected: str = "", fix: str = "", raw: str | None = None
    ) -> None:
        """Note one fault at a line (0 = the whole file); `raw` is the row as it stands in the file."""
        fault = Fault(self.file, line, what, value, expected, fix)
        self.count += 1
        if len(self.faults) < KEPT_FAULTS:
            self.faults.append(fault)
        if self._rejected is not None:
            self._rejected.add(fault, self._raw() if raw is None else raw)

    def beside(self, file: str | Path) -> FaultList:
        """A list for a second file that belongs to this one; `extend` brings it home."""
        return FaultList(file)

    def extend(self, others: FaultList) -> None:
        """Take over the faults of a second file."""
        for fault in others.faults:
            self.faults.append(fault)
            if self._rejected is not None:
                self._rejected.add(fault)
        self.count += others.count

    def _raw(self) -> str:
        if self.row is None:
            return ""
        try:
            return json.dumps(self.row, ensure_ascii=False, default=str)
        except (ValueError, RecursionError, TypeError):
            return repr(self.row)[:MAX_RAW_CHARS]
