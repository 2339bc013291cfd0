"""Weights, gradients and optimizer sharded over processes (FSDP2, Zhao et al. 2023, arXiv 2304.11277).

`fully_shard` takes apart each block of the model and the rest as a whole; a block's weights are gathered while it runs.
Losses are sums divided by the weight of the whole global batch, so gradients are summed over processes, not averaged.
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from foretune.config import JobConfig
from foretune.config.job import WHOLE_METHODS
from foretune.models.flat_sharded import flat_over_shards
from foretune.models.load import LoadedModel, best_device, load_model
from foretune.train.attach import attach
from foretune.train.loop import trainable
from foretune.train.passes import FlatPasses
from foretune.train.processes import Processes
from foretune.train.setup import Setup
from foretune.train.sharded_passes import ShardedPasses, Whole

__all__ = ["blocks_of", "gathered", "shard"]


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The repeated blocks of a transformers model: of the classes that it says are not to be split, else its lists."""
    names = set(getattr(model, "_no_split_modules", None) or ())
    found = [module for module in model.modules() if type(module).__name__ in names]
    if found:
        return found
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module) > 1]
    return [block for one in lists for block in one]


def shard(job: JobConfig, setup: Setup, processes: Processes) -> Setup:
    """The setup with its model taken apart over the processes, and passes that gather what they need.

    All processes call it together. The loaded model's parameters become sharded under their own names.
    """
    loaded, inner = setup.loaded, setup.passes
    flat = inner if isinstance(inner, FlatPasses) else None
    inner.release()
    if flat is not None and flat.settings.precision == "bf16":
        _cast_frozen(loaded.model)
    mesh = init_device_mesh(best_device().type, (processes.count,))
    trains_bf16 = flat is not None and flat.settings.precision == "bf16" and job.train.method in WHOLE_METHODS
    dtype = torch.bfloat16 if trains_bf16 else None  # of gathered weights; sums of gradients stay in fp32
    policy = MixedPrecisionPolicy(dtype, torch.float32, cast_forward_inputs=False)
    parts = [fully_shard(block, mesh=mesh, mp_policy=policy) for block in blocks_of(loaded.model)]
    made = flat_over_shards(loaded, flat.settings) if flat is not None else None
    whole = Whole(loaded.model, _nothing if made is None else made.read)
    for part in (*parts, fully_shard(whole, mesh=mesh, mp_policy=MixedPrecisionPolicy(cast_forward_inputs=False))):
        part.set_gradient_divide_factor(1.0)
        part.set_force_sum_reduction_for_comms(True)
    if flat is not None:
        inner = replace(flat, trunk=None, _flat=made)
    filler = min(setup.train.rows, key=lambda row: row.length)
    return replace(setup, passes=ShardedPasses(inner, whole, filler), engine=f"{setup.engine}; {_line(processes)}")


def _nothing() -> None:
    """Before a pass of the transformers class: it reads its weights itself."""


def _line(processes: Processes) -> str:
    return f"weights, gradients and optimizer are sharded over {processes.count} processes (FSDP2)"


@torch.no_grad()
def _cast_frozen(model: nn.Module) -> None:
    """Frozen weights that bf16 holds exactly are held and gathered in it."""
    for parameter in model.parameters():
        short = parameter.data.bfloat16()
        if not parameter.requires_grad and parameter.is_floating_point() and torch.equal(short.float(), parameter.data):
            parameter.data = short


def gathered(job: JobConfig, setup: Setup, processes: Processes) -> Setup:
    """The setup with a model that is whole again, on the first process; unchanged on the others.

    All processes call it together. The base is loaded anew on the CPU and gets the trained parameters, one at a time.
    """
    plain = _plain_model(job, setup) if processes.is_first else None
    targets = trainable(plain.model) if plain is not None else {}
    for name, parameter in trainable(setup.loaded.model).items():
        value = parameter.detach()
        whole = value.full_tensor() if isinstance(value, DTensor) else value
        if plain is not None:
            targets[name].data.copy_(whole)
    return setup if plain is None else replace(setup, loaded=plain)


def _plain_model(job: JobConfig, setup: Setup) -> LoadedModel:
    loaded = load_model(
        setup.loaded.folder,
        num_labels=1 if job.train.method == "regress" else len(setup.labels),
        random_init=job.train.advanced.init == "random",
        seed=job.seed,
        pad_id=setup.tokenizer.pad_id,
        device=torch.device("cpu"),
    )
    attach(job, loaded, setup.derived, setup.lineage)
    loaded.model.eval()
    return loaded
