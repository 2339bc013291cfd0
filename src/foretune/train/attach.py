"""What a method trains, put on a loaded model: adapters, virtual tokens, a head, an earlier adapter, every weight."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from foretune.config import JobConfig
from foretune.config.derive import Derived
from foretune.config.job import WHOLE_METHODS
from foretune.errors import ConfigError, NotFound
from foretune.models.adapter import (
    adapter_base,
    adapter_kind,
    attach_lora,
    attach_prefix,
    attach_soft_prompt,
    load_adapter,
)
from foretune.models.load import LoadedModel
from foretune.models.provenance import read_notes, weights_sha256
from foretune.records.training import TrainingRecord

__all__ = ["Lineage", "attach", "find_adapter"]


class Lineage(NamedTuple):
    """The adapter that training starts from: as the job names it, its folder, its weights' hash, its base."""

    name: str
    folder: Path
    sha256: str
    base: str


def attach(job: JobConfig, loaded: LoadedModel, derived: Derived, lineage: Lineage | None = None) -> None:
    """Freeze what stays and attach what the method trains; with `lineage` the earlier adapter is trained on.

    Raises ConfigError where target modules match nothing, the rank is too large, or the adapter is for another base.
    """
    train, advanced = job.train, job.train.advanced
    if train.method in WHOLE_METHODS:
        loaded.model.requires_grad_(True)
    elif train.method == "prompt":
        attach_soft_prompt(loaded, num_tokens=advanced.num_prompt_tokens, seed=job.seed)
    elif train.method == "prefix":
        attach_prefix(loaded, num_tokens=advanced.num_prompt_tokens, seed=job.seed)
    elif lineage is not None:
        _check_base(lineage, loaded)
        load_adapter(loaded, lineage.folder)
    else:
        attach_lora(
            loaded,
            rank=train.rank,
            alpha=derived.alpha,
            dropout=advanced.dropout,
            target_modules=advanced.target_modules,
            seed=job.seed,
            variant=advanced.lora_variant,
            top_layers=advanced.top_layers,
        )


def find_adapter(name: str, *, runs_dir: Path, folder: Path) -> Lineage | None:
    """The LoRA adapter that `train.advanced.base_adapter` names: a run in `runs_dir`, or a folder; None for "".

    Raises NotFound where there is none, ConfigError where it is no LoRA adapter on generated answers.
    """
    if not name:
        return None
    places = [runs_dir / name, folder / Path(name).expanduser(), Path(name).expanduser()]
    candidates = [path for place in places for path in (_adapter_of_run(place), place)]
    found = next((path for path in candidates if path is not None and (path / "adapter_config.json").is_file()), None)
    if found is None:
        raise NotFound(
            f"train.advanced.base_adapter: {name!r} is neither a run with an adapter nor a folder with one",
            fix="foretune runs list",
        )
    if adapter_kind(found) != "LORA" or (found / "labels.json").is_file() or read_notes(found).method == "regress":
        raise ConfigError(
            f"{found} holds no LoRA adapter for generated answers, so training cannot start from it",
            fix="name a run of method lora, dpo, orpo or kto",
        )
    return Lineage(name, found, weights_sha256(found), adapter_base(found))


def _adapter_of_run(run_dir: Path) -> Path | None:
    return run_dir / TrainingRecord.read(run_dir).artefact if TrainingRecord.exists(run_dir) else None


def _check_base(lineage: Lineage, loaded: LoadedModel) -> None:
    """Where the adapter knows the hash of its base, it must be this base."""
    known = read_notes(lineage.folder)
    if known.base_sha256 and known.base_sha256 != weights_sha256(loaded.folder):
        raise ConfigError(
            f"adapter {lineage.name} was trained on another base ({adapter_base(lineage.folder)}): the weights differ",
            fix=f'base = "{adapter_base(lineage.folder)}"',
        )
