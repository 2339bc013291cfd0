"""Training speed: foretune's flat tokens, its padded path, HF Trainer + PEFT and TRL, same data, same updates.

CPU-seconds of one process with one thread, passes interleaved round by round, medians after a warm-up round. HF and TRL
are timed from step begin to step end, so their data loading does not count. Random weights that bf16 holds exactly.
`python benchmarks/bench_train.py S/A M/B bf16` runs chosen cells.
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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import foretune
from foretune.models.adapter import attach_lora
from foretune.models.decoder import FlatSettings, flat_model
from foretune.models.load import LoadedModel, load_model
from foretune.train.flat import flat_batches, flat_loss
from foretune.train.objective import Row, build_batch, causal_loss

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
PEBBLE = Path(foretune.__file__).parent / "models" / "pebble"
RANK, ALPHA, RATE = 16, 32.0, 1e-4
BUDGET = 8192
MODELS = {
    "S": {"hidden_size": 288, "num_hidden_layers": 6, "intermediate_size": 768, "heads": (6, 6), "vocab_size": 32000},
    "M": {"hidden_size": 576, "num_hidden_layers": 30, "intermediate_size": 1536, "heads": (9, 3), "vocab_size": 49152},
}
BATCH = {"S": {"A": 8, "B": 8, "C": 8}, "M": {"A": 8, "B": 4, "C": 4}}
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@dataclass
class Cell:
    """A model, a batch and a precision."""

    folder: Path
    rows: list[Row]
    precision: str


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


def _loaded(cell: Cell) -> LoadedModel:
    loaded = load_model(cell.folder, random_init=True, seed=1)
    for parameter in loaded.model.parameters():
        parameter.data = parameter.data.bfloat16().float()
    return loaded


def _ours(cell: Cell, settings: FlatSettings | None) -> Callable[[], tuple[float, float]]:
    """One update of our own: flat with `settings`, or padded; gives CPU-seconds and the loss."""
    loaded = _loaded(cell)
    attach_lora(loaded, rank=RANK, alpha=ALPHA, dropout=0.0, target_modules=TARGETS)
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


def _collated(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    longest = max(len(row["input_ids"]) for row in rows)
    fill = {"input_ids": 0, "labels": -100, "attention_mask": 0}
    return {
        key: torch.tensor([row[key] + [value] * (longest - len(row[key])) for row in rows])
        for key, value in fill.items()
    }


def _peft_model(cell: Cell) -> Any:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules=TARGETS, task_type="CAUSAL_LM")
    return get_peft_model(_loaded(cell).model, config)


def _clock() -> Any:
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        """CPU-seconds of the last step, and its loss."""

        begin = seconds = loss = float("nan")

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.begin = time.process_time()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.seconds = time.process_time() - self.begin

        def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
            self.loss = logs.get("loss", self.loss)

    return Clock()


ARGUMENTS: dict[str, Any] = {
    "max_steps": 1,
    "learning_rate": RATE,
    "lr_scheduler_type": "constant",
    "logging_steps": 1,
    "report_to": [],
    "save_strategy": "no",
    "disable_tqdm": True,
    "use_cpu": True,
    "max_grad_norm": 1.0,
    "gradient_checkpointing": False,
}


def _hf(cell: Cell) -> Callable[[], tuple[float, float]]:
    """HF Trainer over a PEFT model."""
    from transformers import Trainer, TrainingArguments

    model = _peft_model(cell)
    plain = model.forward
    rows = [
        {
            "input_ids": row.ids.tolist(),
            "labels": np.where(row.weights > 0, row.ids, -100).tolist(),
            "attention_mask": [1] * len(row.ids),
        }
        for row in cell.rows
    ]

    def step() -> tuple[float, float]:
        model.forward = plain  # the trainer wraps it anew
        clock = _clock()
        with tempfile.TemporaryDirectory() as out:
            arguments = TrainingArguments(
                out, per_device_train_batch_size=len(rows), bf16=cell.precision == "bf16", **ARGUMENTS
            )
            Trainer(model, arguments, train_dataset=rows, data_collator=_collated, callbacks=[clock]).train()
        return clock.seconds, clock.loss

    return step


def _trl(cell: Cell) -> Callable[[], tuple[float, float]]:
    """TRL SFTTrainer at its best here: all samples packed into one row, loss on completions, no checkpointing."""
    from datasets import Dataset
    from transformers import PreTrainedTokenizerFast
    from trl import SFTConfig, SFTTrainer

    model = _peft_model(cell)
    plain = model.forward
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(PEBBLE / "tokenizer.json"), eos_token="</s>", pad_token="<pad>", bos_token="<s>"
    )
    columns = {
        "input_ids": [row.ids.tolist() for row in cell.rows],
        "completion_mask": [(row.weights > 0).astype(int).tolist() for row in cell.rows],
    }
    total = sum(len(row.ids) for row in cell.rows)

    def step() -> tuple[float, float]:
        model.forward = plain
        clock = _clock()
        with tempfile.TemporaryDirectory() as out:
            arguments = SFTConfig(
                out,
                per_device_train_batch_size=1,
                packing=True,
                max_length=total,
                completion_only_loss=True,
                bf16=cell.precision == "bf16",
                **ARGUMENTS,
            )
            SFTTrainer(
                model,
                arguments,
                train_dataset=Dataset.from_dict(columns),
                processing_class=tokenizer,
                callbacks=[clock],
            ).train()
        return clock.seconds, clock.loss

    return step


VARIANTS: dict[str, Callable[[Cell], Callable[[], tuple[float, float]]]] = {
    "hf_trainer_peft": _hf,
    "trl_sft_packing": _trl,
    "foretune_padded": lambda cell: _ours(cell, None),
    "foretune_flat_no_prefix": lambda cell: _ours(cell, FlatSettings(has_shared_prefix=False)),
    "foretune_flat": lambda cell: _ours(cell, FlatSettings()),
}


def _resident(key: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))


def _with_peak(step: Callable[[], tuple[float, float]]) -> tuple[float, float, float]:
    """CPU-seconds, loss, and MiB above what was resident before."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    before = _resident("VmRSS")
    seconds, loss = step()
    return seconds, loss, _resident("VmHWM") - before


def measure_cell(cell: Cell, rounds: int, names: tuple[str, ...] = tuple(VARIANTS)) -> dict[str, Any]:
    """Medians of one cell, every variant once a round; variants that do not install carry a reason."""
    steps: dict[str, Callable[[], tuple[float, float]]] = {}
    skipped: dict[str, str] = {}
    for name in names:
        try:
            steps[name] = VARIANTS[name](cell)
        except ImportError as error:
            skipped[name] = f"{error.name} is not installed"
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in steps}
    for _ in range(rounds + 1):
        for name, step in steps.items():
            found[name].append(_with_peak(step))
    seconds = {name: statistics.median(f[0] for f in runs[1:]) for name, runs in found.items()}
    slowest = seconds.get("hf_trainer_peft", float("nan"))
    learned = sum(row.weight for row in cell.rows)
    return {
        name: {
            "cpu_seconds": round(seconds[name], 4),
            "examples_per_second": round(len(cell.rows) / seconds[name], 3),
            "loss_tokens_per_second": round(learned / seconds[name], 1),
            "peak_mib_above_model": round(max(f[2] for f in runs[1:])),
            "times_hf": round(slowest / seconds[name], 2),
            "first_loss": round(runs[0][1], 5),
        }
        for name, runs in found.items()
    } | {name: {"skipped": reason} for name, reason in skipped.items()}


DEFAULT_CELLS = ("S/A/bf16", "S/B/bf16", "S/C/bf16", "S/A/fp32", "M/A/bf16")


def measure(cells: tuple[str, ...] = DEFAULT_CELLS, *, rounds: int = 3) -> dict[str, Any]:
    """Every cell "MODEL/SHAPE/PRECISION"; shape A needs the shared data. M runs one round less."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as parent:
        for name in cells:
            size, shape, precision = name.split("/")
            if shape == "A" and not SHARED.is_dir():
                results[name] = {"skipped": "shared/data is absent"}
                continue
            folder = _model_folder(Path(parent), size)
            rows = _rows(shape, int(str(MODELS[size]["vocab_size"])), BATCH[size][shape])
            cell = Cell(folder, rows, precision)
            results[name] = measure_cell(cell, rounds if size == "S" else max(1, rounds - 1))
            _show(name, results[name])
    return {"metrics": results, "rounds": rounds, "threads": 1, "rank": RANK}


def _show(name: str, result: dict[str, Any]) -> None:
    for variant, row in result.items():
        print(name, f"{variant:24}", "  ".join(f"{key} {value}" for key, value in row.items()), file=sys.stderr)


if __name__ == "__main__":
    print(json.dumps(measure(tuple(sys.argv[1:]) or DEFAULT_CELLS), indent=1))
