"""Which metric decides, fixed before training; what else is scored; labels and schema come from the training split."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from foretune.config.job import JobConfig
from foretune.data.samples import Message, Sample
from foretune.errors import ConfigError, DataError, NotFound, ScoreError
from foretune.evaluate.metrics import build_scoring, choose_primary_metric


def job(**evaluate: Any) -> JobConfig:
    train = {"method": evaluate.pop("method", "lora")}
    return JobConfig.model_validate({"evaluate": evaluate, "train": train})


def answers(*targets: str) -> list[Sample]:
    return [Sample(str(n), (Message("user", f"q{n}"), Message("assistant", text))) for n, text in enumerate(targets)]


MOODS = answers(*["good", "bad"] * 10)
RECORDS = answers(*[json.dumps({"id": n, "team": "L5"}) for n in range(20)])
SENTENCES = answers(*[f"this is the long answer number {n} to a question that was asked" for n in range(20)])
TEXTS = [Sample(str(n), text=f"document {n}") for n in range(5)]


@pytest.mark.parametrize(
    ("samples", "metric"),
    [(MOODS, "accuracy"), (RECORDS, "json_match"), (SENTENCES, "rouge_l"), (TEXTS, "bits_per_byte")],
)
@pytest.mark.req("R287")
def test_the_metric_that_decides_follows_from_the_targets(samples: list[Sample], metric: str) -> None:
    assert choose_primary_metric(job(), samples) == metric


@pytest.mark.req("R287")
def test_the_job_may_choose(tmp_path: Path) -> None:
    assert choose_primary_metric(job(primary_metric="token_f1"), MOODS) == "token_f1"
    assert choose_primary_metric(job(method="classify"), SENTENCES) == "accuracy"
    assert choose_primary_metric(job(), SENTENCES, "classify") == "accuracy"
    assert choose_primary_metric(job(method="pretrain"), SENTENCES) == "bits_per_byte"


@pytest.mark.parametrize(
    ("metric", "samples", "fix"),
    [
        ("bits_per_byte", MOODS, "accuracy"),
        ("accuracy", TEXTS, "bits_per_byte"),
        ("length_chars", SENTENCES, "rouge_l"),
    ],
)
def test_a_metric_that_cannot_decide_is_refused(metric: str, samples: list[Sample], fix: str) -> None:
    with pytest.raises(ConfigError, match=metric) as refusal:
        choose_primary_metric(job(primary_metric=metric), samples)
    assert fix in refusal.value.fix
    with pytest.raises(ScoreError, match="accurracy"):
        choose_primary_metric(job(primary_metric="accurracy"), MOODS)


def test_every_metric_of_the_task_is_scored_the_deciding_one_first(tmp_path: Path) -> None:
    scoring = build_scoring(job(), "exact_match", MOODS, tmp_path)
    assert scoring.names == ("exact_match", "accuracy", "macro_f1", "macro_precision", "macro_recall")
    assert scoring.labels == ("bad", "good")
    scoring = build_scoring(job(scorers=["chrf"]), "json_match", RECORDS, tmp_path)
    assert scoring.names == ("json_match", "json_valid", "schema_valid", "field_f1", "exact_match", "chrf")
    table = scoring.score(['{"id": 1, "team": "L5"}', '{"id": "1"}'], ['{"id": 1, "team": "L5"}'] * 2)
    assert [table.metrics[name].value for name in ("json_match", "schema_valid")] == [0.5, 0.5]


def test_the_schema_file_of_the_job_counts(tmp_path: Path) -> None:
    schema = {"type": "object", "required": ["id", "mood"]}
    (tmp_path / "answer.schema.json").write_text(json.dumps(schema), encoding="utf-8")
    scoring = build_scoring(job(json_schema="answer.schema.json"), "json_match", RECORDS, tmp_path)
    assert scoring.schema == schema
    assert scoring.score(['{"id": 1}'], ['{"id": 1}']).metrics["schema_valid"].value == 0.0
    with pytest.raises(NotFound, match=r"nowhere\.json"):
        build_scoring(job(json_schema="nowhere.json"), "json_match", RECORDS, tmp_path)
    (tmp_path / "list.json").write_text("[1]", encoding="utf-8")
    (tmp_path / "torn.json").write_text('{"type": ', encoding="utf-8")
    for name in ("list.json", "torn.json"):
        with pytest.raises(DataError, match=name):
            build_scoring(job(json_schema=name), "json_match", RECORDS, tmp_path)


@pytest.mark.req("R273")
def test_a_scorer_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "house.py").write_text("def polite(prediction, target):\n    return float('please' in prediction)\n")
    monkeypatch.chdir(tmp_path)
    assert choose_primary_metric(job(primary_metric="house:polite"), SENTENCES) == "house:polite"
    scoring = build_scoring(job(), "house:polite", SENTENCES, tmp_path)
    assert scoring.score(["please do", "do"], ["a b", "c d"]).metrics["house:polite"].value == 0.5


def test_the_metric_is_chosen_without_torch() -> None:
    code = "import sys, foretune.evaluate.metrics, foretune.evaluate.scorers; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
