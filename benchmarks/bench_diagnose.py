"""The planted-fault suite's figures, judged anew from its packed records; `diagnose.py` makes those records."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

from diagnose_suite.pack import PACKED, read_packed
from diagnose_suite.scoring import figures, scores


def measure() -> dict[str, Any]:
    """Every rate of each half; thresholds were made on `dev` and `first` alone."""
    runs = read_packed(PACKED)
    halves = {
        half: scores([run for run in runs if run.half == half]) for half in dict.fromkeys(run.half for run in runs)
    }
    return {"metrics": {half: figures(found) for half, found in halves.items()}, "config": {"records": PACKED.name}}
