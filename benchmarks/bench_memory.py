"""Is peak memory predicted on a CPU? Small runs over methods, families, precisions and lengths, each planned twice.

Once from the model's shape alone and once after the plan's own probe, by a process that holds torch and more; then a
dozen steps are trained, in a process of their own, whose largest resident size is what the plan is held against. The
weights are random: memory does not ask. The figures of the model were fitted to some cells and held against the others.
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import transformers

from foretune import api, journey
from foretune.config.read import resolve_job
from foretune.data.world.corpus import documents
from foretune.models.base import resolve_base
from foretune.models.load import load_model
from foretune.records.plan import Estimate
from foretune.records.training import TrainingRecord
from foretune.steps import create_job_run

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
    """One setup; `length` is about how many tokens a row has, `is_fitted`: plan/memory.py was fitted to it."""

    base: str
    method: str
    precision: str
    length: int
    task: str = "chat"
    is_fitted: bool = False

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.base} {self.method} {self.task} {self.precision} {self.length}"


CELLS = (
    Cell("llama-20m", "lora", "fp32", 120, is_fitted=True),
    Cell("llama-20m", "lora", "bf16", 120),
    Cell("qwen-60m", "lora", "fp32", 120),
    Cell("qwen-60m", "lora", "bf16", 120, is_fitted=True),
    Cell("gpt2-24m", "lora", "fp32", 120, is_fitted=True),
    Cell("gpt2-24m", "lora", "bf16", 120, is_fitted=True),
    Cell("bloom-24m", "lora", "fp32", 120, is_fitted=True),
    Cell("bloom-24m", "lora", "bf16", 120, is_fitted=True),
    Cell("llama-20m", "full", "fp32", 120, is_fitted=True),
    Cell("qwen-60m", "full", "fp32", 120, is_fitted=True),
    Cell("gpt2-24m", "full", "fp32", 120, is_fitted=True),
    Cell("bloom-24m", "full", "fp32", 120, is_fitted=True),
    Cell("pebble", "lora", "bf16", 120, is_fitted=True),
    Cell("pebble", "full", "fp32", 400, is_fitted=True),
    Cell("pebble", "prompt", "fp32", 120),
    Cell("llama-20m", "lora", "bf16", 400, is_fitted=True),
    Cell("llama-20m", "full", "bf16", 400, is_fitted=True),
    Cell("llama-20m", "lora", "fp32", 120, "preference"),
    Cell("llama-20m", "lora", "bf16", 120, "classify"),
    Cell("llama-20m", "pretrain", "fp32", 400, "text"),
    Cell("qwen-60m", "lora", "bf16", 400, is_fitted=True),
    Cell("qwen-60m", "full", "bf16", 120, is_fitted=True),
    Cell("gpt2-24m", "lora", "fp32", 400, is_fitted=True),
    Cell("gpt2-24m", "lora", "bf16", 120, "preference", is_fitted=True),
    Cell("gpt2-24m", "prompt", "fp32", 120, is_fitted=True),
    Cell("bloom-24m", "lora", "bf16", 400, is_fitted=True),
)


def measure(*, quick: bool = False) -> dict[str, Any]:
    """Predicted and measured peak of every cell, and the errors' summary."""
    with tempfile.TemporaryDirectory() as name:
        rows = [_measured(cell, Path(name)) for cell in (CELLS[::4] if quick else CELLS)]
    return {"metrics": summary(rows), "cells": rows}


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Errors by way of planning: of all cells, and of those that nothing was fitted to."""
    found: dict[str, dict[str, Any]] = {}
    for way in ("shape", "probe"):
        known = [row for row in rows if f"{way}_error_percent" in row]
        for name, chosen in ((way, known), (f"{way}, held out", [row for row in known if not row["fitted"]])):
            errors = [row[f"{way}_error_percent"] for row in chosen]
            found[name] = (
                {
                    "median_percent": round(statistics.median(map(abs, errors)), 1),
                    "within_10_percent": sum(abs(error) <= 100 * BAR for error in errors),
                    "worst_percent": max(errors, key=abs),
                    "in_interval": sum(row[f"{way}_held"] for row in chosen),
                    "cells": len(errors),
                }
                if errors
                else {"cells": 0}
            )
    return found


def row_of(cell: Cell, actual_gb: float, peaks: Mapping[str, Estimate]) -> dict[str, Any]:
    """What was predicted of a cell, by way of planning, and what it took; errors are of what is above the libraries."""
    row: dict[str, Any] = {"cell": cell.name, "fitted": cell.is_fitted, "actual_gb": round(actual_gb, 3)}
    for way, peak in peaks.items():
        error = (peak.expected - actual_gb) / (actual_gb - LIBRARIES_GB)
        row[f"{way}_gb"] = round(peak.expected, 3)
        row[f"{way}_error_percent"] = round(100 * error, 1)
        row[f"{way}_held"] = peak.low <= actual_gb <= peak.high
    return row


def _measured(cell: Cell, folder: Path) -> dict[str, Any]:
    given = resolve_job(None, _settings(cell, folder), {})
    peaks = {way: api.plan(given, probe=way == "probe").peak_memory_gb for way in ("shape", "probe")}
    run_dir = create_job_run(given, runs_dir=folder / "runs")
    stages: tuple[journey.Stage, ...] = ("collect", "audit", "plan", "train")  # trained in a process of its own
    journey.run_stages(run_dir, stages=stages, probe=False, reuse_test=True, skip_advice="a benchmark")
    row = row_of(cell, TrainingRecord.read(run_dir).peak_memory_bytes / 1e9, peaks)
    print(json.dumps(row), file=sys.stderr, flush=True)
    return row


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
