"""The journal of an evaluation: steps are done once, whatever is torn or of another evaluation is done again."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

from foretune.evaluate.journal import JOURNAL_FILE, Journal


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


def test_nothing_is_left_when_it_is_finished(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "k")
    journal.finish()
    journal.once("step", lambda: 1)
    journal.finish()
    assert list(tmp_path.iterdir()) == []
