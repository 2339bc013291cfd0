"""Why runs fail, from what they leave; what to try when memory runs out; disk; the resume self-test on a real model."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch

from foretune.errors import CheckpointError, DoesNotFit
from foretune.records.events import EventLog
from foretune.records.post_mortem import PostMortemRecord
from foretune.records.run import ResolvedRecord
from foretune.train.checkpoint import LoopState, save_checkpoint
from foretune.train.disk import artefact_bytes, checkpoint_bytes, run_bytes
from foretune.train.memory_ladder import MemorySettings, is_out_of_memory, next_rung, what_would_fit
from foretune.train.post_mortem import overlay_toml, post_mortem, post_mortem_lines
from foretune.train.resume_test import resume_self_test


def run_folder(folder: Path, *events: dict[str, Any], log: str = "", job: dict[str, Any] | None = None) -> Path:
    """A run that came to step 6 of 20, with a checkpoint at step 4."""
    run_dir = folder / "tickets-001"
    with EventLog(run_dir) as writer:
        writer.add("train_start", step=0, planned_steps=20)
        for step in range(1, 7):
            writer.add("step", step=step, loss=2.0 / step, learning_rate=4e-4)
        for event in events:
            writer.add(**event)
    (run_dir / "checkpoints" / "step-000004").mkdir(parents=True)
    (run_dir / "checkpoints" / "step-000004" / "state.json").write_text("{}")
    if log:
        (run_dir / "train.log").write_text(log)
    if job is not None:
        ResolvedRecord(
            run_id=run_dir.name, created="", foretune_version="0", job=job, origins={}, folder=str(folder)
        ).write(run_dir)
    return run_dir


def failed(name: str, message: str) -> dict[str, Any]:
    return {"kind": "failed", "error": name, "message": message, "fix": "the fix"}


CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("out_of_memory", "certain", {"events": [failed("DoesNotFit", "out of memory while training")]}),
    (
        "out_of_memory",
        "certain",
        {"log": "Traceback (most recent call last):\ntorch.OutOfMemoryError: CUDA out of memory"},
    ),
    ("disk_full", "certain", {"events": [failed("DoesNotFit", "x/tensors.safetensors: the disk is full")]}),
    ("disk_full", "certain", {"log": "OSError: [Errno 28] No space left on device"}),
    ("diverged", "certain", {"events": [failed("TrainingDiverged", "step 7: loss nan")]}),
    ("data", "certain", {"events": [failed("DataError", "TOK001: rows without a token")]}),
    ("config", "certain", {"events": [failed("ConfigError", "target module `q` matches no linear layer")]}),
    ("locked", "certain", {"log": "error: run tickets-001 is being written by process 7", "final": True}),
    ("damaged_checkpoint", "certain", {"events": [failed("CheckpointError", "step-000004: does not match its hash")]}),
    ("missing_package", "certain", {"events": [failed("MissingDependency", "bitsandbytes is not installed")]}),
    ("killed", "certain", {"exit_code": -9}),
    ("killed", "likely", {}),
    ("interrupted", "certain", {"exit_code": -15}),
    ("interrupted", "certain", {"exit_code": 130}),
    ("fault", "certain", {"log": "Traceback (most recent call last):\n  File\nIndexError: list index out of range"}),
    ("fault", "certain", {"exit_code": -11}),
]


@pytest.mark.parametrize(("cause", "certainty", "case"), CASES, ids=[f"{n}-{c[0]}" for n, c in enumerate(CASES)])
def test_the_cause_is_found(cause: str, certainty: str, case: dict[str, Any], tmp_path: Path) -> None:
    run_dir = run_folder(tmp_path, *case.get("events", ()), log=case.get("log", ""))
    record = post_mortem(run_dir, exit_code=case.get("exit_code"), is_final=case.get("final", False))
    assert record is not None and (record.cause, record.certainty) == (cause, certainty)
    assert (record.last_step, record.planned_steps, record.last_checkpoint_step, record.lost_steps) == (6, 20, 4, 2)
    assert record.evidence and (record.fixes or cause == "fault")
    assert PostMortemRecord.read(run_dir) == record
    text = "\n".join(post_mortem_lines(record))
    assert record.title in text and "checkpoint at step 4" in text and record.evidence[0] in text


def test_a_run_that_goes_on_or_ended_well_has_none(tmp_path: Path) -> None:
    run_dir = run_folder(tmp_path, {"kind": "train_end", "reason": "stopped", "step": 6})
    assert post_mortem(run_dir) is None and not PostMortemRecord.exists(run_dir)


@pytest.mark.parametrize(
    ("train", "plan", "expected"),
    [
        ({}, '{"micro_batch_size": 8, "max_seq_len": 512}', {"train.advanced.micro_batch_size": 2}),
        (
            {"method": "full"},
            '{"micro_batch_size": 1, "max_seq_len": 512}',
            {"train.method": "lora", "train.max_seq_len": 256},
        ),
        ({}, '{"micro_batch_size": 1, "max_seq_len": 64}', {"train.advanced.quantise_base": "4bit"}),
        ({}, "torn", {"train.advanced.micro_batch_size": 4}),
    ],
)
def test_the_settings_that_fit_follow_from_those_that_did_not(
    train: dict[str, Any], plan: str, expected: dict[str, Any], tmp_path: Path
) -> None:
    run_dir = run_folder(tmp_path, failed("DoesNotFit", "out of memory"), job={"base": "pebble", "train": train})
    (run_dir / "plan.json").write_text(plan)
    record = post_mortem(run_dir)
    assert record is not None and record.patch == expected
    flat = {}
    for table, values in tomllib.loads(overlay_toml(record)).items():
        for name, value in values.items():
            nested = value if isinstance(value, dict) else {"": value}
            flat |= {f"{table}.{name}.{inner}".rstrip("."): item for inner, item in nested.items()}
    assert flat == expected


# --- the ladder -----------------------------------------------------------------------------------------------------


def test_only_memory_is_tried_again() -> None:
    cpu = RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried ...")
    assert is_out_of_memory(MemoryError()) and is_out_of_memory(cpu)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(RuntimeError("shape mismatch")) and not is_out_of_memory(DoesNotFit("the disk is full"))
    with pytest.raises(RuntimeError, match="shape"):
        next_rung(RuntimeError("shape mismatch"), MemorySettings(8, 16, 512, "lora"))


@pytest.mark.parametrize("micro", [1, 3, 16])
def test_the_ladder_ends_and_never_touches_the_global_batch(micro: int) -> None:
    settings, seen = MemorySettings(micro, 48, 1024, "full", can_recompute=micro != 3), []
    with pytest.raises(DoesNotFit) as end:
        while True:
            rung = next_rung(MemoryError(), settings)
            settings = rung.settings
            seen.append(settings.budget_tokens)
            assert settings.global_batch_size == 48 and rung.why
    assert seen == sorted(seen, reverse=True) and settings.micro_batch_size == 1
    assert settings.recomputes_activations is (micro != 3)
    assert 'train.method = "lora"' in end.value.fix and "train.max_seq_len = 512" in end.value.fix


def test_what_would_fit_is_empty_where_nothing_is_left() -> None:
    assert what_would_fit(MemorySettings(1, 16, 128, "lora", quantise_base="4bit")) == {}
    assert what_would_fit(MemorySettings(1, 16, 128, "prompt")) == {}


# --- disk -----------------------------------------------------------------------------------------------------------


def test_predicted_checkpoint_size_is_the_real_one(tmp_path: Path) -> None:
    parameters, optimizer = trained_once()
    path = save_checkpoint(tmp_path, LoopState(step=1), parameters, optimizer, "key")
    real = sum(file.stat().st_size for file in path.iterdir())
    predicted = checkpoint_bytes(parameters.values())
    assert predicted <= real <= predicted * 1.01 + 2000
    assert artefact_bytes(parameters.values(), trains_whole_model=True, has_bf16_weights=True) == predicted // 6
    assert run_bytes(100, 30, keep_checkpoints=3) - run_bytes(0, 0, keep_checkpoints=3) == 430


# --- the resume self-test -------------------------------------------------------------------------------------------


def trained_once() -> tuple[dict[str, torch.Tensor], torch.optim.Optimizer]:
    """A matrix in fp32, a bias, and a matrix that has had no gradient yet, after two steps in two groups."""
    torch.manual_seed(0)
    parameters = {name: torch.nn.Parameter(torch.randn(shape)) for name, shape in (("w", (64, 32)), ("b", (32,)))}
    parameters["idle"] = torch.nn.Parameter(torch.randn(4, 4))
    groups = [{"params": [parameters["w"], parameters["idle"]], "weight_decay": 0.1}, {"params": [parameters["b"]]}]
    optimizer = torch.optim.AdamW(groups, lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        (parameters["w"].square().sum() + parameters["b"].square().sum()).backward()
        optimizer.step()
    return dict(parameters), optimizer


@pytest.mark.parametrize("what", ["parameter", "moment", "step", "state", "file"])
@pytest.mark.req("R258")
def test_the_self_test_finds_any_difference(what: str, tmp_path: Path) -> None:
    parameters, optimizer = trained_once()
    state = LoopState(step=2, window=[0.1, float("nan")])
    path = save_checkpoint(tmp_path, state, parameters, optimizer, "key")
    before = {name: value.clone() for name, value in parameters.items()}
    done = resume_self_test(path, parameters, optimizer, state, "key")
    assert done.num_tensors == 3 + 2 * 3 and done.num_bytes > 4 * 3 * 64 * 32
    assert all(torch.equal(before[name], value) for name, value in parameters.items())  # nothing was touched
    with torch.no_grad():
        if what == "parameter":
            parameters["b"][3] += 1e-6
        elif what == "moment":
            optimizer.state[parameters["w"]]["exp_avg"][0, 0] *= 1 + 1e-6
        elif what == "step":
            optimizer.state[parameters["w"]]["step"] += 1
        elif what == "state":
            state.num_tokens += 1
        else:
            file = path / "tensors.safetensors"
            data = bytearray(file.read_bytes())
            data[-5] ^= 1
            file.write_bytes(bytes(data))
    with pytest.raises(CheckpointError):
        resume_self_test(path, parameters, optimizer, state, "key")


def test_a_full_disk_does_not_keep_the_cause_from_being_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir = run_folder(tmp_path, failed("DoesNotFit", "x/tensors.safetensors: the disk is full"))

    def full(self: PostMortemRecord, folder: Path) -> None:
        raise DoesNotFit(f"{folder}/post_mortem.json: the disk is full")

    monkeypatch.setattr(PostMortemRecord, "write", full)
    record = post_mortem(run_dir)
    assert record is not None and record.cause == "disk_full"
