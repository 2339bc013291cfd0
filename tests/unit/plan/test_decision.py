"""The decision before training: what was advised stands in the run, and training asks for it."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import pytest

from foretune.errors import ConfigError, GateRefused
from foretune.plan.decision import PROJECT_FILE, check_decision, decide, decision_note
from foretune.records.decision import DecisionRecord
from foretune.records.plan import PlanRecord
from stand_ins import plan_record

AGAINST = "[situation]\ngoal = 'knowledge'\nknowledge_changes = 'weekly'\nnum_examples = 10\n"
FOR = "[situation]\ngoal = 'classification'\nnum_examples = 5000\ndata_quality = 'good'\nprompt_tried = true\n"


def decided(tmp_path: Path, project: str = "", skipped_because: str | None = None) -> DecisionRecord:
    if project:
        (tmp_path / PROJECT_FILE).write_text(project)
    run_dir = tmp_path / "run-001"
    run_dir.mkdir(exist_ok=True)
    return decide(plan_record(), run_dir=run_dir, folder=tmp_path, skipped_because=skipped_because)


@pytest.mark.req("R001")
def test_no_training_without_a_decision(tmp_path: Path) -> None:
    (tmp_path / "run-001").mkdir()
    with pytest.raises(GateRefused, match="no decision") as caught:
        check_decision(tmp_path / "run-001")
    assert caught.value.fix and "--skip-advice" in caught.value.fix
    record = decided(tmp_path)
    assert check_decision(tmp_path / "run-001") == record and record.decision == "unasked"
    assert "from the data alone" in decision_note(record)


@pytest.mark.req("R001")
def test_an_override_is_logged_with_its_reason(tmp_path: Path) -> None:
    record = decided(tmp_path, AGAINST, "the customer insists")
    assert (record.decision, record.reason) == ("skipped", "the customer insists")
    assert DecisionRecord.read(tmp_path / "run-001").reason == "the customer insists"
    assert decision_note(record) == "advice skipped: the customer insists" and record.outlook["advice"]["chosen"]


def test_training_against_the_advice_is_recorded_as_such(tmp_path: Path) -> None:
    record = decided(tmp_path, AGAINST)
    assert record.decision == "against" and record.verdict == "advised against"
    assert decision_note(record).startswith("trained against the advice")


def test_the_project_file_is_part_of_the_decision(tmp_path: Path) -> None:
    record = decided(tmp_path, FOR)
    assert (
        record.decision == "follows" and record.project_file.endswith(PROJECT_FILE) and len(record.project_sha256) == 64
    )
    assert record.outlook["advice"]["floor"] == 500 and record.outlook["timeline"]["total_weeks"]["low"] > 0
    assert decision_note(record).startswith("advice: ")


def test_a_faulty_project_file_stops_before_training(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="goal"):
        decided(tmp_path, "[situation]\ngoal = 'gaol'\n")


@pytest.mark.req("R412")
def test_plan_and_decision_are_versioned_records(tmp_path: Path) -> None:
    decided(tmp_path)
    document = json.loads((tmp_path / "run-001" / "decision.json").read_text())
    assert document["schema_version"] == 1 and document["foretune_version"] and document["created"]
    plan_record().write(tmp_path / "run-001")
    assert json.loads((tmp_path / "run-001" / PlanRecord.file_name).read_text())["schema_version"] == 1
