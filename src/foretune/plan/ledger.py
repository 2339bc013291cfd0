"""Predictions and what became of them, one line a run, so that the next interval rests on this machine's own record."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from foretune.plan.time import Factors
from foretune.records.base import write_error
from foretune.records.plan import Estimate

__all__ = ["LEDGER_FILE", "LedgerEntry", "append_ledger", "learned_factors", "read_ledger"]

LEDGER_FILE = "plan_ledger.jsonl"
FEWEST_RUNS = 5
SMALLEST_SPREAD = 0.03  # nobody's machine repeats better than that
Z90 = 1.645


class LedgerEntry(BaseModel):
    """One quantity of one finished run, predicted and actual. `probed`: whether the prediction rested on real steps."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    run_id: str
    device: str
    method: str
    base: str
    probed: bool
    quantity: str
    predicted: Estimate
    actual: float
    engine: str = ""  # with its version; empty in entries of before


def append_ledger(runs_dir: str | Path, entries: Iterable[LedgerEntry]) -> None:
    """Add lines to `runs_dir/plan_ledger.jsonl` in one write. Raises DoesNotFit on a full disk."""
    path = Path(runs_dir) / LEDGER_FILE
    data = "".join(entry.model_dump_json() + "\n" for entry in entries).encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, data)
        finally:
            os.close(handle)
    except OSError as error:
        raise write_error(path, error) from error


def read_ledger(runs_dir: str | Path) -> tuple[LedgerEntry, ...]:
    """Every whole line of the ledger, oldest first; torn or foreign lines are skipped."""
    path = Path(runs_dir) / LEDGER_FILE
    if not path.is_file():
        return ()
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    parsed = (_parsed(line) for line in lines if line.strip())
    return tuple(entry for entry in parsed if entry is not None)


def _parsed(line: str) -> LedgerEntry | None:
    try:
        return LedgerEntry.model_validate_json(line)
    except ValidationError:
        return None


def learned_factors(
    entries: Sequence[LedgerEntry],
    *,
    device: str,
    method: str,
    probed: bool,
    engine: str = "",
    quantity: str = "train_seconds",
) -> Factors | None:
    """Factors from at least five finished runs on the same device, engine version and method, else None.

    A 90 % prediction interval of the next log ratio actual / expected: mean +- t s sqrt(1 + 1/n), widened to hold 1.
    """
    wanted = (device, method, probed, engine, quantity)
    logs = [
        math.log(entry.actual / entry.predicted.expected)
        for entry in entries
        if (entry.device, entry.method, entry.probed, entry.engine, entry.quantity) == wanted
        and entry.actual > 0
        and entry.predicted.expected > 0
    ]
    if len(logs) < FEWEST_RUNS:
        return None
    mean, spread = statistics.fmean(logs), max(SMALLEST_SPREAD, statistics.stdev(logs))
    half = _t90(len(logs) - 1) * spread * math.sqrt(1 + 1 / len(logs))
    low, high = min(1.0, math.exp(mean - half)), max(1.0, math.exp(mean + half))
    return Factors(low, high, f"{len(logs)} earlier {method} runs on this device: x{low:.2f} to x{high:.2f}")


def _t90(degrees: int) -> float:
    """95 % quantile of Student's t, Cornish-Fisher expansion (Abramowitz and Stegun 26.7.5); within 1 % from 4 up."""
    z = Z90
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    return z + first / degrees + second / degrees**2
