"""Collect: the data of a job becomes a stored version with its record."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from foretune.collect.collect import collect
from foretune.config.job import DataConfig, JobConfig, TrainConfig
from foretune.data.samples import Message
from foretune.data.store import DatasetStore
from foretune.errors import ConfigError, DataError, NotFound
from foretune.records.dataset import DatasetRecord


def write_pairs(path: Path, num: int, *, first: int = 0, answer: str = "answer {}") -> Path:
    def question(number: int) -> str:
        return " ".join(hashlib.sha256(f"{number} {i}".encode()).hexdigest()[:6] for i in range(8))

    rows = [{"question": question(n), "answer": answer.format(n)} for n in range(first, first + num)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def collected(folder: Path, *, seed: int = 0, method: Any = "lora", **data: Any) -> DatasetRecord:
    job = JobConfig(seed=seed, data=DataConfig(**data), train=TrainConfig(method=method))
    return collect(job, folder=folder, runs_dir=folder / "runs", run_dir=folder / "runs" / "job-001")


def sizes(record: DatasetRecord) -> dict[str, int]:
    return {name: info.num_samples for name, info in record.splits.items()}


@pytest.mark.req("R123")
@pytest.mark.req("R115")
def test_a_file_becomes_three_splits_a_version_and_a_record(tmp_path: Path) -> None:
    path = write_pairs(tmp_path / "data" / "a.jsonl", 100)
    record = collected(tmp_path, path="data/a.jsonl")
    assert sizes(record) == {"train": 80, "validation": 10, "test": 10}
    assert record == DatasetRecord.read(tmp_path / "runs" / "job-001")
    (source,) = record.sources
    assert (source.path, source.format, source.num_rows) == ("data/a.jsonl", "jsonl: question/answer pairs", 100)
    assert source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    store = DatasetStore(tmp_path / "runs")
    assert [len(store.load(record.version, name)) for name in record.splits] == [80, 10, 10]
    assert (record.task, record.labels, record.seed) == ("chat", (), 0)


def test_the_version_follows_content_and_seed(tmp_path: Path) -> None:
    write_pairs(tmp_path / "a.jsonl", 60)
    lines = (tmp_path / "a.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "b.jsonl").write_text("".join(reversed(lines)))
    write_pairs(tmp_path / "c.jsonl", 60, answer="other {}")
    version = collected(tmp_path, path="a.jsonl").version
    assert collected(tmp_path, path="b.jsonl").version == version
    assert collected(tmp_path, path="a.jsonl", seed=1).version != version
    assert collected(tmp_path, path="c.jsonl").version != version
    assert collected(tmp_path, path="a.jsonl", system="Be brief.").version != version


@pytest.mark.req("R414")
def test_train_and_test_files_give_validation_from_train(tmp_path: Path) -> None:
    write_pairs(tmp_path / "data" / "train.jsonl", 50)
    write_pairs(tmp_path / "data" / "test.jsonl", 20, first=100)
    record = collected(tmp_path, path="data")
    assert sizes(record) == {"train": 45, "validation": 5, "test": 20}
    store = DatasetStore(tmp_path / "runs")
    assert {s.place.partition(":")[0] for s in store.load(record.version, "validation")} == {"train.jsonl"}
    assert [s.place for s in store.load(record.version, "test")] == [f"test.jsonl:{n}" for n in range(1, 21)]
    assert collected(tmp_path, path="data/train.jsonl", test_path="data/test.jsonl").version == record.version


def test_given_splits_are_kept(tmp_path: Path) -> None:
    for name, first in (("train", 0), ("dev", 100), ("test", 200)):
        write_pairs(tmp_path / "data" / f"{name}.jsonl", 10, first=first)
    assert sizes(collected(tmp_path, path="data")) == {"train": 10, "validation": 10, "test": 10}


def test_a_folder_without_training_file_uses_the_validation_file(tmp_path: Path) -> None:
    write_pairs(tmp_path / "data" / "dev.jsonl", 20)
    write_pairs(tmp_path / "data" / "test.jsonl", 10, first=100)
    record = collected(tmp_path, path="data")
    assert sizes(record) == {"train": 18, "validation": 2, "test": 10}
    assert record.warnings[0] == "no training file in the folder: dev.jsonl is split into train and validation instead"


@pytest.mark.req("R128")
def test_classes_are_listed_and_kept_in_proportion(tmp_path: Path) -> None:
    write_pairs(tmp_path / "a.jsonl", 200)
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    labels = ("negative", "neutral", "positive", "positive")
    text = "".join(f"{row['question']},{labels[number % 4]}\n" for number, row in enumerate(rows))
    (tmp_path / "a.csv").write_text("text,label\n" + text)
    record = collected(tmp_path, path="a.csv", method="classify")
    assert (record.task, record.labels) == ("classify", ("negative", "neutral", "positive"))
    test = DatasetStore(tmp_path / "runs").load(record.version, "test")
    assert sorted(sample.target for sample in test) == ["negative"] * 5 + ["neutral"] * 5 + ["positive"] * 10


def test_a_class_head_needs_two_classes(tmp_path: Path) -> None:
    write_pairs(tmp_path / "a.jsonl", 10, answer="same")
    with pytest.raises(DataError, match="at least 2 classes, got only 'same'"):
        collected(tmp_path, path="a.jsonl", method="classify")


def test_a_class_that_training_never_sees_is_told(tmp_path: Path) -> None:
    write_pairs(tmp_path / "train.jsonl", 20, answer="a")
    write_pairs(tmp_path / "more.jsonl", 20, first=20, answer="b")
    with open(tmp_path / "train.jsonl", "a") as file:
        file.write((tmp_path / "more.jsonl").read_text())
    write_pairs(tmp_path / "test.jsonl", 5, first=90, answer="c")
    record = collected(tmp_path, path="train.jsonl", test_path="test.jsonl", task="classify")
    assert "classes that training never sees: 'c'" in record.warnings


def test_groups_and_first_rows_and_system_are_passed_on(tmp_path: Path) -> None:
    write_pairs(tmp_path / "a.jsonl", 40)
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    lines = [json.dumps({**row, "who": f"c{n % 10}"}) + "\n" for n, row in enumerate(rows)]
    (tmp_path / "a.jsonl").write_text("".join(lines))
    record = collected(tmp_path, path="a.jsonl", group_field="who", max_rows=30, system="Be brief.")
    assert record.num_clusters == 10
    assert sum(sizes(record).values()) == 30
    store = DatasetStore(tmp_path / "runs")
    groups = [{s.group for s in store.load(record.version, name)} for name in ("train", "validation", "test")]
    assert sum(map(len, groups)) == 10
    assert store.load(record.version, "test")[0].messages[0] == Message("system", "Be brief.")


def test_what_cannot_be_collected_is_said_clearly(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.path is not set"):
        collected(tmp_path)
    with pytest.raises(NotFound, match="no data file"):
        collected(tmp_path, path="nowhere.jsonl")
    write_pairs(tmp_path / "one.jsonl", 1)
    with pytest.raises(DataError, match="1 row cannot be split"):
        collected(tmp_path, path="one.jsonl")
    assert not DatasetRecord.exists(tmp_path / "runs" / "job-001")


def test_real_folders(shared_data: Path, tmp_path: Path) -> None:
    expected = {
        "tweeteval_sentiment": ("classify", {"train": 1800, "validation": 200, "test": 12_284}),
        "gsm8k": ("chat", {"train": 6726, "validation": 747, "test": 1319}),
    }
    for name, (task, counts) in expected.items():
        job = JobConfig(data=DataConfig(path=name))
        record = collect(job, folder=shared_data, runs_dir=tmp_path, run_dir=tmp_path / name)
        assert (record.task, sizes(record)) == (task, counts)
    assert DatasetRecord.read(tmp_path / "tweeteval_sentiment").labels == ("negative", "neutral", "positive")
