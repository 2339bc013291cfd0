"""Collect with what a job may ask for: bad rows put aside, splits by time, a noisy twin, general data, preferences."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from foretune.collect.collect import collect
from foretune.config.job import AdvancedData, DataConfig, JobConfig, TrainConfig
from foretune.data.noisy import paired, read_noisy
from foretune.data.samples import Sample
from foretune.data.store import DatasetStore
from foretune.errors import ConfigError, DataError, GateRefused
from foretune.records.dataset import DatasetRecord


def question(number: int) -> str:
    return " ".join(hashlib.sha256(f"{number} {i}".encode()).hexdigest()[:6] for i in range(8))


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def pairs(num: int, first: int = 0, **more: Any) -> list[dict[str, Any]]:
    return [{"prompt": question(n), "completion": f"answer {n}", **more} for n in range(first, first + num)]


def collected(folder: Path, *, method: Any = "lora", **data: Any) -> DatasetRecord:
    advanced = {name: data.pop(name) for name in list(data) if name in AdvancedData.model_fields}
    job = JobConfig(data=DataConfig(**data, advanced=AdvancedData(**advanced)), train=TrainConfig(method=method))
    return collect(job, folder=folder, runs_dir=folder / "runs", run_dir=folder / "runs" / "job-001")


def split(folder: Path, record: DatasetRecord, name: str) -> list[Sample]:
    return DatasetStore(folder / "runs").load(record.version, name)


def test_faulty_rows_are_put_aside_and_the_good_ones_go_on(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", pairs(40))
    path.write_text(path.read_text() + '{"prompt": "no answer"}\n{"prompt": "x", "completion": 5\n')
    with pytest.raises(DataError, match="2 faults"):
        collected(tmp_path, path="a.jsonl")
    record = collected(tmp_path, path="a.jsonl", on_fault="reject")
    assert record.num_rejected == 2 and sum(info.num_samples for info in record.splits.values()) == 40
    rows = [json.loads(line) for line in (tmp_path / "runs" / "job-001" / "rejected.jsonl").read_text().splitlines()]
    assert [row["line"] for row in rows] == [41, 42] and all(row["reasons"] for row in rows)
    assert "2 faults; the rows are put aside in rejected.jsonl of the run" in record.warnings[0]
    (tmp_path / "bad.jsonl").write_text('{"prompt": 1\n')
    with pytest.raises(DataError):
        collected(tmp_path, path="bad.jsonl", on_fault="reject")


def test_rows_are_split_by_time(tmp_path: Path) -> None:
    write_rows(
        tmp_path / "a.jsonl",
        [{**row, "date": f"2025-{n // 4 + 1:02d}-0{n % 4 + 1}"} for n, row in enumerate(pairs(40))],
    )
    record = collected(
        tmp_path, path="a.jsonl", time_field="date", train_until="2025-08-01", validate_until="2025-09-01"
    )
    dates = {name: [sample.meta["date"] for sample in split(tmp_path, record, name)] for name in record.splits}
    assert max(dates["train"]) < "2025-08-01" <= min(dates["validation"])
    assert max(dates["validation"]) < "2025-09-01" <= min(dates["test"])
    assert [len(dates[name]) for name in ("train", "validation", "test")] == [28, 4, 8]
    found = collected(tmp_path, path="a.jsonl", time_field="auto")
    assert found.splits["test"].num_samples == 4 and "split by `date`" in found.warnings[0]
    with pytest.raises(DataError, match="no date in `day`"):
        collected(tmp_path, path="a.jsonl", time_field="day")


def test_a_split_by_time_does_not_go_with_a_test_file(tmp_path: Path) -> None:
    write_rows(tmp_path / "data" / "train.jsonl", pairs(20, date="2025-01-01"))
    write_rows(tmp_path / "data" / "test.jsonl", pairs(5, 100, date="2025-01-01"))
    with pytest.raises(ConfigError, match="the folder has a test file already"):
        collected(tmp_path, path="data", time_field="date")


@pytest.mark.req("R121")
def test_the_noisy_twin_of_the_test_split_is_left_in_the_run_folder(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"could you please explain number {n} because {question(n)}", "completion": "x"} for n in range(40)
    ]
    write_rows(tmp_path / "a.jsonl", rows)
    record = collected(tmp_path, path="a.jsonl", noisy_test=0.3)
    test = split(tmp_path, record, "test")
    twins = read_noisy(tmp_path / "runs" / "job-001")
    found = paired(test, twins)
    assert len(found) == len(test) == 4
    assert all(old.target == new.target and old.input_text != new.input_text for old, new in found)
    assert collected(tmp_path, path="a.jsonl").version == record.version
    (tmp_path / "runs" / "job-001" / "noisy_test.jsonl").write_text("{half")
    with pytest.raises(DataError, match="not what foretune wrote"):
        read_noisy(tmp_path / "runs" / "job-001")


@pytest.mark.req("R295")
def test_general_rows_go_into_training_alone_under_a_licence_that_allows_it(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.jsonl", pairs(100))
    write_rows(tmp_path / "general" / "rows.jsonl", [*pairs(60, 1000), *pairs(5)])
    with pytest.raises(GateRefused, match="licence of some rows is not known"):
        collected(tmp_path, path="a.jsonl", mix_path="general")
    (tmp_path / "general" / "source.json").write_text('{"licence": "cc-by-4.0", "name": "general"}')
    record = collected(tmp_path, path="a.jsonl", mix_path="general")
    train, test = split(tmp_path, record, "train"), split(tmp_path, record, "test")
    general = [sample for sample in train if "mixed" in sample.meta]
    assert 0.14 < len(general) / len(train) < 0.16 and not any("mixed" in sample.meta for sample in test)
    assert {sample.meta["provenance"]["licence"] for sample in general} == {"CC-BY-4.0"}
    assert not {sample.input_text for sample in general} & {sample.input_text for sample in test}
    assert any(source.name == "general" for source in record.sources)
    assert not any("outside the usual" in warning for warning in record.warnings)
    wide = collected(tmp_path, path="a.jsonl", mix_path="general", mix_fraction=0.3)
    assert any("outside the usual 10 to 20 %" in warning for warning in wide.warnings)


def test_a_class_head_takes_no_general_data(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.jsonl", pairs(20))
    with pytest.raises(ConfigError, match=r"data\.mix_path"):
        collected(tmp_path, path="a.jsonl", mix_path="a.jsonl", method="classify")


def test_preferences_are_kept_and_bad_answers_are_not_learned(tmp_path: Path) -> None:
    rows = [{"prompt": question(n), "chosen": f"good {n}", "rejected": f"bad {n}"} for n in range(30)]
    write_rows(tmp_path / "pairs.jsonl", rows)
    record = collected(tmp_path, path="pairs.jsonl", task="preference")
    assert record.task == "preference" and record.splits["train"].num_samples == 24
    assert all(sample.rejected and sample.target.startswith("good") for sample in split(tmp_path, record, "train"))
    judged = [{"prompt": question(n), "completion": f"a {n}", "label": n % 3 > 0} for n in range(30)]
    write_rows(tmp_path / "kto.jsonl", judged)
    learned = collected(tmp_path, path="kto.jsonl", task="preference")
    assert sum(info.num_samples for info in learned.splits.values()) == 20
    assert any("10 answers that were judged bad are left out" in warning for warning in learned.warnings)
    kept = collected(tmp_path, path="kto.jsonl", method="kto")
    assert kept.task == "preference" and sum(info.num_samples for info in kept.splits.values()) == 30
    with pytest.raises(DataError, match=r'data\.task = "preference"'):
        collected(tmp_path, path="pairs.jsonl")


@pytest.mark.req("R414")
def test_a_data_set_with_train_and_test_alone_keeps_its_test_untouched(tmp_path: Path) -> None:
    write_rows(tmp_path / "data" / "train.jsonl", pairs(50))
    held_out = write_rows(tmp_path / "data" / "test.jsonl", pairs(10, 100)).read_text()
    record = collected(tmp_path, path="data")
    test = split(tmp_path, record, "test")
    assert [sample.target for sample in test] == [json.loads(line)["completion"] for line in held_out.splitlines()]
    validation = split(tmp_path, record, "validation")
    assert len(validation) == 5 and all(sample.place.startswith("train.jsonl") for sample in validation)
