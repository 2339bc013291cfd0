"""Dataset versions: named by content, written once, verified on reading."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from foretune.data.samples import Message, Sample
from foretune.data.split import Splits
from foretune.data.store import DatasetStore
from foretune.errors import DataError, DoesNotFit, NotFound


def row(number: int) -> Sample:
    messages = (Message("user", f"é {number}\u2028x"), Message("assistant", f'{{"n": {number}}}\n'))
    return Sample(f"r{number}", messages, group=f"g{number}", place=f"a.jsonl:{number}", meta={"k": [number]})


def splits(num: int = 6) -> Splits:
    samples = [row(number) for number in range(num)]
    return Splits(samples[2:], samples[:1], samples[1:2])


def test_what_was_saved_comes_back_whole(tmp_path: Path) -> None:
    store = DatasetStore(tmp_path)
    version = store.save(splits())
    for name, samples in splits().as_dict().items():
        assert store.load(version, name) == samples
        assert store.infos(version)[name].num_samples == len(samples)
    assert sorted(path.name for path in store.folder(version).iterdir()) == [
        "manifest.json",
        "test.jsonl",
        "train.jsonl",
        "validation.jsonl",
    ]


@pytest.mark.req("R112")
def test_files_are_utf8_jsonl_with_messages(tmp_path: Path) -> None:
    store = DatasetStore(tmp_path)
    text = (store.folder(store.save(splits())) / "train.jsonl").read_text(encoding="utf-8")
    lines = text.split("\n")
    assert lines.pop() == ""
    assert "é" in text
    assert [json.loads(line)["messages"][0]["role"] for line in lines] == ["user"] * 4


def test_version_is_of_content_and_split_not_of_names_or_order(tmp_path: Path) -> None:
    store = DatasetStore(tmp_path)
    version = store.save(splits())
    same = splits()
    renamed = [replace(sample, id="x", place="b.jsonl:1") for sample in reversed(same.train)]
    assert store.save(replace(same, train=renamed)) == version
    assert store.load(version, "train") == same.train
    assert store.save(replace(same, test=same.validation, validation=same.test)) != version
    assert store.save(replace(same, train=same.train[:-1])) != version


def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    store = DatasetStore(tmp_path)
    version = store.save(splits())
    path = store.folder(version) / "test.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace("é 1", "é 9"), encoding="utf-8")
    with pytest.raises(DataError, match="its hash differs"):
        store.load(version, "test")
    assert store.load(version, "train") == splits().train
    path.write_text("{")
    with pytest.raises(DataError, match="not what foretune wrote"):
        store.load(version, "test")
    assert store.save(splits()) == version
    assert store.load(version, "test") == splits().test


def test_a_forged_manifest_is_noticed(tmp_path: Path) -> None:
    store = DatasetStore(tmp_path)
    version, other = store.save(splits()), store.save(splits(7))
    manifest = (store.folder(other) / "manifest.json").read_text()
    (store.folder(version) / "manifest.json").write_text(manifest)
    with pytest.raises(DataError, match="not those of this version"):
        store.load(version, "train")


def test_an_unknown_version_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no dataset 0123"):
        DatasetStore(tmp_path).load("0123", "train")


@pytest.mark.parametrize("number", [28, 13])
def test_a_failed_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("foretune.data.store.os.fsync", fail)
    store = DatasetStore(tmp_path)
    with pytest.raises(DoesNotFit):
        store.save(splits())
    assert list(store.root.iterdir()) == []
