"""Write the training rows of a run without what spoils them, beside the next job; the user's files stay as they are."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from foretune.config.job import JobConfig
from foretune.data.samples import Sample
from foretune.data.store import DatasetStore
from foretune.data.write import GROUP_FIELD, sample_row
from foretune.diagnose.row_steps import Rows, general_rows, mended_rows, production_halves
from foretune.errors import DataError
from foretune.records.base import write_atomically
from foretune.records.dataset import DatasetRecord
from foretune.records.diagnosis import DataStep
from foretune.records.evidence import EvidenceRecord
from foretune.records.run import ResolvedRecord

__all__ = ["Mended", "write_mended"]

FILES = {"train": "data.path", "validation": "data.validation_path", "test": "data.test_path"}
# Settings that say how the user's own file is read and split; the written files need none of them.
EMPTIED: dict[str, Any] = {
    "data.input_field": "",
    "data.target_field": "",
    "data.group_field": "",
    "data.time_field": "",
    "data.advanced.train_until": "",
    "data.advanced.validate_until": "",
    "data.max_rows": 0,
}
GENERAL_SHARE = 0.2  # of training, where general rows are added
GENERAL_CARD = {"kind": "file", "name": "general rows by foretune", "licence": "Apache-2.0", "share": "public"}


class Mended(NamedTuple):
    """The settings that point to the written files, relative to the job's folder, and how many training rows are left.

    `num_changed` counts rows that were dropped, cut or added.
    """

    patch: dict[str, Any]
    num_changed: int
    num_left: int


@dataclass
class _Writer:
    """Where files go, and the settings that name them."""

    folder: Path
    job_dir: Path
    patch: dict[str, Any] = field(default_factory=dict)

    def write(self, name: str, samples: Sequence[Sample], setting: str) -> Path:
        """Write samples as JSONL and point a setting to them."""
        path = self.folder / name
        write_atomically(path, "".join(json.dumps(_row(one), ensure_ascii=False) + "\n" for one in samples))
        self.patch[setting] = os.path.relpath(path, self.job_dir.resolve())
        return path


def write_mended(steps: Sequence[DataStep], *, run_dir: Path, folder: Path, job_dir: Path) -> Mended:
    """Write what the steps need into `folder`: the splits of the run with its training rows changed, general rows.

    General rows that the run mixed in are left out: the next job mixes them in again. Raises DataError where nothing
    would change or no row would be left, NotFound where the stored data are gone.
    """
    out = _Writer(folder, job_dir)
    resolved = ResolvedRecord.read(run_dir)
    job = JobConfig.model_validate(resolved.job)
    if any(step.do == "add_general" for step in steps):
        _write_general(out, job)
    rest = [step for step in steps if step.do != "add_general"]
    if not rest:
        return Mended(out.patch, 0, 0)
    record, store = DatasetRecord.read(run_dir), DatasetStore(run_dir.parent)
    splits = {name: store.load(record.version, name) for name in FILES}
    own = [sample for sample in splits["train"] if not sample.meta.get("mixed")]
    added: list[Sample] = []
    if any(step.do == "add_production" for step in rest):
        halves = production_halves(Path(resolved.folder) / job.data.production_path, job)
        added = halves.first
        out.write("production.jsonl", halves.second, "data.production_path")
    rows = mended_rows(rest, Rows(own, [*splits["validation"], *splits["test"]], _probed(run_dir)))
    before = {(sample.id, sample.target) for sample in own}
    changed = len(own) - len(before & {(sample.id, sample.target) for sample in rows}) + len(added)
    _check(changed, len(rows) + len(added))
    splits["train"] = [*rows, *added]
    for name, setting in FILES.items():
        out.write(f"{name}.jsonl", splits[name], setting)
    group = {"data.group_field": GROUP_FIELD} if any(sample.group for sample in rows) else {}
    task = {"data.task": record.task} if record.task != "chat" else {}
    return Mended({**EMPTIED, **out.patch, **group, **task}, changed, len(splits["train"]))


def _check(num_changed: int, num_left: int) -> None:
    if num_changed == 0:
        raise DataError(
            "no training row is dropped or changed: the data are not those that were diagnosed", fix="foretune run"
        )
    if num_left == 0:
        raise DataError("no training row would be left", fix="collect more data: foretune collect")


def _probed(run_dir: Path) -> set[str]:
    """Ids of the training rows whose loss was measured."""
    if not EvidenceRecord.exists(run_dir):
        return set()
    return {loss.sample_id for loss in EvidenceRecord.read(run_dir).losses if loss.split == "train"}


def _write_general(out: _Writer, job: JobConfig) -> None:
    out.write("general/general.jsonl", general_rows(job.seed), "data.mix_path")
    write_atomically(out.folder / "general" / "source.json", json.dumps(GENERAL_CARD) + "\n")
    out.patch["data.advanced.mix_fraction"] = GENERAL_SHARE


def _row(sample: Sample) -> dict[str, Any]:
    """The sample in the form that holds it whole."""
    form = "text" if sample.is_text else "preference" if sample.rejected else "messages"
    return sample_row(sample, form)
