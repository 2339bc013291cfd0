"""Would more data help: the logit rule, flat curves, nested parts, and what is never touched."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from foretune.config.job import JobConfig
from foretune.data.formats import read_samples
from foretune.data.ledger import TestLedger
from foretune.errors import ConfigError, DataError, ScoreError
from foretune.evaluate.learning_curve import Part, measure_curve
from foretune.records.learning_curve import LearningCurveRecord
from foretune.records.training import TrainingRecord
from foretune.stats.learning_curve import CurvePoint, curve_outlook, is_flat

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


def test_ends_of_the_scale_and_wrong_scores() -> None:
    found = curve_outlook([point(5, 0.9, 50), point(10, 1.0, 50)], (0.1, 0.02, 0.2))
    assert found.predicted <= 1.0 and found.samples_for_margin is None
    with pytest.raises(ScoreError):
        curve_outlook([point(5, 0.9)], (0, 0, 0))
    with pytest.raises(ScoreError, match="no fraction"):
        curve_outlook([point(5, 1.9), point(9, 3.0)], (0, 0, 0))


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
