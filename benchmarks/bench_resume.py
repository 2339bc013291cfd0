"""kill -9 at random moments: does the resumed run give the very numbers of the uninterrupted one?

Each trial starts the training process of the same job, kills it at a random moment behind a random step (or while it
starts), resumes it (killing the second process too in every third trial) and compares every loss and the artefact's
bytes with the uninterrupted run. Moments hang on steps, not on seconds, so that a busy machine does not move them.
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from foretune import api
from foretune.config.read import resolve_job
from foretune.records.events import read_events
from foretune.records.training import TrainingRecord

TRIALS = 105  # seven of each method
START_SECONDS = 2.0  # about what a process takes until its first step
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
    "seq2seq": {"train.method": "lora", "base": "t5"},
}


def _start(run_dir: Path, *, resume: bool) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "foretune.train", str(run_dir), *(["--resume"] if resume else [])]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def _killed(run_dir: Path, behind: int, seconds: float) -> None:
    """Train or go on, and kill -9 `seconds` after step `behind` was written; a run that ends before is not killed."""
    process = _start(run_dir, resume=True)
    while process.poll() is None and (not (run_dir / "events.jsonl").is_file() or _last_step(run_dir) < behind):
        time.sleep(0.01)
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()


def _last_step(run_dir: Path) -> int:
    return max(_losses(run_dir), default=0)


def _step_seconds(run_dir: Path) -> float:
    """The median time between two steps."""
    times = [event["time"] for event in read_events(run_dir) if event["kind"] == "step"]
    return statistics.median(b - a for a, b in pairwise(times))


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


def _write_t5(folder: Path) -> None:
    """An encoder and decoder with random weights and the tokens of pebble."""
    import transformers

    from foretune.models.base import resolve_base
    from foretune.models.load import load_model

    folder.mkdir(parents=True)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(resolve_base("pebble") / file, folder / file)
    tokens = transformers.AutoTokenizer.from_pretrained(folder)
    shape = {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4}
    special = {"pad_token_id": tokens.pad_token_id, "eos_token_id": tokens.eos_token_id, "decoder_start_token_id": 0}
    config = transformers.T5Config(
        vocab_size=len(tokens), architectures=["T5ForConditionalGeneration"], **shape, **special
    )
    config.save_pretrained(folder)
    load_model(folder, random_init=True, seed=0).model.save_pretrained(folder)


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
        _write_t5(job_file.parent / "t5")
        runs_dir = Path(name) / "runs"
        references: dict[str, tuple[Path, float]] = {}
        prepared: dict[str, Path] = {}
        for method in METHODS:
            fresh = _prepared(job_file, runs_dir, method)
            prepared[method] = runs_dir / f"fresh-{method}"
            shutil.copytree(fresh, prepared[method])
            process = _start(fresh, resume=False)
            _, errors = process.communicate()
            assert process.returncode == 0, errors.decode()
            references[method] = (fresh, _step_seconds(fresh))
        for trial in range(TRIALS):
            method = list(METHODS)[trial % len(METHODS)]
            reference, step_seconds = references[method]
            run_dir = runs_dir / f"trial-{trial:02d}"
            shutil.copytree(prepared[method], run_dir)
            killed_at: list[int] = []
            for _ in range(2 if trial % 3 == 2 else 1):
                behind = randomness.randrange(max(killed_at, default=0), FLAGS["train.advanced.max_steps"] + 1)
                _killed(run_dir, behind, randomness.uniform(0.0, 2.0) * (step_seconds if behind else START_SECONDS))
                killed_at.append(_last_step(run_dir))
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
