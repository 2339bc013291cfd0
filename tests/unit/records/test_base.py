"""Records: written whole or not at all, read back equal, refused when damaged."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import Field

from foretune.errors import DataError, DoesNotFit, ForetuneError, NotFound
from foretune.records import base
from foretune.records.base import Record, write_atomically, write_error


class Colour(Record):
    """A record for these tests."""

    file_name: ClassVar[str] = "colour.json"
    name: str
    shares: dict[str, float] = Field(default_factory=dict)


def test_a_record_reads_back_equal(tmp_path: Path) -> None:
    record = Colour(name="rød ⟦1⟧", shares={"a": 0.1})
    path = record.write(tmp_path)
    assert path == tmp_path / "colour.json"
    assert Colour.read(tmp_path) == record
    assert Colour.exists(tmp_path)
    assert record.as_dict() == {"schema_version": 1, "name": "rød ⟦1⟧", "shares": {"a": 0.1}}


def test_every_record_carries_its_schema_version(tmp_path: Path) -> None:
    Colour(name="red").write(tmp_path)
    assert '"schema_version": 1' in (tmp_path / "colour.json").read_text()


def test_a_missing_record_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no colour\.json"):
        Colour.read(tmp_path)
    assert not Colour.exists(tmp_path)


@pytest.mark.parametrize("text", ["", '{"name": "re', "[]", '{"name": 3}', '{"name": "red", "size": 4}'])
def test_a_damaged_record_is_a_data_error_with_its_path(tmp_path: Path, text: str) -> None:
    (tmp_path / "colour.json").write_text(text)
    with pytest.raises(DataError, match=r"colour\.json"):
        Colour.read(tmp_path)


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "colour.json"
    write_atomically(path, "old")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(base.os, "fsync", full)
    with pytest.raises(DoesNotFit, match="disk is full") as caught:
        write_atomically(path, "new")
    assert caught.value.exit_code == 7
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["colour.json"]


def test_the_file_is_renamed_only_after_it_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(base.os, "fsync", lambda handle: (calls.append("fsync"), fsync(handle))[1])
    monkeypatch.setattr(base.os, "replace", lambda old, new: (calls.append("replace"), replace(old, new))[1])
    write_atomically(tmp_path / "a.json", "{}")
    assert calls == ["fsync", "replace"]


def test_a_folder_that_cannot_be_written_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ForetuneError) as caught:
        write_atomically(tmp_path / "file" / "a.json", "{}")
    assert "--runs-dir" in caught.value.fix


@pytest.mark.parametrize(
    ("number", "what", "fix"),
    [
        (errno.ENOSPC, "the disk is full", "free space"),
        (errno.EFBIG, "larger than this shell lets a file be", "ulimit -f unlimited"),
        (errno.EACCES, "cannot be written", "--runs-dir FOLDER"),
    ],
)
def test_a_failed_write_says_what_mends_it(tmp_path: Path, number: int, what: str, fix: str) -> None:
    error = write_error(tmp_path / "run.json", OSError(number, os.strerror(number)))
    assert what in str(error) and fix in error.fix
