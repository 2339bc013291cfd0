"""The journal of an evaluation: steps are done once, whatever is torn or of another evaluation is done again."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

from foretune.evaluate.journal import FINISHED_FILE, JOURNAL_FILE, Journal


def test_a_step_is_computed_once(tmp_path: Path) -> None:
    calls: list[int] = []

    def compute() -> list[object]:
        calls.append(1)
        return [1, 0.1 + 0.2, "ä", None]

    assert Journal(tmp_path, "k").once("step", compute) == [1, 0.1 + 0.2, "ä", None]
    again = Journal(tmp_path, "k")
    assert "step" in again and "other" not in again
    assert again.once("step", compute) == [1, 0.1 + 0.2, "ä", None]
    assert len(calls) == 1


def test_steps_of_another_evaluation_do_not_count(tmp_path: Path) -> None:
    Journal(tmp_path, "k").once("step", lambda: 1)
    assert Journal(tmp_path, "other").once("step", lambda: 2) == 2
    assert Journal(tmp_path, "k").once("step", lambda: 3) == 1


def test_a_torn_line_is_done_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "k")
    journal.once("first", lambda: 1)
    journal.once("second", lambda: 2)
    path = tmp_path / JOURNAL_FILE
    path.write_bytes(path.read_bytes()[:-6])
    again = Journal(tmp_path, "k")
    assert again.once("first", lambda: 3) == 1 and again.once("second", lambda: 4) == 4
    assert Journal(tmp_path, "k").once("second", lambda: 5) == 4


def test_a_finished_one_is_kept_apart_and_can_be_reopened(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "k")
    journal.finish()
    assert list(tmp_path.iterdir()) == []
    journal.once("step", lambda: 1)
    journal.finish()
    assert [path.name for path in tmp_path.iterdir()] == [FINISHED_FILE]
    assert "step" not in journal and Journal(tmp_path, "k").once("step", lambda: 2) == 2  # another look starts anew
    (tmp_path / JOURNAL_FILE).unlink()
    assert not Journal(tmp_path, "other").reopen()
    again = Journal(tmp_path, "k")
    assert again.reopen() and again.once("step", lambda: 3) == 1
    assert [path.name for path in tmp_path.iterdir()] == [JOURNAL_FILE]
