"""How a row spreads its model over devices: degrees, sharding and offload from a cell such as `TP8 PP2 ZeRO-1`."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import re
from typing import cast

from foretune.plan.cells import Row
from foretune.plan.frameworks import Framework
from foretune.plan.setup import Method, Offload, Parallel, Sharding

__all__ = ["parallel_of"]

DEGREES = {"tensor": "tp", "pipeline": "pp", "virtual_pipeline": "vp", "context": "cp", "expert": "ep"}
SPOKEN = {"none": "copies (DDP)", "zero1": "ZeRO-1", "zero2": "ZeRO-2", "zero3": "sharded (FSDP or ZeRO-3)"}


def parallel_of(row: Row, num_gpus: int, framework: Framework, method: Method) -> Parallel:
    """How the row's model is spread; where it says nothing, as its framework does."""
    text = row.text("parallelism").lower()
    text = "" if "not stated" in text else text
    degrees = {name: _degree(text, key) for name, key in DEGREES.items()}
    model_devices = degrees["tensor"] * degrees["pipeline"] * degrees["context"]
    engine, sharding = _engine(text, framework, num_gpus)
    group = _shard_group(text)
    if group == 0 and engine == "fsdp":
        engine, sharding = "megatron", "zero1"
    if not text and num_gpus > 1:
        row.assume("parallelism", f"parallelism not given: {SPOKEN[sharding]} over {num_gpus} devices")
    return Parallel(
        data=_degree(text, "dp", default=0) or max(1, num_gpus // model_devices),
        sharding=cast(Sharding, sharding),
        shard_group=max(0, group) if group > 1 else 0,
        offload=_offload(text, row.hints),
        engine=engine,
        gathers_all=framework.gathers_all and method != "full",
        is_sequence_parallel=engine == "megatron" and "deepspeed" not in row.text("framework").lower(),
        **degrees,
    )


def _degree(text: str, key: str, default: int = 1) -> int:
    found = re.search(rf"\b{key}[ =_-]?(\d+)\b", text)
    return max(1, int(found.group(1))) if found else default


def _shard_group(text: str) -> int:
    """`FSDP8` beside other degrees is a group of eight, 0 none; `FSDP2` alone is a version. -1 = not said."""
    found = re.search(r"\bfsdp[ =_-]?(\d+)\b", text)
    return int(found.group(1)) if found and re.search(r"\b(tp|pp|ep|cp)[\d-]", text) else -1


def _offload(text: str, hints: str) -> Offload:
    if "offload" not in hints or re.search(r"no (cpu )?offload", hints):
        return "none"
    return "optimiser" if "optimi" in text else "all"


def _engine(text: str, framework: Framework, num_gpus: int) -> tuple[str, str]:
    """The software's way of spreading, and what it shards."""
    stage = re.search(r"zero[ -]?(\d)", text)
    if stage:
        return ("megatron" if framework.engine == "megatron" else "deepspeed"), f"zero{min(3, int(stage.group(1)))}"
    if re.search(r"no.?shard|\bddp\b", text):
        return "ddp", "none"
    if "shard_grad_op" in text:
        return "fsdp", "zero2"
    if "fsdp" in text:
        return "fsdp", "zero3"
    if re.search(r"deepspeed|zero", text):
        return "deepspeed", "zero3" if num_gpus > 1 or "offload" in text else "zero2"
    if re.search(r"\b(tp|pp|ep)[ =_-]?\d", text):
        return "megatron", "zero1"
    if num_gpus == 1:
        return "", "none"
    return framework.engine, framework.sharding
