"""What few rows do to a run: learned by heart, forgotten skills, and test rows that training saw."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest

from foretune.config import JobConfig
from foretune.diagnose.diagnose import judge
from foretune.diagnose.evidence import Evidence
from foretune.diagnose.unseen import held_out_score
from foretune.records.evidence import AlikeEvidence, EvidenceRecord
from unit.diagnose import planted


def evidence_of(s: ModuleType, probes: EvidenceRecord, kept: float = 0.99, **settings: Any) -> Evidence:
    """A run with these probes that keeps the share `kept` of each of five general skills."""
    skills = tuple(s.skill_of(f"skill {n}", 0.9, 0.9 * kept, half=0.1) for n in range(5))
    evaluation = s.evaluation_of(verdict="not_better", skills=skills, tuned=0.55)
    evidence: Evidence = s.evidence_of(s.curves_of(s.HEALTHY["converged"], 3), evaluation)
    job = JobConfig.model_validate(settings) if settings else evidence.job
    return replace(evidence, probes=probes, job=job)


def few(num: int, *, train: float = 1.0) -> EvidenceRecord:
    """`num` training rows that are known by heart, and held-out ones that are not."""
    probes = planted.probes_of(train={"tuned": 0.05}, validation={"tuned": 1.2})
    own = [loss for loss in probes.losses if loss.split == "train"][:num]
    changes: dict[str, Any] = {
        "losses": (*own, *(loss for loss in probes.losses if loss.split == "validation")),
        "rows": planted.changed(planted.ROWS, num_distinct=num, num_rows=num),
        "num_train_samples": num,
        "train_score": planted.score(train, 0.3, num),  # so few rows leave a wide interval
        "validation_score": planted.score(0.55, 0.14, 50),
    }
    return probes.model_copy(update=changes)


@pytest.mark.parametrize("num", [8, 12, 16])
def test_a_dozen_rows_by_heart_are_too_few(s: ModuleType, num: int) -> None:
    """The interval of the score on so few rows holds no gap; what their targets cost proves it."""
    many = {"train": {"epochs": 40.0}, "data": {"mix_path": "g.jsonl", "advanced": {"mix_fraction": 0.4}}}
    record = judge(evidence_of(s, few(num), **many))
    assert [cause.mode for cause in record.roots] == ["too_little_data"]
    assert "overfitting" in [cause.mode for cause in record.causes]
    assert not record.causes[0].can_apply and record.causes[0].fixes[0].startswith("Gather more, at least 300")


def test_rows_enough_and_many_passes_are_overfitting(s: ModuleType) -> None:
    record = judge(evidence_of(s, few(80), train={"epochs": 40.0}))
    assert [cause.mode for cause in record.roots] == ["overfitting"]
    assert record.roots[0].patch["train.epochs"] < 40


def test_a_gap_in_what_targets_cost_alone_is_no_overfitting(s: ModuleType) -> None:
    """Held-out targets cost more, and are answered as well."""
    record = judge(evidence_of(s, few(80, train=0.6), train={"epochs": 40.0}))
    assert record.statistics["overfitting"] < 1


def test_general_rows_keep_skills_only_where_they_are_many(s: ModuleType) -> None:
    """Seven general rows seen forty times are learned by heart; three hundred would have kept the skills."""
    mixed = {"data": {"mix_path": "g.jsonl", "advanced": {"mix_fraction": 0.4}}}
    small = judge(evidence_of(s, few(12), kept=0.3, **mixed))
    assert small.statistics["learning_rate_too_high"] < 1 and small.roots[0].mode == "too_little_data"
    assert "forgetting" in [cause.mode for cause in small.causes if not cause.is_root]
    large = judge(evidence_of(s, planted.probes_of(), kept=0.05, **mixed))
    assert large.roots[0].mode == "learning_rate_too_high"


def test_skills_half_lost_by_chance_are_no_proof_of_a_rate(s: ModuleType) -> None:
    """60 % are left, give or take 5: not under half of them for sure, and the task was learned."""
    mixed = {"data": {"mix_path": "g.jsonl", "advanced": {"mix_fraction": 0.4}}}
    assert judge(evidence_of(s, planted.probes_of(), kept=0.6, **mixed)).statistics["learning_rate_too_high"] < 1


def alike(num_alike: int, num_alike_validation: int = 1, **changes: Any) -> EvidenceRecord:
    """Fifty test inputs, of which so many are like training rows."""
    part = AlikeEvidence(
        similarity=0.5,
        num_test=50,
        num_alike=num_alike,
        num_validation=50,
        num_alike_validation=num_alike_validation,
        by_chance=0.02,
        score_alike=planted.score(0.95),
        score_other=planted.score(0.2),
        train_ids=("train-3", "train-8"),
    ).model_copy(update=changes)
    probes = planted.probes_of()
    return probes.model_copy(update={"overlap": planted.changed(probes.overlap, alike=part)})


@pytest.mark.req("R291")
def test_test_rows_nearer_than_validation_rows_are_a_leak(s: ModuleType) -> None:
    record = judge(evidence_of(s, alike(30)))
    cause = record.causes[0]
    assert cause.mode == "leakage" and cause.is_root
    assert "60 % of 50 test inputs are like a training row with the same answer, and 2 % of 50" in cause.evidence[1]
    assert cause.data_steps[0].ids == ("train-3", "train-8")


@pytest.mark.parametrize(
    "probes",
    [
        pytest.param(lambda: alike(18), id="as chance makes it"),
        pytest.param(lambda: alike(45, 40), id="validation is as near"),
        pytest.param(lambda: alike(45, 0, by_chance=0.8), id="test inputs are alike among themselves"),
    ],
)
def test_nearness_that_is_natural_is_no_leak(s: ModuleType, probes: Any) -> None:
    assert judge(evidence_of(s, probes())).statistics["leakage"] < 1


def test_a_leaking_test_split_is_not_believed(s: ModuleType) -> None:
    """The score on held-out rows is that of validation and test together, or of validation alone."""
    sound, leaking = evidence_of(s, planted.probes_of()), evidence_of(s, alike(40))
    assert sound.probes is not None and sound.probes.validation_score is not None
    assert held_out_score(leaking) == sound.probes.validation_score
    both = held_out_score(sound)
    assert both.n > sound.probes.validation_score.n and 0.55 < both.value < 0.9
    assert both.ci_high - both.ci_low < 0.12


def test_near_duplicates_of_a_narrow_task_are_no_leak(s: ModuleType) -> None:
    """A third of the test inputs has a near-duplicate that makes it easier: without validation a leak, else not."""
    near = planted.changed(
        planted.probes_of().overlap, num_near=40, score_seen=planted.score(0.95), score_clean=planted.score(0.6)
    )
    alone, compared = planted.probes_of(), alike(20, 18)
    assert near is not None and compared.overlap is not None
    both = planted.changed(near, alike=compared.overlap.alike)
    assert judge(evidence_of(s, alone.model_copy(update={"overlap": near}))).causes[0].mode == "leakage"
    assert judge(evidence_of(s, alone.model_copy(update={"overlap": both}))).statistics.get("leakage", 0.0) < 1
