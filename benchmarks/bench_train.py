"""Training speed: foretune against HF Trainer + PEFT (default and best settings), TRL SFTTrainer and LitGPT.

Same data, same updates from the same adapter; CPU-seconds of one process with one thread, updates interleaved round by
round, medians after a warm-up round. Memory is taken in one more round, which begins every update by giving freed
memory back: that costs time, so that round is not timed (at size L it is done in every round, as the stacks do not fit
beside each other otherwise). Trainers are timed from step begin to step end, so that their data loading does not
count. Random weights that bf16 holds exactly. `python benchmarks/bench_train.py S/A/bf16 M/B/bf16` runs chosen cells;
peers that are not installed are named as skipped. MFU is the arithmetic that the update needs by definition (every row
whole, no row padded, the head at trained tokens) over what a matrix product reaches on one thread here, so that a
prefix computed once can lift it above 1.
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ctypes
import gc
import json
import random
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from train_peers import ALPHA, PEERS, RANK, RATE, TARGETS, Cell, Step, loaded_base, same_start

from foretune.models.adapter import attach_lora
from foretune.models.decoder import FlatSettings, flat_model
from foretune.train.flat import flat_batches, flat_loss
from foretune.train.objective import Row, build_batch, causal_loss

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
BUDGET = 8192
MODELS = {
    "S": {"hidden_size": 288, "num_hidden_layers": 6, "intermediate_size": 768, "heads": (6, 6), "vocab_size": 32000},
    "M": {"hidden_size": 576, "num_hidden_layers": 30, "intermediate_size": 1536, "heads": (9, 3), "vocab_size": 49152},
    "L": {
        "hidden_size": 896,
        "num_hidden_layers": 24,
        "intermediate_size": 4864,
        "heads": (14, 2),
        "vocab_size": 151936,
    },
}  # 15 M, 135 M (SmolLM) and 494 M (Qwen2.5-0.5B) parameters
BATCH = {"S": {"A": 8, "B": 8, "C": 8}, "M": {"A": 8, "B": 4, "C": 4}, "L": {"A": 4, "B": 4, "C": 4}}


def _model_folder(parent: Path, name: str) -> Path:
    size = dict(MODELS[name])
    heads, key_heads = size.pop("heads")  # type: ignore[misc]
    config = {
        **size,
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "num_attention_heads": heads,
        "num_key_value_heads": key_heads,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
        "hidden_act": "silu",
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    (parent / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return parent


def _alpaca(vocabulary: int, num: int, rng: random.Random) -> list[Row]:
    """Of 300 random batches of Alpaca rows the one nearest to their mean in tokens, longest row and learned tokens."""
    from tokenizers import Tokenizer

    path = SHARED / "alpaca_52k" / "alpaca_data.json"
    tokenizer = Tokenizer.from_file(str(SHARED / "tokenizers" / "llama3" / "tokenizer.json"))
    samples = rng.sample(json.loads(path.read_text(encoding="utf-8")), 2000)
    rows = [_alpaca_row(sample, tokenizer, vocabulary) for sample in samples]
    drawn = [rng.sample(rows, num) for _ in range(300)]
    shapes = np.array([_batch_shape(batch) for batch in drawn])
    return drawn[int(np.abs(shapes / shapes.mean(0) - 1).sum(1).argmin())]


def _alpaca_row(sample: dict[str, str], tokenizer: Any, vocabulary: int) -> Row:
    extra = ", paired with an input that provides further context" if sample["input"] else ""
    block = f"### Input:\n{sample['input']}\n\n" if sample["input"] else ""
    prompt = (
        f"Below is an instruction that describes a task{extra}. Write a response that appropriately completes the "
        f"request.\n\n### Instruction:\n{sample['instruction']}\n\n{block}### Response:\n"
    )
    begin = tokenizer.encode(prompt, add_special_tokens=False).ids
    answer = tokenizer.encode(sample["output"], add_special_tokens=False).ids
    return _row(np.array([*begin, *answer, 2]) % (vocabulary - 3) + 3, len(answer) + 1)


def _batch_shape(rows: list[Row]) -> tuple[float, float, float]:
    lengths = [len(row.ids) for row in rows]
    return sum(lengths), max(lengths), sum(row.weight for row in rows)


def _row(ids: Any, num_learned: int) -> Row:
    weights = np.zeros(len(ids), dtype=np.float32)
    weights[-num_learned:] = 1
    return Row(np.asarray(ids, dtype=np.int32), weights)


def _rows(shape: str, vocabulary: int, num: int) -> list[Row]:
    """A: Alpaca. B: 300 shared tokens, about 30 asked, 80 answered. C: 250 read, 10 answered."""
    rng, draw = random.Random(11), np.random.default_rng(11)
    if shape == "A":
        return _alpaca(vocabulary, num, rng)

    def tokens(count: float) -> np.ndarray:
        return draw.integers(3, vocabulary, max(1, round(count)))

    shared = tokens(300) if shape == "B" else tokens(1)
    rows = []
    for _ in range(num):
        asked, answer = (
            (30 * draw.lognormal(-0.08, 0.4), 80 * draw.lognormal(-0.05, 0.3))
            if shape == "B"
            else (draw.normal(250, 30), draw.normal(10, 2))
        )
        said = tokens(answer)
        rows.append(_row(np.concatenate([shared, tokens(asked), said]), len(said)))
    return rows


def _ours(cell: Cell, settings: FlatSettings | None) -> Step:
    """One update of our own: flat with `settings`, or padded; gives CPU-seconds and the loss."""
    loaded = loaded_base(cell)
    attach_lora(loaded, rank=RANK, alpha=ALPHA, dropout=0.0, target_modules=TARGETS)
    same_start(loaded.model)
    loaded.model.train()
    parameters = [p for p in loaded.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, fused=True)
    flat = None if settings is None else flat_model(loaded, replace(settings, precision=cell.precision))
    weight = sum(row.weight for row in cell.rows)

    def step() -> tuple[float, float]:
        begin, total = time.process_time(), 0.0
        if flat is not None:
            for batch in flat_batches(cell.rows, flat, budget_tokens=BUDGET, device=loaded.device):
                share = flat_loss(flat, batch).loss / weight
                share.backward()
                total += float(share.detach())
        else:
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=cell.precision == "bf16"):
                share = causal_loss(loaded, build_batch(cell.rows, 0, loaded.device)).loss / weight
            share.backward()
            total = float(share.detach())
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return time.process_time() - begin, total

    return step


VARIANTS: dict[str, Callable[[Cell], Step]] = {
    **PEERS,
    "foretune_padded": lambda cell: _ours(cell, None),
    "foretune_flat_no_prefix": lambda cell: _ours(cell, FlatSettings(has_shared_prefix=False)),
    "foretune_flat": lambda cell: _ours(cell, FlatSettings()),
}
LARGE = ("hf_trainer_peft", "hf_bf16_weights", "trl_sft", "foretune_flat")  # what fits beside each other at size L


def _matmul_peak(precision: str) -> float:
    """FLOP/s of one thread: the best of several square products."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    best = 0.0
    for size in (512, 1024, 2048):
        left, right = torch.randn(size, size, dtype=dtype), torch.randn(size, size, dtype=dtype)
        for _ in range(4):
            begin = time.process_time()
            left @ right
            best = max(best, 2 * size**3 / (time.process_time() - begin))
    return best


def _needed_flops(cell: Cell, size: str) -> float:
    """Arithmetic of one LoRA update: forward and backward through frozen products (4 a weight and token), causal
    attention, the head at trained tokens; adapters (1 to 3 % here) left out."""
    shape: dict[str, Any] = MODELS[size]
    width, depth, inner = shape["hidden_size"], shape["num_hidden_layers"], shape["intermediate_size"]
    heads, key_heads = shape["heads"]
    block = 2 * width * width * (1 + key_heads / heads) + 3 * width * inner
    lengths = [len(row.ids) for row in cell.rows]
    attention = sum(6 * 2 * width * length * length / 2 for length in lengths)
    head = 4 * width * shape["vocab_size"] * sum(row.weight for row in cell.rows)
    return float(depth * (4 * block * sum(lengths) + attention) + head)


def _resident(key: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))


def _give_back() -> None:
    """What was freed goes back to the system."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def _peak_of(step: Step) -> tuple[float, float]:
    """MiB above what was resident before an update, and its loss."""
    _give_back()
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    before = _resident("VmRSS")
    _, loss = step()
    return _resident("VmHWM") - before, loss


def measure_cell(cell: Cell, size: str, names: tuple[str, ...]) -> dict[str, Any]:
    """Medians of one cell, every variant once a round; variants that do not install carry a reason."""
    steps: dict[str, Step] = {}
    skipped: dict[str, str] = {}
    for name in names:
        try:
            steps[name] = VARIANTS[name](cell)
        except ImportError as error:
            skipped[name] = f"{error.name} is not installed"
    timed: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for _ in range(cell.num_steps - 1):
        for name, step in steps.items():
            if size == "L":
                _give_back()
            timed[name].append(step())
    peaks = {name: _peak_of(step) for name, step in steps.items()}
    rows = {name: _row_of(cell, size, runs, peaks[name]) for name, runs in timed.items()}
    default = rows.get("hf_trainer_peft")
    for row in rows.values():
        if default is None:
            break
        row["times_hf"] = round(default["cpu_seconds"] / row["cpu_seconds"], 2)
        row["peak_share_of_hf"] = round(row["peak_mib_above_model"] / max(1.0, default["peak_mib_above_model"]), 3)
    return rows | {name: {"skipped": reason} for name, reason in skipped.items()}


def _row_of(cell: Cell, size: str, runs: list[tuple[float, float]], peak: tuple[float, float]) -> dict[str, Any]:
    """The first of `runs` warms up; `peak` is of the update after the last of them."""
    seconds = statistics.median(run[0] for run in runs[1:])
    return {
        "cpu_seconds": round(seconds, 4),
        "examples_per_second": round(len(cell.rows) / seconds, 3),
        "loss_tokens_per_second": round(sum(row.weight for row in cell.rows) / seconds, 1),
        "mfu": round(_needed_flops(cell, size) / seconds / _matmul_peak(cell.precision), 3),
        "peak_mib_above_model": round(peak[0]),
        "losses": [round(loss, 5) for loss in (*(run[1] for run in runs), peak[1])],
    }


DEFAULT_CELLS = (
    "S/A/bf16",
    "S/B/bf16",
    "S/C/bf16",
    "S/A/fp32",
    "M/A/bf16",
    "M/B/bf16",
    "M/C/bf16",
    "L/A/bf16",
    "L/B/bf16",
    "L/C/bf16",
)


def measure(cells: tuple[str, ...] = DEFAULT_CELLS, *, rounds: int = 3) -> dict[str, Any]:
    """Every cell "MODEL/SHAPE/PRECISION" in a process of its own; shape A needs the shared data."""
    results: dict[str, Any] = {}
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        for name, result in zip(cells, pool.map(partial(_measured, rounds=rounds), cells), strict=True):
            results[name] = result
            _show(name, result)
    return {
        "metrics": results,
        "geometric_means": _geometric_means(results),
        "rounds": rounds,
        "threads": 1,
        "rank": RANK,
    }


def _measured(name: str, *, rounds: int) -> dict[str, Any]:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    size, shape, precision = name.split("/")
    if shape == "A" and not SHARED.is_dir():
        return {"skipped": "shared/data is absent"}
    with tempfile.TemporaryDirectory() as parent:
        folder = _model_folder(Path(parent), size)
        rows = _rows(shape, int(str(MODELS[size]["vocab_size"])), BATCH[size][shape])
        cell = Cell(folder, rows, precision, rounds + 2)
        return measure_cell(cell, size, LARGE if size == "L" else tuple(VARIANTS))


def _geometric_means(results: dict[str, Any]) -> dict[str, float]:
    """How many times faster the flat path is than each peer, and than the fastest setting of each, over all cells."""
    groups = {
        "hf_default": ("hf_trainer_peft",),
        "hf_best": ("hf_trainer_peft", "hf_bf16_weights", "hf_flattened"),
        "trl_best": ("trl_sft", "trl_sft_packing"),
        "litgpt": ("litgpt_lora",),
    }
    means: dict[str, float] = {}
    for group, names in groups.items():
        ratios = []
        for cell in (result for result in results.values() if "skipped" not in result):
            times = [cell[name]["cpu_seconds"] for name in names if "cpu_seconds" in cell.get(name, {})]
            if times and "cpu_seconds" in cell.get("foretune_flat", {}):
                ratios.append(min(times) / cell["foretune_flat"]["cpu_seconds"])
        if ratios:
            means[group] = round(statistics.geometric_mean(ratios), 2)
            means[f"{group}_least"] = round(min(ratios), 2)
    return means


def _show(name: str, result: dict[str, Any]) -> None:
    if "skipped" in result:
        print(name, result["skipped"], file=sys.stderr)
        return
    for variant, row in result.items():
        print(name, f"{variant:24}", "  ".join(f"{key} {value}" for key, value in row.items()), file=sys.stderr)


if __name__ == "__main__":
    print(json.dumps(measure(tuple(sys.argv[1:]) or DEFAULT_CELLS), indent=1))
