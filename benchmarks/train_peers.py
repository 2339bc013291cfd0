"""The peers that `bench_train.py` times: HF Trainer + PEFT, TRL SFTTrainer and LitGPT, each one update at a time.

A Trainer owns its loop, so each runs in a thread of its own that waits at every step's begin: no optimizer state is
lost between steps, nothing of its data loading is timed, and the steps of all of them can take turns.
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import tempfile
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import foretune
from foretune.models.load import LoadedModel, load_model
from foretune.train.objective import Row

PEBBLE = Path(foretune.__file__).parent / "models" / "pebble"
RANK, ALPHA, RATE = 16, 32.0, 1e-4
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

Step = Callable[[], tuple[float, float]]  # one update: CPU-seconds and loss


@dataclass
class Cell:
    """A model, a batch, a precision, and how many updates will be asked for."""

    folder: Path
    rows: list[Row]
    precision: str
    num_steps: int


def loaded_base(cell: Cell) -> LoadedModel:
    """The random base; every weight is one that bf16 holds exactly."""
    loaded = load_model(cell.folder, random_init=True, seed=1)
    for parameter in loaded.model.parameters():
        parameter.data = parameter.data.bfloat16().float()
    return loaded


def same_start(model: torch.nn.Module) -> None:
    """The A matrices drawn by the name of their layer, so that every stack starts at the same adapter."""
    for name, parameter in model.named_parameters():
        plain = name.removeprefix("base_model.model.").replace("lora_A.default.weight", "lora_a")
        if plain.endswith("lora_a"):
            draw = np.random.default_rng(zlib.crc32(plain.encode()))
            bound = (6 / parameter.shape[1]) ** 0.5 / 5**0.5
            values = draw.uniform(-bound, bound, tuple(parameter.shape))
            parameter.data = torch.tensor(values, dtype=parameter.dtype)


def _peft_model(cell: Cell, dtype: torch.dtype) -> Any:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules=TARGETS, task_type="CAUSAL_LM")
    model = get_peft_model(loaded_base(cell).model.to(dtype), config)  # adapters stay in fp32
    same_start(model)
    return model


class _LockStep:
    """A trainer in a thread that makes one update each time it is called."""

    def __init__(self, make: Callable[[str, list[Any]], Any]) -> None:
        self.go, self.done = threading.Semaphore(0), threading.Semaphore(0)
        self.begin = self.seconds = self.loss = float("nan")
        self.error: BaseException | None = None
        self.is_waiting = False  # at its first step; until then another trainer would reset what they share
        self.thread = threading.Thread(target=self._run, args=(make,), daemon=True)
        self.thread.start()

    def _run(self, make: Callable[[str, list[Any]], Any]) -> None:
        torch.set_num_threads(1)
        try:
            with tempfile.TemporaryDirectory() as out:
                make(out, [_clock(self)]).train()
        except BaseException as error:  # shown by the thread that waits
            self.error = error
        self.done.release()

    def ready(self) -> _LockStep:
        """Wait until the trainer stands; raises what went wrong in it."""
        self.done.acquire()
        return self._checked()

    def _checked(self) -> _LockStep:
        if self.error is not None:
            raise self.error
        return self

    def __call__(self) -> tuple[float, float]:
        self.go.release()
        self.done.acquire()
        self._checked()
        return self.seconds, self.loss


def _clock(lock: _LockStep) -> Any:
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        """Waits at a step's begin, times it, and hands over at the log that follows it."""

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            if not lock.is_waiting:
                lock.is_waiting = True
                lock.done.release()
            lock.go.acquire()
            lock.begin = time.process_time()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            lock.seconds = time.process_time() - lock.begin

        def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
            if "loss" in logs:
                lock.loss = logs["loss"]
                lock.done.release()

    return Clock()


def _arguments(cell: Cell) -> dict[str, Any]:
    return {
        "num_train_epochs": cell.num_steps,  # every epoch is the one batch
        "learning_rate": RATE,
        "lr_scheduler_type": "constant",
        "train_sampling_strategy": "sequential",
        "logging_steps": 1,
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
        "max_grad_norm": 1.0,
        "gradient_checkpointing": False,
        "bf16": cell.precision == "bf16",
    }


def _collated(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    longest = max(len(row["input_ids"]) for row in rows)
    fill = {"input_ids": 0, "labels": -100, "attention_mask": 0}
    return {
        key: torch.tensor([row[key] + [value] * (longest - len(row[key])) for row in rows])
        for key, value in fill.items()
    }


def _hf(cell: Cell, *, weights: str = "fp32", is_flattened: bool = False) -> Step:
    """HF Trainer over a PEFT model: padded with fp32 weights under autocast, or what may be faster."""
    from transformers import DataCollatorWithFlattening, Trainer, TrainingArguments

    rows = [
        {
            "input_ids": row.ids.tolist(),
            "labels": np.where(row.weights > 0, row.ids, -100).tolist(),
            **({} if is_flattened else {"attention_mask": [1] * len(row.ids)}),
        }
        for row in cell.rows
    ]
    dtype = torch.bfloat16 if weights == "bf16" and cell.precision == "bf16" else torch.float32

    def make(out: str, callbacks: list[Any]) -> Any:
        arguments = TrainingArguments(out, per_device_train_batch_size=len(rows), **_arguments(cell))
        collator = DataCollatorWithFlattening(return_tensors="pt") if is_flattened else _collated
        return Trainer(
            _peft_model(cell, dtype), arguments, train_dataset=rows, data_collator=collator, callbacks=callbacks
        )

    return _LockStep(make).ready()


def _trl(cell: Cell, *, packing: bool) -> Step:
    """TRL SFTTrainer at its best here: bf16 weights, loss on completions (chunked), no checkpointing."""
    from datasets import Dataset
    from transformers import PreTrainedTokenizerFast
    from trl import SFTConfig, SFTTrainer

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(PEBBLE / "tokenizer.json"), eos_token="</s>", pad_token="<pad>", bos_token="<s>"
    )
    columns = {
        "input_ids": [row.ids.tolist() for row in cell.rows],
        "completion_mask": [(row.weights > 0).astype(int).tolist() for row in cell.rows],
    }
    total = sum(len(row.ids) for row in cell.rows)
    dtype = torch.bfloat16 if cell.precision == "bf16" else torch.float32

    def make(out: str, callbacks: list[Any]) -> Any:
        arguments = SFTConfig(
            out,
            per_device_train_batch_size=1 if packing else len(cell.rows),
            packing=packing,
            max_length=total,
            completion_only_loss=True,
            **_arguments(cell),
        )
        return SFTTrainer(
            _peft_model(cell, dtype),
            arguments,
            train_dataset=Dataset.from_dict(columns),
            processing_class=tokenizer,
            callbacks=callbacks,
        )

    return _LockStep(make).ready()


def _litgpt(cell: Cell) -> Step:
    """LitGPT's LoRA model and the step of its `finetune/lora.py`: padded, chunked head, bf16 throughout."""
    from litgpt.lora import GPT, Config, mark_only_lora_as_trainable
    from litgpt.scripts.convert_hf_checkpoint import copy_weights_hf_llama
    from litgpt.utils import chunked_cross_entropy

    base = loaded_base(cell).model
    config = Config(
        block_size=base.config.max_position_embeddings,
        padded_vocab_size=base.config.vocab_size,
        vocab_size=base.config.vocab_size,
        n_layer=base.config.num_hidden_layers,
        n_head=base.config.num_attention_heads,
        n_query_groups=base.config.num_key_value_heads,
        n_embd=base.config.hidden_size,
        intermediate_size=base.config.intermediate_size,
        rotary_percentage=1.0,
        parallel_residual=False,
        bias=False,
        norm_class_name="RMSNorm",
        norm_eps=base.config.rms_norm_eps,
        mlp_class_name="LLaMAMLP",
        **{f"lora_{name}": True for name in ("query", "key", "value", "projection", "mlp")},
        lora_r=RANK,
        lora_alpha=int(ALPHA),
    )
    weights = {name: value for name, value in base.state_dict().items() if "rotary" not in name}
    weights.setdefault("lm_head.weight", weights["model.embed_tokens.weight"])
    converted: dict[str, torch.Tensor] = {}
    copy_weights_hf_llama(config, {}, converted, weights)
    model = GPT(config)
    model.load_state_dict(converted, strict=False)
    mark_only_lora_as_trainable(model)
    if cell.precision == "bf16":
        model.to(torch.bfloat16)
    model.train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=RATE)
    batch = _collated(
        [
            {
                "input_ids": row.ids.tolist(),
                "labels": np.where(row.weights > 0, row.ids, -100).tolist(),
                "attention_mask": [1] * len(row.ids),
            }
            for row in cell.rows
        ]
    )

    def step() -> tuple[float, float]:
        begin = time.process_time()
        logits = model(batch["input_ids"], lm_head_chunk_size=128)
        logits[-1] = logits[-1][..., :-1, :]
        loss = chunked_cross_entropy(logits, batch["labels"][..., 1:])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return time.process_time() - begin, float(loss.detach())

    return step


PEERS: dict[str, Callable[[Cell], Step]] = {
    "hf_trainer_peft": _hf,
    "hf_bf16_weights": lambda cell: _hf(cell, weights="bf16"),
    "hf_flattened": lambda cell: _hf(cell, weights="bf16", is_flattened=True),
    "trl_sft": lambda cell: _trl(cell, packing=False),
    "trl_sft_packing": lambda cell: _trl(cell, packing=True),
    "litgpt_lora": _litgpt,
}
