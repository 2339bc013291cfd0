"""kill -9 at random moments: does the resumed run give the very numbers of the uninterrupted one?

Each trial starts the training process of the same job, kills it at a random moment, resumes it (killing the second
process too in every third trial) and compares every loss and the adapter's bytes with the uninterrupted run.
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from foretune import api
from foretune.config.read import resolve_job
from foretune.records.events import read_events
from foretune.records.training import TrainingRecord

TRIALS = 42  # three of each method
FLAGS: dict[str, Any] = {
    "train.advanced.max_steps": 30,
    "train.advanced.save_every": 4,
    "train.advanced.eval_every": 10,
    "train.advanced.precision": "fp32",
    "train.advanced.num_threads": 1,
    "data.max_rows": 300,
    "train.advanced.patience": 0,
    "evaluate.primary_metric": "",
    "evaluate.json_schema": "",
}
# Every method, with what it needs beside its name; preference pairs and numbers are made from the job's own rows.
METHODS: dict[str, dict[str, Any]] = {
    "lora": {},
    "full": {},
    "prompt": {},
    "prefix": {},
    "rslora": {"train.method": "lora", "train.advanced.lora_variant": "rslora"},
    "dora": {"train.method": "lora", "train.advanced.lora_variant": "dora"},
    "qlora": {},
    "8bit": {"train.method": "lora", "train.advanced.quantise_base": "8bit"},
    "dpo": {"data.path": "data/pairs.jsonl"},
    "orpo": {"data.path": "data/pairs.jsonl"},
    "kto": {"data.path": "data/pairs.jsonl"},
    "classify": {"data.path": "data/classes.jsonl"},
    "regress": {"data.path": "data/numbers.jsonl", "data.input_field": "text", "data.target_field": "score"},
    "pretrain": {"data.path": "data/text.txt"},
}


def _start(run_dir: Path, *, resume: bool) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "foretune.train", str(run_dir), *(["--resume"] if resume else [])]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def _losses(run_dir: Path) -> dict[int, float]:
    return {event["step"]: event["loss"] for event in read_events(run_dir) if event["kind"] == "step"}


def _prepared(job_file: Path, runs_dir: Path, method: str) -> Path:
    """A run folder with data collected and planned, but not trained."""
    given = resolve_job(job_file, {**FLAGS, "train.method": method, **METHODS[method], "name": method})
    return api.run(given, runs_dir=runs_dir, dry_run=True).run_dir


def _write_data(folder: Path) -> None:
    """The job's own rows as preference pairs, classes, numbers and raw text."""
    lines = (folder / "json-extract.jsonl").read_text(encoding="utf-8").splitlines()
    asked, answers = [], []
    for line in lines:
        *before, last = json.loads(line)["messages"]
        asked.append(before[-1]["content"])
        answers.append(last["content"])
    worse = [*answers[1:], answers[0]]
    rows = zip(asked, answers, worse, strict=True)
    pairs = [{"prompt": q, "chosen": good, "rejected": poor} for q, good, poor in rows if good != poor]
    classes = [{"text": q, "label": "long" if len(q) > 120 else "short"} for q in asked]
    numbers = [{"text": q, "score": float(len(q))} for q in asked]
    for name, made in (("pairs", pairs), ("classes", classes), ("numbers", numbers)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made), encoding="utf-8")
    (folder / "text.txt").write_text("\n\n".join(asked), encoding="utf-8")


def _same(run_dir: Path, reference: Path) -> bool:
    ours, theirs = TrainingRecord.read(run_dir), TrainingRecord.read(reference)
    curves = (ours.train_curve, ours.eval_curve) == (theirs.train_curve, theirs.eval_curve)
    return curves and ours.artefact_sha256 == theirs.artefact_sha256 and _losses(run_dir) == _losses(reference)


def measure() -> dict[str, Any]:
    """How many of the trials came out bit-equal."""
    randomness = random.Random(0)
    trials: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        job_file = api.init("json-extract", Path(name) / "job")
        _write_data(job_file.parent / "data")
        runs_dir = Path(name) / "runs"
        references: dict[str, tuple[Path, float]] = {}
        prepared: dict[str, Path] = {}
        for method in METHODS:
            fresh = _prepared(job_file, runs_dir, method)
            prepared[method] = runs_dir / f"fresh-{method}"
            shutil.copytree(fresh, prepared[method])
            begin = time.perf_counter()
            process = _start(fresh, resume=False)
            _, errors = process.communicate()
            assert process.returncode == 0, errors.decode()
            references[method] = (fresh, time.perf_counter() - begin)
        for trial in range(TRIALS):
            method = list(METHODS)[trial % len(METHODS)]
            reference, seconds = references[method]
            run_dir = runs_dir / f"trial-{trial:02d}"
            shutil.copytree(prepared[method], run_dir)
            kills = [randomness.uniform(0.1, 1.0) * seconds for _ in range(2 if trial % 3 == 2 else 1)]
            killed_at = []
            for moment in kills:
                process = _start(run_dir, resume=True)
                try:
                    process.wait(timeout=moment)
                except subprocess.TimeoutExpired:
                    process.send_signal(signal.SIGKILL)
                    process.wait()
                killed_at.append(max(_losses(run_dir), default=0))
            process = _start(run_dir, resume=True)
            _, errors = process.communicate()
            equal = process.returncode == 0 and _same(run_dir, reference)
            trials.append({"method": method, "killed_at_steps": killed_at, "bit_equal": equal})
            print(json.dumps(trials[-1]), file=sys.stderr, flush=True)
            if not equal:
                print(errors.decode(), file=sys.stderr)
    return {
        "metrics": {"bit_equal": sum(trial["bit_equal"] for trial in trials), "trials": TRIALS},
        "config": FLAGS,
        "trials": trials,
    }
