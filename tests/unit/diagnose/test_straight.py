"""A rate too low goes in a straight line; few steps end while the loss still falls; lengths of targets tell faults."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import pytest

from foretune.diagnose.causal import explained
from foretune.diagnose.curves import Curves
from foretune.diagnose.diagnose import judge
from foretune.diagnose.evidence import Evidence
from foretune.diagnose.shape import halves
from foretune.records.evidence import EvidenceRecord
from foretune.records.training import CurvePoint
from unit.diagnose import planted

LITTLE = {"tuned": 1.2, "base": 1.6, "others": 1.9}


def curves(validation: tuple[float, ...], num_steps: int = 80) -> Curves:
    """A constant rate, and validations at even distances from step 0 to the last; training costs the same."""
    every = num_steps // (len(validation) - 1)
    points = tuple(CurvePoint(step=at * every, loss=loss) for at, loss in enumerate(validation))
    train = tuple(CurvePoint(step=at + 1, loss=validation[at // every], learning_rate=1e-5) for at in range(num_steps))
    return Curves(train, points, num_steps, stop_reason="finished")


def run_of(s: ModuleType, probes: EvidenceRecord, shown: Curves, verdict: str = "not_better") -> Evidence:
    evaluation = s.evaluation_of(verdict=verdict, skills=(s.skill_of("one", 0.8, 0.79),))
    evidence: Evidence = s.evidence_of(shown, evaluation)
    return replace(evidence, probes=probes)


def slow_probes(**more: object) -> EvidenceRecord:
    scores = {"train_score": planted.score(0.4), "validation_score": planted.score(0.4)}
    return planted.probes_of(train=LITTLE, validation=LITTLE, **{**scores, **more})


def test_halves_of_known_curves() -> None:
    for values, early, late in (
        ((4.0, 3.0, 2.0, 1.0, 0.0), 0.5, 1.0),
        ((4.0, 1.0, 0.6, 0.5, 0.5), 0.9714, 0.1667),
        ((4.0, 4.01, 4.0, 3.99, 4.0), 0.5, 0.0),
        ((4.0, 4.5, 5.0, 5.5, 6.0), 1.0, -0.2),
    ):
        shown = curves(values)
        found = halves(shown.train, shown.validation)
        assert found is not None
        assert found.early_share == pytest.approx(early, abs=0.02) and found.late_fall == pytest.approx(late, abs=0.02)
    assert halves(shown.train, shown.validation[:2]) is None
    assert halves(shown.train, shown.validation[1:]) is None  # the beginning was not measured
    assert halves((), shown.validation) is None


def test_a_straight_fall_is_a_rate_too_low_even_where_the_run_beats_its_prompts(s: ModuleType) -> None:
    """A token score beats a base that answers nothing; what the targets cost says that little was learned."""
    straight = run_of(s, slow_probes(), curves((2.0, 1.8, 1.6, 1.4, 1.2)), verdict="better")
    cause = judge(straight).causes[0]
    assert cause.mode == "learning_rate_too_low"
    assert any("straight line" in line for line in cause.evidence)
    assert cause.patch["train.learning_rate"] == pytest.approx(
        2e-4 * 5 / 0.25, rel=0.1
    )  # a quarter of the loss is gone


def test_a_fall_that_bends_is_none_however_little_fell(s: ModuleType) -> None:
    """A base that knew much gains a quarter at once and rests."""
    bent = run_of(s, slow_probes(), curves((2.0, 1.3, 1.25, 1.22, 1.2)))
    assert judge(bent).statistics["learning_rate_too_low"] < 0.7


def test_a_straight_fall_of_a_task_that_is_solved_is_none(s: ModuleType) -> None:
    good = slow_probes(train_score=planted.score(0.9), validation_score=planted.score(0.9))
    assert judge(run_of(s, good, curves((2.0, 1.8, 1.6, 1.4, 1.2)))).statistics["learning_rate_too_low"] == 0


def test_a_straight_fall_explains_pairs_that_say_nothing_yet(s: ModuleType) -> None:
    unlearned = {"tuned": 1.2, "base": 1.6, "others": 1.2}
    probes = planted.probes_of(
        train=unlearned, validation=unlearned, train_score=planted.score(0.1), validation_score=planted.score(0.1)
    )
    modes = {
        name: [cause.mode for cause in judge(run_of(s, probes, curves(values))).roots]
        for name, values in (("straight", (2.0, 1.8, 1.6, 1.4, 1.2)), ("bent", (2.0, 1.3, 1.25, 1.22, 1.2)))
    }
    assert modes["straight"] == ["learning_rate_too_low"]
    assert "learning_rate_too_low" not in modes["bent"]


def test_few_steps_are_too_few_where_the_loss_still_fell(s: ModuleType) -> None:
    """The score may be fair already; with the fall over, few steps were enough."""
    fair = planted.probes_of(train_score=planted.score(0.85), validation_score=planted.score(0.84))
    falling = run_of(s, fair, curves((4.0, 1.4, 0.8, 0.5, 0.3), num_steps=8))
    cause = judge(falling).causes[0]
    assert cause.mode == "underfitting" and cause.patch["train.epochs"] > 3
    resting = run_of(s, fair, curves((4.0, 0.5, 0.32, 0.31, 0.3), num_steps=8))
    assert judge(resting).statistics["underfitting"] < 1


# --- lengths of targets ---------------------------------------------------------------------------------------------


def test_short_answers_alone_are_no_cut_targets(s: ModuleType) -> None:
    """A model may answer briefly; cut is what training's own targets lack against validation's."""
    ends = {"alike": planted.score(0.52, 0.08), "unknown": None, "shorter": planted.score(0.97, 0.02)}
    found = {
        name: judge(run_of(s, planted.probes_of(end=end_of(longer)), curves((4.0, 0.5, 0.4, 0.3, 0.3)))).statistics
        for name, longer in ends.items()
    }
    assert [name for name in found if found[name]["truncated_targets"] >= 1] == ["shorter"]


def end_of(longer: object, **more: object) -> object:
    return planted.changed(planted.END, **{"length_ratio": 0.45, "validation_longer": longer, **more})


def test_answers_go_on_whatever_they_say_first(s: ModuleType) -> None:
    """None of the answers begins with its target, word for word, and all end by themselves: after twice the length."""
    end = end_of(planted.score(0.02, 0.02), length_ratio=2.1, p_end=planted.score(0.02, 0.02))
    cause = judge(run_of(s, planted.probes_of(end=end), curves((4.0, 0.5, 0.4, 0.3, 0.3)))).causes[0]
    assert cause.mode == "missing_end" and [step.do for step in cause.data_steps] == ["cut_answers"]
    sure = planted.changed(end, p_end=planted.score(0.95, 0.03))
    assert judge(run_of(s, planted.probes_of(end=sure), curves((4.0, 0.5, 0.4, 0.3, 0.3)))).causes == ()


def test_a_loss_without_ends_is_one_that_trained_none(s: ModuleType) -> None:
    """Training's own validation is what its rows cost without their ends; neither cut rows nor sound ones are that."""
    for whole, unended, expected in ((0.2, 0.3, "missing_end"), (1.5, 0.3, "missing_end"), (0.3, 0.4, None),
                                     (0.3, 0.31, None), (1.9, 2.0, "truncated_targets")):  # fmt: skip
        probes = planted.probes_of(whole_validation_nats=whole, unended_validation_nats=unended)
        record = judge(run_of(s, probes, curves((4.0, 0.5, 0.4, 0.3, 0.3))), without_settings=True)
        assert [cause.mode for cause in record.roots][:1] == ([expected] if expected else []), (whole, unended)


def test_lengths_of_the_data_are_no_effect_of_the_rate(s: ModuleType) -> None:
    """A broken model runs on; targets that themselves run on are a fault of their own."""
    end = end_of(planted.score(0.5, 0.08), length_ratio=2.1, p_end=planted.score(0.02, 0.02))
    for longer, expected in ((0.5, ("learning_rate_too_high",)), (0.02, ())):
        probes = planted.probes_of(end=planted.changed(end, validation_longer=planted.score(longer, 0.01)))
        evidence = run_of(s, probes, curves((4.0, 0.5, 0.4, 0.3, 0.3)))
        causes = {cause.mode: cause for cause in judge(evidence).causes}
        both = {"missing_end": causes["missing_end"], "learning_rate_too_high": causes["missing_end"]}
        assert explained(both, evidence)["missing_end"] == expected  # type: ignore[arg-type]
