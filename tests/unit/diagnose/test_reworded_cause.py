"""What the rewording test adds to the diagnosis: overfitting where it is proven, nothing where it is not."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest

from foretune.diagnose.diagnose import judge
from foretune.diagnose.evidence import Evidence
from foretune.records.evidence import EvidenceRecord
from foretune.records.reworded import Finding, RewordedRecord, RewordedSplit, Surplus
from unit.diagnose import planted

pytestmark = pytest.mark.req("R296")


def reworded(finding: Finding, surplus: float) -> RewordedRecord:
    """A test with this outcome."""
    split: dict[str, Any] = {"seen": 1.0, "n": 50, "num_wordings": 100, "num_unchanged": 0}
    return RewordedRecord(
        run_id="demo-001",
        primary_metric="exact_match",
        by="rules",
        key="k",
        artefact_sha256={},
        train=RewordedSplit(**split, reworded=0.9 - surplus, fall=0.1 + surplus, ci_low=0.0, ci_high=0.9),
        validation=RewordedSplit(**split, reworded=0.9, fall=0.1, ci_low=0.0, ci_high=0.2),
        surplus=Surplus(value=surplus, ci_low=surplus - 0.1, ci_high=surplus + 0.1),
        finding=finding,
        reason=f"what {finding} means",
        seconds=1.0,
    )


def evidence_of(s: ModuleType, probes: EvidenceRecord | None, test: RewordedRecord | None) -> Evidence:
    found: Evidence = s.evidence_of(s.curves_of(s.HEALTHY["converged"], 3), s.evaluation_of(verdict="not_better"))
    return replace(found, probes=probes, reworded=test)


def test_a_proven_surplus_is_overfitting_by_itself(s: ModuleType) -> None:
    record = judge(evidence_of(s, planted.probes_of(), reworded("by_heart", 0.45)))
    assert [cause.mode for cause in record.causes] == ["overfitting"]
    cause = record.causes[0]
    assert cause.statistic == pytest.approx(3.0) and "what by_heart means" in cause.evidence
    assert cause.patch and any("rephrased inputs" in fix for fix in cause.fixes)


def test_a_small_surplus_matters_to_nobody(s: ModuleType) -> None:
    record = judge(evidence_of(s, planted.probes_of(), reworded("by_heart", 0.14)))
    assert record.causes == () and 0.9 < record.statistics["overfitting"] < 1


@pytest.mark.parametrize(("finding", "found"), [("by_heart", True), ("even", False), ("unclear", False)])
def test_a_proof_by_words_makes_a_gap_of_scores_count(s: ModuleType, finding: Finding, found: bool) -> None:
    """Training scores 25 points better, at a loss that proves nothing by itself."""
    probes = planted.probes_of(train_score=planted.score(0.98, 0.02), validation_score=planted.score(0.73))
    record = judge(evidence_of(s, probes, reworded(finding, 0.05)))
    assert [cause.mode for cause in record.causes] == ["overfitting"] * found
    assert not found or any("is 0.980 on training samples" in line for line in record.causes[0].evidence)


@pytest.mark.parametrize("finding", ["even", "unclear"])
def test_what_is_not_proven_raises_nothing(s: ModuleType, finding: Finding) -> None:
    bare = judge(evidence_of(s, planted.probes_of(), None))
    told = judge(evidence_of(s, planted.probes_of(), reworded(finding, 0.6)))
    assert told.causes == bare.causes == () and told.statistics == bare.statistics


@pytest.mark.parametrize("finding", ["by_heart", "even", "unclear"])
def test_a_cause_that_is_there_says_what_the_test_found(s: ModuleType, finding: Finding) -> None:
    """Evidence for it and against it alike; it never gets weaker by a mild rewording."""
    bare = judge(evidence_of(s, planted.FAULTS["overfitting"](0), None)).causes[0]
    told = judge(evidence_of(s, planted.FAULTS["overfitting"](0), reworded(finding, 0.01))).causes[0]
    assert told.mode == bare.mode == "overfitting" and told.statistic == bare.statistic
    assert told.evidence == (*bare.evidence, f"what {finding} means")


def test_it_can_be_judged_where_nothing_else_was_measured(s: ModuleType) -> None:
    """A run without validations and probes: the test alone tells; without it the mode is not checked."""
    curves = replace(s.curves_of(s.HEALTHY["converged"], 3), validation=())
    silent = Evidence(s.evidence_of(curves).job, "demo-001", curves)
    assert "overfitting" in judge(silent).not_checked
    assert [c.mode for c in judge(replace(silent, reworded=reworded("by_heart", 0.5))).causes] == ["overfitting"]
    assert "overfitting" in judge(replace(silent, reworded=reworded("even", 0.0))).not_checked
