"""One row of a table of training runs while it is read: its cells, its hints, and what had to be assumed."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from foretune.errors import DataError

__all__ = ["Row"]

NO_VALUE = frozenset({"", "?", "n/a", "na", "unknown", "-", "nan"})
NUMBER = re.compile(r"(-?\d+\.?\d*(?:e[+-]?\d+)?|-?\.\d+)\s*(mib|gib|gb|g|k|m|b|t)?\s*(?:tokens|gpus)?")
SCALES = {None: 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}
SCALES |= {"g": 1.0, "gb": 1.0, "gib": 2**30 / 1e9, "mib": 2**20 / 1e9}
LARGEST = 1e18
HINT_COLUMNS = ("notes", "flash/kernel_notes", "arch_notes", "parallelism", "precision/quantization", "method")


@dataclass
class Row:
    """The cells of one row by column, and the assumptions made so far; `unknown` names what they are about."""

    cells: Mapping[str, str]
    assumptions: list[str] = field(default_factory=list)
    unknown: set[str] = field(default_factory=set)

    def text(self, column: str) -> str:
        """A cell without blanks, an empty text where it says nothing."""
        value = str(self.cells.get(column) or "").strip()
        return "" if value.lower() in NO_VALUE else value

    def number(self, column: str) -> float:
        """A cell as a number above 0, 0.0 where it is empty; `50k`, `1,000` and, in GB, `81559 MiB` are numbers.

        Raises DataError.
        """
        text = self.text(column)
        if not text or text.lower() == "none":
            return 0.0
        found = NUMBER.fullmatch(text.lower().replace(",", "").replace("_", ""))
        value = float(found.group(1)) * SCALES[found.group(2)] if found else math.nan
        if not 0 < value < LARGEST:
            raise DataError(f"`{column}` is {text!r}, expected a number above 0", fix=f"correct the column `{column}`")
        return value

    def count(self, column: str) -> int:
        """A cell as a whole number, 0 where it is empty. Raises DataError."""
        value = self.number(column)
        if value and value < 1:
            raise DataError(f"`{column}` is {value:g}, expected at least 1", fix=f"correct the column `{column}`")
        return int(value)

    def assume(self, name: str, text: str) -> None:
        """Notes that `name` was not given and what was taken."""
        self.unknown.add(name)
        self.assumptions.append(text)

    @property
    def hints(self) -> str:
        """All free text in lower case: what a user says of kernels, architecture and settings."""
        return " | ".join(str(self.cells.get(column) or "") for column in HINT_COLUMNS).lower()
