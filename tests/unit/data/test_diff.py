"""Differences of versions: by content first, then by id."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from foretune.data.diff import diff_splits, diff_versions
from foretune.data.samples import Message, Sample
from foretune.data.split import Splits
from foretune.data.store import DatasetStore
from foretune.errors import NotFound


def row(number: int, answer: str = "yes") -> Sample:
    return Sample(f"r{number}", (Message("user", f"question {number}"), Message("assistant", answer)))


ROWS = [row(n) for n in range(10)]


def test_every_kind_of_change_is_told() -> None:
    before = {"train": ROWS[:8], "test": ROWS[8:]}
    after = {"train": [*ROWS[1:7], row(7, "no"), ROWS[8], row(99)], "test": [ROWS[9]]}
    diff = diff_splits(before, after)
    assert diff.counts == {"added": 1, "removed": 1, "changed": 1, "moved": 1}
    assert diff.summary == "+1 -1 ~1 moved 1: train 8 -> 9, test 2 -> 1"
    by_kind = {change.kind: change for change in diff.changes}
    assert by_kind["changed"].text == "-assistant: yes\n+assistant: no"
    assert (by_kind["moved"].old_split, by_kind["moved"].new_split) == ("test", "train")
    assert by_kind["removed"].text == "question 0"


def test_shuffled_and_renamed_is_no_difference() -> None:
    renamed = [replace(sample, id=f"x{sample.id}") for sample in reversed(ROWS)]
    assert diff_splits({"train": ROWS}, {"train": renamed}).changes == ()


def test_copies_are_counted_one_by_one() -> None:
    twice = [ROWS[0], replace(ROWS[0], id="copy"), ROWS[1]]
    assert diff_splits({"train": twice}, {"train": [ROWS[0], ROWS[1]]}).counts["removed"] == 1


@pytest.mark.req("R151")
def test_stored_versions_are_compared(tmp_path: Path) -> None:
    store = DatasetStore(tmp_path)
    old = store.save(Splits(ROWS[:8], [ROWS[8]], [ROWS[9]]))
    new = store.save(Splits(ROWS[:6], [ROWS[8]], [ROWS[9]]))
    assert diff_versions(store, old, new).summary == "+0 -2 ~0 moved 0: train 8 -> 6"
    with pytest.raises(NotFound):
        diff_versions(store, old, "feed")
