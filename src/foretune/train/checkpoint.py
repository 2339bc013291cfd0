"""Checkpoints: everything that decides the next step, written whole, hashed, and pruned to the last few and the best.

A checkpoint folder is complete when its `state.json` is there: it is written last and carries the SHA-256 of the
tensors, so that a torn or damaged one is found and the one before it is used. Sharded parameters are written in shards
(`sharded_checkpoint.py`); either kind is read into either.
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors.torch import load, save
from torch import Tensor

from foretune.errors import CheckpointError
from foretune.log import note
from foretune.records.base import write_atomically
from foretune.records.training import CurvePoint
from foretune.train.sharded_checkpoint import is_sharded, read_shards, verify_files, write_shards

__all__ = ["LoopState", "latest_checkpoint", "load_checkpoint", "prune_checkpoints", "save_checkpoint", "sha256_of"]

TENSORS, STATE = "tensors.safetensors", "state.json"


class LoopState(BaseModel):
    """The loop's own numbers. `seconds` and `train_seconds` add up over restarts."""

    model_config = ConfigDict(extra="forbid")
    step: int = 0
    num_tokens: int = 0
    num_loss_tokens: int = 0
    seconds: float = 0.0
    train_seconds: float = 0.0
    best_step: int = 0
    best_eval_loss: float | None = None
    evals_without_gain: int = 0
    micro_batch_size: int = 0  # of the last step, smaller where memory ran out; 0: no step yet
    recomputes_activations: bool = False
    loss_scale: float = 0.0  # fp16 only
    loss_scale_growth: int = 0
    train_curve: list[CurvePoint] = []
    eval_curve: list[CurvePoint] = []
    window: list[float] = []  # losses since the last point of train_curve


def sha256_of(data: bytes) -> str:
    """Hex digest."""
    return hashlib.sha256(data).hexdigest()


def save_checkpoint(
    folder: Path, state: LoopState, parameters: dict[str, Tensor], optimizer: torch.optim.Optimizer, run_key: str
) -> Path:
    """Write `folder/step-NNNNNN`: trainable tensors, optimizer moments, loop state. Raises DoesNotFit.

    Where parameters are sharded, every process calls it and writes its shard.
    """
    path = folder / f"step-{state.step:06d}"
    tensors = {f"p.{name}": value.detach() for name, value in parameters.items()}
    for name, value in _optimizer_tensors(parameters, optimizer).items():
        tensors[f"o.{name}"] = value
    if is_sharded(parameters):
        write_shards(path, tensors, {"run_key": run_key, "state": state.model_dump()}, STATE)
        return path
    data = save({name: value.detach().to("cpu").contiguous().clone() for name, value in tensors.items()})
    if any(path.glob("shard-*")):  # a damaged one of more processes, which is written anew
        (path / STATE).unlink(missing_ok=True)
        shutil.rmtree(path)
    write_atomically(path / TENSORS, data)
    whole = {"run_key": run_key, "sha256": sha256_of(data), "state": state.model_dump()}
    write_atomically(path / STATE, json.dumps(whole) + "\n")
    return path


def _optimizer_tensors(parameters: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for name, parameter in parameters.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{name}.{key}"] = torch.as_tensor(value)
    return tensors


def load_checkpoint(
    path: Path, parameters: dict[str, Tensor], optimizer: torch.optim.Optimizer | None, run_key: str
) -> LoopState:
    """Put a checkpoint back in place. Raises CheckpointError where it is damaged or belongs to another run.

    Where parameters are sharded, every process calls it and reads its part, however the checkpoint was sharded.
    """
    try:
        whole = json.loads((path / STATE).read_text(encoding="utf-8"))
        state, hashes = LoopState.model_validate(whole["state"]), whole["sha256"]
        is_plain = isinstance(hashes, str) and not is_sharded(parameters)
        data = (path / TENSORS).read_bytes() if is_plain else b""
    except (OSError, ValueError, KeyError, ValidationError) as error:
        raise CheckpointError(f"{path}: incomplete ({type(error).__name__})", fix="an earlier one is used") from error
    if is_plain and sha256_of(data) != hashes:
        raise CheckpointError(f"{path}: does not match its hash, the file is damaged", fix="an earlier one is used")
    if not is_plain:
        files = {TENSORS: hashes} if isinstance(hashes, str) else hashes
        verify_files(path, files, together=is_sharded(parameters))
    if whole["run_key"] != run_key:
        raise CheckpointError(f"{path}: was made by other settings or data", fix="start a new run: foretune train JOB")
    if is_plain:
        tensors = load(data)
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(tensors[f"p.{name}"])
    else:
        tensors = read_shards(path, parameters, has_moments=optimizer is not None)
    if optimizer is not None:
        _restore_optimizer(optimizer, parameters, tensors)
    return state


def _restore_optimizer(
    optimizer: torch.optim.Optimizer, parameters: dict[str, Tensor], tensors: dict[str, Tensor]
) -> None:
    for name, parameter in parameters.items():
        prefix = f"o.{name}."
        found: dict[str, Any] = {
            key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)
        }
        if found:
            optimizer.state[parameter] = {
                key: value if key == "step" else value.to(parameter.device) for key, value in found.items()
            }


def _complete(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob(f"step-*/{STATE}"))


def latest_checkpoint(
    folder: Path,
    parameters: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    run_key: str,
    say: Callable[[str], object] = note,
) -> LoopState | None:
    """Load the newest checkpoint that is whole, and `say` which ones are not; None where nothing was ever written.

    Raises CheckpointError where all are damaged: going on would begin at step 0 and overwrite them.
    """
    written = _complete(folder)
    for path in reversed(written):
        try:
            return load_checkpoint(path, parameters, optimizer, run_key)
        except CheckpointError as error:
            say(f"{error}; the one before it is used" if path != written[0] else str(error))
    if written:
        raise CheckpointError(
            f"{folder}: all {len(written)} checkpoints are damaged; nothing was trained or overwritten",
            fix=f"bring one back from a copy; or begin again at step 0: mv {folder} {folder}.damaged",
        )
    return None


def prune_checkpoints(folder: Path, *, keep: int, best_step: int) -> None:
    """Delete all but the newest and the best: `keep` in all, at least the newest."""
    complete = _complete(folder)
    best = folder / f"step-{best_step:06d}"
    others = [path for path in complete if path != best]
    room = max(1, keep - (best in complete))
    for path in others[:-room]:
        (path / STATE).unlink()
        shutil.rmtree(path)
    for path in folder.glob("step-*"):
        if not (path / STATE).exists() and path < complete[-1]:
            shutil.rmtree(path)
