"""How good the predictions have been: this machine's ledger of finished runs, in a line a quantity and method."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import statistics
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from foretune.plan.ledger import LedgerEntry, read_ledger

__all__ = ["Score", "scorecard"]

NEAR = 0.2


class Score(BaseModel):
    """Predictions of one quantity held against what happened.

    Errors are |predicted - actual| / actual with the expected value; `held` is the share of runs inside the stated
    interval, `near` the share within 20 %.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    quantity: str
    device: str
    method: str
    probed: bool
    num_runs: int
    median_error: float
    near: float
    held: float
    worst_error: float


def scorecard(runs_dir: str | Path) -> tuple[Score, ...]:
    """One line for each quantity, device and method of the ledger in `runs_dir`, most runs first."""
    groups: dict[tuple[str, str, str, bool], list[LedgerEntry]] = {}
    for entry in read_ledger(runs_dir):
        groups.setdefault((entry.quantity, entry.device, entry.method, entry.probed), []).append(entry)
    scores = [_score(*key, entries) for key, entries in groups.items()]
    return tuple(sorted(scores, key=lambda score: (-score.num_runs, score.quantity, score.method)))


def _score(quantity: str, device: str, method: str, probed: bool, entries: Iterable[LedgerEntry]) -> Score:
    known = [entry for entry in entries if entry.actual > 0]
    errors = [abs(entry.predicted.expected - entry.actual) / entry.actual for entry in known] or [0.0]
    return Score(
        quantity=quantity,
        device=device,
        method=method,
        probed=probed,
        num_runs=len(known),
        median_error=statistics.median(errors),
        near=sum(error <= NEAR for error in errors) / len(errors),
        held=sum(entry.predicted.holds(entry.actual) for entry in known) / max(1, len(known)),
        worst_error=max(errors),
    )
