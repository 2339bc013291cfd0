"""Weights in shards over two processes: losses of one process, checkpoints of any number of shards, nothing lost."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from foretune.backends.processes import check_processes
from foretune.config import JobConfig
from foretune.errors import CheckpointError, ConfigError
from foretune.records.events import read_events
from foretune.records.training import TrainingRecord
from foretune.train.checkpoint import LoopState, latest_checkpoint, load_checkpoint, save_checkpoint
from foretune.train.here import train_run
from foretune.train.resume_test import resume_self_test
from foretune.train.sharded import blocks_of
from foretune.train.train import run_key
from unit.train.test_distributed import LIMIT, forget_after, losses, prepared, start

FSDP: dict[str, Any] = {"train__advanced__parallel": "fsdp", "train__method": "full"}


def flip_a_byte(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(bytes(data))


@pytest.fixture
def alone_together(tmp_path: Path) -> Iterator[None]:
    """A process group of this process alone."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def trained(seed: int) -> tuple[dict[str, torch.Tensor], torch.optim.Optimizer]:
    """A sharded layer after one step."""
    torch.manual_seed(seed)
    layer = nn.Linear(6, 5)
    fully_shard(layer, mesh=init_device_mesh("cpu", (1,)))
    parameters = dict(layer.named_parameters())
    optimizer = torch.optim.AdamW(parameters.values(), lr=1e-2, fused=True)
    layer(torch.randn(3, 6)).square().sum().backward()
    optimizer.step()
    return parameters, optimizer


@pytest.mark.req("R258", "R262")
def test_weights_in_shards_train_as_whole_ones_and_go_on_with_any_number_of_processes(
    tiny_job: Path, tmp_path: Path
) -> None:
    one, two = (prepared(tiny_job, tmp_path / "runs", **FSDP) for _ in range(2))
    theirs = train_run(one)
    done = start(two, 2)
    assert done.returncode == 0, done.stderr
    assert losses(two) == pytest.approx(losses(one), rel=LIMIT) and len(losses(one)) == 6
    assert "sharded over 2 processes" in str([e for e in read_events(two) if e["kind"] == "note"])
    shards = sorted(path.name for path in (two / "checkpoints" / "step-000004").glob("*.safetensors"))
    assert len(shards) == 2

    forget_after(two, 4)
    flip_a_byte(two / "checkpoints" / "step-000004" / shards[1])
    train_run(two, resume=True)  # 2 -> 1, from step 2
    assert [e["step"] for e in read_events(two) if e["kind"] == "step"][6:] == [3, 4, 5, 6]
    forget_after(two, 4)  # 1 -> 2, from the plain checkpoint of step 4
    done = start(two, 2, resume=True)
    assert done.returncode == 0, done.stderr
    assert losses(two) == pytest.approx(losses(one), rel=LIMIT)
    ours = TrainingRecord.read(two)
    assert theirs is not None and ours.parity is not None and not ours.parity.problems
    assert [p.loss for p in ours.eval_curve] == pytest.approx([p.loss for p in theirs.eval_curve], rel=LIMIT)
    weights, others = (load_file(run / "model" / "model.safetensors") for run in (two, one))
    assert weights.keys() == others.keys()
    assert all(torch.allclose(weights[name], others[name], atol=1e-5) for name in weights)


@pytest.mark.usefixtures("alone_together")
def test_a_checkpoint_in_shards_is_found_whole_or_not_at_all(tmp_path: Path) -> None:
    parameters, optimizer = trained(0)
    folder, key = tmp_path / "checkpoints", "key"
    first = save_checkpoint(folder, LoopState(step=1), parameters, optimizer, key)
    wanted = {name: value.detach().full_tensor().clone() for name, value in parameters.items()}  # type: ignore[attr-defined]
    assert resume_self_test(first, parameters, optimizer, LoopState(step=1), key).num_tensors == 8
    (folder / ".step-000002.partial").mkdir()  # a kill while shards were written
    (folder / ".step-000002.partial" / "shard-00009-model-00001-of-00001.safetensors").write_bytes(b"torn")
    with torch.no_grad():
        for value in parameters.values():
            value.mul_(2)
    second = save_checkpoint(folder, LoopState(step=2), parameters, optimizer, key)
    assert sorted(path.name for path in second.iterdir()) == [
        "shard-00001-model-00001-of-00001.safetensors",
        "state.json",
    ]
    flip_a_byte(next(second.glob("shard-*")))
    with pytest.raises(CheckpointError, match="does not match its hash"):
        load_checkpoint(second, parameters, None, key)
    again, their_optimizer = trained(1)
    state = latest_checkpoint(folder, again, their_optimizer, key)
    assert state is not None and state.step == 1
    assert all(torch.equal(again[name].full_tensor(), wanted[name]) for name in wanted)  # type: ignore[attr-defined]
    weight = again["weight"]
    assert isinstance(their_optimizer.state[weight]["exp_avg"], DTensor)
    assert torch.equal(
        their_optimizer.state[weight]["exp_avg"].to_local(), optimizer.state[parameters["weight"]]["exp_avg"].to_local()
    )
    next(first.glob("shard-*")).unlink()
    with pytest.raises(CheckpointError, match="all 2 checkpoints are damaged"):
        latest_checkpoint(folder, again, their_optimizer, key)


@pytest.mark.usefixtures("alone_together")
def test_plain_and_sharded_checkpoints_are_read_into_each_other(tmp_path: Path) -> None:
    parameters, optimizer = trained(0)
    plain = {name: value.detach().full_tensor().clone() for name, value in parameters.items()}  # type: ignore[attr-defined]
    plain_optimizer = torch.optim.AdamW([value.requires_grad_() for value in plain.values()], fused=True)
    path = save_checkpoint(tmp_path / "a", LoopState(step=1), parameters, optimizer, "key")
    load_checkpoint(path, plain, plain_optimizer, "key")
    moments = plain_optimizer.state[plain["bias"]]
    assert torch.equal(moments["exp_avg_sq"], optimizer.state[parameters["bias"]]["exp_avg_sq"].full_tensor())
    assert float(moments["step"]) == 1 and not isinstance(moments["exp_avg"], DTensor)
    path = save_checkpoint(tmp_path / "b", LoopState(step=1), plain, plain_optimizer, "key")
    assert sorted(file.name for file in path.iterdir()) == ["state.json", "tensors.safetensors"]
    assert isinstance(json.loads((path / "state.json").read_text())["sha256"], str)
    other, other_optimizer = trained(1)
    load_checkpoint(path, other, other_optimizer, "key")
    assert torch.equal(other["weight"].full_tensor(), plain["weight"])  # type: ignore[attr-defined]
    assert resume_self_test(path, other, other_optimizer, LoopState(step=1), "key").num_tensors == 8


def test_what_cannot_be_sharded_is_refused() -> None:
    def job(**train: Any) -> JobConfig:
        advanced = {"parallel": "fsdp", **train.pop("advanced", {})}
        return JobConfig.model_validate({"train": {**train, "advanced": advanced}})

    with pytest.raises(ConfigError, match="4bit base cannot be sharded"):
        check_processes(job(method="qlora"), 2)
    with pytest.raises(ConfigError, match="reference"):
        check_processes(job(method="dpo"), 2)
    check_processes(job(method="dpo"), 1)
    check_processes(job(method="full"), 2)
    assert run_key(job(), "v") == run_key(JobConfig(), "v")  # checkpoints belong to the run, however it is shared


def test_blocks_are_those_that_repeat(tiny_llama: Path) -> None:
    from foretune.models.load import load_model

    blocks = blocks_of(load_model(tiny_llama).model)
    assert [type(block).__name__ for block in blocks] == ["LlamaDecoderLayer"] * 2
    assert len(blocks_of(nn.ModuleDict({"h": nn.ModuleList([nn.Linear(2, 2) for _ in range(3)])}))) == 3
