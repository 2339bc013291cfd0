"""One row of a data file before anybody knows what its fields mean."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["Row"]


class Row(NamedTuple):
    """One row: `line` is where it begins in the file (for Parquet, the row number); raw text has a field `text`.

    `is_plain` promises that no text in it holds half a surrogate pair, because nothing in its JSON spells one.
    """

    line: int
    fields: dict[str, Any]
    is_plain: bool = False
