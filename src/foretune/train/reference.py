"""Log-probabilities of the model before its first step: computed once a run, kept in `reference.json`, never again."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from foretune.records.base import write_atomically
from foretune.train.objective import Row
from foretune.train.preference import PreferencePasses

__all__ = ["REFERENCE_FILE", "referenced"]

REFERENCE_FILE = "reference.json"


def referenced(
    passes: PreferencePasses, rows: Sequence[Row], *, budget_tokens: int, run_dir: Path, key: str
) -> list[Row]:
    """Rows with the log-probabilities (nats) that the model, as it stands now, gives to both their sequences.

    Read from `run_dir` where rows and `key` (all that the model depends on) are those of an earlier start of the run,
    so that a resumed run has them to the bit. Raises DoesNotFit where the disk is full.
    """
    path, digest = run_dir / REFERENCE_FILE, _digest(rows, key)
    known = _read(path, digest)
    if known is None:
        found = passes.with_reference(rows, budget_tokens)
        known = [row.preference.reference for row in found if row.preference is not None]
        write_atomically(path, json.dumps({"key": digest, "reference": known}) + "\n")
    return [
        row._replace(preference=row.preference._replace(reference=(float(own), float(other))))
        for row, (own, other) in zip(rows, known, strict=True)
        if row.preference is not None
    ]


def _digest(rows: Sequence[Row], key: str) -> str:
    digest = hashlib.sha256(key.encode())
    for row in rows:
        digest.update(row.ids.tobytes())
        if row.preference is not None:
            digest.update(row.preference.ids.tobytes())
    return digest.hexdigest()


def _read(path: Path, digest: str) -> list[tuple[float, float]] | None:
    """What an earlier start wrote; None where it is not there, torn, or of other rows."""
    if not path.is_file():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None
    return document["reference"] if document.get("key") == digest else None
