"""Training speed and memory on one CUDA device: foretune's flat tokens against HF Trainer + PEFT and TRL + Liger.

Random weights of Llama-8B and 1B shape, LoRA and QLoRA, the data shapes of `bench_train.py` and whole rows of 512 to
4,096 tokens. Every arm runs in a process of its own, with synchronised wall time from step to step after a warm-up, and
reports examples/s, MFU against the machine's own matmul peak, and peak allocated beside the plan's prediction.
`python benchmarks/bench_gpu.py 8B/B 8B/4096 --arms foretune_lora trl_liger`; `--quick` runs tiny models, on a CPU too.
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))

from foretune.models.adapter import attach_lora
from foretune.models.load import load_model
from foretune.models.shapes import model_shape
from foretune.plan.gpu_memory import peak_memory
from foretune.plan.setup import Setup
from foretune.train.objective import Row
from foretune.train.passes import FlatPasses, choose_passes

RANK, ALPHA, RATE = 16, 32.0, 1e-4
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "torch_dtype": "bfloat16",
}
SIZES = {
    "8B": {"hidden_size": 4096, "num_hidden_layers": 32, "intermediate_size": 14336, "vocab_size": 128256},
    "1B": {"hidden_size": 2048, "num_hidden_layers": 16, "intermediate_size": 8192, "vocab_size": 128256},
    "tiny": {"hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128, "vocab_size": 512},
}
HEADS = {"8B": (32, 8, False), "1B": (32, 8, True), "tiny": (4, 2, True)}  # queries, keys, tied head
ROWS = 64  # of the data shapes; whole rows come as many as make 16,384 tokens
WHOLE_TOKENS = 16_384
BUDGET = 8_192  # tokens that are computed at once
DEFAULT_CELLS = ("1B/A", "1B/B", "1B/C", "1B/512", "1B/4096", "8B/A", "8B/B", "8B/C", "8B/512", "8B/2048", "8B/4096")
QUICK_CELLS = ("tiny/B", "tiny/128")


@dataclass(frozen=True)
class Cell:
    """A model folder, a data shape, and how many steps to time."""

    folder: str
    size: str
    shape: str
    num_steps: int = 6


def config_of(size: str) -> dict[str, Any]:
    """config.json of a size."""
    heads, key_heads, is_tied = HEADS[size]
    own = {"num_attention_heads": heads, "num_key_value_heads": key_heads, "tie_word_embeddings": is_tied}
    return {**LLAMA, **SIZES[size], **own}


def write_model(folder: Path, size: str) -> None:
    """A random model in bf16, as a Hugging Face folder, made on the device where there is one."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    torch.manual_seed(1)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = AutoModelForCausalLM.from_config(LlamaConfig(**config_of(size)), dtype=torch.bfloat16)
    model.save_pretrained(folder)


def rows_of(size: str, shape: str) -> list[Row]:
    """A: lognormal like Alpaca (46 read, 57 answered). B: 300 shared, 30 asked, 80 answered. C: 250 read, 10 answered.

    A number: rows of so many tokens, the second half learned.
    """
    draw, vocabulary = np.random.default_rng(11), int(SIZES[size]["vocab_size"])

    def tokens(count: float) -> np.ndarray:
        return draw.integers(3, vocabulary, max(1, round(count)))

    if shape.isdigit():
        length = int(shape)
        whole = [tokens(length) for _ in range(max(1, WHOLE_TOKENS // length))]
        return [_row(ids, length // 2) for ids in whole]
    shared = tokens(300) if shape == "B" else tokens(1)
    rows = []
    for _ in range(8 if size == "tiny" else ROWS):
        read, answered = {
            "A": (46 * draw.lognormal(-0.1, 0.45), 57 * draw.lognormal(-0.35, 0.85)),
            "B": (30 * draw.lognormal(-0.08, 0.4), 80 * draw.lognormal(-0.05, 0.3)),
            "C": (draw.normal(250, 30), draw.normal(10, 2)),
        }[shape]
        answer = tokens(answered)
        rows.append(_row(np.concatenate([shared, tokens(read), answer]), len(answer)))
    return rows


def _row(ids: np.ndarray, num_learned: int) -> Row:
    weights = np.zeros(len(ids), dtype=np.float32)
    weights[-num_learned:] = 1
    return Row(ids.astype(np.int32), weights)


def now() -> float:
    """Seconds, when the device has done all that it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


@dataclass(frozen=True)
class Timed:
    """Seconds of each step after the warm-up, losses, and what was computed in one step."""

    seconds: list[float]
    losses: list[float]
    num_tokens: int
    num_pairs: int
    engine: str


def foretune_lora(cell: Cell, quantise: Any = "none") -> Timed:
    """Our own loop's step: passes of a global batch, clipping, fused AdamW."""
    rows = rows_of(cell.size, cell.shape)
    longest = max(len(row.ids) for row in rows)
    loaded = load_model(Path(cell.folder), quantise=quantise)
    attach_lora(loaded, rank=RANK, alpha=ALPHA, dropout=0.0, target_modules=TARGETS)
    passes, reason = choose_passes(loaded, precision="bf16", pad_id=0, max_seq_len=longest)
    parameters = [p for p in loaded.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, fused=True)
    weight = sum(row.weight for row in rows)
    loaded.model.train()
    seconds, losses = [], []
    for _ in range(cell.num_steps + 2):
        begin, total, num_tokens, num_pairs = now(), 0.0, 0, 0
        for micro in passes.cut(rows, BUDGET):
            share = micro.loss().loss / weight
            share.backward()
            total += float(share.detach())
            num_tokens, num_pairs = num_tokens + micro.num_tokens, num_pairs + micro.num_pairs
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(now() - begin)
        losses.append(total)
    engine = "flat" if isinstance(passes, FlatPasses) else f"padded: {reason}"
    return Timed(seconds[2:], losses, num_tokens, num_pairs, engine)


def foretune_qlora(cell: Cell) -> Timed:
    """The same over a 4-bit base."""
    return foretune_lora(cell, "4bit")


def _peft_model(cell: Cell, quantise: bool) -> Any:
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    more: dict[str, Any] = {}
    if quantise:
        more["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
    model = AutoModelForCausalLM.from_pretrained(cell.folder, dtype=torch.bfloat16, **more)
    if quantise:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules=TARGETS, task_type="CAUSAL_LM")
    return get_peft_model(model, config)


class _Clock:
    """Seconds and losses of a trainer's steps."""

    def __init__(self) -> None:
        self.begin = 0.0
        self.seconds: list[float] = []
        self.losses: list[float] = []

    def callback(self) -> Any:
        """As transformers wants it."""
        from transformers import TrainerCallback

        clock = self

        class Callback(TrainerCallback):
            """Times from step begin to step end; loading of data does not count."""

            def on_step_begin(self, *_: Any, **__: Any) -> None:
                clock.begin = now()

            def on_step_end(self, *_: Any, **__: Any) -> None:
                clock.seconds.append(now() - clock.begin)

            def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
                if "loss" in logs:
                    clock.losses.append(logs["loss"])

        return Callback()


def _arguments(cell: Cell, size: int, rows: Sequence[Row]) -> dict[str, Any]:
    return {
        "max_steps": cell.num_steps + 2,
        "per_device_train_batch_size": size,
        "gradient_accumulation_steps": -(-len(rows) // size),
        "learning_rate": RATE,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
        "max_grad_norm": 1.0,
        "gradient_checkpointing": False,
        "bf16": torch.cuda.is_available(),
        "use_cpu": not torch.cuda.is_available(),
    }


def _micro_size(rows: Sequence[Row]) -> int:
    """Rows at once within the same budget of padded tokens, a divisor of all."""
    longest = max(len(row.ids) for row in rows)
    fits = max(1, BUDGET // longest)
    return max(size for size in range(1, len(rows) + 1) if len(rows) % size == 0 and size <= fits)


def hf_peft(cell: Cell, quantise: bool = False) -> Timed:
    """HF Trainer over PEFT: padded, bf16 weights, fp32 adapters."""
    from transformers import Trainer, TrainingArguments

    rows, clock = rows_of(cell.size, cell.shape), _Clock()
    examples = [{"input_ids": r.ids.tolist(), "labels": np.where(r.weights > 0, r.ids, -100).tolist()} for r in rows]
    with tempfile.TemporaryDirectory() as out:
        arguments = TrainingArguments(out, **_arguments(cell, _micro_size(rows), rows))
        trainer = Trainer(
            _peft_model(cell, quantise),
            arguments,
            train_dataset=examples,
            data_collator=_collated,
            callbacks=[clock.callback()],
        )
        trainer.train()
    return Timed(clock.seconds[2:], clock.losses, *_real(rows), "padded")


def hf_peft_qlora(cell: Cell) -> Timed:
    """The same over a 4-bit base."""
    return hf_peft(cell, quantise=True)


def _collated(examples: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    longest = max(len(one["input_ids"]) for one in examples)
    mask = [[1] * len(one["input_ids"]) + [0] * (longest - len(one["input_ids"])) for one in examples]
    filled = {
        key: torch.tensor([one[key] + [fill] * (longest - len(one[key])) for one in examples])
        for key, fill in (("input_ids", 0), ("labels", -100))
    }
    return {**filled, "attention_mask": torch.tensor(mask)}


def trl_liger(cell: Cell, quantise: bool = False) -> Timed:
    """TRL SFTTrainer at its best on a GPU: packing without contamination, loss on completions, Liger's kernels."""
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    import foretune

    pebble = Path(foretune.__file__).parent / "models" / "pebble"
    rows, clock = rows_of(cell.size, cell.shape), _Clock()
    columns = {
        "input_ids": [row.ids.tolist() for row in rows],
        "completion_mask": [(row.weights > 0).astype(int).tolist() for row in rows],
    }
    total = sum(len(row.ids) for row in rows)
    with tempfile.TemporaryDirectory() as out:
        packs = max(1, -(-total // BUDGET))
        arguments = SFTConfig(
            out,
            **{**_arguments(cell, 1, rows), "gradient_accumulation_steps": packs},
            max_length=max(BUDGET, max(len(row.ids) for row in rows)),
            packing=True,
            completion_only_loss=True,
            use_liger_kernel=torch.cuda.is_available(),
        )
        trainer = SFTTrainer(
            _peft_model(cell, quantise),
            arguments,
            train_dataset=Dataset.from_dict(columns),
            processing_class=AutoTokenizer.from_pretrained(pebble),
            callbacks=[clock.callback()],
        )
        trainer.train()
    return Timed(clock.seconds[2:], clock.losses, *_real(rows), "packed, Liger")


def trl_liger_qlora(cell: Cell) -> Timed:
    """The same over a 4-bit base."""
    return trl_liger(cell, quantise=True)


def _real(rows: Sequence[Row]) -> tuple[int, int]:
    """Tokens of all rows and pairs that causal attention needs, nothing shared."""
    return sum(len(row.ids) for row in rows), sum(len(row.ids) ** 2 for row in rows)


ARMS: dict[str, Callable[[Cell], Timed]] = {
    "foretune_lora": foretune_lora,
    "hf_peft": hf_peft,
    "trl_liger": trl_liger,
    "foretune_qlora": foretune_qlora,
    "hf_peft_qlora": hf_peft_qlora,
    "trl_liger_qlora": trl_liger_qlora,
}


def matmul_peak() -> float:
    """FLOP/s of a large bf16 product on this device, the best of a few."""
    side = 8192 if torch.cuda.is_available() else 512
    device = "cuda" if torch.cuda.is_available() else "cpu"
    left, right = (torch.randn(side, side, dtype=torch.bfloat16, device=device) for _ in range(2))
    seconds = []
    for _ in range(8):
        begin = now()
        _ = left @ right
        seconds.append(now() - begin)
    return 2 * side**3 / min(seconds)


def needed_flops(cell: Cell, num_tokens: int, num_pairs: int) -> float:
    """FLOPs of a step of LoRA: products forward and back to the input, attention (backward 2.5 times), head, adapters.

    `num_pairs` counts pairs of tokens without the causal half.
    """
    config, (heads, key_heads, _) = config_of(cell.size), HEADS[cell.size]
    width, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    key_width = width // heads * key_heads
    per_layer = 2 * width * width + 2 * width * key_width + 3 * width * inner
    adapters = RANK * (2 * (width + width) + 2 * (width + key_width) + 3 * (width + inner))
    learned = sum(row.weight for row in rows_of(cell.size, cell.shape))
    attention = 3.5 * 2 * num_pairs * width * layers
    return num_tokens * layers * (4 * per_layer + 6 * adapters) + 4 * learned * width * config["vocab_size"] + attention


def predicted_gb(cell: Cell, *, is_quantised: bool) -> float:
    """GB that the plan expects the allocator to hold at the most, the driver's own context left out."""
    longest = max(len(row.ids) for row in rows_of(cell.size, cell.shape))
    setup = Setup(
        model_shape(config_of(cell.size)),
        method="qlora" if is_quantised else "lora",
        weights="nf4-dq" if is_quantised else "bf16",
        max_seq_len=BUDGET if longest < BUDGET else longest,
        packing=True,
        checkpointing="none",
        loss="chunked",
        rank=RANK,
        target_modules=tuple(TARGETS),
    )
    components = peak_memory(setup).components
    return sum(size for name, size in components.items() if name != "runtime") / 1e9


def run_arm(cell: Cell, arm: str) -> dict[str, Any]:
    """One arm in this process."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    timed = ARMS[arm](cell)
    rows, seconds = rows_of(cell.size, cell.shape), statistics.median(timed.seconds)
    found = {
        "seconds": round(seconds, 4),
        "examples_per_second": round(len(rows) / seconds, 2),
        "loss_tokens_per_second": round(sum(row.weight for row in rows) / seconds, 1),
        "computed_tokens": timed.num_tokens,
        "mfu_of_measured_peak": round(
            needed_flops(cell, timed.num_tokens, timed.num_pairs) / seconds / matmul_peak(), 3
        ),
        "engine": timed.engine,
        "losses": [round(loss, 5) for loss in timed.losses],
    }
    if torch.cuda.is_available():
        found["peak_allocated_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
        found["predicted_gb"] = round(predicted_gb(cell, is_quantised="qlora" in arm), 2)
    return found


def _in_own_process(cell: Cell, arm: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--one", json.dumps([asdict(cell), arm])]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=3600)
    if done.returncode == 0:
        result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        return result
    last = [line for line in done.stderr.strip().splitlines() if line.strip()][-1:]
    return {"skipped": last[0] if last else f"exit {done.returncode}"}


def measure(cells: Sequence[str] = DEFAULT_CELLS, arms: Sequence[str] = tuple(ARMS)) -> dict[str, Any]:
    """Every arm of every cell, one process each."""
    results: dict[str, Any] = {}
    for size in dict.fromkeys(cell.partition("/")[0] for cell in cells):
        with tempfile.TemporaryDirectory() as folder:
            write_model(Path(folder), size)
            for name in (cell for cell in cells if cell.startswith(f"{size}/")):
                cell = Cell(folder, size, name.partition("/")[2])
                results[name] = {arm: _in_own_process(cell, arm) for arm in arms}
                print(name, json.dumps(results[name]), file=sys.stderr, flush=True)
    has_gpu = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if has_gpu else "cpu"
    return {"metrics": results, "device": device, "torch": torch.__version__, "rank": RANK, "budget_tokens": BUDGET}


def main() -> None:
    """Measure the cells and print, or write, what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", nargs="*", help="MODEL/SHAPE, such as 8B/B or 1B/4096")
    parser.add_argument("--arms", nargs="*", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--quick", action="store_true", help="tiny models, to see that all of it runs")
    parser.add_argument("--out", type=Path, help="also write the result here")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        cell, arm = json.loads(args.one)
        print(json.dumps(run_arm(Cell(**cell), arm)))
        return
    if not torch.cuda.is_available() and not args.quick:
        sys.exit("no CUDA device; --quick runs tiny models on a CPU")
    cells = args.cells or (QUICK_CELLS if args.quick else DEFAULT_CELLS)
    text = json.dumps(measure(cells, args.arms), indent=1)
    print(text)
    if args.out:
        args.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
