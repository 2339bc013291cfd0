"""Cross-fitting: each sample scored once by a model that never saw it, nothing of the test split, an honest test."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from foretune.data.ledger import TestLedger
from foretune.errors import ConfigError, DataError
from foretune.evaluate.cross_fit import FoldData, measure_cross_fit
from foretune.records.cross_fit import CrossFitRecord
from foretune.records.training import TrainingRecord

from .conftest import LABELS, FakeEngine, knows, num_shots, question, thing

Run = Any


class Trainer:
    """Trains nothing: each fold's model knows every thing but those that it was shown, which it answers wrongly."""

    def __init__(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        self.run = run
        self.shown: dict[str, set[int]] = {}
        monkeypatch.setattr("foretune.engine.engine.load_engine", self._load)

    def __call__(self, data: FoldData) -> Path:
        folder: Path = self.run.run_dir / "cross_fit" / f"fold-{data.number}"
        folder.mkdir(parents=True, exist_ok=True)
        TrainingRecord.read(self.run.run_dir).model_copy(update={"run_id": folder.name}).write(folder)
        rows = Path(data.settings["data.path"]).read_text().splitlines()
        assert len(rows) == data.num_samples
        texts = [json.loads(row)["messages"][-2]["content"] for row in rows]
        self.shown[folder.name] = {int(text.partition("thing ")[2].rstrip("?")) for text in texts}
        return folder

    def _load(self, base: Path, artefact: Path | None = None) -> FakeEngine:
        if artefact is None:
            return self.run.base
        shown = self.shown[artefact.parent.name]

        def answer(prompt: str) -> str:
            number = thing(prompt)
            return "seen before" if number in shown else LABELS[number % 3]

        return FakeEngine(answer, self.run.tokenizer)

    def fit(self, num_folds: int = 5) -> CrossFitRecord:
        run = self.run
        where = {"run_dir": run.run_dir, "runs_dir": run.runs_dir, "folder": run.folder}
        return measure_cross_fit(run.job, **where, train_on=self, num_folds=num_folds)


def written(run: Run, num_train: int = 60) -> None:
    run.write(
        [question(number) for number in range(num_train)],
        [question(number) for number in range(100, 112)],
        [question(number) for number in range(1000, 1020)],
    )


def test_every_sample_is_scored_once_by_who_never_saw_it(fake_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    written(fake_run)
    trainer = Trainer(fake_run, monkeypatch)
    record = trainer.fit()
    assert (record.n, record.num_folds, len(record.folds)) == (60, 5, 5)
    assert record.candidate_score.value == 1.0  # a sample that was trained on would have been wrong
    assert (record.verdict, record.baseline) == ("better", "base_few_shot")
    assert "t over 5 folds" in record.delta.method and 0 < record.smallest_visible_difference < 0.5
    rows = fake_run.lines("cross_fit.jsonl")
    assert sorted(row["sample_id"] for row in rows) == sorted(f"q{number}" for number in range(60))
    assert {row["fold"] for row in rows} == {1, 2, 3, 4, 5}
    assert not any(look.refused is False for look in TestLedger(fake_run.runs_dir).looks(""))
    assert not (fake_run.runs_dir / "test_ledger.jsonl").exists()
    assert CrossFitRecord.read(fake_run.run_dir) == record
    assert [fold.num_trained_on + fold.n for fold in record.folds] == [60] * 5


def test_the_baseline_never_sees_the_answer_among_its_examples(fake_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    written(fake_run)
    Trainer(fake_run, monkeypatch).fit()
    for prompt in fake_run.base.prompts:
        if num_shots(prompt) and 0 <= thing(prompt) < 60:
            assert prompt.count(f"thing {thing(prompt)}?") == 1


def test_a_stopped_one_goes_on(fake_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    written(fake_run)
    trainer = Trainer(fake_run, monkeypatch)
    usual, calls = Trainer.__call__, []

    def stopping(self: Trainer, data: FoldData) -> Path:
        calls.append(data.number)
        if calls == [1, 2, 3]:
            raise KeyboardInterrupt
        return usual(self, data)

    monkeypatch.setattr(Trainer, "__call__", stopping)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()
    assert trainer.fit().n == 60 and calls == [1, 2, 3, 3, 4, 5]


def test_equals_are_not_told_apart(fake_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    written(fake_run)
    trainer = Trainer(fake_run, monkeypatch)
    fake_run.base.answer = knows()
    record = trainer.fit(3)
    assert record.verdict != "better" and record.delta.ci_low < 0 < record.delta.ci_high


def test_a_nan_of_the_users_scorer_is_named_and_no_zero(fake_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    (fake_run.folder / "fold_metric.py").write_text(
        "def score(prediction, target):\n"
        "    return float('nan') if prediction == 'odd' else float(prediction == target)\n"
    )
    monkeypatch.chdir(fake_run.folder)
    fake_run.settings["evaluate"]["primary_metric"] = "fold_metric:score"
    written(fake_run)
    trainer, usual = Trainer(fake_run, monkeypatch), fake_run.base.answer
    fake_run.base.answer = lambda prompt: "odd" if thing(prompt) == 7 else usual(prompt)
    record = trainer.fit()
    assert record.n == 59 and all(fold.baseline is not None for fold in record.folds)
    assert any("1 of 60 answers of base_few_shot have no score" in warning for warning in record.warnings)
    (hole,) = [row for row in fake_run.lines("cross_fit.jsonl") if row["baseline_score"] is None]
    assert (hole["sample_id"], hole["candidate_score"]) == ("q7", 1.0)


def test_too_few(fake_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    written(fake_run, num_train=19)
    trainer = Trainer(fake_run, monkeypatch)
    with pytest.raises(ConfigError, match="2 parts are too few"):
        trainer.fit(2)
    with pytest.raises(DataError, match="19 training samples cannot make 5 parts"):
        trainer.fit(5)
    fake_run.settings["evaluate"]["primary_metric"] = "macro_f1"
    with pytest.raises(ConfigError, match="macro_f1 is no mean"):
        trainer.fit(3)
