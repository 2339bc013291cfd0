"""Every failure mode is named on curves that show it, and healthy curves with noise give nothing."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import math
from pathlib import Path
from types import ModuleType

import pytest

from foretune.config import JobConfig, read_job
from foretune.diagnose import SYMPTOMS, apply_patch, diagnose, next_patch, read_curves
from foretune.diagnose.curves import Curves
from foretune.diagnose.diagnose import judge
from foretune.errors import DataError, NotFound
from foretune.records.audit import AuditRecord
from foretune.records.diagnosis import DiagnosisRecord
from foretune.records.evaluation import SkillScore
from foretune.records.events import EventLog
from foretune.records.training import CurvePoint

SEEDS = range(20)


def test_healthy_noisy_curves_give_nothing(s: ModuleType, healthy: str) -> None:
    allowed = 4 if healthy == "small_gain" else 1  # learned little in much noise: cannot always be told apart
    wrong = {seed: judge(s.evidence_of(s.curves_of(s.HEALTHY[healthy], seed))).causes for seed in SEEDS}
    wrong = {seed: [cause.mode for cause in causes] for seed, causes in wrong.items() if causes}
    assert len(wrong) <= allowed, wrong


@pytest.mark.req("R220")
@pytest.mark.req("R221")
@pytest.mark.req("R255")
def test_faulty_curves_are_named(s: ModuleType, faulty: str) -> None:
    mode, shape = s.FAULTY[faulty]
    found = [judge(s.evidence_of(s.curves_of(shape, seed))).causes for seed in SEEDS]
    right = sum(bool(causes) and causes[0].mode == mode for causes in found)
    assert right >= 17, [[cause.mode for cause in causes] for causes in found]
    for causes in found:
        for cause in causes:
            assert cause.statistic >= 1
            assert cause.evidence and cause.explanation and cause.fixes and cause.patch
            assert any(character.isdigit() for character in " ".join(cause.evidence))


@pytest.mark.req("R255")
@pytest.mark.req("R250")
@pytest.mark.req("R242")
@pytest.mark.req("R297")
@pytest.mark.req("R298")
@pytest.mark.req("R300")
def test_overfitting_names_the_step_and_ranks_more_data_first(s: ModuleType) -> None:
    curves = s.curves_of(s.FAULTY["rises"][1], 1)
    cause = judge(s.evidence_of(curves)).causes[0]
    lowest = min(curves.validation, key=lambda point: point.loss)
    assert cause.step == lowest.step
    assert f"{lowest.loss:.3f} at step {lowest.step}" in cause.evidence[0]
    assert cause.fixes[0].startswith("More data")
    assert cause.patch["train.rank"] == 8
    assert cause.patch["train.advanced.weight_decay"] == 0.1
    assert cause.patch["train.advanced.dropout"] == 0.1
    assert 0 < cause.patch["train.epochs"] < 3


@pytest.mark.req("R300")
def test_overfitting_on_little_data_offers_soft_prompts(s: ModuleType) -> None:
    evidence = s.evidence_of(s.curves_of(s.FAULTY["rises"][1], 1))
    audit = AuditRecord(dataset_version="d", num_samples=250, findings=())
    fixes = judge(type(evidence)(**{**vars(evidence), "audit": audit})).causes[0].fixes
    assert "200 training samples now, aim for 400" in fixes[0]
    assert any('train.method = "prompt"' in fix for fix in fixes)


@pytest.mark.parametrize(("rank", "expected"), [(8, 16), (16, 32), (32, 64), (64, None)])
@pytest.mark.req("R241")
def test_underfitting_offers_the_next_rank(s: ModuleType, rank: int, expected: int | None) -> None:
    curves = s.curves_of(s.FAULTY["unfinished"][1], 1)
    cause = judge(s.evidence_of(curves, rank=rank)).causes[0]
    assert cause.mode == "underfitting"
    assert cause.patch.get("train.rank") == expected
    assert cause.patch["train.epochs"] == 6.0


def test_underfitting_is_not_claimed_where_the_verdict_is_better(s: ModuleType) -> None:
    curves = s.curves_of(s.FAULTY["unfinished"][1], 1)
    assert judge(s.evidence_of(curves, s.evaluation_of())).causes == ()


@pytest.mark.req("R241")
def test_a_model_at_rest_that_beats_no_prompt_is_underfitted(s: ModuleType) -> None:
    shape = s.Shape(s.decay(2.5, 1.9, 8), s.decay(2.5, 1.95, 8))
    evaluation = s.evaluation_of(tuned=0.22, prompted=0.31, verdict="worse")
    causes = judge(s.evidence_of(s.curves_of(shape, 3), evaluation)).causes
    assert [cause.mode for cause in causes] == ["underfitting"]
    assert "0.220, against 0.310" in causes[0].evidence[-1]
    assert causes[0].patch == {"train.rank": 32}


@pytest.mark.req("R220")
def test_not_a_number_after_a_good_start_is_divergence_by_learning_rate(s: ModuleType) -> None:
    points = [CurvePoint(step=n, loss=2.5 - 0.02 * n, learning_rate=2e-3) for n in range(1, 40)]
    curves = Curves((*points, CurvePoint(step=40, loss=math.nan, learning_rate=2e-3)), planned_steps=100)
    record = judge(s.evidence_of(curves, learning_rate=2e-3))
    assert [cause.mode for cause in record.roots] == ["diverged", "learning_rate_too_high"]
    assert record.causes[0].step == 40
    assert record.causes[1].patch["train.learning_rate"] == 2e-4
    assert "6.67 times the top of the usual" in record.causes[1].evidence[-1]
    assert all(cause.explained_by for cause in record.causes[2:]) and "overfitting" in record.not_checked


def test_not_a_number_at_the_first_step_is_not_blamed_on_the_learning_rate(s: ModuleType) -> None:
    curves = Curves((CurvePoint(step=1, loss=math.nan, learning_rate=1e-6),), error="TrainingDiverged", failure="nan")
    record = judge(s.evidence_of(curves))
    assert [cause.mode for cause in record.causes] == ["diverged"]
    assert "cannot be the only reason" in record.causes[0].explanation


@pytest.mark.req("R220")
def test_spikes_are_a_learning_rate_too_high(s: ModuleType) -> None:
    curves = s.curves_of(s.HEALTHY["converged"], 5)
    jumped = [p.model_copy(update={"loss": p.loss + 3.0}) if p.step % 25 == 0 else p for p in curves.train]
    causes = judge(s.evidence_of(Curves(tuple(jumped), curves.validation, 120))).causes
    assert causes[0].mode == "learning_rate_too_high"
    assert "4 of 120 steps are spikes" in causes[0].evidence[0]
    assert causes[0].patch["train.learning_rate"] == 6.7e-05


@pytest.mark.parametrize(("rate", "expected"), [(2e-6, 2e-4), (2e-4, 1e-3)])
@pytest.mark.req("R221")
def test_too_low_raises_the_rate(s: ModuleType, rate: float, expected: float) -> None:
    curves = s.curves_of(s.FAULTY["barely_falls"][1], 1)
    cause = judge(s.evidence_of(curves, learning_rate=rate)).causes[0]
    assert cause.mode == "learning_rate_too_low"
    assert cause.patch == {"train.learning_rate": expected}


def test_short_runs_are_not_judged(s: ModuleType) -> None:
    curves = s.curves_of(s.Shape(s.decay(2, 1, 3), s.decay(2, 1, 3), num_steps=4, num_validations=2), 0)
    record = judge(s.evidence_of(curves))
    assert record.causes == ()
    assert record.not_checked["overfitting"] == "needs 3 validations, the run has 2"
    assert record.not_checked["learning_rate_too_low"] == "needs 20 optimizer steps, the run has 4"
    assert "foretune evaluate demo-001" in record.not_checked["forgetting"]


def skills_lost(s: ModuleType) -> tuple[SkillScore, ...]:
    return s.skill_of("arithmetic", 0.9, 0.35), s.skill_of("copying", 1.0, 0.55), s.skill_of("look-up", 0.6, 0.58)


@pytest.mark.req("R292")
@pytest.mark.req("R293")
@pytest.mark.req("R294")
def test_forgetting_names_the_skills_and_checks_both_causes(s: ModuleType) -> None:
    curves = s.curves_of(s.HEALTHY["converged"], 0)
    evidence = s.evidence_of(curves, s.evaluation_of(skills=skills_lost(s), zero_shot=0.05), learning_rate=1e-3)
    cause = judge(evidence).causes[0]
    assert cause.mode == "forgetting"
    text = "\n".join(cause.evidence)
    assert "arithmetic: 90 % before, 35 % after" in text and "copying" in text and "look-up" not in text
    assert "The task itself got better: exact_match 0.050 before, 0.840 after." in text
    assert "High learning rate? yes" in text and "Narrow data?" in text
    assert [step.do for step in cause.data_steps] == ["add_general"]
    assert cause.patch == {"train.learning_rate": 3.3e-4, "train.epochs": 4.8}  # a third of the rate, 1.6 times as long
    fewer = (s.skill_of("arithmetic", 0.9, 0.7), s.skill_of("copying", 1.0, 0.85))
    mild = judge(s.evidence_of(curves, s.evaluation_of(skills=fewer, zero_shot=0.05), learning_rate=1e-3)).causes[0]
    assert 1 <= mild.statistic < 2.5 and mild.patch["train.learning_rate"] == 5e-4
    assert cause.fixes[0].startswith("Lower the learning rate")
    assert "10-20 %" in cause.fixes[1]


def test_a_base_that_no_general_rows_are_known_for_is_trained_less(s: ModuleType) -> None:
    skill = s.skill_of("general text", 1.2, 1.9, half=0.1, metric="bits_per_byte")
    cause = judge(s.evidence_of(s.curves_of(s.HEALTHY["converged"], 0), s.evaluation_of(skills=(skill,)))).causes[0]
    assert cause.patch == {"train.learning_rate": 6.7e-5, "train.epochs": 1.5} and not cause.data_steps
    assert any("train.epochs = 1.5" in fix for fix in cause.fixes)


@pytest.mark.req("R293")
def test_forgetting_at_a_usual_rate_on_narrow_data_says_so(s: ModuleType) -> None:
    evidence = s.evidence_of(s.curves_of(s.HEALTHY["converged"], 0), s.evaluation_of(skills=skills_lost(s)))
    audit = AuditRecord(dataset_version="d", num_samples=500, findings=())
    cause = judge(type(evidence)(**{**vars(evidence), "audit": audit})).causes[0]
    assert any(line.startswith("High learning rate? no") for line in cause.evidence)
    assert any("Narrow data? yes: 400 training samples" in line for line in cause.evidence)
    assert "about 71 beside 400 of the task (44 to 100)" in cause.fixes[1]


def test_skills_within_noise_are_kept(s: ModuleType) -> None:
    skills = tuple(s.skill_of(f"skill {n}", 0.8, after, half=0.13) for n, after in enumerate((0.7, 0.85, 0.78, 0.66)))
    record = judge(s.evidence_of(s.curves_of(s.HEALTHY["converged"], 0), s.evaluation_of(skills=skills)))
    assert record.causes == () and "forgetting" in record.checked


def test_one_of_many_skills_needs_more_evidence_than_one_of_one(s: ModuleType) -> None:
    lost, kept = s.skill_of("lost", 0.8, 0.66, half=0.12), tuple(s.skill_of(f"k{n}", 0.8, 0.8) for n in range(9))
    curves = s.curves_of(s.HEALTHY["converged"], 0)
    assert judge(s.evidence_of(curves, s.evaluation_of(skills=(lost,)))).causes
    assert not judge(s.evidence_of(curves, s.evaluation_of(skills=(lost, *kept)))).causes


def test_perplexity_that_rises_is_forgetting(s: ModuleType) -> None:
    skill = s.skill_of("general text", 12.0, 19.0, half=1.0, metric="perplexity")
    curves = s.curves_of(s.HEALTHY["converged"], 0)
    cause = judge(s.evidence_of(curves, s.evaluation_of(skills=(skill,)))).causes[0]
    assert "perplexity rose from 12 to 19" in cause.evidence[0]
    better = s.skill_of("general text", 19.0, 12.0, half=1.0, metric="perplexity")
    assert not judge(s.evidence_of(curves, s.evaluation_of(skills=(better,)))).causes


@pytest.mark.req("R291")
def test_several_causes_are_ranked_and_the_stronger_decides_a_setting(s: ModuleType) -> None:
    evaluation = s.evaluation_of(skills=skills_lost(s))
    record = judge(s.evidence_of(s.curves_of(s.FAULTY["rises"][1], 1), evaluation))
    statistics = [cause.statistic for cause in record.causes]
    assert {cause.mode for cause in record.causes} == {"overfitting", "forgetting"}
    assert statistics == sorted(statistics, reverse=True)
    patch = next_patch(record)
    assert {"train.epochs", "train.rank", "train.learning_rate"} <= set(patch)


@pytest.mark.parametrize("method", ["lora", "full", "prompt", "classify", "pretrain"])
def test_every_patch_is_a_valid_change_of_the_job(
    s: ModuleType, faulty: str, method: str, job_text: str, tmp_path: Path
) -> None:
    job = JobConfig.model_validate({"train": {"method": method}})
    causes = judge(s.evidence_of(s.curves_of(s.FAULTY[faulty][1], 4), job=job)).causes
    for cause in causes:
        (tmp_path / "job.toml").write_text(
            apply_patch(job_text, {"train.method": method, **cause.patch}), encoding="utf-8"
        )
        after = read_job(tmp_path / "job.toml")
        for dotted, value in cause.patch.items():
            new, old = after.model_dump(), job.model_dump()
            for part in dotted.split("."):
                new, old = new[part], old[part]
            assert new == value and old != value
    if method not in ("lora", "classify"):
        assert all("train.rank" not in cause.patch for cause in causes)


def test_max_steps_is_changed_where_it_rules(s: ModuleType, job_text: str) -> None:
    job = JobConfig.model_validate({"train": {"advanced": {"max_steps": 120}}})
    cause = judge(s.evidence_of(s.curves_of(s.FAULTY["rises"][1], 1), job=job)).causes[0]
    assert cause.patch["train.advanced.max_steps"] == cause.step
    assert "train.epochs" not in cause.patch


def test_a_run_is_diagnosed_from_its_events_and_recorded(s: ModuleType, tmp_path: Path) -> None:
    run_dir = tmp_path / "demo-001"
    curves = s.curves_of(s.FAULTY["rises"][1], 1)
    with EventLog(run_dir) as log:
        log.add("train_start", step=0, planned_steps=120)
        for point in curves.train:
            log.add("step", step=point.step, loss=point.loss, learning_rate=point.learning_rate, grad_norm=1.0)
        for point in curves.validation:
            log.add("eval", step=point.step, eval_loss=point.loss)
        log.add("train_end", step=120, reason="stopped")
    record = diagnose(JobConfig(), run_dir=run_dir)
    assert record.causes[0].mode == "overfitting" and record.run_id == "demo-001"
    assert DiagnosisRecord.read(run_dir) == record


def test_events_of_a_resumed_run_count_each_step_once(tmp_path: Path) -> None:
    with EventLog(tmp_path) as log:
        log.add("train_start", step=0, planned_steps=9)
        for step, loss in [(1, 3.0), (2, 2.9), (3, 9.9)]:
            log.add("step", step=step, loss=loss)
        log.add("failed", error="TrainingDiverged", message="loss is NaN")
        log.add("train_start", step=2, planned_steps=9, resumed=True)
        log.add("step", step=3, loss=2.8)
    curves = read_curves(tmp_path)
    assert [point.loss for point in curves.train] == [3.0, 2.9, 2.8]
    assert curves.planned_steps == 9 and curves.failure == "" and curves.last_step == 3


def test_a_diverged_run_is_seen_in_its_events(tmp_path: Path) -> None:
    with EventLog(tmp_path) as log:
        log.add("train_start", step=0, planned_steps=9)
        log.add("step", step=1, loss=3.0, grad_norm=1.0)
        log.add("step", step=2, loss=math.nan, grad_norm=math.nan)
        log.add("failed", error="TrainingDiverged", message="loss is NaN at step 2", fix="lower the learning rate")
    record = diagnose(JobConfig(), run_dir=tmp_path)
    assert record.causes[0].mode == "diverged" and record.causes[0].step == 2
    assert json.loads((tmp_path / "diagnosis.json").read_text())["causes"][0]["statistic"] == 100.0


def test_an_empty_run_says_how_to_go_on(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        diagnose(JobConfig(), run_dir=tmp_path)
    assert "foretune" in caught.value.fix


def test_a_damaged_record_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "training.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError):
        diagnose(JobConfig(), run_dir=tmp_path)


@pytest.mark.req("R305")
def test_the_symptom_table_has_its_four_rows() -> None:
    assert [row.name for row in SYMPTOMS] == [
        "Catastrophic forgetting",
        "Overfitting",
        "Style without substance",
        "Distribution shift",
    ]
    assert all(row.symptom and row.cause and row.fix and row.mode for row in SYMPTOMS)
