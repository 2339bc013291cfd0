"""A job for a user's own rows: every setting chosen from the data, the base and this machine, each with its reason."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from foretune.config.derive import (
    BATCH_FRACTION,
    LEARNING_RATES,
    SMALL_BASE_PARAMETERS,
    USUAL_LEARNING_RATES,
    suggest_batch_size,
    suggest_epochs,
    suggest_learning_rate,
)
from foretune.config.job import LORA_METHODS, JobConfig
from foretune.config.read import resolve_job
from foretune.config.write import job_toml
from foretune.data.compress import without_compression
from foretune.data.inputs import plain_text
from foretune.data.samples import Sample
from foretune.errors import ConfigError, NotFound
from foretune.hardware import Machine, detect_machine
from foretune.models.base import EMBEDDED, base_config, resolve_base
from foretune.models.catalogue import find_model
from foretune.models.shapes import ALL_LINEAR, Shape, model_shape, targeted_layers
from foretune.plan.auto_fit import Fitted, fitted
from foretune.plan.lengths import Lengths
from foretune.plan.own_data import Choice, OwnData, own_data
from foretune.units import show_count

__all__ = ["AutoJob", "Draft", "KnownBase", "auto_job", "draft_job", "known_base", "own_folder", "rough_lengths"]

HUB = "hf:"
CHARACTERS_PER_TOKEN = 4.0
PACKED_ROW_TOKENS = 1024
MOST_PRETRAIN_EPOCHS = 4  # repeated so often, text teaches nearly as much as new text (Muennighoff et al. 2023)
FEW_ROWS = 50
NOT_WRITTEN = ("evaluate.primary_metric",)  # what the job gets by itself
JOB_FILE = "job.toml"


@dataclass(frozen=True)
class KnownBase:
    """A base model whose sizes are known: its name, its config.json, and its folder where it is on this machine."""

    name: str
    config: dict[str, Any]
    folder: Path | None

    @cached_property
    def shape(self) -> Shape:
        """Its sizes, layer by layer."""
        return model_shape(self.config)


@dataclass(frozen=True)
class Draft:
    """A job that can read and split the rows, before what follows from their number and lengths is chosen.

    `job` names data and base by whole paths; `written` are both as the job file will name them.
    """

    job: JobConfig
    own: OwnData
    base: KnownBase
    written: Mapping[str, str]


@dataclass(frozen=True)
class AutoJob:
    """The job with every choice and its reason, what was looked at but not taken, and how it fits this machine.

    `text` is the job file, `warnings` are about the rows; `num_rows` were read in the form `form`.
    """

    job: JobConfig
    text: str
    choices: tuple[Choice, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    num_rows: int
    form: str
    fit: Fitted


# --- where ----------------------------------------------------------------------------------------------------------


def own_folder(data: str, folder: str | Path | None) -> Path:
    """The folder of the job: `folder`, else one here with the name of the data. Raises ConfigError where it is taken.

    A folder of data is left as it is: the job goes into `NAME-job`.
    """
    name = _stem(data)
    target = Path(folder) if folder is not None else Path(f"{name}-job" if _holds(Path(name), Path(data)) else name)
    blocking = next((part for part in (target, *target.parents) if part.exists() and not part.is_dir()), None)
    taken = blocking or (target / JOB_FILE if (target / JOB_FILE).exists() else None)
    if taken is not None:
        raise ConfigError(f"{taken} exists already", fix=f"foretune init --data {shlex.quote(data)} ANOTHER_FOLDER")
    return target


def _holds(folder: Path, data: Path) -> bool:
    """Whether `folder` is the data, or holds it."""
    return folder.is_dir() and folder.resolve() in (data.resolve(), *data.resolve().parents)


def _stem(data: str) -> str:
    """A short name for the data that a job and a folder may have: `tickets` of `in/tickets.jsonl.gz`."""
    if data.startswith(HUB):
        last = re.split(r"[:@]", data.removeprefix(HUB))[0].rpartition("/")[2]
    else:
        path = without_compression(Path(data).resolve())
        last = path.name if Path(data).is_dir() else path.stem
    return re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip("-._") or "job"


def known_base(base: str) -> KnownBase:
    """The base of that name: on this machine, else by the catalogue without fetching it, else fetched.

    Raises NotFound, as everywhere, for a base that is none of these.
    """
    try:
        folder = resolve_base(base, download=False)
    except NotFound:
        is_path = base.startswith(("/", ".", "~")) or Path(base).is_dir()
        model = None if is_path else find_model(base)
        if model is not None:
            return KnownBase(model.id, model.config, None)
        folder = resolve_base(base)
    return KnownBase(base, base_config(folder), folder)


# --- draft ----------------------------------------------------------------------------------------------------------


def draft_job(
    data: str,
    local: Path,
    base: KnownBase,
    target: Path,
    *,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
) -> Draft:
    """Read the rows at `local` (where `data` lies) and choose what they call for; `target` is the job's folder.

    `settings` as of `own_data`. Raises DataError with every fault of the rows, NotFound, MissingDependency,
    ConfigError.
    """
    resolve_job(None, settings, env={})  # every fault of the settings at once
    if not local.exists():
        raise NotFound(f"no data at {data}", fix="give a file (*.jsonl, *.csv, *.txt, ...), a folder, or hf:owner/name")
    own = own_data(local, is_encoder_decoder=base.shape.is_encoder_decoder, settings=settings)
    path = data if data.startswith(HUB) else str(Path(data).resolve())
    whole = base.name if base.folder is None or not _is_folder(base.name) else str(base.folder.resolve())
    start = {"name": _stem(data), "seed": seed, "base": whole, "data.path": path}
    job = _job({**start, **{choice.name: choice.value for choice in own.choices}})
    written = {"data.path": _as_named(data, target), "base": _as_named(base.name, target)}
    return Draft(job, own, base, written)


def _is_folder(name: str) -> bool:
    return name != EMBEDDED and Path(name).expanduser().is_dir()


def _as_named(name: str, target: Path) -> str:
    """How a job in `target` names a file or folder: relative to it where it was given so; other names as they are."""
    path = Path(name).expanduser()
    if name == EMBEDDED or not path.exists():
        return name
    return str(path) if path.is_absolute() else Path(os.path.relpath(path.resolve(), target.resolve())).as_posix()


def _job(values: Mapping[str, Any]) -> JobConfig:
    """A job of dotted names and their values."""
    tree: dict[str, Any] = {}
    for name, value in values.items():
        *sections, field = name.split(".")
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
        place[field] = value
    return JobConfig.model_validate(tree)


def rough_lengths(job: JobConfig, splits: Mapping[str, Sequence[Sample]]) -> Lengths:
    """Tokens of every sample, or packed row of text, as characters over 4: for a base whose tokenizer is not here."""

    def tokens(samples: Sequence[Sample]) -> list[int]:
        sizes = [max(2, round(len(plain_text(sample)) / CHARACTERS_PER_TOKEN)) for sample in samples]
        whole, rest = divmod(sum(sizes), PACKED_ROW_TOKENS)
        packed = [PACKED_ROW_TOKENS] * whole + ([rest] if rest > 1 else [])
        return packed if job.train.method == "pretrain" else sizes

    train = splits.get("train", ())
    classes = {sample.target for sample in train} if job.train.method == "classify" else set()
    answers = [max(1, round(len(sample.target) / CHARACTERS_PER_TOKEN)) for sample in train]
    validation, test = (tokens(splits.get(name, ())) for name in ("validation", "test"))
    return Lengths(tokens(train), validation, test, train_answers=answers, num_labels=len(classes))


# --- job ------------------------------------------------------------------------------------------------------------


def auto_job(
    draft: Draft, lengths: Lengths, *, metric: str, warnings: Sequence[str] = (), machine: Machine | None = None
) -> AutoJob:
    """The whole job: batch, epochs, rate and adapter by the training rows and the base, then what this machine holds.

    `lengths` are those of the collected splits, `metric` is what will decide, `warnings` were found on the way. Raises
    ConfigError where the base cannot be trained by the method that the rows call for.
    """
    base, here = draft.base, machine or detect_machine()
    method = draft.job.train.method
    sized = tuple(_sized(draft, lengths))
    start = {"name": draft.job.name, "seed": draft.job.seed, "base": draft.job.base, "data.path": draft.job.data.path}
    chosen = {choice.name: choice.value for choice in (*draft.own.choices, *sized)}
    fit = fitted(_job({**start, **chosen}), base.config, lengths, here)
    choices = (
        Choice("base", draft.written["base"], _base_reason(base)),
        *draft.own.choices,
        *sized,
        *fit.choices,
        Choice("evaluate.primary_metric", metric, "what a job with such answers gets by itself; fixed before training"),
        Choice("plan.price_per_hour_usd", 0.0, "your own machine; what an hour of it costs, where you pay for it"),
    )
    values = {choice.name: choice.value for choice in choices if choice.name not in NOT_WRITTEN}
    job = _job({**start, **values, **draft.written})
    reasons = {choice.name: choice.reason for choice in choices if choice.name not in NOT_WRITTEN}
    text = job_toml(job, comment=_comment(draft, metric, here, method), reasons=reasons)
    own = draft.own
    few = f"{own.num_rows} rows are too little to learn from and to judge by; the job is written all the same"
    said = (*((few,) if own.num_rows < FEW_ROWS else ()), *warnings)
    return AutoJob(job, text, choices, own.notes, said, own.num_rows, own.form, fit)


def _base_reason(base: KnownBase) -> str:
    size = f"{show_count(base.shape.parameters)} parameters"
    if base.name == EMBEDDED:
        return f"the embedded model, {size}; another: --base with a model folder or a Hugging Face id"
    if base.folder is None:
        return f"{size} by the catalogue; not on this machine yet, `foretune plan` fetches it"
    return f"{size}, as you asked"


def _sized(draft: Draft, lengths: Lengths) -> Iterator[Choice]:
    """What follows from the number of training rows and the size of the base."""
    method, num, size = draft.job.train.method, len(lengths.train), draft.base.shape.parameters
    rows, to_1000 = f"{num:,} training rows", "5 to" if size < SMALL_BASE_PARAMETERS else "5 below 500, 4 to"
    epochs, why = suggest_epochs(num, size), f"{to_1000} 1,000, 3 below 10,000, 2 below 50,000"
    if method == "pretrain":
        rows = f"{num:,} packed rows of text"
        epochs, why = min(epochs, MOST_PRETRAIN_EPOCHS), "repeated up to 4 times, text teaches almost like new text"
    yield Choice("train.epochs", float(epochs), f"for {rows}: {why}")
    batch = suggest_batch_size(num)
    share = f"0.2 % of {rows}, within" if BATCH_FRACTION * num >= batch else f"0.2 % of {rows} is less than"
    yield Choice("train.global_batch_size", batch, f"{share} the usual 16 to 64")
    yield _rate(method, size)
    if method in LORA_METHODS:
        yield from _adapter(draft)


def _rate(method: Any, parameters: int) -> Choice:
    rate, usual = suggest_learning_rate(method, parameters), LEARNING_RATES[method]
    low, high = USUAL_LEARNING_RATES[method]
    why = f"usual for {method}: {low:g} to {high:g}"
    if rate > usual:
        why = f"a base as small as {show_count(parameters)} takes more than the usual {usual:g} of {method}"
    elif rate < usual:
        why = f"low in the usual {low:g} to {high:g} of {method}, so that the base keeps what it knows"
    return Choice("train.learning_rate", rate, why)


def _adapter(draft: Draft) -> Iterator[Choice]:
    """Adapters on all layers of a small base, and no wider than the layers of a tiny one."""
    shape, train = draft.base.shape, draft.job.train
    targets: tuple[str, ...] = ()
    if train.method == "lora" and shape.parameters < SMALL_BASE_PARAMETERS:
        targets = (ALL_LINEAR,)
        yield Choice("train.advanced.target_modules", targets, "a small base needs adapters in all its layers to learn")
    side = min(min(layer.num_inputs, layer.num_outputs) for layer in targeted_layers(shape, targets))
    if train.rank > side:
        yield Choice("train.rank", side, f"the usual {train.rank} is wider than the smallest layer of this base")


def _comment(draft: Draft, metric: str, machine: Machine, method: str) -> str:
    """The head of the job file; a comment of TOML takes no control characters."""
    read = f"{draft.written['data.path']}: {draft.own.num_rows:,} rows, {draft.own.form}"
    return (
        f"Settings chosen by `foretune init --data` for {''.join(c if c.isprintable() else '?' for c in read)}.\n"
        f"Method {method} on {machine.device_name}; decided by {metric} on the sealed test split. All may be changed.\n"
        "`foretune config schema` lists every field; `foretune config show job.toml --origin` shows what is in force."
    )
