"""Streams: good rows come one by one, bad ones are put aside with their reasons, and memory stays small."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import bz2
import gzip
import json
import lzma
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from foretune.data.compress import open_binary
from foretune.data.faults import KEPT_FAULTS, FaultList, RejectedRows
from foretune.data.files import text_lines
from foretune.data.formats import read_samples
from foretune.data.stream import stream_samples
from foretune.errors import DataError, MissingDependency

GOOD = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
BAD = {"messages": [{"role": "user", "content": "Hi"}]}
EMPTY = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": ""}]}


def lines(*rows: Any) -> str:
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)


def written(path: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]


def test_faults_are_raised_behind_the_last_good_row(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(lines(GOOD, BAD, GOOD))
    stream = stream_samples(path)
    assert [next(stream).place, next(stream).place] == ["a.jsonl:1", "a.jsonl:3"]
    with pytest.raises(DataError, match=r"1 fault in .*\n.*a\.jsonl:2: no assistant message"):
        next(stream)


def test_bad_rows_are_put_aside_as_they_stood(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    two_faults = {"messages": [{"role": "user", "content": 5}, {"role": "robot", "content": "x"}]}
    path.write_text(lines(GOOD, BAD, '{"messages": [,', GOOD, two_faults, EMPTY))
    with RejectedRows(tmp_path / "out" / "rejected.jsonl") as rejected:
        data = read_samples(path, rejected=rejected)
    assert [sample.place for sample in data.samples] == ["a.jsonl:1", "a.jsonl:4"]
    (warning,) = data.warnings
    assert warning.startswith("a.jsonl: 5 faults; the rows are put aside in ")
    rows = written(rejected.path)
    assert [row["line"] for row in rows] == [2, 3, 5, 6]
    assert rejected.num_rows == 4
    assert json.loads(rows[0]["raw"]) == BAD
    assert rows[1]["raw"] == '{"messages": [,'
    assert len(rows[2]["reasons"]) == 2
    assert "the answer is empty" in rows[3]["reasons"][0]
    assert all(row["file"] == str(path) for row in rows)


def test_a_long_raw_row_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(lines(GOOD, {**BAD, "note": "x" * 100_000}))
    with RejectedRows(tmp_path / "rejected.jsonl") as rejected:
        read_samples(path, rejected=rejected)
    (row,) = written(rejected.path)
    assert row["cut"] and len(row["raw"]) == 20_000


def test_where_no_row_is_good_there_is_an_error_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(lines(BAD, BAD))
    with RejectedRows(tmp_path / "rejected.jsonl") as rejected, pytest.raises(DataError, match="2 faults"):
        read_samples(path, rejected=rejected)
    assert len(written(rejected.path)) == 2


def test_no_file_is_made_without_bad_rows(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(lines(GOOD))
    with RejectedRows(tmp_path / "rejected.jsonl") as rejected:
        assert len(list(stream_samples(tmp_path / "a.jsonl", rejected=rejected))) == 1
    assert not rejected.path.exists()


def test_faults_in_memory_are_bounded_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(lines(GOOD) + "{\n" * (KEPT_FAULTS + 500))
    with pytest.raises(DataError, match=f"^{KEPT_FAULTS + 500} faults in ") as caught:
        list(stream_samples(path))
    assert len(caught.value.faults) == KEPT_FAULTS


@pytest.mark.parametrize("ending", ["gz", "bz2", "xz"])
def test_compressed_files(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.jsonl.{ending}"
    pack = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}[ending]
    packed = pack(lines(*[{**GOOD, "n": number} for number in range(5000)]).encode())
    path.write_bytes(packed)
    assert len(read_samples(path).samples) == 5000
    path.write_bytes(packed[: len(packed) * 2 // 3])
    with pytest.raises(DataError, match="cannot be read") as caught:
        read_samples(path)
    assert len(caught.value.faults) == 1
    assert "cut off" in caught.value.fix
    path.write_bytes(b"no archive at all")
    with pytest.raises(DataError, match="cannot be read"):
        read_samples(path)


def test_the_good_rows_of_a_truncated_archive_can_be_had(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    rows = [{"messages": GOOD["messages"], "n": f"{number * 7919 % 10007}"} for number in range(60_000)]
    path.write_bytes(gzip.compress(lines(*rows).encode())[:-2000])
    with RejectedRows(tmp_path / "rejected.jsonl") as rejected:
        num_good = sum(1 for _ in stream_samples(path, rejected=rejected))
    assert 10_000 < num_good < 60_000
    assert "cannot be read" in written(rejected.path)[0]["reasons"][0]


def test_zstandard_is_behind_a_door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    (tmp_path / "a.jsonl.zst").write_bytes(b"\x28\xb5\x2f\xfd")
    with pytest.raises(MissingDependency) as caught:
        read_samples(tmp_path / "a.jsonl.zst")
    assert caught.value.fix == "pip install zstandard"


def test_zstandard_comes_back(tmp_path: Path) -> None:
    pytest.importorskip("zstandard")
    with open_binary(tmp_path / "a.jsonl.zst", "wb") as file:
        file.write(lines(GOOD, GOOD).encode())
    assert len(read_samples(tmp_path / "a.jsonl.zst").samples) == 2
    (tmp_path / "a.jsonl.zst").write_bytes(b"\x28\xb5\x2f\xfdbroken")
    with pytest.raises(DataError, match="cannot be read"):
        read_samples(tmp_path / "a.jsonl.zst")


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 64])
def test_lines_do_not_depend_on_how_the_file_is_cut(
    tmp_path: Path, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foretune.data.files.CHUNK_BYTES", chunk)
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffone\r\nzw\u00f6lf\n\n\u2028still\x0bthe same\nlast".encode())
    expected = [(1, "one"), (2, "zw\u00f6lf"), (3, ""), (4, "\u2028still\x0bthe same"), (5, "last")]
    assert list(text_lines(path, FaultList(path))) == expected
    kept = [text for _, text in text_lines(path, FaultList(path), keep_ends=True)]
    assert kept == ["one\r\n", "zw\u00f6lf\n", "\n", "\u2028still\x0bthe same\n", "last"]
    if chunk < 6:
        monkeypatch.setattr("foretune.data.files.MAX_ROW_BYTES", 6)
        faults = FaultList(path)
        assert [number for number, _ in text_lines(path, faults)] == [1, 3, 5]
        assert [fault.line for fault in faults.faults] == [2, 4]


@pytest.mark.parametrize("chunk", [5, 64, 1000])
def test_arrays_do_not_depend_on_how_the_file_is_cut(
    tmp_path: Path, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foretune.data.files.CHUNK_BYTES", chunk)
    path = tmp_path / "a.json"
    rows = [{"question": f"q {n} \u00fc", "answer": "}],[{" * n + "x", "n": 1.5e-7 + n} for n in range(50)]
    for text in (json.dumps(rows), json.dumps(rows, indent=1), json.dumps({"v": 1, "data": rows})):
        path.write_text(text)
        data = read_samples(path)
        assert [sample.target for sample in data.samples] == [row["answer"] for row in rows]
        assert [sample.meta["n"] for sample in data.samples] == [row["n"] for row in rows]
        path.write_text(text[:-40])
        with pytest.raises(DataError):
            read_samples(path)


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Ten times the rows and a line of 100 MB cost no more memory: the peak stays within 16 MB."""
    if not Path("/proc/self/status").exists():
        pytest.skip("the peak of a process is read from /proc")
    row = lines({"messages": [{"role": "user", "content": "x" * 400}, {"role": "assistant", "content": "y" * 400}]})
    script = (
        "import sys\n"
        "from foretune.data.faults import RejectedRows\n"
        "from foretune.data.stream import stream_samples\n"
        "with RejectedRows(sys.argv[2]) as rejected:\n"
        "    num = sum(1 for _ in stream_samples(sys.argv[1], rejected=rejected))\n"
        "status = dict(line.split(':', 1) for line in open('/proc/self/status'))\n"
        "print(num, status['VmHWM'].split()[0])\n"
    )
    peaks = []
    for name, num, num_long in (("small.jsonl", 4_000, 0), ("large.jsonl", 40_000, 100)):
        with open(tmp_path / name, "w") as file:
            for _ in range(num // 1000):
                file.write(row * 1000)
            for _ in range(num_long):
                file.write("x" * 1_000_000)
            file.write("\n")
        command = [sys.executable, "-c", script, str(tmp_path / name), str(tmp_path / "rejected.jsonl")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        count, peak = map(int, done.stdout.split())
        assert count == num
        peaks.append(peak)
        (tmp_path / name).unlink()
    assert peaks[1] - peaks[0] < 16_000  # kB
