"""Templates are judged by whether the task is done, and news by later news."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import pytest

from foretune.api import TEMPLATES
from foretune.collect.collect import collect
from foretune.collect.templates import template_files
from foretune.config.read import read_job
from foretune.data.store import DatasetStore
from foretune.evaluate.metrics import build_scoring, choose_primary_metric
from foretune.evaluate.scorers.registry import WORDING, find_scorer
from foretune.evaluate.scorers.table import compare_scores, score_samples

NAMES = "ivan anna paul ella omar kate lucy ben mia tom".split()
THINGS = "lamp fan jacket chair desk mug radio clock shelf tent".split()
FACTS = [(name, thing, str(1000 + 37 * number)) for number, (name, thing) in enumerate(zip(NAMES, THINGS, strict=True))]
TARGETS = [
    f"so sorry, {name}! a new {thing} leaves us today. your team nova (ref {order})" for name, thing, order in FACTS
]


@pytest.mark.req("R288")
def test_tone_without_the_task_is_not_praised() -> None:
    """An answer in the house's voice with nothing of the sample in it: ROUGE likes it, the task metric does not."""
    manner = ["so sorry, dear! a new one leaves us today. your team nova (ref 1)"] * 10
    plain = [" ".join(facts) for facts in FACTS]
    style, task = (score_samples(["rouge_l", "facts_f1"], answers, TARGETS) for answers in (manner, plain))
    assert style.metrics["rouge_l"].value > 0.7 > 0.1 > style.metrics["facts_f1"].value
    assert task.metrics["facts_f1"].value == 1.0 and task.metrics["rouge_l"].value < 0.5
    assert compare_scores("facts_f1", style, task).ci_low > 0.3 and compare_scores("rouge_l", style, task).value < -0.4
    made_up = score_samples(["facts_f1"], [target.replace("ref", "ref 12345,") for target in TARGETS], TARGETS)
    assert 0.7 < made_up.metrics["facts_f1"].value < 0.95  # an invented number costs
    assert score_samples(["facts_f1"], ["", "a"], ["", "b"]).scores["facts_f1"].tolist() == [1.0, 0.0]


def written(template: str, folder: Path, num_rows: int) -> Path:
    for path, text in template_files(template, folder, num_rows=num_rows).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder / "job.toml"


@pytest.mark.req("R288")
@pytest.mark.parametrize("template", TEMPLATES)
def test_every_template_has_a_metric_of_the_task(template: str, tmp_path: Path) -> None:
    job = read_job(written(template, tmp_path, 40))
    run_dir = tmp_path / "runs" / "one"
    run_dir.mkdir(parents=True)
    record = collect(job, run_dir=run_dir, runs_dir=tmp_path / "runs", folder=tmp_path)
    train = DatasetStore(tmp_path / "runs").load(record.version, "train")
    primary = choose_primary_metric(job, train, record.task)
    names = build_scoring(job, primary, train, tmp_path, record.task).names
    assert {name for name in names if name not in WORDING} - {"exact_match"}
    assert all(find_scorer(name).name == name for name in WORDING)


@pytest.mark.req("R282")
def test_news_are_tested_on_what_came_later(tmp_path: Path) -> None:
    job = read_job(written("news-summary", tmp_path, 300))
    run_dir = tmp_path / "runs" / "one"
    run_dir.mkdir(parents=True)
    record = collect(job, run_dir=run_dir, runs_dir=tmp_path / "runs", folder=tmp_path)
    store = DatasetStore(tmp_path / "runs")
    dates = {
        name: [s.meta["date"] for s in store.load(record.version, name)] for name in ("train", "validation", "test")
    }
    assert max(dates["train"]) < min(dates["validation"]) and max(dates["validation"]) < min(dates["test"])
    assert len(dates["test"]) >= 50 and any("split by `date`" in warning for warning in record.warnings)
    inputs = {json.dumps([m.content for m in s.prompt]) for s in store.load(record.version, "train")}
    assert not inputs & {json.dumps([m.content for m in s.prompt]) for s in store.load(record.version, "test")}
