"""Every failure mode is named on probes that show it, and a milder healthy neighbour gives nothing."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest

from foretune.config import JobConfig
from foretune.diagnose.causal import EXPLAINS
from foretune.diagnose.curves import Curves
from foretune.diagnose.diagnose import CHECKS, diagnose, judge
from foretune.diagnose.evidence import Evidence
from foretune.diagnose.sound import believable
from foretune.diagnose.thresholds import DEFAULT, Thresholds
from foretune.records.diagnosis import DiagnosisRecord, Mode
from foretune.records.evidence import EvidenceRecord, Score
from foretune.records.training import CurvePoint
from unit.diagnose import planted

KNOWS = {"wrong_base": 0.02}
BY_RECORDS_ALONE = {"leakage"}  # what behaviour cannot show


def evidence_of(s: ModuleType, probes: EvidenceRecord, knows: float = 0.9, **train: object) -> Evidence:
    """A run with these probes on a base that solves the share `knows` of general tasks."""
    skills = tuple(s.skill_of(f"skill {n}", knows, knows - 0.01, half=0.1) for n in range(5))
    evaluation = s.evaluation_of(verdict="not_better", skills=skills)
    evidence: Evidence = s.evidence_of(s.curves_of(s.HEALTHY["converged"], 3), evaluation, **train)
    return replace(evidence, probes=probes)


@pytest.mark.parametrize("mode", list(planted.FAULTS))
@pytest.mark.req("R291", "R301", "R304")
def test_each_fault_is_the_first_root_cause(s: ModuleType, mode: str) -> None:
    for seed in range(5):
        record = judge(evidence_of(s, planted.FAULTS[mode](seed), knows=KNOWS.get(mode, 0.9)))
        assert record.causes and record.causes[0].mode == mode, (seed, record.statistics)
        cause = record.causes[0]
        assert cause.is_root and cause.statistic >= 1
        assert cause.evidence and cause.explanation and cause.fixes
        assert any(character.isdigit() for character in " ".join(cause.evidence))


@pytest.mark.parametrize("mode", list(planted.NEIGHBOURS))
def test_a_healthy_neighbour_of_each_fault_gives_nothing(s: ModuleType, mode: str) -> None:
    for seed in range(5):
        record = judge(evidence_of(s, planted.NEIGHBOURS[mode](seed)))
        assert record.causes == (), (seed, record.statistics)
        assert mode in record.checked and record.statistics[mode] < 1


@pytest.mark.parametrize("mode", sorted(set(planted.FAULTS) - BY_RECORDS_ALONE))
def test_faults_show_in_behaviour_alone(s: ModuleType, mode: str) -> None:
    probes = planted.FAULTS[mode](0)
    if mode == "duplicates":  # equal samples have equal losses
        losses = tuple(loss if loss.split == "validation" else probes.losses[index % 8] for index, loss in
                       enumerate(probes.losses))  # fmt: skip
        probes = probes.model_copy(update={"losses": losses})
    if mode == "too_little_data":  # the passes that were made are hidden: it is one of the two
        modes = [cause.mode for cause in judge(evidence_of(s, probes), without_settings=True).causes]
        assert "overfitting" in modes
        return
    record = judge(evidence_of(s, probes, knows=KNOWS.get(mode, 0.9)), without_settings=True)
    assert record.without_settings
    assert record.causes and record.causes[0].mode == mode, record.statistics


def test_hidden_settings_change_nothing(s: ModuleType) -> None:
    """In behaviour-only mode rates, epochs, token counts and template hashes are not looked at."""
    for mode in planted.FAULTS:
        probes = planted.FAULTS[mode](1)
        other = probes.model_copy(update={"rows": None, "templates": tuple(
            one.model_copy(update={"template_sha256": "f" * 64}) for one in probes.templates)})  # fmt: skip
        one = judge(evidence_of(s, probes), without_settings=True)
        two = judge(evidence_of(s, other, learning_rate=0.5, epochs=90.0), without_settings=True)
        assert one.statistics == two.statistics
        assert [c.mode for c in one.causes] == [c.mode for c in two.causes]


@pytest.mark.req("R303")
def test_style_is_mended_by_better_answers_in_several_styles(s: ModuleType) -> None:
    first = judge(evidence_of(s, planted.FAULTS["style_without_substance"](0))).causes[0]
    fixes = " ".join(first.fixes)
    assert "right in content" in fixes and "several styles at the same quality" in fixes and "retrieval" in fixes


def test_what_follows_from_a_root_stays_visible_behind_it(s: ModuleType) -> None:
    record = judge(evidence_of(s, planted.FAULTS["unrelated_targets"](0)))
    by_mode = {cause.mode: cause for cause in record.causes}
    assert record.causes[0].mode == "unrelated_targets" and record.roots == record.causes[:1]
    assert "unrelated_targets" in by_mode["style_without_substance"].explained_by


def test_a_broken_learning_rate_explains_forgetting(s: ModuleType) -> None:
    probes = planted.probes_of(
        train={"base": 1.6, "tuned": 5.0, "others": 5.1},
        validation={"base": 1.6, "tuned": 5.0, "others": 5.1},
        train_score=planted.score(0.01, 0.01),
        validation_score=planted.score(0.01, 0.01),
    )
    skills = tuple(s.skill_of(f"skill {n}", 0.9, 0.05, half=0.1) for n in range(5))
    evidence = s.evidence_of(s.curves_of(s.HEALTHY["converged"], 3), s.evaluation_of(verdict="worse", skills=skills))
    record = judge(replace(evidence, probes=probes))
    assert [cause.mode for cause in record.roots] == ["learning_rate_too_high"]
    assert next(c for c in record.causes if c.mode == "forgetting").explained_by == ("learning_rate_too_high",)


def test_every_mode_has_a_check_and_a_place_in_the_causal_order() -> None:
    assert set(CHECKS) == set(get_args(Mode))
    assert set(EXPLAINS) | {"underfitting"} == set(CHECKS)
    for mode, effects in EXPLAINS.items():
        assert mode not in effects and set(effects) <= set(CHECKS)


def test_statistics_follow_their_thresholds(s: ModuleType) -> None:
    """Every threshold is used, and a milder one never finds less."""
    evidence = evidence_of(s, planted.probes_of(train={"odd_fraction": 0.2}))
    strict = judge(evidence, thresholds=Thresholds(noisy_fraction=0.5, noise_excess=1.0))
    assert judge(evidence).causes and not strict.causes
    assert strict.statistics["label_noise"] == pytest.approx(
        judge(evidence).statistics["label_noise"] * DEFAULT.noisy_fraction / 0.5, rel=0.01
    )
    text = "".join(
        path.read_text() for path in Path(str(CHECKS["leakage"].cause.__code__.co_filename)).parent.glob("*.py")
    )
    unused = [field.name for field in fields(Thresholds) if f"limits.{field.name}" not in text
              and f"thresholds.{field.name}" not in text]  # fmt: skip
    assert not unused


def test_missing_probes_are_named_and_nothing_is_guessed(s: ModuleType) -> None:
    evidence = s.evidence_of(s.curves_of(s.HEALTHY["converged"], 3), s.evaluation_of())
    record = judge(evidence)
    assert record.causes == ()
    assert "not probed" in record.not_checked["label_noise"]
    partly = planted.probes_of(shift=None, not_measured={"shift": "no production sample: data.production_path"})
    assert judge(replace(evidence, probes=partly)).not_checked["distribution_shift"].startswith("no production sample")


def test_too_few_samples_are_no_ground_for_a_claim(s: ModuleType) -> None:
    few = planted.FAULTS["unrelated_targets"](0)
    few = few.model_copy(update={"losses": few.losses[:6] + few.losses[-6:]})
    record = judge(evidence_of(s, few))
    assert "unrelated_targets" in record.not_checked and "label_noise" in record.not_checked


@pytest.mark.parametrize("text", ["", "{", '{"run_id": 3}', "\x00\x01"])
def test_a_damaged_evidence_file_abstains(s: ModuleType, tmp_path: Path, text: str) -> None:
    _write_run(s, tmp_path)
    (tmp_path / "evidence.json").write_text(text, encoding="utf-8")
    record = diagnose(JobConfig(), run_dir=tmp_path)
    assert record.causes == ()
    assert (
        record.not_checked["label_noise"].startswith("damaged: ") and "evidence.json" in record.not_checked["leakage"]
    )


def test_a_damaged_evaluation_abstains_and_the_rest_goes_on(s: ModuleType, tmp_path: Path) -> None:
    _write_run(s, tmp_path)
    planted.FAULTS["label_noise"](0).write(tmp_path)
    (tmp_path / "evaluation.json").write_text("[]", encoding="utf-8")
    record = diagnose(JobConfig(), run_dir=tmp_path)
    assert "evaluation.json" in record.not_checked["forgetting"]
    assert record.causes[0].mode == "label_noise"
    assert DiagnosisRecord.read(tmp_path) == record


def test_impossible_numbers_leave_their_part_unchecked(s: ModuleType) -> None:
    probes = planted.FAULTS["leakage"](0)
    outside = Score(value=0.5, ci_low=0.9, ci_high=1.0, n=50)
    broken = probes.model_copy(update={"overlap": probes.overlap.model_copy(update={"score_seen": outside})})  # type: ignore[union-attr]
    sound = believable(broken)
    assert sound.overlap is None and "outside its interval" in sound.not_measured["overlap"]
    assert judge(evidence_of(s, sound)).causes == ()
    rows = planted.changed(planted.ROWS, duplicate_fraction=9.5)
    assert believable(planted.probes_of(rows=rows)).rows is None
    one = planted.changed(probes.losses[0], tuned_nats=float("inf"))
    assert (
        len(believable(probes.model_copy(update={"losses": (one, *probes.losses[1:])})).losses)
        == len(probes.losses) - 1
    )


def _write_run(s: ModuleType, folder: Path) -> None:
    from foretune.records.events import EventLog

    curves = s.curves_of(s.HEALTHY["converged"], 3)
    with EventLog(folder) as log:
        log.add("train_start", step=0, planned_steps=120)
        for point in curves.train:
            log.add("step", step=point.step, loss=point.loss, learning_rate=point.learning_rate, grad_norm=1.0)
        for point in curves.validation:
            log.add("eval", step=point.step, eval_loss=point.loss)
        log.add("train_end", step=120, reason="finished")


def test_targets_that_cost_more_than_training_saw_were_cut(s: ModuleType) -> None:
    """The curve ends near 0 and whole targets cost 2 nats: what was trained is a part of them."""
    probes = planted.probes_of(
        train={"tuned": 2.0, "others": 3.0},
        validation={"tuned": 2.0, "others": 3.0},
        rows=None,
        whole_validation_nats=2.0,
    )
    shape = s.Shape(s.decay(2.5, 0.02, 8), s.decay(2.5, 0.02, 8), noise=0.01)
    evidence = replace(evidence_of(s, probes), curves=s.curves_of(shape, 3))
    record = judge(evidence, without_settings=True)
    assert record.causes[0].mode == "truncated_targets"
    assert any("whole validation rows cost" in line for line in record.causes[0].evidence)


def test_a_rise_of_the_curve_without_harm_is_no_overfitting(s: ModuleType) -> None:
    """Validation loss turned, but training samples score no better than validation's."""
    rising = s.curves_of(s.FAULTY["rises"][1], 1)
    probes = planted.probes_of(train_score=planted.score(0.9), validation_score=planted.score(0.89))
    assert "overfitting" not in [cause.mode for cause in judge(replace(evidence_of(s, probes), curves=rising)).causes]
    apart = planted.FAULTS["overfitting"](0)
    record = judge(replace(evidence_of(s, apart), curves=rising))
    cause = record.causes[0]
    assert cause.mode == "overfitting" and any("difference" in line for line in cause.evidence)


def test_general_rows_that_do_not_keep_skills_point_to_the_rate(s: ModuleType) -> None:
    """The same collapse is forgetting on narrow data, and a rate too high where general rows were mixed in."""
    skills = tuple(s.skill_of(f"skill {n}", 0.9, 0.2, half=0.1) for n in range(5))
    plain = s.evidence_of(s.curves_of(s.HEALTHY["converged"], 3), s.evaluation_of(skills=skills))
    plain = replace(plain, probes=planted.probes_of())
    assert [cause.mode for cause in judge(plain).roots] == ["forgetting"]
    mixed = JobConfig.model_validate({"data": {"mix_path": "general.jsonl", "advanced": {"mix_fraction": 0.2}}})
    assert [cause.mode for cause in judge(replace(plain, job=mixed)).roots] == ["learning_rate_too_high"]


def test_a_short_run_explains_what_looks_like_noise(s: ModuleType) -> None:
    """After ten steps nothing is learned yet: that is no fault of the pairs."""
    probes = planted.probes_of(
        train={"tuned": 0.6, "others": 0.9}, train_score=planted.score(0.2), validation_score=planted.score(0.2)
    )
    shape = s.Shape(s.decay(2.5, 1.0, 3), s.decay(2.5, 1.1, 3), num_steps=10)
    record = judge(replace(evidence_of(s, probes), curves=s.curves_of(shape, 3)))
    assert [cause.mode for cause in record.roots] == ["underfitting"]
    assert record.roots[0].patch == {"train.epochs": 21.0}
    assert "label_noise" in [cause.mode for cause in record.causes]


def test_the_first_step_is_no_spike(s: ModuleType) -> None:
    losses = [6.0, 5.0, 3.0, 1.6, *(1.2 + 0.05 * (n % 3) for n in range(60))]
    points = tuple(CurvePoint(step=n + 1, loss=loss, learning_rate=2e-4) for n, loss in enumerate(losses))
    record = judge(s.evidence_of(Curves(points, planned_steps=64)))
    assert record.statistics["learning_rate_too_high"] < 0.5
