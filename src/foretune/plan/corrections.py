"""Corrections: figures that are often told about fine-tuning, each beside the right one and what shows it."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import functools
import tomllib
from pathlib import Path

from foretune.config import Strict

__all__ = ["Correction", "correction_text", "read_corrections"]

CORRECTIONS_FILE = Path(__file__).with_name("corrections.toml")


class Correction(Strict):
    """One claim and the right figure; `requirement` is the acceptance row that asks for it."""

    id: str
    requirement: str
    claim: str
    right: str
    why: str
    source: str
    date: str


@functools.cache
def read_corrections() -> dict[str, Correction]:
    """The bundled corrections by id: S-01 to S-20, and those of training times."""
    rows = tomllib.loads(CORRECTIONS_FILE.read_text(encoding="utf-8"))["correction"]
    return {row["id"]: Correction(**row) for row in rows}


def correction_text(id: str) -> str:
    """One line: what is often told, and what is right. Raises KeyError for an unknown id."""
    row = read_corrections()[id]
    return f"often told: {row.claim}; right: {row.right} ({row.why})"
