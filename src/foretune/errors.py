"""The one tree of errors: each says what is wrong, what was expected, and the command that mends it."""

# SPDX-License-Identifier: Apache-2.0
#
# ForetuneError                     exit 1
# ├── ConfigError        ValueError       2   the user's command line or job file
# ├── DataError          ValueError       3   the user's data; carries every fault of the file
# ├── ScoreError         ValueError       3   a score that cannot be computed
# ├── TrainingDiverged   ArithmeticError  3   NaN or infinite loss
# ├── CheckpointError    OSError          3   a checkpoint that cannot be read or written
# ├── NotFound           LookupError      4   a run, model or file that is not there
# ├── MissingDependency  ImportError      4   a package that is not installed
# ├── ServeError         RuntimeError     5   a provider or server that does not answer
# ├── GateRefused        PermissionError  6   a gate: sealed test split, licence, budget
# └── DoesNotFit         MemoryError      7   out of memory or disk
from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataError",
    "DoesNotFit",
    "Fault",
    "ForetuneError",
    "GateRefused",
    "MissingDependency",
    "NotFound",
    "ScoreError",
    "ServeError",
    "TrainingDiverged",
]


@dataclass(frozen=True)
class Fault:
    """One thing wrong at one place of a file.

    `line` counts from 1; 0 means the whole file. `value` is what stood there, shortened.
    """

    file: str
    line: int
    what: str
    value: str = ""
    expected: str = ""
    fix: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        parts = [f"{place}: {self.what}"]
        if self.value:
            parts.append(f"got {self.value}")
        if self.expected:
            parts.append(f"expected {self.expected}")
        text = ", ".join(parts)
        return f"{text}; {self.fix}" if self.fix else text


class ForetuneError(Exception):
    """Base of every error that foretune raises on purpose.

    `what` is one sentence with the value got and what was expected; `fix` is the command or line that mends it.
    """

    exit_code = 1

    def __init__(self, what: str, *, fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.fix = fix

    def __str__(self) -> str:
        return self.what


class ConfigError(ForetuneError, ValueError):
    """The command line or the job file says something that cannot be done."""

    exit_code = 2


class DataError(ForetuneError, ValueError):
    """The data cannot be used; `faults` lists every fault found, not only the first."""

    exit_code = 3

    def __init__(self, what: str, *, fix: str = "", faults: tuple[Fault, ...] = ()) -> None:
        super().__init__(what, fix=fix)
        self.faults = faults


class ScoreError(ForetuneError, ValueError):
    """A score that cannot be computed, with the row that it fails on."""

    exit_code = 3


class TrainingDiverged(ForetuneError, ArithmeticError):
    """The loss or a gradient became NaN or infinite."""

    exit_code = 3


class CheckpointError(ForetuneError, OSError):
    """A checkpoint that cannot be written, is incomplete, or does not match its hash."""

    exit_code = 3


class NotFound(ForetuneError, LookupError):
    """A run, model, file or template that is not there."""

    exit_code = 4


class MissingDependency(ForetuneError, ImportError):
    """An optional package that is not installed; `fix` is the pip line."""

    exit_code = 4


class ServeError(ForetuneError, RuntimeError):
    """A provider or server that does not answer as it should."""

    exit_code = 5


class GateRefused(ForetuneError, PermissionError):
    """A gate said no: sealed test split, licence conflict, budget."""

    exit_code = 6


class DoesNotFit(ForetuneError, MemoryError):
    """Not enough memory or disk, or a folder that cannot be written, found before or while working."""

    exit_code = 7
