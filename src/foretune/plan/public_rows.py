"""Runs that people quote as yardsticks, with source, date and how far each may be trusted, beside what we predict."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

from foretune.plan.forecast import forecast
from foretune.plan.rows import setup_of
from foretune.records.forecast import Forecast

__all__ = ["Confidence", "PublicRow", "public_rows", "row_named"]

# measured: logged by the run itself. reported: its author says so. anecdotal: hearsay or an estimate on the way.
# contradicted: the quoted figure is not what its source says.
Confidence = Literal["measured", "reported", "anecdotal", "contradicted"]


@dataclass(frozen=True)
class PublicRow:
    """One quoted run. `cells` are those of the table of observed runs, `reported` the figures that the source gives
    (hours, dollars, GB of one device), `claim` what is said of it where that differs, `date` when it was read."""

    name: str
    claim: str
    source: str
    date: str
    confidence: Confidence
    cells: Mapping[str, str]
    reported: Mapping[str, float]
    note: str = ""

    def forecast(self) -> Forecast:
        """What the planner says of the run."""
        setup, assumptions = setup_of(self.cells)
        return forecast(setup, assumptions=assumptions, suggests=False)


@cache
def public_rows() -> tuple[PublicRow, ...]:
    """All bundled rows."""
    tree = json.loads(files("foretune.plan").joinpath("public_rows.json").read_text(encoding="utf-8"))
    return tuple(PublicRow(**{**row, "date": row.get("date", tree["date"])}) for row in tree["rows"])


def row_named(name: str) -> PublicRow:
    """One row by its name. Raises KeyError."""
    found = next((row for row in public_rows() if row.name == name), None)
    if found is None:
        raise KeyError(f"no public row {name!r}; there are {', '.join(row.name for row in public_rows())}")
    return found
