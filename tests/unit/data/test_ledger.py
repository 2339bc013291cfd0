"""The test ledger: one look at a dataset version, and every attempt written down."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import subprocess
import sys
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


def test_of_many_processes_at_once_one_looks(tmp_path: Path) -> None:
    code = "import sys; from foretune.data.ledger import TestLedger; TestLedger(sys.argv[1]).open_test('v1', 'r', 'p')"
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stderr=subprocess.DEVNULL) for _ in range(4)
    ]
    assert sorted(process.wait(timeout=60) for process in started) == [0, 1, 1, 1]
    assert sorted(look.refused for look in TestLedger(tmp_path).looks()) == [False, True, True, True]
