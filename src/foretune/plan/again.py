"""Whether an earlier run did the very same: training again on the same data changes nothing but the time it takes."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foretune.errors import ForetuneError
from foretune.records.dataset import DatasetRecord
from foretune.records.run import ResolvedRecord, list_runs
from foretune.records.training import TrainingRecord

__all__ = ["same_again"]

# What changes neither the data nor what is learned from them.
ASIDE = ("name", "seed", "parent", "evaluate", "data", "compare", "serve")


def same_again(run_dir: Path) -> str:
    """One sentence where an earlier finished run has this run's base, data version and training settings; "" else.

    Another seed counts as the same: it repeats the draw and adds no knowledge.
    """
    if not DatasetRecord.exists(run_dir) or not ResolvedRecord.exists(run_dir):
        return ""
    mine = _identity(run_dir)
    for other in list_runs(run_dir.parent):
        if other == run_dir or not TrainingRecord.exists(other) or not DatasetRecord.exists(other):
            continue
        try:
            theirs = _identity(other)
        except ForetuneError:  # a damaged neighbour says nothing about this run
            continue
        if theirs == mine:
            return (
                f"{other.name} was trained on the same data with the same settings; training again adds nothing. "
                f"What it lacked: foretune diagnose {other.name}"
            )
    return ""


def _identity(run_dir: Path) -> tuple[str, Mapping[str, Any]]:
    job = ResolvedRecord.read(run_dir).job
    return DatasetRecord.read(run_dir).version, {name: value for name, value in job.items() if name not in ASIDE}
