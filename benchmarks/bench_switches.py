"""What single techniques of the training engine gain: a pair's shared prompt, recomputed activations, a cached trunk.

CPU-seconds of one process with one thread, variants interleaved round by round, medians after a warm-up round; peak
memory above the model. Random weights of a Llama shape of 15 M or 135 M parameters, LoRA on all linear layers.
`python benchmarks/bench_switches.py preference/S/fp32 trunk/M/bf16` runs chosen cells.
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ctypes
import gc
import json
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from foretune.config.job import AdvancedTrain, TrainConfig
from foretune.models.adapter import attach_lora
from foretune.models.load import LoadedModel, load_model
from foretune.train.objective import Preference, Row
from foretune.train.passes import FlatPasses, Passes, choose_passes
from foretune.train.preference import Weights, preference_passes

RANK, ALPHA, RATE = 16, 32.0, 1e-4
BUDGET = 8192
MODELS: dict[str, dict[str, Any]] = {
    "S": {"hidden_size": 288, "num_hidden_layers": 6, "intermediate_size": 768, "heads": (6, 6), "vocab_size": 32000},
    "M": {"hidden_size": 576, "num_hidden_layers": 30, "intermediate_size": 1536, "heads": (9, 3), "vocab_size": 49152},
}
Step = Callable[[], float]  # one update; gives its loss


def model_folder(folder: Path, size: str) -> Path:
    """A folder with the config of a Llama of a size."""
    shape = dict(MODELS[size])
    heads, key_heads = shape.pop("heads")
    shape |= {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "tie_word_embeddings": True}
    shape |= {"num_attention_heads": heads, "num_key_value_heads": key_heads, "max_position_embeddings": 2048}
    shape |= {"rms_norm_eps": 1e-5, "hidden_act": "silu", "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    (folder / "config.json").write_text(json.dumps(shape), encoding="utf-8")
    return folder


def loaded_model(folder: Path, *, top_layers: int = 0) -> LoadedModel:
    """Random weights that bf16 holds exactly, with adapters on all linear layers or those of the last blocks."""
    loaded = load_model(folder, random_init=True, seed=1)
    for parameter in loaded.model.parameters():
        parameter.data = parameter.data.bfloat16().float()
    targets = ("all-linear",)
    attach_lora(loaded, rank=RANK, alpha=ALPHA, dropout=0.0, target_modules=targets, top_layers=top_layers)
    loaded.model.train()
    return loaded


def _answered(draw: np.random.Generator, vocabulary: int, prompt: np.ndarray, count: int) -> tuple[Any, Any]:
    ids = np.concatenate([prompt, draw.integers(3, vocabulary, count)]).astype(np.int32)
    return ids, np.array([0.0] * len(prompt) + [1.0] * count, dtype=np.float32)


def pair_rows(vocabulary: int, num: int = 8, *, prompt: int = 200, answer: int = 60) -> list[Row]:
    """Pairs of two answers to one prompt; nothing is shared between pairs."""
    draw, rows = np.random.default_rng(3), []
    for _ in range(num):
        begin = draw.integers(3, vocabulary, prompt)
        better, worse = (_answered(draw, vocabulary, begin, answer) for _ in range(2))
        rows.append(Row(*better, preference=Preference(*worse, reference=(-500.0, -510.0))))
    return rows


def chat_rows(vocabulary: int, num: int = 8) -> list[Row]:
    """100 read and 60 answered tokens; nothing is shared."""
    draw = np.random.default_rng(4)
    return [Row(*_answered(draw, vocabulary, draw.integers(3, vocabulary, 100), 60)) for _ in range(num)]


def _step(loaded: LoadedModel, passes: Passes, rows: list[Row]) -> Step:
    parameters = [p for p in loaded.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, fused=True)
    weight = sum(row.weight for row in rows)

    def step() -> float:
        total = 0.0
        for micro in passes.cut(rows, BUDGET):
            share = micro.loss().loss / weight
            share.backward()
            total += float(share.detach())
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return total

    return step


def _passes(loaded: LoadedModel, precision: str, engine: str = "auto", without: tuple[str, ...] = ()) -> Passes:
    return choose_passes(loaded, precision=precision, pad_id=0, max_seq_len=1024, engine=engine, without=without)[0]


def preference(folder: Path, size: str, precision: str) -> dict[str, Step]:
    """DPO over pairs of a 200-token prompt and two 60-token answers: padded, flat, flat with the prompt once."""
    rows = pair_rows(int(MODELS[size]["vocab_size"]), 8 if size == "S" else 4)
    train = TrainConfig(method="dpo", advanced=AdvancedTrain(dropout=0.0))
    steps: dict[str, Step] = {}
    for name, engine, without in (
        ("padded", "padded", ()),
        ("flat", "auto", ("shared_prefix",)),
        ("flat_shared_prompt", "auto", ()),
    ):
        loaded = loaded_model(folder)
        inner = _passes(loaded, precision, engine, without)
        flat = inner if isinstance(inner, FlatPasses) else None
        judged = preference_passes(loaded, train, weights=Weights(), precision=precision, pad_id=0, flat=flat)
        steps[name] = _step(loaded, judged, rows)
    return steps


def recompute(folder: Path, size: str, precision: str) -> dict[str, Step]:
    """Activations kept, and computed again in the backward pass; flat tokens and the transformers class."""
    rows = chat_rows(int(MODELS[size]["vocab_size"]), 16 if size == "S" else 8)
    steps: dict[str, Step] = {}
    for name, engine in (("flat", "auto"), ("padded", "padded")):
        for recomputes in (False, True):
            loaded = loaded_model(folder)
            passes = _passes(loaded, precision, engine)
            if recomputes:
                passes.recompute()
            steps[f"{name}_recomputed" if recomputes else name] = _step(loaded, passes, rows)
    return steps


def trunk(folder: Path, size: str, precision: str) -> dict[str, Step]:
    """Three epochs with adapters everywhere, or in the top quarter with the blocks below computed thrice or once."""
    rows = chat_rows(int(MODELS[size]["vocab_size"]), 16 if size == "S" else 8)
    top = max(1, MODELS[size]["num_hidden_layers"] // 4)
    steps: dict[str, Step] = {}
    for name, layers, keeps in (("everywhere", 0, False), ("top_quarter", top, False), ("top_quarter_kept", top, True)):
        loaded = loaded_model(folder, top_layers=layers)
        passes = _passes(loaded, precision)
        steps[name] = _epochs(_step(loaded, passes, rows), passes, rows, keeps, folder)
    return steps


def _epochs(step: Step, passes: Passes, rows: list[Row], keeps: bool, folder: Path) -> Step:
    """Three updates, with what is kept between them made anew each time."""

    def epochs() -> float:
        if keeps and isinstance(passes, FlatPasses):
            passes.trunk = None
            passes.prepare(rows, BUDGET, folder=folder, key=lambda: "bench")
        first, *_ = [step() for _ in range(3)]
        return first

    return epochs


CELLS: dict[str, Callable[[Path, str, str], Mapping[str, Step]]] = {
    "preference": preference,
    "recompute": recompute,
    "trunk": trunk,
}
DEFAULT_CELLS = ("preference/S/fp32", "preference/S/bf16", "recompute/S/fp32", "trunk/S/fp32", "trunk/M/bf16")


def _resident(key: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))


def _timed(step: Step) -> tuple[float, float, float]:
    """CPU-seconds, MiB above what was resident before, and the loss."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    before, begin = _resident("VmRSS"), time.process_time()
    loss = step()
    return time.process_time() - begin, _resident("VmHWM") - before, loss


def measure_cell(steps: Mapping[str, Step], rounds: int) -> dict[str, dict[str, float]]:
    """Medians of every variant, one of each a round; the first variant is what the others are compared with."""
    runs: dict[str, list[tuple[float, float, float]]] = {name: [] for name in steps}
    for _ in range(rounds + 1):
        for name, step in steps.items():
            runs[name].append(_timed(step))
    seconds = {name: statistics.median(run[0] for run in found[1:]) for name, found in runs.items()}
    first = next(iter(seconds.values()))
    return {
        name: {
            "cpu_seconds": round(seconds[name], 4),
            "times_first": round(first / seconds[name], 2),
            "peak_mib_above_model": round(max(run[1] for run in found[1:])),
            "first_loss": round(found[0][2], 6),
        }
        for name, found in runs.items()
    }


def measure(cells: tuple[str, ...] = DEFAULT_CELLS, *, rounds: int = 3) -> dict[str, Any]:
    """Every cell "TECHNIQUE/MODEL/PRECISION"; M runs one round less."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    results: dict[str, Any] = {}
    for cell in cells:
        technique, size, precision = cell.split("/")
        with tempfile.TemporaryDirectory() as parent:
            steps = CELLS[technique](model_folder(Path(parent), size), size, precision)
            results[cell] = measure_cell(steps, rounds if size == "S" else max(1, rounds - 1))
        for name, row in results[cell].items():
            print(cell, f"{name:22}", "  ".join(f"{key} {value}" for key, value in row.items()), file=sys.stderr)
    return {"metrics": results, "rounds": rounds, "threads": 1, "rank": RANK}


if __name__ == "__main__":
    print(json.dumps(measure(tuple(sys.argv[1:]) or DEFAULT_CELLS), indent=1))
