"""The files of a run on a part of the training samples: what it learns from and is stopped by, and their licence."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foretune.data.samples import Sample
from foretune.data.write import proved_row
from foretune.records.base import write_atomically
from foretune.records.dataset import UNKNOWN_LICENCE, DatasetRecord

__all__ = ["part_settings", "write_card", "write_samples"]

EMPTIED = (
    *("system", "input_field", "target_field", "group_field", "time_field", "mix_path", "production_path"),
    *("test_path", "advanced.train_until", "advanced.validate_until"),
)


def write_samples(path: Path, samples: Sequence[Sample]) -> None:
    """Write samples as JSON lines, each proved by reading it back. Raises what that finds."""
    rows = (proved_row(sample, _form(sample)) for sample in samples)
    write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def write_card(folder: Path, dataset: DatasetRecord) -> None:
    """Write down beside the parts under which licences their rows were read, so that nobody is asked again."""
    licences = sorted({source.licence for source in dataset.sources} - {UNKNOWN_LICENCE})
    if licences:
        card = {"name": f"parts of dataset {dataset.version}", "licence": " AND ".join(licences)}
        write_atomically(folder / "source.json", json.dumps(card) + "\n")


def part_settings(path: Path, held_out: Path | None) -> dict[str, Any]:
    """The job's data fields for a part: its files as they are, nothing split off, mixed in or cut."""
    values: dict[str, Any] = dict.fromkeys(EMPTIED, "")
    values |= {"path": str(path.resolve()), "validation_path": str(held_out.resolve()) if held_out else ""}
    values |= {"task": "auto", "max_rows": 0, "test_fraction": 0.0, "validation_fraction": 0.0}
    values |= {"advanced.noisy_test": 0.0}
    return {f"data.{name}": value for name, value in values.items()}


def _form(sample: Sample) -> str:
    if sample.desirable is not None:
        return "kto"
    if sample.rejected:
        return "preference"
    return "text" if sample.is_text else "messages"
