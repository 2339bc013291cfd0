"""Would more data help: the logit rule, flat curves, nested parts, and what is never touched."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from foretune.config.job import JobConfig
from foretune.data.formats import read_samples
from foretune.data.ledger import TestLedger
from foretune.errors import ConfigError, DataError, ScoreError
from foretune.evaluate.learning_curve import Part, measure_curve, measure_early
from foretune.records.evaluation import MetricValue
from foretune.records.failures import FailuresRecord
from foretune.records.learning_curve import LearningCurveRecord
from foretune.records.training import TrainingRecord
from foretune.stats.learning_curve import CurvePoint, curve_outlook, is_flat, most_doubling_gain, most_full_gain

from .conftest import LABELS, FakeEngine, question, thing

Run = Any


def point(num_samples: int, score: float, n: int = 100_000) -> CurvePoint:
    return CurvePoint(num_samples, score, n, score, score)


def logit(score: float) -> float:
    return math.log(score / (1 - score))


@pytest.mark.req("R086")
def test_next_doubling_adds_the_same_logits() -> None:
    found = curve_outlook([point(500, 0.6), point(1000, 0.7)], (0.1, 0.08, 0.12))
    assert logit(found.predicted) == pytest.approx(2 * logit(0.7) - logit(0.6), abs=1e-3)
    assert found.answer == "helps" and found.low == pytest.approx(found.predicted - 0.05)
    doublings = (logit(0.72) - logit(0.7)) / (logit(0.7) - logit(0.6))
    assert found.samples_for_margin == pytest.approx(1000 * 2**doublings, rel=0.01)


def test_gain_is_per_doubling() -> None:
    found = curve_outlook([point(100, 0.5), point(400, 0.7)], (0.2, 0.1, 0.3))
    assert found.gain == pytest.approx(0.1)
    assert logit(found.predicted) == pytest.approx(logit(0.7) + logit(0.7) / 2, abs=1e-3)


@pytest.mark.req("R087")
def test_flat_and_unclear() -> None:
    assert is_flat(0.004, -0.01, 0.02) and is_flat(0.005, 0.001, 0.009)
    assert not is_flat(0.03, -0.01, 0.07) and not is_flat(0.05, 0.03, 0.07)
    assert curve_outlook([point(5, 0.6), point(10, 0.602)], (0.002, -0.02, 0.02)).samples_for_margin is None
    assert curve_outlook([point(5, 0.6), point(10, 0.64)], (0.04, -0.02, 0.1)).answer == "unclear"


def test_a_steep_curve_that_reached_the_top_is_flat() -> None:
    found = curve_outlook([point(120, 0.76), point(240, 0.99)], (0.23, 0.17, 0.29))
    assert found.answer == "flat" and found.samples_for_margin is None
    assert curve_outlook([point(120, 0.76), point(240, 0.97)], (0.21, 0.15, 0.27)).answer == "helps"


def test_ends_of_the_scale_and_wrong_scores() -> None:
    found = curve_outlook([point(5, 0.9, 50), point(10, 1.0, 50)], (0.1, 0.02, 0.2))
    assert found.predicted <= 1.0 and found.samples_for_margin is None
    with pytest.raises(ScoreError):
        curve_outlook([point(5, 0.9)], (0, 0, 0))
    with pytest.raises(ScoreError, match="no fraction"):
        curve_outlook([point(5, 1.9), point(9, 3.0)], (0, 0, 0))


def test_twice_the_data_gains_no_more_than_each_doubling_did() -> None:
    assert most_doubling_gain(0.5, 0.06, 3.0) == pytest.approx(0.02, abs=1e-3)
    low = logit(0.2) - logit(0.1)  # three doublings gained 10 points: the same logits again are more than a third
    assert logit(0.2 + most_doubling_gain(0.2, 0.1, 3.0)) == pytest.approx(logit(0.2) + low / 3)
    assert most_doubling_gain(0.7, -0.01, 2.0) == 0.0


def test_gain_of_all_the_data_is_bounded_by_two_parts() -> None:
    right, half, none = np.ones(100), np.tile([1.0, 0.0], 50), np.zeros(100)
    kept = most_full_gain(right, half, half, doublings=1.0, left=2.0)
    assert -0.5 < kept < -0.35  # half wrong, nothing learnt between the parts: at best still far below the prompt
    rising = most_full_gain(right, none, half, doublings=1.0, left=2.0)
    assert rising > 0.3  # from nothing to a half: all of it may be gained, and more
    assert most_full_gain(half, half, half, doublings=1.0, left=1.0) > 0.0  # no difference seen is not proof of none
    with pytest.raises(ScoreError, match="same samples"):
        most_full_gain(right, half, none[:50], doublings=1.0, left=1.0)


def test_bound_on_all_the_data_holds_where_the_curve_is_straight() -> None:
    rng, missed = np.random.default_rng(3), 0
    cuts = [NormalDist().inv_cdf(score) for score in (0.5, 0.4, 0.5)]
    gain_of_all = 0.5 + 0.1 * 2 / 1.32 - 0.5  # over the prompt
    for _ in range(400):
        hard, own = rng.standard_normal(200), rng.standard_normal((3, 200))
        rows = [((hard + chance) / math.sqrt(2) < cut).astype(float) for chance, cut in zip(own, cuts, strict=True)]
        missed += most_full_gain(*rows, doublings=1.32, left=2.0) < gain_of_all
    assert 0 < missed <= 0.05 * 400


class Trainer:
    """Trains nothing: a model that knows as much as its number of samples allows."""

    def __init__(self, run: Run, monkeypatch: pytest.MonkeyPatch, known: dict[int, float]) -> None:
        self.run, self.known, self.parts = run, known, []
        self.models: dict[str, FakeEngine] = {}
        monkeypatch.setattr("foretune.engine.engine.load_engine", self._load)

    def __call__(self, part: Part) -> Path:
        self.parts.append(part)
        folder: Path = self.run.run_dir / "learning_curve" / f"part-{part.num_samples}"
        folder.mkdir(parents=True, exist_ok=True)
        TrainingRecord.read(self.run.run_dir).model_copy(update={"run_id": folder.name}).write(folder)
        return folder

    def _load(self, base: Path, artefact: Path | None = None) -> FakeEngine:
        assert artefact is not None, "the base is not needed"
        name = artefact.parent.name
        size = int(name.rpartition("-")[2]) if name.startswith("part") else 200
        right = self.known[size]

        def answer(prompt: str) -> str:
            number = thing(prompt)
            return LABELS[number % 3] if (number * 37 % 100) / 100 < right else "no idea"

        return FakeEngine(answer, self.run.tokenizer)

    def measure(self) -> LearningCurveRecord:
        run = self.run
        return measure_curve(run.job, run_dir=run.run_dir, runs_dir=run.runs_dir, folder=run.folder, train_on=self)

    def measure_early(self) -> LearningCurveRecord | None:
        run = self.run
        return measure_early(run.job, run_dir=run.run_dir, runs_dir=run.runs_dir, folder=run.folder, train_on=self)


def written(run: Run) -> None:
    run.write(
        [question(number) for number in range(200)],
        [question(number) for number in range(1000, 1200)],
        [question(number) for number in range(2000, 2050)],
    )


def test_curve_that_rises(fake_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    written(fake_run)
    trainer = Trainer(fake_run, monkeypatch, {20: 0.3, 50: 0.45, 100: 0.6, 200: 0.75})
    record = trainer.measure()
    assert [part.num_samples for part in record.parts] == [20, 50, 100, 200]
    assert [part.score for part in record.parts] == pytest.approx([0.3, 0.45, 0.6, 0.75])
    assert record.answer == "helps" and "More data would help" in record.advice
    assert record.last_doubling_gain == pytest.approx(0.15) and record.samples_for_margin is not None
    assert record.predicted_score > 0.8 and not record.stopped_early
    assert LearningCurveRecord.read(fake_run.run_dir) == record
    assert not TestLedger(fake_run.runs_dir).looks(fake_run.training.dataset_version)  # the test split stays sealed
    num_trained = len(trainer.parts)
    assert trainer.measure() == record and len(trainer.parts) == num_trained  # nothing is trained twice


def test_parts_are_nested_files_of_the_training_split(fake_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    written(fake_run)
    trainer = Trainer(fake_run, monkeypatch, {20: 0.3, 50: 0.45, 100: 0.6, 200: 0.75})
    trainer.measure()
    read = [read_samples(part.settings["data.path"]).samples for part in trainer.parts]
    texts = [{sample.input_text for sample in samples} for samples in read]
    assert [len(one) for one in texts] == [20, 50, 100] and texts[0] < texts[1] < texts[2]
    assert all(thing_of(text) < 200 for text in texts[2])
    held_out = read_samples(trainer.parts[0].settings["data.validation_path"]).samples
    assert {thing_of(sample.input_text) for sample in held_out} == set(range(1000, 1200))
    assert read[0][0].prompt[0].content == "name the colour"
    for part in trainer.parts:  # every setting is one of the job's
        tree: dict[str, Any] = {}
        for name, value in part.settings.items():
            place = tree
            for key in name.split(".")[:-1]:
                place = place.setdefault(key, {})
            place[name.split(".")[-1]] = value
        JobConfig.model_validate(tree)


def thing_of(text: str) -> int:
    return int(text.partition("thing ")[2].rstrip("?"))


def test_flat_curve_stops_after_the_first_part(fake_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    written(fake_run)
    trainer = Trainer(fake_run, monkeypatch, {20: 0.6, 50: 0.6, 100: 0.6, 200: 0.6})
    record = trainer.measure()
    assert record.stopped_early and len(trainer.parts) == 1
    assert record.answer == "flat" and "will not help" in record.advice and record.samples_for_margin is None


@pytest.mark.req("R087")
def test_slow_rise_stops_after_the_part_that_settles_it(fake_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    written(fake_run)
    trainer = Trainer(fake_run, monkeypatch, {20: 0.83, 50: 0.9, 100: 0.9, 200: 0.91})
    record = trainer.measure()
    assert record.stopped_early and [part.num_samples for part in record.parts] == [20, 50, 200]
    assert record.answer == "flat" and "50 samples score 90.0%, 200 91.0%" in record.advice


def prompted(run: Run, score: float, metric: str = "accuracy") -> None:
    """A base measured before, right on a share of the validation samples."""
    rows = {f"q{number}": float((number * 37 % 100) / 100 < score) for number in range(1000, 1200)}
    value = MetricValue(value=score, ci_low=score - 0.05, ci_high=score + 0.05, n=200, method="wilson")
    FailuresRecord(
        run_id="r", base="b", dataset_version="v", metric=metric, prompt="p", prompt_description="",
        num_prompts_tried=1, num_chosen_on=0, baseline=value, num_failures=1, knowledge=None, format=None,
        behaviour=None, placebo=None, context_source="none", sample_scores=rows,
    ).write(run.run_dir)  # fmt: skip


@pytest.mark.req("R264")
def test_training_that_cannot_reach_the_prompt_ends_at_a_quarter(
    fake_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(fake_run)
    trainer = Trainer(fake_run, monkeypatch, {20: 0.3, 50: 0.33})
    assert trainer.measure_early() is None and not trainer.parts  # no prompt was measured
    prompted(fake_run, 0.8)
    record = trainer.measure_early()
    assert record is not None and LearningCurveRecord.read(fake_run.run_dir) == record
    assert [part.num_samples for part in record.parts] == [20, 50] and record.stopped_early
    assert record.prompted_score == 0.8 and len(record.sample_scores) == 200
    assert "Training on all 200 samples will not gain 2% over the prompted base" in record.advice
    assert trainer.measure_early() == record and len(trainer.parts) == 2  # nothing is trained twice


@pytest.mark.req("R264")
def test_training_that_may_gain_goes_on_from_its_parts(fake_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    written(fake_run)
    trainer = Trainer(fake_run, monkeypatch, {20: 0.3, 50: 0.45, 100: 0.6, 200: 0.75})
    prompted(fake_run, 0.8, metric="another")
    assert trainer.measure_early() is None and not trainer.parts
    prompted(fake_run, 0.6)
    assert trainer.measure_early() is None and not LearningCurveRecord.exists(fake_run.run_dir)
    assert trainer.measure().answer == "helps"
    assert [part.num_samples for part in trainer.parts] == [20, 50, 100]


def test_a_nan_of_the_users_scorer_is_named_and_left_out(fake_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    (fake_run.folder / "curve_metric.py").write_text(
        "def score(prediction, target):\n"
        "    return float('nan') if prediction == 'odd' else float(prediction == target)\n"
    )
    monkeypatch.chdir(fake_run.folder)
    fake_run.settings["evaluate"]["primary_metric"] = "curve_metric:score"
    written(fake_run)
    trainer = Trainer(fake_run, monkeypatch, {20: 0.3, 50: 0.45, 100: 0.6, 200: 0.75})
    usual = trainer._load

    def load(base: Path, artefact: Path | None = None) -> FakeEngine:
        engine = usual(base, artefact)
        answer = engine.answer
        engine.answer = lambda prompt: "odd" if thing(prompt) == 1003 else answer(prompt)
        return engine

    monkeypatch.setattr("foretune.engine.engine.load_engine", load)
    record = trainer.measure()
    assert all(part.n == 199 and 0 < part.score < 1 for part in record.parts)
    assert "q1003" not in record.sample_scores and len(record.sample_scores) == 199
    said = [warning for warning in record.warnings if "the score is nan" in warning]
    assert len(said) == 4 and "1 of 200 answers of the model of 10% have no score" in said[1]
    assert LearningCurveRecord.read(fake_run.run_dir) == record


def test_own_scores_beyond_one_are_refused(fake_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    (fake_run.folder / "wide_metric.py").write_text("def score(prediction, target):\n    return 7.0\n")
    monkeypatch.chdir(fake_run.folder)
    fake_run.settings["evaluate"]["primary_metric"] = "wide_metric:score"
    written(fake_run)
    with pytest.raises(ConfigError, match="wide_metric:score is no score from 0 to 1"):
        Trainer(fake_run, monkeypatch, {20: 0.3, 200: 0.75}).measure()


def test_what_cannot_be_measured_is_refused(fake_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_run.write_questions()  # 12 validation samples
    with pytest.raises(DataError, match="12 validation samples"):
        Trainer(fake_run, monkeypatch, {}).measure()
    fake_run.settings["train"] = {"method": "pretrain"}
    fake_run.write_questions()
    with pytest.raises(ConfigError, match="raw text"):
        Trainer(fake_run, monkeypatch, {}).measure()


def test_record_speaks_the_words_of_plan() -> None:
    from foretune.plan.situation import Measured

    gain = json.loads('{"last_doubling_gain": 0.012}')
    assert Measured(**gain).last_doubling_gain == 0.012
