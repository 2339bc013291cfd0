"""Training the same again is named before it is paid for."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from foretune.plan.again import same_again
from foretune.records.dataset import DatasetRecord
from foretune.records.run import ResolvedRecord
from foretune.records.training import TrainingRecord

JOB: dict[str, Any] = {"name": "twin", "base": "pebble", "seed": 0, "train": {"epochs": 3.0}}


def _run(folder: Path, run_id: str, *, version: str = "v1", is_trained: bool = False, **changes: Any) -> Path:
    run_dir = folder / run_id
    run_dir.mkdir()
    ResolvedRecord(
        run_id=run_id,
        created="2026-11-21T00:00:00.000Z",
        foretune_version="0",
        job=JOB | changes,
        origins={},
        folder=str(folder),
    ).write(run_dir)
    (run_dir / DatasetRecord.file_name).write_text(
        DatasetRecord.model_construct(version=version).model_dump_json(), encoding="utf-8"
    )
    if is_trained:
        (run_dir / TrainingRecord.file_name).write_text("{}", encoding="utf-8")
    return run_dir


@pytest.fixture(autouse=True)
def versions_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The version is all that is asked of a data set here."""

    def read(folder: Path) -> DatasetRecord:
        text = (Path(folder) / DatasetRecord.file_name).read_text(encoding="utf-8")

        return DatasetRecord.model_construct(**json.loads(text))

    monkeypatch.setattr(DatasetRecord, "read", staticmethod(read))


@pytest.mark.req("R265")
def test_the_same_again_is_named_whatever_its_name_and_seed(tmp_path):
    _run(tmp_path, "first-001", is_trained=True)
    again = _run(tmp_path, "second-001", name="second", seed=7)
    assert "first-001 was trained on the same data with the same settings" in same_again(again)
    assert "foretune diagnose first-001" in same_again(again)


@pytest.mark.parametrize(
    "change",
    [{"version": "v2"}, {"base": "other"}, {"train": {"epochs": 4.0}}],
    ids=["other data", "other base", "other settings"],
)
def test_another_run_is_not(tmp_path, change):
    _run(tmp_path, "first-001", is_trained=True)
    assert same_again(_run(tmp_path, "second-001", **change)) == ""


def test_a_run_that_never_finished_does_not_count(tmp_path):
    _run(tmp_path, "first-001")
    assert same_again(_run(tmp_path, "second-001")) == ""


def test_a_damaged_neighbour_is_passed_over(tmp_path):
    broken = _run(tmp_path, "first-001", is_trained=True)
    (broken / ResolvedRecord.file_name).write_text("{", encoding="utf-8")
    assert same_again(_run(tmp_path, "second-001")) == ""
