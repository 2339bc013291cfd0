"""Activations computed again in the backward pass: the same numbers, on both engines, and the ladder's second rung."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from foretune.config.job import AdvancedTrain, JobConfig, TrainConfig
from foretune.errors import ConfigError, DoesNotFit
from foretune.models import decoder
from foretune.models.adapter import attach_lora, attach_prefix
from foretune.models.load import LoadedModel, load_model
from foretune.records.events import EventLog, read_events
from foretune.records.plan import Estimate, PlanRecord
from foretune.train.loop import FitResult, LoopSettings, fit
from foretune.train.objective import Row, loss_for
from foretune.train.passes import Micro, PaddedPasses, Passes, choose_passes
from foretune.train.setup import _recomputing
from tiny import tiny_model

SETTINGS = LoopSettings(
    num_steps=3, global_batch_size=4, micro_batch_size=2, max_seq_len=24, learning_rate=1e-2, warmup_steps=0,
    schedule="constant", weight_decay=0.0, max_grad_norm=1.0, eval_every=3, save_every=1, keep_checkpoints=3,
    patience=0, precision="fp32", seed=5, pad_id=0, can_recompute=True,
)  # fmt: skip


def rows_of(kind: str = "causal", num: int = 8) -> list[Row]:
    """Random rows of unlike lengths."""
    draw, rows = np.random.default_rng(0), []
    for _ in range(num):
        ids = draw.integers(10, 300, size=draw.integers(8, 24)).astype(np.int32)
        weights = np.ones(len(ids), dtype=np.float32)
        rows.append(Row(ids, weights, ids[::-1].copy()) if kind == "seq2seq" else Row(ids, weights))
    return rows


def adapted(folder: Path, dropout: float = 0.1) -> LoadedModel:
    """A tiny model with adapters that have moved."""
    loaded = load_model(folder, pad_id=0)
    attach_lora(loaded, rank=4, alpha=8, dropout=dropout, target_modules=("all-linear",))
    torch.manual_seed(1)
    for name, parameter in loaded.model.named_parameters():
        if name.endswith("lora_b"):
            parameter.data.normal_(std=0.1)
    loaded.model.train()
    return loaded


def gradient(loaded: LoadedModel, passes: Passes) -> torch.Tensor:
    """The whole gradient of one global batch, dropout from one seed."""
    torch.manual_seed(7)
    loaded.model.zero_grad()
    for micro in passes.cut(rows_of(loaded.kind), 60):
        micro.loss().loss.backward()
    return torch.cat([p.grad.flatten() for p in loaded.model.parameters() if p.grad is not None])


def test_flat_tokens_give_the_same_gradient_to_the_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, calls = adapted(tiny_model(tmp_path / "base")), []
    usual = decoder.flat_attention

    def counted(*inputs: Any) -> torch.Tensor:
        calls.append(len(inputs))
        return usual(*inputs)

    monkeypatch.setattr(decoder, "flat_attention", counted)
    passes, _ = choose_passes(loaded, precision="fp32", pad_id=0, max_seq_len=24)
    assert passes.can_recompute
    kept, num_kept = gradient(loaded, passes), len(calls)
    passes.recompute()
    again = gradient(loaded, passes)
    assert len(calls) == 3 * num_kept and torch.equal(kept, again)
    with torch.no_grad():
        next(iter(passes.cut(rows_of(), 60))).loss()
    assert len(calls) == 3 * num_kept + 2  # nothing twice where nothing is differentiated


@pytest.mark.parametrize("family", ["llama", "gpt2", "bloom", "t5"])
def test_the_transformers_class_gives_the_same_gradient(family: str, tmp_path: Path) -> None:
    loaded = adapted(tiny_model(tmp_path / "base", family))
    passes = PaddedPasses(loaded, loss_for(loaded), "fp32", 0)
    assert passes.can_recompute
    kept = gradient(loaded, passes)
    passes.recompute()
    assert any(getattr(module, "gradient_checkpointing", False) for module in loaded.model.modules())
    assert float((kept - gradient(loaded, passes)).norm() / kept.norm()) < 1e-6
    passes.release()
    assert not any(getattr(module, "gradient_checkpointing", False) for module in loaded.model.modules())


def test_a_learned_prefix_cannot_be_recomputed(tmp_path: Path) -> None:
    loaded = load_model(tiny_model(tmp_path / "base"), pad_id=0)
    attach_prefix(loaded, num_tokens=3)
    assert not PaddedPasses(loaded, loss_for(loaded), "fp32", 0).can_recompute


class Narrow:
    """Passes on a device without room for the activations of even one sample."""

    can_recompute = True

    def __init__(self, passes: Passes) -> None:
        self.passes, self.recomputes, self.refused = passes, False, 0

    def cut(self, rows: Sequence[Row], budget_tokens: int) -> Iterator[Micro]:
        """The passes' own, once activations are recomputed; validation needs none."""
        if not self.recomputes and torch.is_grad_enabled():
            self.refused += 1
            raise MemoryError
        return self.passes.cut(rows, budget_tokens)

    def recompute(self) -> None:
        """From now on there is room."""
        self.recomputes = True
        self.passes.recompute()

    def release(self) -> None:
        """The passes' own."""
        self.passes.release()


def trained(folder: Path, base: Path, *, narrow: bool, settings: LoopSettings = SETTINGS, **options: Any) -> FitResult:
    """The loop on a device with or without room."""
    loaded = adapted(base)
    passes: Any = choose_passes(loaded, precision="fp32", pad_id=0, max_seq_len=24)[0]
    with EventLog(folder) as events:
        return fit(
            loaded, rows_of(), rows_of()[:3], Narrow(passes) if narrow else passes, settings, events=events,
            checkpoints=folder / "c", run_key="key", **options,
        )  # fmt: skip


def test_the_second_rung_recomputes_and_says_so(tmp_path: Path) -> None:
    base = tiny_model(tmp_path / "base")
    plenty = trained(tmp_path / "plenty", base, narrow=False, settings=replace(SETTINGS, micro_batch_size=1))
    narrow = trained(tmp_path / "narrow", base, narrow=True)
    notes = [event["message"] for event in read_events(tmp_path / "narrow") if event["kind"] == "note"]
    assert [("samples at once" in note, "computed again" in note) for note in notes[:2]] == [
        (True, False),
        (False, True),
    ]
    assert narrow.state.recomputes_activations and narrow.state.micro_batch_size == 1
    assert not plenty.state.recomputes_activations
    assert [p.loss for p in narrow.state.train_curve] == [p.loss for p in plenty.state.train_curve]


def test_without_leave_the_ladder_ends_before_it(tmp_path: Path) -> None:
    base = tiny_model(tmp_path / "base")
    with pytest.raises(DoesNotFit, match="1 sample"):
        trained(tmp_path / "run", base, narrow=True, settings=replace(SETTINGS, can_recompute=False))


def test_a_resumed_run_goes_on_where_the_ladder_stood(tmp_path: Path) -> None:
    base = tiny_model(tmp_path / "base")
    whole = trained(tmp_path / "whole", base, narrow=True)
    trained(tmp_path / "cut", base, narrow=True, until=1)
    rest = trained(tmp_path / "cut", base, narrow=True, resume=True)
    notes = [event["message"] for event in read_events(tmp_path / "cut") if event["kind"] == "note"]
    assert sum("out of memory" in note for note in notes) == 2  # not again after the resume
    assert rest.started_from == 1 and rest.state.recomputes_activations
    assert [p.loss for p in rest.state.train_curve] == [p.loss for p in whole.state.train_curve]


def planned(recomputes: bool) -> PlanRecord:
    """A plan that says so."""
    some = Estimate(low=1, expected=1, high=1)
    return PlanRecord(
        base="pebble", method="lora", device="cpu", total_parameters=1, trainable_parameters=1, num_train_samples=1,
        num_train_tokens=1, num_steps=1, micro_batch_size=1, grad_accum_steps=1, max_seq_len=1, fits=True,
        available_memory_gb=1, peak_memory_gb=some, memory_components={}, train_seconds=some, total_seconds=some,
        tokens_per_second=some, cost_usd=some, price_per_hour_usd=0, disk_bytes=0, probed=False,
        recomputes_activations=recomputes,
    )  # fmt: skip


def test_the_job_decides_else_the_plan(tmp_path: Path) -> None:
    class Able:
        can_recompute = True

    able: Any = Able()
    plain = replace(SETTINGS, can_recompute=False)

    def found(wish: str) -> tuple[bool, bool]:
        job = JobConfig(train=TrainConfig(advanced=AdvancedTrain(recompute=wish)))  # type: ignore[arg-type]
        settings = _recomputing(job, plain, able, tmp_path)
        return settings.recomputes_activations, settings.can_recompute

    assert found("auto") == (False, True) and found("always") == (True, True) and found("never") == (False, False)
    planned(True).write(tmp_path)
    assert found("auto") == (True, True) and found("never") == (False, False)
    able.can_recompute = False
    assert found("auto") == (False, False)
    with pytest.raises(ConfigError, match="cannot be computed again"):
        found("always")
