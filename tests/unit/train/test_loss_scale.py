"""fp16: where it is chosen, scaled losses that learn what fp32 does, updates left out on overflow, exact resume."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import functools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from foretune.config.derive import derive
from foretune.config.job import AdvancedTrain, JobConfig, TrainConfig
from foretune.errors import ConfigError, TrainingDiverged
from foretune.models.adapter import attach_lora
from foretune.models.load import LoadedModel, load_model
from foretune.records.events import EventLog, read_events
from foretune.train.checkpoint import LoopState
from foretune.train.loop import FitResult, LoopSettings, curve_every, fit
from foretune.train.loss_scale import checked_norm, loss_scaler
from foretune.train.objective import Row
from foretune.train.passes import PaddedPasses, choose_passes
from tiny import tiny_model

SETTINGS = LoopSettings(
    num_steps=4, global_batch_size=4, micro_batch_size=4, max_seq_len=24, learning_rate=1e-2, warmup_steps=0,
    schedule="constant", weight_decay=0.0, max_grad_norm=1.0, eval_every=4, save_every=1, keep_checkpoints=3,
    patience=0, precision="fp16", seed=5, pad_id=0,
)  # fmt: skip


def chosen(precision: str, device: Any, **has: bool) -> str:
    """The precision that a job gets."""
    job = JobConfig(train=TrainConfig(advanced=AdvancedTrain(precision=precision)))  # type: ignore[arg-type]
    derived = derive(job, num_train_samples=9, longest_sample_tokens=9, model_max_len=None, device=device, **has)
    return derived.precision


@pytest.mark.req("R233")
def test_the_hardware_chooses_the_arithmetic() -> None:
    assert chosen("auto", "cuda", has_bf16=True, has_fp16=True) == "bf16"
    assert chosen("auto", "cuda", has_bf16=False, has_fp16=True) == "fp16"  # V100, T4
    assert chosen("auto", "cuda", has_bf16=False, has_fp16=False) == "fp32"
    assert chosen("auto", "cpu", has_bf16=True) == "fp32" and chosen("fp16", "cuda") == "fp16"
    with pytest.raises(ConfigError, match="a processor computes it slowly") as caught:
        chosen("fp16", "cpu")
    assert caught.value.fix == 'train.advanced.precision = "auto"'


@pytest.mark.req("R234")
@pytest.mark.parametrize(("num_steps", "every"), [(50, 1), (2_000, 10), (10_000, 50), (20_000, 100), (90_000, 100)])
def test_the_loss_is_logged_at_least_every_hundred_steps(num_steps: int, every: int) -> None:
    assert curve_every(num_steps) == every


def rows_of(num: int = 8) -> list[Row]:
    """Random rows."""
    draw = np.random.default_rng(0)
    lengths = draw.integers(8, 24, num)
    return [Row(draw.integers(10, 300, n).astype(np.int32), np.ones(n, dtype=np.float32)) for n in lengths]


def adapted(base: Path) -> LoadedModel:
    """A tiny Llama with adapters."""
    loaded = load_model(base, pad_id=0)
    attach_lora(loaded, rank=4, alpha=8, dropout=0.0, target_modules=("all-linear",))
    return loaded


def trained(loaded: LoadedModel, folder: Path, precision: str = "fp16", **options: Any) -> FitResult:
    """The loop in a precision."""
    passes, why = choose_passes(loaded, precision=precision, pad_id=0, max_seq_len=24, engine="padded")
    assert isinstance(passes, PaddedPasses) and why
    settings = replace(SETTINGS, precision=precision)  # type: ignore[arg-type]
    with EventLog(folder) as events:
        return fit(
            loaded, rows_of(), [], passes, settings, events=events, checkpoints=folder / "c", run_key="key", **options
        )


def test_fp16_learns_what_fp32_learns_and_resumes_to_the_bit(tmp_path: Path) -> None:
    base = tiny_model(tmp_path / "base")
    assert "fp16" in choose_passes(adapted(base), precision="fp16", pad_id=0, max_seq_len=24)[1]
    exact, half = (trained(adapted(base), tmp_path / name, name) for name in ("fp32", "fp16"))
    ours = [point.loss for point in half.state.train_curve]
    assert ours == pytest.approx([point.loss for point in exact.state.train_curve], rel=2e-3)
    assert half.state.loss_scale == 2.0**16 and half.state.loss_scale_growth == 4 and exact.state.loss_scale == 0
    trained(adapted(base), tmp_path / "cut", until=2)
    rest = trained(adapted(base), tmp_path / "cut", resume=True)
    assert [point.loss for point in rest.state.train_curve] == ours and rest.state.loss_scale_growth == 4


def test_an_update_that_overflows_is_left_out_with_half_the_scale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.amp, "GradScaler", functools.partial(torch.amp.GradScaler, init_scale=2.0**60))
    loaded = adapted(tiny_model(tmp_path / "base"))
    before = {name: p.detach().clone() for name, p in loaded.model.named_parameters()}
    result = trained(loaded, tmp_path / "run")
    assert all(torch.equal(before[name], p) for name, p in loaded.model.named_parameters())
    assert result.state.loss_scale == 2.0**56 and result.state.train_curve[0].grad_norm is None
    notes = [event["message"] for event in read_events(tmp_path / "run") if event["kind"] == "note"]
    assert sum("overflowed" in note for note in notes) == 4


def test_what_scaling_cannot_mend_ends_the_run() -> None:
    scaler = loss_scaler(torch.device("cpu"), "fp16", LoopState(loss_scale=2.0**-11))
    plain = loss_scaler(torch.device("cpu"), "fp32", LoopState())
    for used, loss, norm in ((scaler, 1.0, math.inf), (scaler, math.nan, 1.0), (plain, 1.0, math.inf)):
        with pytest.raises(TrainingDiverged, match="expected finite numbers") as caught:
            checked_norm(used, loss, norm, step=3, rate=0.01, calmer_rate=0.002)
        assert caught.value.fix == "train.learning_rate = 0.002"
