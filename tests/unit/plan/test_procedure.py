"""The decision procedure: each gate passes, stops and stays unknown where it should, and the action follows."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from foretune.errors import ConfigError
from foretune.plan.arms import break_even, costs_usd, measured_arms, required_gains
from foretune.plan.gates import payback_days, trained_arm, visible_gain
from foretune.plan.measurements import gather, measured_situation
from foretune.plan.procedure import procedure
from foretune.plan.project import Project, read_project
from foretune.plan.situation import Measured, Score, Situation, wilson_interval
from foretune.records.dataset import DatasetRecord, SplitInfo
from foretune.records.evaluation import MetricValue
from foretune.records.failures import FailuresRecord, Share
from foretune.records.learning_curve import CurvePart, LearningCurveRecord
from foretune.records.procedure import ACTIONS, Curve, Gain, Kinds, Measurements, ProcedureRecord, Rate, Stakes


def rate(value: float, n: int = 400) -> Rate:
    low, high = wilson_interval(value, n)
    return Rate(value=value, n=n, low=low, high=high)


def gain(value: float, half: float = 0.04) -> Gain:
    return Gain(value=value, low=value - half, high=value + half)


def kinds(knowledge: float, layout: float, behaviour: float, left: float | None = None) -> Kinds:
    return Kinds(num_failures=160, knowledge=knowledge, format=layout, behaviour=behaviour, left_to_context=left)


def curve(gained: float, predicted: float, full: float, answer: str = "helps") -> Curve:
    return Curve(
        num_samples=1000,
        full_score=full,
        doubling_gain=gained,
        gain_low=gained - 0.02,
        gain_high=gained + 0.02,
        answer=answer,  # type: ignore[arg-type]
        predicted=predicted,
        predicted_low=predicted - 0.05,
        predicted_high=predicted + 0.05,
    )


def skill(**changes: Any) -> Measurements:
    """A prompted base at 60 % that fails by behaviour, and a tuned model 20 points ahead."""
    values: dict[str, Any] = {
        "num_labelled": 800,
        "num_test": 400,
        "num_train": 1000,
        "prompted": rate(0.6),
        "kinds": kinds(0.0, 0.0, 1.0, 0.0),
        "tuned": rate(0.8),
        "tuned_gain": gain(0.2),
        "curve": curve(0.05, 0.84, 0.8),
    }
    return Measurements(**values | changes)


def status(record: ProcedureRecord) -> dict[str, str]:
    return {gate.name: gate.status for gate in record.gates}


def test_a_sure_gain_of_behaviour_is_trained() -> None:
    record = procedure(skill())
    assert record.action == "fine-tune" and not record.stops_training
    assert status(record) == {
        "measurable": "pass",
        "prompted baseline": "pass",
        "kind of failure": "pass",
        "learning curve": "pass",
        "money": "unknown",
    }
    assert len(record.numbers) == 3 and record.numbers["tuned gain"] == pytest.approx(0.2)
    assert "twice the data" in record.sentence and record.pre_mortem
    assert any("payback" in line for line in record.pre_mortem)


def test_what_is_not_measured_is_unknown_with_the_command_that_measures_it() -> None:
    record = procedure(Measurements(), job="mine.toml")
    assert record.action is None and not record.stops_training and record.pre_mortem == ()
    assert set(status(record).values()) == {"unknown"}
    commands = {gate.name: gate.command for gate in record.gates}
    assert commands["prompted baseline"] == "foretune decide mine.toml --measure baseline"
    assert commands["learning curve"] == "foretune decide mine.toml --measure curve"
    assert record.next_command == commands["measurable"]
    partly = procedure(skill(tuned=None, tuned_gain=None, curve=None))
    assert partly.action is None and partly.next_command.endswith("--measure curve")


@pytest.mark.parametrize(
    ("changes", "action", "gate"),
    [
        ({"num_labelled": 80}, "collect data first", "measurable"),
        ({"human_agreement": 0.6}, "collect data first", "measurable"),
        ({"target": 0.5}, "prompt", "prompted baseline"),
        ({"prompted": rate(0.97), "tuned_gain": gain(0.01)}, "prompt", "prompted baseline"),
        (
            {"prompted": rate(0.86, 120), "target": 0.92, "num_test": 120, "tuned_gain": None, "kinds": None},
            "collect data first",
            "prompted baseline",
        ),
        ({"tuned_gain": None, "kinds": kinds(0.75, 0.05, 0.2)}, "RAG", "kind of failure"),
        ({"tuned_gain": None, "kinds": kinds(0.05, 0.75, 0.2)}, "constrained decoding", "kind of failure"),
        ({"tuned_gain": gain(0.01), "curve": curve(0.0, 0.61, 0.61, "flat")}, "prompt", "learning curve"),
        ({"tuned_gain": gain(0.06, 0.15), "curve": curve(0.0, 0.66, 0.66, "unclear")}, "collect data first", ""),
        ({"tuned_gain": gain(0.01), "curve": curve(0.06, 0.72, 0.61)}, "collect data first", "learning curve"),
        ({"kinds": kinds(0.4, 0.0, 0.6, 0.15), "retrieval_gain": gain(0.14)}, "fine-tune + RAG", None),
    ],
)
def test_each_gate_can_stop(changes: dict[str, Any], action: str, gate: str | None) -> None:
    record = procedure(skill(**changes))
    assert record.action == action, record.sentence
    assert record.stops_training is not action.startswith("fine-tune")
    if gate:
        assert record.stopped_at == gate


def test_prompting_within_two_points_is_never_fine_tuned() -> None:
    for value in (-0.05, 0.0, 0.01, 0.02):
        for half in (0.005, 0.02, 0.06):
            record = procedure(skill(tuned_gain=gain(value, half), curve=curve(0.0, 0.6, 0.6, "flat")))
            assert not str(record.action).startswith("fine-tune"), (value, half)


STAKES = Stakes(value_per_success_usd=0.5, cost_per_failure_usd=0.5, queries_per_month=10_000, people_usd=4000)


def test_payback_is_the_one_off_cost_over_what_a_day_earns() -> None:
    mixed = {"kinds": kinds(0.1, 0.1, 0.8, 0.0)}
    m = skill(stakes=STAKES, **mixed)
    # 16 points over constrained decoding (4 points), 10,000 queries, a dollar between right and wrong.
    light = measured_arms(m)["constrained decoding"].gain
    assert payback_days(m, trained_arm(m)) == pytest.approx(4000 / ((0.2 - light) * 10_000) * 30.44)
    assert procedure(m).action == "fine-tune"
    late = skill(stakes=STAKES.model_copy(update={"people_usd": 12_000.0}), **mixed)
    assert procedure(late).action == "constrained decoding" and procedure(late).stopped_at == "money"
    patient = STAKES.model_copy(update={"people_usd": 12_000.0, "max_payback_days": 365.0})
    assert procedure(skill(stakes=patient)).action == "fine-tune"


def test_break_even_accuracy_stops_automation() -> None:
    # OpenAI's example: success 20, escalation 40 and churn of 5 % of failures at 1,000: 90 / 110 = 81.8 %.
    stakes = Stakes(value_per_success_usd=20, cost_per_failure_usd=90, queries_per_month=10_000)
    assert break_even(stakes) == pytest.approx(90 / 110)
    poor = skill(stakes=stakes, prompted=rate(0.3), tuned_gain=gain(0.2), curve=curve(0.0, 0.5, 0.5, "flat"))
    assert procedure(poor).action == "do not automate" and procedure(poor).stops_training
    open_still = skill(stakes=stakes, prompted=rate(0.3), tuned_gain=None, curve=None)
    assert procedure(open_still).action is None  # training might still reach it


def test_required_gains_are_costs_over_what_answers_are_worth() -> None:
    m = skill(stakes=STAKES)
    assert required_gains(m)["fine-tune"] == pytest.approx(4000 / (10_000 * 12))
    assert required_gains(skill())["fine-tune"] == 0.02
    costs = costs_usd(Stakes(training_usd=100, retrain_every_days=30.44, rag_setup_usd=7), 6, 50)
    assert costs["fine-tune"] == (100, 600) and costs["fine-tune + RAG"].once == 107


def test_the_smallest_visible_gain_is_that_of_a_paired_test() -> None:
    assert visible_gain(skill(num_test=200, prompted=rate(0.5))) == pytest.approx(
        2.8016 * (0.25 / 200) ** 0.5, rel=1e-3
    )


def failures(n: int = 200) -> FailuresRecord:
    scores = {str(place): float(place % 5 < 3) for place in range(n)}
    right = sum(scores.values()) / n
    low, high = wilson_interval(right, n)
    return FailuresRecord(
        run_id="a",
        base="pebble",
        dataset_version="v",
        metric="accuracy",
        prompt="nearest_5",
        prompt_description="",
        num_prompts_tried=5,
        num_chosen_on=64,
        baseline=MetricValue(value=right, ci_low=low, ci_high=high, n=n, method="wilson"),
        num_failures=80,
        knowledge=Share(value=0.1, ci_low=0, ci_high=0.2),
        format=Share(value=0.1, ci_low=0, ci_high=0.2),
        behaviour=Share(value=0.8, ci_low=0.7, ci_high=0.9),
        placebo=None,
        context_source="documents",
        sample_scores=scores,
        tuned_left=Share(value=0.02, ci_low=0, ci_high=0.05),
    )


def learned(n: int = 200) -> LearningCurveRecord:
    scores = {str(place): float(place % 10 < 9) for place in range(n)}
    part = CurvePart(share=1.0, num_samples=1000, score=0.9, ci_low=0.85, ci_high=0.93, n=n, run_id="a")
    return LearningCurveRecord(
        run_id="a",
        metric="accuracy",
        parts=(part,),
        answer="helps",
        last_doubling_gain=0.04,
        gain_low=0.01,
        gain_high=0.07,
        full_score=0.9,
        predicted_score=0.92,
        predicted_low=0.87,
        predicted_high=0.97,
        samples_for_margin=None,
        margin=0.02,
        advice="",
        sample_scores=scores,
    )


def test_records_become_measurements_paired_by_sample() -> None:
    split = SplitInfo(num_samples=200, sha256="")
    dataset = DatasetRecord(version="v", task="chat", sources=(), splits={"train": split, "validation": split})
    m = gather(Project(), dataset=dataset, failures=failures(), curve=learned())
    assert (m.num_labelled, m.num_test, m.num_train) == (200, 200, 200)
    assert m.prompted and m.prompted.value == pytest.approx(0.6)
    assert m.tuned_gain and m.tuned_gain.value == pytest.approx(0.3)
    assert m.tuned_gain.high - m.tuned_gain.low < 0.17  # paired; apart it would be 0.19
    assert m.kinds and m.kinds.left_to_context == 0.02
    assert procedure(m).action == "fine-tune"


@pytest.mark.req("R086")
def test_the_curve_feeds_plans_advice_by_itself() -> None:
    m = gather(Project(), failures=failures(), curve=learned())
    situation = measured_situation(Situation(), m)
    assert situation.measured.last_doubling_gain == 0.04
    assert situation.measured.fine_tuned and situation.measured.fine_tuned.value == 0.9
    assert situation.measured.few_shot and situation.measured.behaviour_share == 0.8
    told = Situation(measured=Measured(last_doubling_gain=0.5, zero_shot=Score(value=0.1, n=10)))
    kept = measured_situation(told, m)
    assert kept.measured.last_doubling_gain == 0.5 and kept.measured.few_shot is None


def test_a_project_file_alone_is_enough(tmp_path: Path) -> None:
    file = tmp_path / "project.toml"
    file.write_text(
        "[situation]\nnum_test_examples = 300\nnum_examples = 500\n[situation.measured]\n"
        "zero_shot = {value = 0.5, n = 300}\nfine_tuned = {value = 0.8, n = 300}\nbehaviour_share = 0.9\n"
        "[stakes]\nvalue_per_success_usd = 1.0\n[money]\nqueries_per_month = 5000\ntraining_usd = 40\n"
    )
    m = gather(read_project(file))
    assert m.stakes and m.stakes.queries_per_month == 5000 and m.stakes.training_usd == 40
    assert m.tuned_gain and m.tuned_gain.value == pytest.approx(0.3)
    assert procedure(m).action == "fine-tune"
    file.write_text("[stakes]\nvalue_per_sucess_usd = 1.0\n")
    with pytest.raises(ConfigError, match="value_per_sucess_usd"):
        read_project(file)


def test_the_same_measurements_give_the_same_answer() -> None:
    first, second = (procedure(skill()).model_dump(exclude={"created"}) for _ in range(2))
    assert first == second and set(first["expected"]) <= set(ACTIONS)


def test_simulated_worlds_with_a_known_best_action(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slice of `benchmarks/run.py decision`: right in most, and no training where a prompt does as well."""
    monkeypatch.syspath_prepend(str(repository / "benchmarks"))
    bench_decision = importlib.import_module("bench_decision")
    found = []
    for seed in range(500, 548):
        world = bench_decision.synthetic(seed)
        m, later = bench_decision.measured(world, seed)
        found.append(bench_decision.Case(world, bench_decision.truth_of(world, seed), procedure(m), later))
    figures = bench_decision.summary(found)
    assert figures["right_percent"] >= 80
    assert figures["fine_tune_there_percent"] <= 10
    assert figures["twice_data_within_3_points_percent"] >= 70
