"""Passes over sharded weights: every process runs as many as the others, inside the hooks that gather the weights."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import distributed as dist
from torch import nn
from torch.distributed.fsdp import FSDPModule

from foretune.errors import DoesNotFit
from foretune.train.memory_ladder import MemorySettings, is_out_of_memory
from foretune.train.objective import LossSum, Row
from foretune.train.passes import Micro, Passes
from foretune.train.trunk import Trunk

__all__ = ["ShardedPasses", "Whole", "all_out_of_memory"]


class Whole(nn.Module):
    """The model inside one module whose forward is any pass over it, so that all of a pass runs in FSDP's hooks."""

    def __init__(self, model: nn.Module, before: Callable[[], None]) -> None:
        super().__init__()
        self.model = model
        self.before = before

    def forward(self, work: Callable[[], LossSum]) -> LossSum:
        """What `work` gives, with the weights outside the blocks gathered."""
        self.before()
        return work()


@dataclass(frozen=True)
class ShardedPasses:
    """Passes of a model that several processes hold together; `whole` is `Whole`, taken apart by `fully_shard`."""

    inner: Passes
    whole: Whole
    filler: Row  # what a process computes, without effect, while others have more to do

    def cut(self, rows: Sequence[Row], budget_tokens: int) -> Iterator[Micro]:
        """See `Passes`. All processes call it together, also those without rows."""
        own = list(self.inner.cut(rows, budget_tokens)) if rows else []
        num_idle = _most(len(own)) - len(own)
        for micro in own:
            yield micro._replace(loss=partial(self._loss, micro.loss))
        for _ in range(num_idle):
            blank = next(iter(self.inner.cut([self.filler], budget_tokens)))
            yield Micro([], 0, 0, partial(self._idle, blank.loss))

    def _loss(self, loss: Callable[[], LossSum]) -> LossSum:
        found: LossSum = self.whole(loss)
        if not torch.is_grad_enabled():
            self._reshard()  # no backward pass will do it
        return found

    def _idle(self, loss: Callable[[], LossSum]) -> LossSum:
        return LossSum(self._loss(loss).loss * 0.0, 0)

    def _reshard(self) -> None:
        assert isinstance(self.whole, FSDPModule), "fully_shard gives it that class"
        self.whole.reshard()

    def release(self) -> None:
        """See `Passes`; the model stays in shards."""
        self._reshard()
        self.inner.release()

    def prepare(self, rows: Sequence[Row], budget_tokens: int, *, folder: Path, key: Callable[[], str]) -> str:
        """Nothing is kept over shards."""
        return ""

    @property
    def trunk(self) -> Trunk | None:
        """Nothing is kept over shards."""
        return None

    @property
    def can_recompute(self) -> bool:
        """Only from the start: no process can begin with it by itself."""
        return self.inner.can_recompute

    def recompute(self) -> None:
        """See `Passes`."""
        self.inner.recompute()


def _most(count: int) -> int:
    """The largest of the processes' counts."""
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, count)
    return int(max(found))


def all_out_of_memory(error: BaseException, room: MemorySettings) -> BaseException:
    """What a failed pass over sharded weights means: no process can try it again by itself."""
    if not is_out_of_memory(error):
        return error
    smaller = max(1, room.micro_batch_size // 2)
    return DoesNotFit(
        f"out of memory with {room.micro_batch_size} samples at once, over sharded weights",
        fix=f"train.advanced.micro_batch_size = {smaller}" if room.micro_batch_size > 1 else "more processes: --nproc",
    )
