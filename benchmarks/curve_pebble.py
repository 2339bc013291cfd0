"""Learning curves of real small models: is what 10 to 100 % of the data say of twice the data true?

`python benchmarks/curve_pebble.py [--cases N] [--only TASK,...]`: for each task of the planted-fault suite, pebble is
trained on n samples, `measure_curve` trains the parts and answers, and then the run is trained on 2 n, which the curve
never saw. Both are scored on 400 further samples. About half a CPU minute a case.
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from diagnose_suite.halves import HALVES
from diagnose_suite.kinds import pairs_of
from diagnose_suite.tasks import Pair, Task

from foretune.config.read import ResolvedJob, resolve_job
from foretune.config.settings import with_settings
from foretune.evaluate.learning_curve import Part, measure_curve
from foretune.records.learning_curve import LearningCurveRecord
from foretune.stats.paired import compare_paired
from foretune.steps import Run, collect_run, create_job_run
from foretune.train.here import train_run

SIZES = (120, 240, 480)
NUM_VALIDATION, NUM_FRESH = 150, 400
MARGIN = 0.02


def measure(*, cases: int = 24, only: tuple[str, ...] = ()) -> dict[str, Any]:
    """Of every case what the curve said and what twice the data gave, and how often it was right."""
    tasks = [task for half in HALVES.values() for task in half.tasks if not only or task.name in only]
    found = []
    for number, task in enumerate((tasks * 3)[:cases]):
        with tempfile.TemporaryDirectory() as folder:
            found.append(_case(Path(folder), task, SIZES[number % len(SIZES)], number))
            print(json.dumps(found[-1]), file=sys.stderr, flush=True)
    return {"metrics": figures(found), "cases": found, "margin": MARGIN}


def figures(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Shares over the cases; a gain counts as real where its interval on fresh samples excludes what was claimed."""
    helps = [one for one in found if one["answer"] == "helps"]
    flat = [one for one in found if one["answer"] == "flat"]
    return {
        "cases": len(found),
        "answers": {name: sum(one["answer"] == name for one in found) for name in ("helps", "flat", "unclear")},
        "helps_and_did": sum(one["gain"] >= MARGIN for one in helps),
        "helps_and_surely_did_not": sum(one["gain_high"] < MARGIN for one in helps),
        "flat_and_was": sum(one["gain"] < MARGIN for one in flat),
        "flat_and_surely_was_not": sum(one["gain_low"] > MARGIN for one in flat),
        "inside_band": sum(one["predicted_low"] <= one["at_twice"] <= one["predicted_high"] for one in found),
        "median_error": round(statistics.median(abs(one["predicted"] - one["at_twice"]) for one in found), 4),
        "median_error_of_no_change": round(statistics.median(abs(one["gain"]) for one in found), 4),
        "stopped_early": sum(one["stopped_early"] for one in found),
        "stopped_and_gained": sum(one["stopped_early"] and one["gain_low"] > MARGIN for one in found),
    }


def _case(folder: Path, task: Task, size: int, number: int) -> dict[str, Any]:
    rng, seen = Random(f"curve/{task.name}/{number}"), set[str]()
    fresh, validation = (pairs_of(task, rng, count, seen) for count in (NUM_FRESH, NUM_VALIDATION))
    train = pairs_of(task, rng, 2 * size, seen)
    once = _trained(_job(folder / "once", task, train[:size], validation, fresh, number))
    run = Run.open(once)
    record = measure_curve(
        run.job,
        run_dir=once,
        runs_dir=run.runs_dir,
        folder=run.folder,
        train_on=lambda part: _trained_part(run, part),
    )
    twice = _trained(_job(folder / "twice", task, train, validation, fresh, number))
    before, after = (_fresh_scores(folder / name, run_dir) for name, run_dir in (("a", once), ("b", twice)))
    is_binary = {*before, *after} <= {0.0, 1.0}
    gain = compare_paired(before, after, "binary" if is_binary else "graded", margin=MARGIN)
    return _told(task, size, record) | {
        "at_twice": round(statistics.fmean(after), 4),
        "gain": round(gain.value, 4),
        "gain_low": round(gain.ci_low, 4),
        "gain_high": round(gain.ci_high, 4),
    }


def _told(task: Task, size: int, record: LearningCurveRecord) -> dict[str, Any]:
    return {
        "task": task.name,
        "samples": size,
        "metric": record.metric,
        "parts": {f"{part.share:.0%}": round(part.score, 4) for part in record.parts},
        "answer": record.answer,
        "predicted": round(record.predicted_score, 4),
        "predicted_low": round(record.predicted_low, 4),
        "predicted_high": round(record.predicted_high, 4),
        "stopped_early": record.stopped_early,
    }


def _job(
    folder: Path, task: Task, train: list[Pair], validation: list[Pair], test: list[Pair], number: int
) -> ResolvedJob:
    folder.mkdir(parents=True)
    for name, pairs in (("train", train), ("validation", validation), ("test", test)):
        _write(folder / f"{name}.jsonl", task, pairs)
    settings: dict[str, Any] = {
        "name": task.name,
        "base": "pebble",
        "seed": number,
        "data.path": "train.jsonl",
        "data.validation_path": "validation.jsonl",
        "data.test_path": "test.jsonl",
        "train.method": "lora",
        "train.epochs": 4.0,
        "train.advanced.target_modules": ["all-linear"],
        "train.learning_rate": 2e-3,
        "train.global_batch_size": 8,
        "train.advanced.num_threads": 1,
        "train.advanced.precision": "fp32",
        "train.advanced.patience": 0,
        "data.advanced.mix_fraction": 0.0,
        "evaluate.primary_metric": task.metric,
        "evaluate.advanced.batch_size": 64,
        "evaluate.advanced.margin": MARGIN,
    }
    resolved = resolve_job(None, settings, {})
    return ResolvedJob(resolved.job, resolved.origins, folder)


def _write(path: Path, task: Task, pairs: list[Pair]) -> None:
    rows = []
    for pair in pairs:
        said = (("system", task.system), ("user", pair.question), ("assistant", pair.answer))
        rows.append(json.dumps({"messages": [{"role": role, "content": text} for role, text in said]}))
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")


def _trained(job: ResolvedJob, runs_dir: Path | None = None) -> Path:
    """Collected and trained in this process; the run folder."""
    run_dir = create_job_run(job, runs_dir=runs_dir or job.folder / "runs")
    collect_run(Run.open(run_dir))
    train_run(run_dir)
    for checkpoints in run_dir.glob("checkpoints"):
        shutil.rmtree(checkpoints)
    return run_dir


def _trained_part(run: Run, part: Part) -> Path:
    return _trained(ResolvedJob(with_settings(run.job, part.settings), {}, run.folder), run.run_dir / "curve")


def _fresh_scores(folder: Path, run_dir: Path) -> list[float]:
    """Scores of a run on the fresh samples, by the scorer that its job names."""
    from foretune.data.store import DatasetStore
    from foretune.evaluate.case import Models
    from foretune.evaluate.metrics import build_scoring
    from foretune.evaluate.prompts import Prompt
    from foretune.evaluate.systems import FINE_TUNED, answers_of
    from foretune.models.base import resolve_base
    from foretune.records.dataset import DatasetRecord
    from foretune.records.training import TrainingRecord

    run = Run.open(run_dir)
    dataset = DatasetRecord.read(run_dir)
    store = DatasetStore(run.runs_dir)
    samples, train = store.load(dataset.version, "test"), store.load(dataset.version, "train")
    chat = Models(resolve_base("pebble"), run_dir / TrainingRecord.read(run_dir).artefact, max_seq_len=512)
    prompt = Prompt(FINE_TUNED, "the data's own messages")
    answers = answers_of("fresh", prompt, samples, chat.chat("fine_tuned"), max_new_tokens=64, batch_size=64)
    scoring = build_scoring(run.job, run.job.evaluate.primary_metric, train, run.folder, dataset.task)
    table = scoring.score(answers.predictions, [sample.target for sample in samples])
    return [float(score) for score in table.scores[scoring.primary]]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=24)
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    print(json.dumps(measure(cases=args.cases, only=tuple(filter(None, args.only.split(",")))), indent=1))
