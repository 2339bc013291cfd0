"""The journey on data and models that no one here made: tweets, bank questions, data-to-text, dialogues, instructions.

Reads the data sets and the small real models beside the repository (`../shared/data`); says which are absent. Results
are what they are: a base of 0.26 M or 3 M parameters cannot learn most of these tasks, and the verdict must say so.
Each base has a runs folder of its own, because a test split is opened once; the two are not compared with each other.
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from foretune import api
from foretune.config.read import resolve_job
from foretune.errors import ForetuneError
from foretune.records.evaluation import EvaluationRecord
from foretune.records.plan import PlanRecord
from foretune.records.training import TrainingRecord

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
BASES = {"pebble": "pebble", "stories260K": str(SHARED / "models" / "stories260K")}
COMMON: dict[str, Any] = {
    "train.epochs": 2.0,
    "train.advanced.target_modules": ["all-linear"],
    "train.learning_rate": 1e-3,
    "evaluate.advanced.max_test_samples": 200,
    "evaluate.advanced.max_validation_samples": 24,
    "evaluate.advanced.probe_samples": 20,
    "evaluate.few_shot": [5],
}
TWEETS = {"data.path": "tweeteval_sentiment/val_text.txt", "data.max_rows": 1200, "data.task": "classify"}
BANK = {"data.path": "banking77/test.csv", "data.task": "classify"}  # 3,080 rows, 40 a class
TASKS: dict[str, dict[str, Any]] = {
    "tweet-sentiment-head": {**TWEETS, "train.method": "classify"},
    "tweet-sentiment": TWEETS,
    "banking77-head": {**BANK, "train.method": "classify", "train.epochs": 4.0},
    "banking77": BANK,
    "e2e-data-to-text": {
        "data.path": "e2e_cleaning/cleaned-data/devel-fixed.no-ol.csv", "data.max_rows": 1200,
        "data.input_field": "mr", "data.target_field": "ref",
    },
    "dialogsum": {
        "data.path": "dialogsum/dialogsum.dev.jsonl", "data.input_field": "dialogue", "data.target_field": "summary",
        "evaluate.primary_metric": "rouge_l",
    },
    "alpaca-2000": {"data.path": "alpaca_52k/alpaca_data.json", "data.max_rows": 2000},
}  # fmt: skip


def _one(task: str, base: str, settings: dict[str, Any], runs_dir: Path) -> dict[str, Any]:
    paths = {name: str(SHARED / value) for name, value in settings.items() if name in ("data.path", "data.test_path")}
    given = resolve_job(None, {"name": task, "base": BASES[base], **COMMON, **settings, **paths})
    begin = time.perf_counter()
    run_dir = api.run(given, runs_dir=runs_dir).run_dir
    evaluation, training = EvaluationRecord.read(run_dir), TrainingRecord.read(run_dir)
    metric = evaluation.primary_metric
    seconds = next(item for item in training.reconciliation if item.quantity == "train_seconds")
    return {
        "task": task,
        "base": base,
        "method": training.method,
        "metric": metric,
        "n": evaluation.n,
        **{system.name: round(system.metrics[metric].value, 4) for system in evaluation.systems},
        "delta": [round(v, 4) for v in (evaluation.delta.value, evaluation.delta.ci_low, evaluation.delta.ci_high)],
        "verdict": evaluation.verdict,
        "dropped_too_long": training.num_dropped_samples,
        "train_seconds_predicted": [round(seconds.predicted.low, 1), round(seconds.predicted.high, 1)],
        "train_seconds": round(seconds.actual, 1),
        "planned_memory_fits": PlanRecord.read(run_dir).fits,
        "journey_seconds": round(time.perf_counter() - begin, 1),
    }


def measure() -> dict[str, Any]:
    """One row a task and base."""
    if not SHARED.is_dir():
        raise SystemExit(f"needs the data sets in {SHARED.parent.name}/data beside the repository; they are not there")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        for task, settings in TASKS.items():
            for base in BASES:
                try:
                    row = _one(task, base, settings, Path(name) / task / base)
                except ForetuneError as error:
                    row = {"task": task, "base": base, "error": error.what, "fix": error.fix}
                rows.append(row)
                print(json.dumps(row), file=sys.stderr, flush=True)
    return {"metrics": {"rows": rows}, "config": {"common": COMMON, "tasks": TASKS}}
