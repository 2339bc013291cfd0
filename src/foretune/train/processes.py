"""Several processes on one run: each computes its share of a global batch, and the sums are those of one process.

Losses are sums divided by the weight of the whole global batch, so gradients of shares add up to the gradient of the
batch, whoever computes them; every process then takes the same optimizer step (data parallel, as Li et al. 2020, arXiv
2006.15704, without its overlap of passes and sums). With sharded weights (`sharded.py`) the sums are FSDP's.
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.tensor import DTensor

from foretune.config import JobConfig
from foretune.errors import ConfigError
from foretune.train.objective import Row

__all__ = ["ALONE", "Processes", "is_to_be_sharded", "joined_processes", "num_processes"]

R = TypeVar("R", bound=Row)
BUCKET_BYTES = 64 * 2**20  # gradients are summed in pieces of at most this
TIMEOUT = timedelta(minutes=30)  # the longest that one may wait for another: the first saves, the others wait


@dataclass(frozen=True)
class Processes:
    """How many processes share a run, and which of them this is (from 0)."""

    count: int = 1
    number: int = 0
    is_sharded: bool = False  # each holds a part of the weights, and backward passes sum gradients by themselves

    @property
    def is_first(self) -> bool:
        """Whether this process writes checkpoints and the artefact."""
        return self.number == 0

    @property
    def seed_offset(self) -> int:
        """What is added to a step's seed, so that dropout differs between shares; 0 in the first."""
        return self.number << 40

    def share(self, rows: Sequence[R]) -> Sequence[R]:
        """This process's rows: dealt by length, longest first, to and fro, so that shares weigh alike."""
        if self.count == 1:
            return rows
        ordered = sorted(range(len(rows)), key=lambda i: (-rows[i].length, i))
        turns = (*range(self.count), *reversed(range(self.count)))
        mine = {i for place, i in enumerate(ordered) if turns[place % len(turns)] == self.number}
        return [row for i, row in enumerate(rows) if i in mine]

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace every gradient by its sum over the processes, in place; a missing one counts as 0."""
        if self.count == 1 or self.is_sharded:
            return
        for bucket in _buckets(parameters):
            gradients = [_gradient(parameter) for parameter in bucket]
            flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
            dist.all_reduce(flat)
            start = 0
            for gradient in gradients:
                gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
                start += gradient.numel()

    def joined(self, numbers: Mapping[str, float]) -> dict[str, float]:
        """The sums of named numbers over the processes, added in the order of the processes."""
        if self.count == 1:
            return dict(numbers)
        found: list[Any] = [None] * self.count
        dist.all_gather_object(found, dict(numbers))
        names = dict.fromkeys(name for one in found for name in one)
        return {name: sum(one.get(name, 0.0) for one in found) for name in names}

    def of_first(self, numbers: list[float]) -> list[float]:
        """The first process's numbers, where all come here together (sharded); else a process's own."""
        if not self.is_sharded:
            return numbers
        found: list[Any] = [numbers]
        dist.broadcast_object_list(found, src=0)
        return list(found[0])

    def clipped_norm(self, parameters: Iterable[Tensor], limit: float) -> float:
        """Clip gradients to the norm `limit` in place; their norm over all shards before that."""
        norm = nn.utils.clip_grad_norm_(parameters, limit)
        return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)

    def agree(self, is_so: bool) -> bool:
        """Whether it is so for any process; all get the same answer."""
        return is_so if self.count == 1 else self.joined({"so": float(is_so)})["so"] > 0

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.count > 1:
            dist.barrier()


ALONE = Processes()


def _gradient(parameter: Tensor) -> Tensor:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


def _buckets(parameters: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Neighbours of one type, of at most BUCKET_BYTES together."""
    bucket: list[Tensor] = []
    for parameter in parameters:
        is_full = sum(one.nbytes for one in bucket) + parameter.nbytes > BUCKET_BYTES
        if bucket and (is_full or bucket[0].dtype != parameter.dtype):
            yield bucket
            bucket = []
        bucket.append(parameter)
    if bucket:
        yield bucket


def num_processes() -> int:
    """How many processes the launcher started, by torchrun's own variable; 1 where there is none."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_to_be_sharded(job: JobConfig) -> bool:
    """Whether a job asks for sharded weights and there are processes to share them."""
    return job.train.advanced.parallel == "fsdp" and num_processes() > 1


@contextmanager
def joined_processes() -> Iterator[Processes]:
    """The processes that the launcher started, joined for the block: gloo on CPUs, NCCL with a GPU each.

    Reads torchrun's RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT. Raises ConfigError for more processes than GPUs.
    """
    count = num_processes()
    if count == 1:
        yield ALONE
        return
    number, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    has_gpu, here = torch.cuda.is_available(), int(os.environ.get("LOCAL_WORLD_SIZE", str(count)))
    if has_gpu and torch.cuda.device_count() < here:
        raise ConfigError(
            f"{here} processes on this machine, which has {torch.cuda.device_count()} GPUs; each needs one",
            fix=f"--nproc {torch.cuda.device_count()}",
        )
    if has_gpu:
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if has_gpu else "gloo", timeout=TIMEOUT)
    try:
        yield Processes(count, number)
    finally:
        dist.destroy_process_group()
