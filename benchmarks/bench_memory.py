"""Is peak memory predicted on a CPU? Small runs over methods, families, precisions and lengths, each planned twice.

Once from the model's shape alone and once after the plan's own probe; then a dozen steps are trained, in a process of
their own, whose largest resident size is what the plan is held against. The weights are random: memory does not ask.
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import transformers

from foretune import api, journey
from foretune.config.read import resolve_job
from foretune.config.write import job_toml
from foretune.data.world.corpus import documents
from foretune.models.base import resolve_base
from foretune.models.load import load_model
from foretune.records.plan import Estimate
from foretune.records.training import TrainingRecord

STEPS = 12
ROWS = 240
BAR = 0.10  # of the memory above the libraries
LIBRARIES_GB = 0.42  # resident with torch and transformers loaded, before any model
COMMON = {"vocab_size": 32_000, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def _rope(width: int, layers: int) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "intermediate_size": 11 * width // 4,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 64,
        "num_key_value_heads": max(1, width // 128),
        "max_position_embeddings": 2048,
        "tie_word_embeddings": True,
    }


BASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama-20m": ("LlamaConfig", _rope(384, 6)),
    "qwen-60m": ("Qwen2Config", _rope(640, 8)),
    "gpt2-24m": ("GPT2Config", {"n_embd": 384, "n_layer": 6, "n_head": 6, "n_positions": 1024}),
    "bloom-24m": ("BloomConfig", {"hidden_size": 384, "n_layer": 6, "n_head": 6}),
}


@dataclass(frozen=True)
class Cell:
    """One setup; `length` is about how many tokens a row has."""

    base: str
    method: str
    precision: str
    length: int
    task: str = "chat"

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.base} {self.method} {self.task} {self.precision} {self.length}"


CELLS = (
    *(Cell(base, "lora", precision, 120) for base in BASES for precision in ("fp32", "bf16")),
    *(Cell(base, "full", "fp32", 120) for base in BASES),
    Cell("pebble", "lora", "bf16", 120),
    Cell("pebble", "full", "fp32", 400),
    Cell("pebble", "prompt", "fp32", 120),
    Cell("llama-20m", "lora", "bf16", 400),
    Cell("llama-20m", "full", "bf16", 400),
    Cell("llama-20m", "lora", "fp32", 120, "preference"),
    Cell("llama-20m", "lora", "bf16", 120, "classify"),
    Cell("llama-20m", "pretrain", "fp32", 400, "text"),
    Cell("qwen-60m", "lora", "bf16", 400),
    Cell("qwen-60m", "full", "bf16", 120),
    Cell("gpt2-24m", "lora", "fp32", 400),
    Cell("gpt2-24m", "lora", "bf16", 120, "preference"),
    Cell("gpt2-24m", "prompt", "fp32", 120),
    Cell("bloom-24m", "lora", "bf16", 400),
)


def measure(*, quick: bool = False) -> dict[str, Any]:
    """Predicted and measured peak of every cell, and the errors' summary."""
    with tempfile.TemporaryDirectory() as name:
        rows = [_measured(cell, Path(name)) for cell in (CELLS[::4] if quick else CELLS)]
    summary = {}
    for way in ("shape", "probe"):
        errors = [row[f"{way}_error_percent"] for row in rows]
        summary[way] = {
            "median_percent": round(statistics.median(map(abs, errors)), 1),
            "within_10_percent": sum(abs(error) <= 100 * BAR for error in errors),
            "worst_percent": max(errors, key=abs),
            "in_interval": sum(row[f"{way}_held"] for row in rows),
            "cells": len(rows),
        }
    return {"metrics": summary, "cells": rows}


def _measured(cell: Cell, folder: Path) -> dict[str, Any]:
    given = resolve_job(None, _settings(cell, folder), {})
    job = folder / "job.toml"
    job.write_text(job_toml(given.job), encoding="utf-8")
    peaks = {"shape": _planned(job), "probe": _planned(job, "--probe")}
    run_dir = api.run(given, runs_dir=folder / "runs", dry_run=True).run_dir
    journey.run_stages(run_dir, stages=("train",))  # in a process of its own
    actual = TrainingRecord.read(run_dir).peak_memory_bytes / 1e9
    row: dict[str, Any] = {"cell": cell.name, "actual_gb": round(actual, 3)}
    for way, peak in peaks.items():
        error = (peak.expected - actual) / (actual - LIBRARIES_GB)
        row[f"{way}_gb"] = round(peak.expected, 3)
        row[f"{way}_error_percent"] = round(100 * error, 1)
        row[f"{way}_held"] = peak.low <= actual <= peak.high
    print(json.dumps(row), file=sys.stderr, flush=True)
    return row


def _planned(job: Path, *flags: str) -> Estimate:
    """The plan's peak, GB; asked in a process of its own, as the probe measures the process that it runs in."""
    command = [sys.executable, "-m", "foretune", "plan", str(job), "--json", *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Estimate.model_validate(json.loads(done.stdout)["plan"]["peak_memory_gb"])


def _settings(cell: Cell, folder: Path) -> dict[str, Any]:
    task, method = ("chat", "classify") if cell.task == "classify" else (cell.task, cell.method)
    return {
        "name": "memory",
        "base": str(_base(cell.base, folder)),
        "data.path": str(_data(cell, folder)),
        "data.task": "auto" if cell.task == "classify" else task,
        "train.method": method,
        "train.max_seq_len": 512,
        "train.advanced.precision": cell.precision,
        "train.advanced.max_steps": STEPS,
        "train.advanced.eval_every": 10_000,
        "train.advanced.patience": 0,
    }


def _base(name: str, folder: Path) -> Path:
    """Random weights in the shape of `name` under pebble's tokenizer."""
    pebble = resolve_base("pebble")
    target = folder / name
    if name == "pebble" or target.is_dir():
        return pebble if name == "pebble" else target
    target.mkdir()
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (target / file).write_bytes((pebble / file).read_bytes())
    config, shape = BASES[name]
    getattr(transformers, config)(**COMMON, **shape).save_pretrained(target)
    load_model(target, random_init=True, seed=1).model.save_pretrained(target)
    return target


def _data(cell: Cell, folder: Path) -> Path:
    """Rows of about `length` tokens (four characters each), of the world that pebble was trained on."""
    path = folder / f"{cell.task}-{cell.length}.jsonl"
    if not path.is_file():
        rows = islice(_rows(cell.task, 4 * cell.length), ROWS)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _rows(task: str, characters: int) -> Iterator[dict[str, Any]]:
    text = ""
    for number, one in enumerate(documents(5, 40_000)):
        text = " ".join([text, one.text or "", *(turn["content"] for turn in one.messages)]).strip()
        if len(text) < characters:
            continue
        text, whole = "", text
        answer, other = whole[-60:], whole[:60]
        if task == "text":
            yield {"text": whole}
        elif task == "preference":
            yield {"prompt": whole[:-60], "chosen": answer, "rejected": other}
        elif task == "classify":
            yield {"text": whole, "label": ("short", "long", "odd")[number % 3]}
        else:
            yield {"messages": [_said("user", whole[:-60]), _said("assistant", answer)]}


def _said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
