"""The event log: appended line by line, torn lines skipped, nothing lost to kill -9."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import pytest

from foretune.errors import DoesNotFit
from foretune.records.events import EVENTS_FILE, EventLog, read_events, tail_events

WRITER = """
import sys
from foretune.records.events import EventLog
with EventLog(sys.argv[1]) as log:
    number = 0
    while True:
        log.add("step", step=number, text="x" * (number % 3000))
        number += 1
"""


def test_events_come_back_in_order_with_their_time(tmp_path: Path) -> None:
    before = time.time() - 0.01
    with EventLog(tmp_path) as log:
        log.add("step", step=1, loss=0.5)
        log.add("note", message="ünïcode")
    first, second = read_events(tmp_path)
    assert first["kind"] == "step" and first["loss"] == 0.5 and first["time"] >= before
    assert second["message"] == "ünïcode"


def test_no_log_is_no_events(tmp_path: Path) -> None:
    assert read_events(tmp_path) == []


def test_a_torn_last_line_is_ignored_and_the_next_writer_begins_a_new_one(tmp_path: Path) -> None:
    with EventLog(tmp_path) as log:
        log.add("step", step=1)
    with open(tmp_path / EVENTS_FILE, "ab") as file:
        file.write(b'{"time": 1, "kind": "st')
    assert [event["step"] for event in read_events(tmp_path)] == [1]
    with EventLog(tmp_path) as log:
        log.add("step", step=2)
    assert [event["step"] for event in read_events(tmp_path)] == [1, 2]


def test_lines_that_are_no_events_are_skipped(tmp_path: Path) -> None:
    (tmp_path / EVENTS_FILE).write_bytes(b'[1, 2]\n\nnonsense\n\xff\xfe\n{"kind": "note"}\n')
    assert read_events(tmp_path) == [{"kind": "note"}]


@pytest.mark.parametrize("wait_seconds", [0.02, 0.1, 0.2])
def test_a_writer_killed_at_any_moment_loses_no_whole_line(tmp_path: Path, wait_seconds: float) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)])
    deadline = time.monotonic() + 30
    while not read_events(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(wait_seconds)
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    events = read_events(tmp_path)
    assert [event["step"] for event in events] == list(range(len(events)))
    with EventLog(tmp_path) as log:
        log.add("step", step=len(events))
    assert [event["step"] for event in read_events(tmp_path)] == list(range(len(events) + 1))


def test_a_tail_gives_what_is_there_then_none_then_what_comes(tmp_path: Path) -> None:
    tail = tail_events(tmp_path, poll_seconds=0.0)
    assert next(tail) is None
    with EventLog(tmp_path) as log:
        log.add("step", step=1)
        log.add("step", step=2)
        assert [event["step"] for event in islice(tail, 2) if event] == [1, 2]
        assert next(tail) is None
        log.add("step", step=3)
        event = next(tail)
        assert event is not None and event["step"] == 3


def test_a_tail_waits_for_the_rest_of_a_line(tmp_path: Path) -> None:
    tail = tail_events(tmp_path, poll_seconds=0.0)
    with open(tmp_path / EVENTS_FILE, "ab", buffering=0) as file:
        file.write(b'{"kind": "no')
        assert next(tail, "nothing") is None
        file.write(b'te"}\n')
    assert next(tail) == {"kind": "note"}


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def write(self, data: bytes) -> int:
            raise OSError(28, "No space left on device")

    log = EventLog(tmp_path)
    file = log._file
    monkeypatch.setattr(log, "_file", Full())
    with pytest.raises(DoesNotFit, match="disk is full"):
        log.add("step", step=1)
    file.close()
