"""From a job to what the loop needs: model with its trainable parts, rows, derived settings."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from foretune.config import JobConfig
from foretune.config.derive import Derived, derive
from foretune.config.job import PREFERENCE_METHODS
from foretune.data.samples import Sample
from foretune.data.store import DatasetStore
from foretune.data.targets import UNSCALED, Scale, scale_of, target_numbers
from foretune.data.token_shards import WORLD, TokenShards, is_shard_folder, open_shards
from foretune.data.tokenizer import Tokenizer
from foretune.errors import ConfigError
from foretune.models.adapter import LoraLinear
from foretune.models.base import resolve_base
from foretune.models.detach import detach_adapters
from foretune.models.flat_rules import engine_line, frozen_flat_parameters, why_method_is_not_flat
from foretune.models.load import LoadedModel, best_device, has_bf16, has_fp16, load_model, num_parameters
from foretune.models.method_fit import no_target
from foretune.models.quantise import quantise_note
from foretune.records.dataset import DatasetRecord
from foretune.records.plan import PlanRecord
from foretune.train.attach import Lineage, attach, find_adapter
from foretune.train.belongs import check_room, check_tokenizer
from foretune.train.loop import LoopSettings, trainable
from foretune.train.passes import FlatPasses, Passes, choose_passes
from foretune.train.preference import desirability_weights, preference_passes
from foretune.train.processes import is_to_be_sharded, num_processes
from foretune.train.reference import referenced
from foretune.train.rows import WORLD_VALIDATION_SEED, Rows, build_rows, shard_rows, world_rows

__all__ = ["Setup", "build_setup", "derived_again", "set_threads", "setup_again"]

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
    passes: Passes
    engine: str  # how passes are computed, and why not faster
    scale: Scale = UNSCALED  # of the targets of regression
    lineage: Lineage | None = None  # the adapter that training starts from
    quantise_note: str = ""
    samples: Mapping[str, Sequence[Sample]] = field(default_factory=dict)  # of train and validation; none of the world

    @property
    def engine_notes(self) -> list[str]:
        """What the user should hear about the engine."""
        again = "activations are computed again in the backward pass" if self.settings.recomputes_activations else ""
        return [line for line in (self.engine, again, self.quantise_note, self._lineage_note) if line]

    @property
    def _lineage_note(self) -> str:
        if self.lineage is None:
            return ""
        kept = "its own rank, alpha, dropout and target modules are kept"
        return f"starts from adapter {self.lineage.name} (made for {self.lineage.base}): {kept}"


def set_threads(job: JobConfig) -> int:
    """Use the job's number of CPU threads, or all cores, shared by the processes of the run; returns the number."""
    num_threads = job.train.advanced.num_threads or max(1, (os.cpu_count() or 1) // num_processes())
    torch.set_num_threads(num_threads)
    return num_threads


def build_setup(job: JobConfig, *, run_dir: Path, runs_dir: Path, folder: Path) -> Setup:
    """Load data and model of a run and attach what the method trains. Raises ConfigError, DataError, NotFound."""
    num_threads = set_threads(job)
    base = resolve_base(job.base, folder=folder)
    tokenizer = Tokenizer.from_folder(base)
    shards = open_shards(folder / job.data.path, tokenizer) if is_shard_folder(folder / job.data.path) else None
    splits, version, labels = _splits(job, shards, run_dir, runs_dir)
    classes = labels if job.train.method == "classify" else ()
    if job.train.method == "classify" and len(classes) < 2:
        raise ConfigError(
            f"method classify needs at least 2 classes, the training split has {len(classes)}",
            fix='set data.task = "classify" and data.target_field, or use method = "lora"',
        )
    lineage = find_adapter(job.train.advanced.base_adapter, runs_dir=runs_dir, folder=folder)
    loaded = load_model(
        base,
        num_labels=1 if job.train.method == "regress" else len(classes),
        quantise=job.train.advanced.quantise_base,
        random_init=job.train.advanced.init == "random",
        seed=job.seed,
        pad_id=tokenizer.pad_id,
        device=torch.device("cpu") if is_to_be_sharded(job) else None,
    )
    loaded.device = best_device()  # where a model that is to be sharded will be, block by block
    check_tokenizer(loaded, tokenizer)
    scale = scale_of(target_numbers(splits["train"])) if job.train.method == "regress" and splits else Scale()
    train, validation, derived = _rows(job, splits or shards, loaded, tokenizer, classes, scale)
    total = num_parameters(loaded.model)
    attach(job, loaded, derived, lineage)
    settings = _settings(job, derived, tokenizer.pad_id)
    count = sum(p.numel() for p in trainable(loaded.model).values())
    passes, engine = _passes(job, loaded, settings)
    settings = _recomputing(job, settings, passes, run_dir)
    if job.train.method in PREFERENCE_METHODS:
        passes, train, validation = _preference(job, loaded, settings, passes, train, validation, run_dir, lineage)
    return Setup(
        loaded,
        tokenizer,
        train,
        validation,
        derived,
        settings,
        version,
        classes,
        total,
        count,
        num_threads,
        passes,
        engine,
        scale,
        lineage,
        quantise_note(job.train.advanced.quantise_base, loaded.device),
        splits or {},
    )


def derived_again(before: Setup, job: JobConfig) -> Derived:
    """The derived settings of `job` over the base and the rows of `before`, without making it ready."""
    return _derived(job, before.loaded, before.tokenizer, before.train)


def setup_again(before: Setup, job: JobConfig, *, run_dir: Path) -> Setup:
    """The setup of `job` over the base, the rows and the samples of `before`, whose adapters are taken off.

    Only for jobs that differ in what neither base nor rows depend on; `before` is of no use afterwards.
    """
    loaded, trunk = before.loaded, before.passes.trunk
    before.passes.release()
    detach_adapters(loaded)
    derived = _derived(job, loaded, before.tokenizer, before.train)
    attach(job, loaded, derived, before.lineage)
    settings = _settings(job, derived, before.tokenizer.pad_id)
    passes, engine = _passes(job, loaded, settings)
    if isinstance(passes, FlatPasses):
        passes.trunk = trunk  # of the same blocks, where it fits
    settings = _recomputing(job, settings, passes, run_dir)
    train, validation = before.train, before.validation
    if job.train.method in PREFERENCE_METHODS:
        found = _preference(job, loaded, settings, passes, train, validation, run_dir, before.lineage)
        passes, train, validation = found
    count = sum(p.numel() for p in trainable(loaded.model).values())
    return replace(
        before,
        train=train,
        validation=validation,
        derived=derived,
        settings=settings,
        trainable_parameters=count,
        passes=passes,
        engine=engine,
    )


def _preference(
    job: JobConfig,
    loaded: LoadedModel,
    settings: LoopSettings,
    passes: Passes,
    train: Rows,
    validation: Rows,
    run_dir: Path,
    lineage: Lineage | None,
) -> tuple[Passes, Rows, Rows]:
    """The passes of a preference method, and rows that know what the model thought of them before training."""
    weights = desirability_weights(train.rows)
    judged = preference_passes(
        loaded,
        job.train,
        weights=weights,
        precision=settings.precision,
        pad_id=settings.pad_id,
        flat=passes if isinstance(passes, FlatPasses) else None,
    )
    if job.train.method == "orpo":
        return judged, train, validation
    key = f"{job.base} {job.seed} {job.train.model_dump_json()} {lineage.sha256 if lineage else ''}"
    rows = referenced(
        judged, [*train.rows, *validation.rows], budget_tokens=settings.budget_tokens, run_dir=run_dir, key=key
    )
    count = len(train.rows)
    return judged, train._replace(rows=rows[:count]), validation._replace(rows=rows[count:])


def _passes(job: JobConfig, loaded: LoadedModel, settings: LoopSettings) -> tuple[Passes, str]:
    """The engine, and a line on it."""
    advanced = job.train.advanced
    passes, reason = choose_passes(
        loaded,
        precision=settings.precision,
        pad_id=settings.pad_id,
        max_seq_len=settings.max_seq_len,
        engine=advanced.engine,
        without=advanced.without,
    )
    if reason:
        reason = why_method_is_not_flat(job.train) or reason  # in the words of the plan, not those of a layer
    adapters = (module for module in loaded.model.modules() if isinstance(module, LoraLinear))
    dropout = max((layer.dropout for layer in adapters), default=0.0)
    return passes, engine_line(reason, dropout=dropout, without=advanced.without)


def _splits(
    job: JobConfig, shards: TokenShards | None, run_dir: Path, runs_dir: Path
) -> tuple[dict[str, list[Sample]] | None, str, tuple[str, ...]]:
    if job.data.path == WORLD:
        return None, f"world-{job.data.max_rows}", ()
    if shards is not None:
        return None, shards.index.version, ()
    record = DatasetRecord.read(run_dir)
    store = DatasetStore(runs_dir)
    splits = {name: store.load(record.version, name) for name in ("train", "validation")}
    return splits, record.version, tuple(sorted({sample.target for sample in splits["train"] if sample.target}))


def _rows(
    job: JobConfig,
    splits: dict[str, list[Sample]] | TokenShards | None,
    loaded: LoadedModel,
    tokenizer: Tokenizer,
    classes: tuple[str, ...],
    scale: Scale,
) -> tuple[Rows, Rows, Derived]:
    limit = loaded.max_len or tokenizer.max_len
    check_room(job, limit)
    has_virtual = job.train.method in ("prompt", "prefix")
    room = limit - job.train.advanced.num_prompt_tokens if limit and has_virtual else limit
    longest = (
        min(job.train.max_seq_len or 1024, room or 1024)
        if not isinstance(splits, dict) or job.train.method == "pretrain"
        else (min(job.train.max_seq_len or room or 4096, room or 4096))
    )
    if loaded.kind == "seq2seq" and not isinstance(splits, dict):
        raise no_target(loaded.family)
    if splits is None:
        train = world_rows(job.data.max_rows, tokenizer, longest)
        validation = world_rows(WORLD_VALIDATION_DOCUMENTS, tokenizer, longest, seed=WORLD_VALIDATION_SEED)
    elif isinstance(splits, TokenShards):
        _check_whole(job)
        train, validation = shard_rows(splits, longest, validation_fraction=job.data.validation_fraction)
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
                method=job.train.method,
                scale=scale,
            )
            for name in ("train", "validation")
        )
    return train, validation, _derived(job, loaded, tokenizer, train)


def _check_whole(job: JobConfig) -> None:
    """Raise ConfigError where a method asks for samples, which token shards are not."""
    if job.train.method in ("classify", "regress", *PREFERENCE_METHODS):
        raise ConfigError(
            f"method {job.train.method} needs samples, and {job.data.path} holds token shards",
            fix='train.method = "pretrain", "full" or "lora"',
        )


def _derived(job: JobConfig, loaded: LoadedModel, tokenizer: Tokenizer, train: Rows) -> Derived:
    return derive(
        job,
        num_train_samples=len(train.rows),
        longest_sample_tokens=max(row.length for row in train.rows),
        model_max_len=loaded.max_len or tokenizer.max_len,
        device="cuda" if loaded.device.type == "cuda" else "cpu",
        has_bf16=has_bf16(loaded.device),
        has_fp16=has_fp16(loaded.device),
        frozen_flat_parameters=_frozen_flat_parameters(job, loaded, train),
    )


def _frozen_flat_parameters(job: JobConfig, loaded: LoadedModel, train: Rows) -> int:
    config: dict[str, Any] = loaded.model.config.to_dict()
    longest = max(row.length for row in train.rows)
    count = num_parameters(loaded.model)
    return frozen_flat_parameters(config, job.train, count, device=loaded.device.type, max_seq_len=longest)


def _recomputing(job: JobConfig, settings: LoopSettings, passes: Passes, run_dir: Path) -> LoopSettings:
    """The settings with what is known of recomputing: the job's wish, else the plan's. Raises ConfigError."""
    wish = job.train.advanced.recompute
    if wish == "always" and not passes.can_recompute:
        raise ConfigError(
            f"activations of a model with method {job.train.method} cannot be computed again in the backward pass",
            fix='train.advanced.recompute = "auto"',
        )
    planned = wish == "auto" and PlanRecord.exists(run_dir) and PlanRecord.read(run_dir).recomputes_activations
    return replace(
        settings,
        recomputes_activations=wish == "always" or (planned and passes.can_recompute),
        can_recompute=wish != "never" and passes.can_recompute,
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
        method=job.train.method,
        quantise_base=advanced.quantise_base,
    )
