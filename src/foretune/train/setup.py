"""From a job to what the loop needs: model with its trainable parts, rows, derived settings."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from foretune.config import JobConfig
from foretune.config.derive import Derived, derive
from foretune.data.samples import Sample
from foretune.data.store import DatasetStore
from foretune.data.tokenizer import Tokenizer
from foretune.errors import ConfigError
from foretune.models.adapter import attach_lora, attach_soft_prompt
from foretune.models.base import resolve_base
from foretune.models.load import LoadedModel, has_bf16, load_model, num_parameters
from foretune.records.dataset import DatasetRecord
from foretune.train.loop import LoopSettings, trainable
from foretune.train.rows import WORLD_VALIDATION_SEED, Rows, build_rows, world_rows

__all__ = ["WORLD", "Setup", "build_setup", "set_threads"]

WORLD = "world"  # data.path of the generated corpus
WORLD_VALIDATION_DOCUMENTS = 1000


@dataclass
class Setup:
    """A job made ready to train."""

    loaded: LoadedModel
    tokenizer: Tokenizer
    train: Rows
    validation: Rows
    derived: Derived
    settings: LoopSettings
    dataset_version: str
    labels: tuple[str, ...]
    total_parameters: int
    trainable_parameters: int
    num_threads: int


def set_threads(job: JobConfig) -> int:
    """Use the job's number of CPU threads, or all cores; returns the number."""
    num_threads = job.train.advanced.num_threads or os.cpu_count() or 1
    torch.set_num_threads(num_threads)
    return num_threads


def build_setup(job: JobConfig, *, run_dir: Path, runs_dir: Path, folder: Path) -> Setup:
    """Load data and model of a run and attach what the method trains. Raises ConfigError, DataError, NotFound."""
    num_threads = set_threads(job)
    base = resolve_base(job.base, folder=folder)
    tokenizer = Tokenizer.from_folder(base)
    splits, version, labels = _splits(job, run_dir, runs_dir)
    classes = labels if job.train.method == "classify" else ()
    if job.train.method == "classify" and len(classes) < 2:
        raise ConfigError(
            f"method classify needs at least 2 classes, the training split has {len(classes)}",
            fix='set data.task = "classify" and data.target_field, or use method = "lora"',
        )
    loaded = load_model(
        base,
        num_labels=len(classes),
        random_init=job.train.advanced.init == "random",
        seed=job.seed,
        pad_id=tokenizer.pad_id,
    )
    _check_vocabulary(loaded, tokenizer)
    train, validation, derived = _rows(job, splits, loaded, tokenizer, classes)
    total = num_parameters(loaded.model)
    _attach(job, loaded, derived)
    settings = _settings(job, derived, tokenizer.pad_id)
    count = sum(p.numel() for p in trainable(loaded.model).values())
    return Setup(loaded, tokenizer, train, validation, derived, settings, version, classes, total, count, num_threads)


def _splits(
    job: JobConfig, run_dir: Path, runs_dir: Path
) -> tuple[dict[str, list[Sample]] | None, str, tuple[str, ...]]:
    if job.data.path == WORLD:
        return None, f"world-{job.data.max_rows}", ()
    record = DatasetRecord.read(run_dir)
    store = DatasetStore(runs_dir)
    splits = {name: store.load(record.version, name) for name in ("train", "validation")}
    return splits, record.version, tuple(sorted({sample.target for sample in splits["train"] if sample.target}))


def _check_vocabulary(loaded: LoadedModel, tokenizer: Tokenizer) -> None:
    rows = loaded.model.get_input_embeddings().weight.shape[0]  # type: ignore[index]
    if tokenizer.vocab_size > rows:
        raise ConfigError(
            f"the tokenizer has {tokenizer.vocab_size} tokens, the model's embedding only {rows} rows: "
            "they do not belong together",
            fix="use the tokenizer of the same checkpoint",
        )


def _rows(
    job: JobConfig,
    splits: dict[str, list[Sample]] | None,
    loaded: LoadedModel,
    tokenizer: Tokenizer,
    classes: tuple[str, ...],
) -> tuple[Rows, Rows, Derived]:
    limit = loaded.max_len or tokenizer.max_len
    room = limit - job.train.advanced.num_prompt_tokens if limit and job.train.method == "prompt" else limit
    longest = (
        min(job.train.max_seq_len or 1024, room or 1024)
        if splits is None or job.train.method == "pretrain"
        else (min(job.train.max_seq_len or room or 4096, room or 4096))
    )
    if splits is None:
        train = world_rows(job.data.max_rows, tokenizer, longest)
        validation = world_rows(WORLD_VALIDATION_DOCUMENTS, tokenizer, longest, seed=WORLD_VALIDATION_SEED)
    else:
        train, validation = (
            build_rows(
                splits[name],
                tokenizer,
                kind=loaded.kind,
                max_seq_len=longest,
                train_on=job.train.advanced.train_on,
                labels=classes,
                pack=job.train.method == "pretrain",
            )
            for name in ("train", "validation")
        )
    derived = derive(
        job,
        num_train_samples=len(train.rows),
        longest_sample_tokens=max(row.length for row in train.rows),
        model_max_len=limit,
        device="cuda" if loaded.device.type == "cuda" else "cpu",
        has_bf16=has_bf16(loaded.device),
    )
    return train, validation, derived


def _attach(job: JobConfig, loaded: LoadedModel, derived: Derived) -> None:
    train = job.train
    if train.method in ("full", "pretrain"):
        loaded.model.requires_grad_(True)
    elif train.method == "prompt":
        attach_soft_prompt(loaded, num_tokens=train.advanced.num_prompt_tokens, seed=job.seed)
    else:
        attach_lora(
            loaded,
            rank=train.rank,
            alpha=derived.alpha,
            dropout=train.advanced.dropout,
            target_modules=train.advanced.target_modules,
            seed=job.seed,
        )


def _settings(job: JobConfig, derived: Derived, pad_id: int) -> LoopSettings:
    advanced = job.train.advanced
    seconds = job.plan.max_hours * 3600 if job.plan.max_hours else float("inf")
    if job.plan.max_cost_usd and job.plan.price_per_hour_usd:
        seconds = min(seconds, job.plan.max_cost_usd / job.plan.price_per_hour_usd * 3600)
    return LoopSettings(
        num_steps=derived.num_steps,
        global_batch_size=derived.global_batch_size,
        micro_batch_size=derived.micro_batch_size,
        max_seq_len=derived.max_seq_len,
        learning_rate=derived.learning_rate,
        warmup_steps=derived.warmup_steps,
        schedule=advanced.schedule,
        weight_decay=advanced.weight_decay,
        max_grad_norm=advanced.max_grad_norm,
        eval_every=derived.eval_every,
        save_every=derived.save_every,
        keep_checkpoints=advanced.keep_checkpoints,
        patience=advanced.patience,
        precision=derived.precision,
        seed=job.seed,
        pad_id=pad_id,
        max_seconds=seconds,
    )
