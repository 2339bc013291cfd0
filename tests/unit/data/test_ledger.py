"""The test ledger: one look at a dataset version, and every attempt written down."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest

from foretune.data.ledger import LEDGER_FILE, TestLedger
from foretune.errors import GateRefused


@pytest.mark.req("R117")
def test_a_second_look_is_refused_and_names_the_first(tmp_path: Path) -> None:
    ledger = TestLedger(tmp_path)
    assert ledger.open_test("v1", "run-001", "evaluate") == 1
    for run in ("run-001", "run-002"):
        with pytest.raises(GateRefused, match="run run-001 looked at it on 20") as caught:
            ledger.open_test("v1", run, "evaluate")
        assert caught.value.exit_code == 6
        assert "--reuse-test" in caught.value.fix


@pytest.mark.req("R117")
def test_reuse_is_allowed_and_counted(tmp_path: Path) -> None:
    ledger = TestLedger(tmp_path)
    assert [ledger.open_test("v1", f"run-{n}", "evaluate", reuse=True) for n in range(3)] == [1, 2, 3]
    with pytest.raises(GateRefused, match="and 2 more since"):
        ledger.open_test("v1", "run-9", "evaluate")


@pytest.mark.req("R117")
def test_everything_is_written_down(tmp_path: Path) -> None:
    ledger = TestLedger(tmp_path)
    ledger.open_test("v1", "run-001", "evaluate")
    with pytest.raises(GateRefused):
        ledger.open_test("v1", "run-002", "evaluate")
    ledger.open_test("v1", "run-003", "compare", reuse=True)
    rows = [json.loads(line) for line in (tmp_path / LEDGER_FILE).read_text().splitlines()]
    assert [(row["run_id"], row["purpose"], row["look"], row["refused"]) for row in rows] == [
        ("run-001", "evaluate", 1, False),
        ("run-002", "evaluate", 2, True),
        ("run-003", "compare", 2, False),
    ]
    assert [look.run_id for look in ledger.looks("v1")] == ["run-001", "run-002", "run-003"]


def test_other_versions_are_their_own(tmp_path: Path) -> None:
    ledger = TestLedger(tmp_path)
    assert ledger.looks() == []
    assert ledger.open_test("v1", "run-001", "evaluate") == 1
    assert ledger.open_test("v2", "run-001", "evaluate") == 1
    assert len(ledger.looks()) == 2


def test_a_torn_line_is_ended_and_skipped(tmp_path: Path) -> None:
    ledger = TestLedger(tmp_path)
    ledger.open_test("v1", "run-001", "evaluate")
    with open(ledger.path, "a") as file:
        file.write('{"time": "20')
    with pytest.raises(GateRefused):
        ledger.open_test("v1", "run-002", "evaluate")
    assert [look.run_id for look in ledger.looks()] == ["run-001", "run-002"]


def _look(folder: str, run: str) -> bool:
    try:
        TestLedger(folder).open_test("v1", run, "evaluate")
    except GateRefused:
        return False
    return True


def test_of_many_processes_at_once_one_looks(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        allowed = pool.starmap(_look, [(str(tmp_path), f"run-{n}") for n in range(8)])
    assert sum(allowed) == 1
    assert len(TestLedger(tmp_path).looks()) == 8
