"""The resume self-test: the first checkpoint is read back from the disk and must be what is in memory, bit by bit.

A step depends on parameters, optimizer and loop state alone (randomness on the seed and the step), so equal values here
mean that a resumed run computes what this one does.
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from foretune.errors import CheckpointError
from foretune.train.checkpoint import STATE, LoopState, load_checkpoint
from foretune.train.sharded_checkpoint import local_part

__all__ = ["ResumeTest", "check_resumable", "resume_self_test"]


class ResumeTest(NamedTuple):
    """What was compared, and how long it took."""

    num_tensors: int
    num_bytes: int
    seconds: float


def resume_self_test(
    path: Path, parameters: dict[str, Tensor], optimizer: torch.optim.Optimizer, state: LoopState, run_key: str
) -> ResumeTest:
    """Load the checkpoint in `path` into a second set of tensors, as resuming does, and compare everything.

    Takes the memory of one checkpoint for a moment. Raises CheckpointError naming the first difference.
    """
    began = time.perf_counter()
    copies = {name: torch.empty_like(value, requires_grad=False) for name, value in parameters.items()}
    twin = _twin(optimizer, parameters, copies)
    again = load_checkpoint(path, copies, twin, run_key)
    if _plain(again) != _plain(state):
        raise _unequal(path, "the loop's own numbers")
    pairs = _pairs(parameters, copies, optimizer, twin)
    for name, mine, its in pairs:
        if its is None or mine.dtype != its.dtype or not _same_bits(mine, its):
            raise _unequal(path, name)
    num_bytes = sum(mine.numel() * mine.element_size() for _, mine, _ in pairs)
    return ResumeTest(len(pairs), num_bytes, round(time.perf_counter() - began, 4))


def _twin(
    optimizer: torch.optim.Optimizer, parameters: dict[str, Tensor], copies: dict[str, Tensor]
) -> torch.optim.Optimizer:
    """An optimizer of the same class over the copies, without state."""
    name_of = {id(value): name for name, value in parameters.items()}
    groups = [
        {**group, "params": [copies[name_of[id(p)]] for p in group["params"]]} for group in optimizer.param_groups
    ]
    kind: Any = type(optimizer)
    made: torch.optim.Optimizer = kind(groups)
    return made


def _pairs(
    parameters: dict[str, Tensor], copies: dict[str, Tensor], mine: torch.optim.Optimizer, its: torch.optim.Optimizer
) -> list[tuple[str, Tensor, Tensor | None]]:
    """Every tensor in memory with the one that came back from the disk."""
    found: list[tuple[str, Tensor, Tensor | None]] = []
    for name, value in parameters.items():
        found.append((f"parameter {name}", value.detach(), copies[name]))
        again = its.state.get(copies[name], {})
        for key, moment in mine.state.get(value, {}).items():
            other = again.get(key)
            found.append(
                (f"{key} of {name}", torch.as_tensor(moment), None if other is None else torch.as_tensor(other))
            )
    return found


def _same_bits(mine: Tensor, its: Tensor) -> bool:
    """Equal in every bit; two NaN are equal. Of sharded tensors this process's parts."""
    if mine.shape != its.shape:
        return False
    parts = (local_part(one.detach()).to("cpu").contiguous().reshape(-1) for one in (mine, its))
    left, right = (part.view(torch.uint8) for part in parts)
    return torch.equal(left, right)


def _plain(state: LoopState) -> str:
    return json.dumps(state.model_dump(mode="python"), sort_keys=True, default=str)


def _unequal(path: Path, what: str) -> CheckpointError:
    return CheckpointError(
        f"{path.name}: resume self-test: {what} came back from the disk unlike it is in memory; "
        "a resumed run would not be this run",
        fix="check the disk; if it is sound this is a fault of foretune: please report it",
    )


def check_resumable(checkpoints: Path, run_key: str) -> None:
    """Raise CheckpointError where there are checkpoints and every one was made by other settings or data.

    Going on would begin at step 0 and overwrite them.
    """
    keys = [_key_of(file) for file in sorted(checkpoints.glob(f"step-*/{STATE}"))]
    known = [key for key in keys if key]
    if known and run_key not in known:
        raise CheckpointError(
            f"{checkpoints}: {len(known)} checkpoints were made by other settings, data or another version of foretune",
            fix="start a new run (foretune train JOB), or move the folder away to begin again at step 0",
        )


def _key_of(file: Path) -> str:
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["run_key"])
    except (OSError, ValueError, KeyError):
        return ""  # torn: loading it says so
