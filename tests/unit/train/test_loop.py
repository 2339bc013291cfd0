"""The loop: accumulation, schedule, early stopping, best checkpoint, exact resume, divergence."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import itertools
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from foretune.errors import CheckpointError, DoesNotFit, TrainingDiverged
from foretune.models.adapter import attach_lora, attach_soft_prompt
from foretune.models.load import LoadedModel, load_model
from foretune.records.base import write_error
from foretune.records.events import EventLog, read_events
from foretune.train import checkpoint as checkpoint_module
from foretune.train.checkpoint import load_checkpoint
from foretune.train.loop import (
    FitResult,
    LoopSettings,
    build_optimizer,
    evaluate_loss,
    fit,
    learning_rate_at,
    trainable,
)
from foretune.train.objective import Row, build_batch, loss_for
from foretune.train.passes import Micro, PaddedPasses, choose_passes
from tiny import FAMILIES, tiny_model

SETTINGS = LoopSettings(
    num_steps=6,
    global_batch_size=4,
    micro_batch_size=4,
    max_seq_len=24,
    learning_rate=1e-2,
    warmup_steps=2,
    schedule="cosine",
    weight_decay=0.01,
    max_grad_norm=1.0,
    eval_every=2,
    save_every=1,
    keep_checkpoints=3,
    patience=0,
    precision="fp32",
    seed=5,
    pad_id=0,
)


def rows_of(kind: str = "causal", num: int = 12, seed: int = 0) -> list[Row]:
    """Random rows of unlike lengths."""
    random = np.random.default_rng(seed)
    rows = []
    for i in range(num):
        ids = random.integers(10, 300, size=random.integers(5, 24)).astype(np.int32)
        weights = np.ones(len(ids), dtype=np.float32)
        weights[: len(ids) // 2] = 0
        if kind == "seq2seq":
            rows.append(Row(ids, np.ones(len(ids), dtype=np.float32), ids[::-1].copy()))
        elif kind == "classify":
            rows.append(Row(ids, weights * 0, label=i % 3))
        else:
            rows.append(Row(ids, weights))
    return rows


def adapted(folder: Path, *, method: str = "lora", num_labels: int = 0, dropout: float = 0.1) -> LoadedModel:
    """A tiny model made ready for a method."""
    loaded = load_model(folder, num_labels=num_labels, pad_id=0)
    if method == "full":
        loaded.model.requires_grad_(True)
    elif method == "prompt":
        attach_soft_prompt(loaded, num_tokens=4)
    else:
        attach_lora(loaded, rank=4, alpha=8, dropout=dropout, target_modules=("all-linear",))
    return loaded


def run(loaded: LoadedModel, run_dir: Path, settings: LoopSettings = SETTINGS, **options: object) -> FitResult:
    """One call of the loop over random rows."""
    rows = rows_of(loaded.kind)
    with EventLog(run_dir) as events:
        return fit(
            loaded,
            rows,
            rows_of(loaded.kind, 5, seed=9),
            choose_passes(loaded, precision=settings.precision, pad_id=0, max_seq_len=settings.max_seq_len)[0],
            settings,
            events=events,
            checkpoints=run_dir / "checkpoints",
            run_key="key",
            **options,  # type: ignore[arg-type]
        )


def losses(run_dir: Path) -> dict[int, float]:
    """The last loss written for each step."""
    return {event["step"]: event["loss"] for event in read_events(run_dir) if event["kind"] == "step"}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.req("R166", "R167", "R175", "R182", "R187", "R251")
def test_every_family_learns_with_lora(family: str, tmp_path: Path) -> None:
    loaded = adapted(tiny_model(tmp_path / "base", family), dropout=0.0)
    before = {name: value.clone() for name, value in loaded.model.state_dict().items() if "lora" not in name}
    result = run(loaded, tmp_path / "run", replace(SETTINGS, num_steps=12, warmup_steps=1))
    assert result.state.eval_curve[-1].loss < result.state.eval_curve[0].loss or (
        min(result.state.train_curve[-3:], key=lambda p: p.loss).loss < result.state.train_curve[0].loss
    )
    after = loaded.model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())  # the base did not move


@pytest.mark.parametrize("method", ["full", "prompt"])
@pytest.mark.req("R182", "R184", "R196")
def test_full_and_prompt_methods_learn(method: str, tmp_path: Path) -> None:
    loaded = adapted(tiny_model(tmp_path / "base"), method=method)
    total = sum(p.numel() for p in loaded.model.parameters())
    count = sum(p.numel() for p in trainable(loaded.model).values())
    assert count == (total if method == "full" else 4 * 32)
    result = run(loaded, tmp_path / "run", replace(SETTINGS, num_steps=12))
    assert result.state.train_curve[-1].loss < result.state.train_curve[0].loss


@pytest.mark.req("R168", "R431")
def test_gpt2_classifies_in_batches_although_it_has_no_pad_token(tmp_path: Path) -> None:
    loaded = adapted(tiny_model(tmp_path / "base", "gpt2"), num_labels=3, dropout=0.0)
    assert loaded.model.config.pad_token_id == 0
    result = run(loaded, tmp_path / "run", replace(SETTINGS, num_steps=20, schedule="constant"))
    assert result.state.train_curve[-1].loss < result.state.train_curve[0].loss
    rows = rows_of("classify", 4)
    with torch.no_grad():
        together = float(loss_for(loaded)(loaded, build_batch(rows, 0, loaded.device)).loss)
        alone = sum(float(loss_for(loaded)(loaded, build_batch([row], 0, loaded.device)).loss) for row in rows)
    assert together == pytest.approx(alone, rel=1e-5)


@pytest.mark.parametrize("kind", ["causal", "seq2seq", "classify"])
@pytest.mark.req("R223")
def test_one_batch_of_eight_equals_eight_batches_of_one(kind: str, tmp_path: Path) -> None:
    """Accumulation is normalised by supervised tokens, whatever the cut (transformers #34191 and kin)."""
    family = "t5" if kind == "seq2seq" else "llama"
    base = tiny_model(tmp_path / "base", family)
    ends = []
    for micro in (8, 1):
        loaded = adapted(base, num_labels=3 if kind == "classify" else 0, dropout=0.0)
        loaded.model.config.dropout_rate = 0.0
        for module in loaded.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        settings = replace(SETTINGS, global_batch_size=8, micro_batch_size=micro, num_steps=3)
        run(loaded, tmp_path / f"run{micro}", settings)
        ends.append({name: p.detach().clone() for name, p in trainable(loaded.model).items()})
    worst = max(float((ends[0][name] - ends[1][name]).abs().max()) for name in ends[0])
    assert worst < 2e-4  # of steps of 1e-2: Adam magnifies rounding where a gradient is nearly zero


def test_loss_equals_transformers_own(tmp_path: Path) -> None:
    loaded = load_model(tiny_model(tmp_path / "base"))
    row = rows_of(num=1)[0]
    batch = build_batch([row], 0, loaded.device)
    labels = torch.where(batch.weights_BL > 0, batch.ids_BL, -100)
    theirs = float(loaded.model(input_ids=batch.ids_BL, labels=labels).loss.detach())
    ours = float(loss_for(loaded)(loaded, batch).loss.detach()) / row.weight
    assert ours == pytest.approx(theirs, rel=1e-6)


@pytest.mark.req("R219", "R231")
def test_warm_up_then_cosine_to_a_tenth() -> None:
    rates = [learning_rate_at(step, replace(SETTINGS, num_steps=100, warmup_steps=10)) for step in range(100)]
    assert rates[0] == pytest.approx(1e-3)
    assert rates[9] == pytest.approx(1e-2) == max(rates)
    assert rates[-1] == pytest.approx(1e-3, rel=0.01)
    assert all(later <= earlier for earlier, later in itertools.pairwise(rates[9:]))


@pytest.mark.req("R232")
def test_norms_and_biases_are_not_decayed(tmp_path: Path) -> None:
    loaded = adapted(tiny_model(tmp_path / "base", "gpt2"), method="full")
    decayed, free = build_optimizer(trainable(loaded.model), SETTINGS).param_groups
    assert decayed["weight_decay"] == 0.01 and free["weight_decay"] == 0.0
    assert all(p.ndim > 1 for p in decayed["params"]) and all(p.ndim == 1 for p in free["params"])


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.req("R258")
def test_a_run_stopped_anywhere_resumes_to_the_very_same_numbers(method: str, tmp_path: Path) -> None:
    base = tiny_model(tmp_path / "base")
    whole = adapted(base, method=method)
    run(whole, tmp_path / "whole")
    parts = tmp_path / "parts"
    for stop_at in (2, 3):

        def stop(stop_at: int = stop_at) -> bool:
            return len(losses(parts)) >= stop_at

        assert run(adapted(base, method=method), parts, should_stop=stop, resume=True).stop_reason == "stopped"
    last = adapted(base, method=method)
    result = run(last, parts, resume=True)
    assert result.started_from == 3 and result.stop_reason == "finished"
    assert losses(parts) == losses(tmp_path / "whole")
    notes = [str(event["message"]) for event in read_events(parts) if event["kind"] == "note"]
    assert [note for note in notes if "goes on" in note][-1] == "goes on at step 3, from its checkpoint"
    ours, theirs = trainable(last.model), trainable(whole.model)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert [p.loss for p in result.state.train_curve] == list(losses(tmp_path / "whole").values())


@pytest.mark.req("R230", "R237", "R256")
def test_early_stopping_after_patience_and_best_checkpoint_restored(tmp_path: Path) -> None:
    loaded = adapted(tiny_model(tmp_path / "base"), dropout=0.0)
    settings = replace(
        SETTINGS, num_steps=60, eval_every=1, patience=3, learning_rate=0.05, schedule="constant", warmup_steps=0
    )
    result = run(loaded, tmp_path / "run", settings)
    curve = [point.loss for point in result.state.eval_curve]
    assert result.stop_reason == "early_stopping" and result.state.step < 60
    assert result.state.best_eval_loss == min(curve)
    assert result.state.step == result.state.best_step + 3
    again = evaluate_loss(
        loaded, rows_of("causal", 5, seed=9), PaddedPasses(loaded, loss_for(loaded), "fp32", 0), settings
    )
    if result.state.best_step:
        assert again == pytest.approx(min(curve), rel=1e-6)


@pytest.mark.req("R236")
def test_at_most_keep_checkpoints_stay_and_the_best_among_them(tmp_path: Path) -> None:
    result = run(adapted(tiny_model(tmp_path / "base")), tmp_path / "run", replace(SETTINGS, num_steps=9))
    kept = sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir())
    assert len(kept) <= 3 and "step-000009" in kept
    if result.state.best_step:
        assert f"step-{result.state.best_step:06d}" in kept


@pytest.mark.req("R220")
def test_nan_stops_the_run_with_a_named_error(tmp_path: Path) -> None:
    loaded = adapted(tiny_model(tmp_path / "base"), method="full")
    with torch.no_grad():
        next(iter(trainable(loaded.model).values())).fill_(math.nan)
    with pytest.raises(TrainingDiverged, match="step 1: loss nan") as caught:
        run(loaded, tmp_path / "run")
    assert "learning_rate" in caught.value.fix


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path: Path) -> None:
    base, folder = tiny_model(tmp_path / "base"), tmp_path / "run"
    whole = run(adapted(base), folder)
    newest = folder / "checkpoints/step-000006/tensors.safetensors"
    data = bytearray(newest.read_bytes())
    data[-5] ^= 1
    newest.write_bytes(data)
    loaded = adapted(base)
    with pytest.raises(CheckpointError, match="does not match its hash"):
        load_checkpoint(newest.parent, trainable(loaded.model), None, "key")
    again = run(loaded, folder, resume=True)
    assert again.started_from < 6
    notes = [event["message"] for event in read_events(folder) if event["kind"] == "note"]
    assert any("does not match its hash" in line and "the one before it is used" in line for line in notes)
    assert again.state.train_curve[-1].loss == whole.state.train_curve[-1].loss


@pytest.mark.parametrize(("number", "said"), [(errno.ENOSPC, "disk is full"), (errno.EROFS, "cannot be written")])
def test_a_full_disk_or_a_read_only_folder_in_mid_checkpoint_loses_nothing_already_saved(
    number: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, folder = tiny_model(tmp_path / "base"), tmp_path / "run"
    run(adapted(base), tmp_path / "whole")
    real = checkpoint_module.write_atomically

    def refused(path: Path, content: str | bytes) -> None:
        if "step-000004" in str(path):
            raise write_error(path, OSError(number, os.strerror(number)))
        real(path, content)

    monkeypatch.setattr(checkpoint_module, "write_atomically", refused)
    with pytest.raises(DoesNotFit, match=said):
        run(adapted(base), folder)
    monkeypatch.undo()
    result = run(adapted(base), folder, resume=True)
    assert result.started_from == 3
    assert losses(folder) == losses(tmp_path / "whole")


@pytest.mark.req("R084")
def test_the_budget_stops_the_run_with_a_checkpoint(tmp_path: Path) -> None:
    result = run(adapted(tiny_model(tmp_path / "base")), tmp_path / "run", replace(SETTINGS, max_seconds=0.0))
    assert result.stop_reason == "budget" and result.state.step == 1
    assert (tmp_path / "run/checkpoints/step-000001/state.json").is_file()


class Scarce:
    """Passes that run out of memory above a budget, as a device would."""

    def __init__(self, passes: PaddedPasses, most_tokens: int) -> None:
        self.passes, self.most_tokens = passes, most_tokens
        self.refused: list[int] = []

    def cut(self, batch: Sequence[Row], budget_tokens: int) -> Iterator[Micro]:
        """The passes' own; where the first is too large, memory runs out right after it, its gradient already there."""
        for micro in self.passes.cut(batch, budget_tokens):
            if not self.most_tokens:
                raise MemoryError
            yield micro
            if micro.num_tokens > self.most_tokens:
                self.refused.append(micro.num_tokens)
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    def release(self) -> None:
        """Nothing to give back."""


@pytest.mark.parametrize("most_tokens", [30, 60])
def test_a_step_that_runs_out_of_memory_is_done_again_in_smaller_pieces(most_tokens: int, tmp_path: Path) -> None:
    settings = replace(SETTINGS, micro_batch_size=3)
    for name in ("plenty", "scarce"):
        loaded = adapted(tiny_model(tmp_path / name / "base", "llama"), dropout=0.0)
        passes: Any = PaddedPasses(loaded, loss_for(loaded), "fp32", 0)
        if name == "scarce":
            passes = Scarce(passes, most_tokens)
        with EventLog(tmp_path / name) as events:
            folder = tmp_path / name / "checkpoints"
            fit(loaded, rows_of(), rows_of(num=5, seed=9), passes, settings, events=events, checkpoints=folder,
                run_key="key")  # fmt: skip
    assert passes.refused
    notes = [event["message"] for event in read_events(tmp_path / "scarce") if event["kind"] == "note"]
    assert any("the global batch stays 4, the gradient is the same" in note for note in notes)
    plenty, scarce = losses(tmp_path / "plenty"), losses(tmp_path / "scarce")
    assert list(plenty) == list(scarce)
    assert list(plenty.values()) == pytest.approx(list(scarce.values()), rel=1e-5)


def test_memory_that_does_not_suffice_for_one_sample_says_what_would_fit(tmp_path: Path) -> None:
    loaded = adapted(tiny_model(tmp_path / "base", "gpt2"), method="full")
    passes: Any = Scarce(PaddedPasses(loaded, loss_for(loaded), "fp32", 0), 0)
    with EventLog(tmp_path) as events, pytest.raises(DoesNotFit, match="1 sample"):
        fit(loaded, rows_of(), [], passes, SETTINGS, events=events, checkpoints=tmp_path / "c", run_key="key")


def test_other_errors_are_not_taken_for_memory(tmp_path: Path) -> None:
    loaded = adapted(tiny_model(tmp_path / "base", "gpt2"))

    class Broken(Scarce):
        def cut(self, batch: Sequence[Row], budget_tokens: int) -> Iterator[Micro]:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    passes: Any = Broken(PaddedPasses(loaded, loss_for(loaded), "fp32", 0), 0)
    with EventLog(tmp_path) as events, pytest.raises(RuntimeError, match="mat1"):
        fit(loaded, rows_of(), [], passes, SETTINGS, events=events, checkpoints=tmp_path / "c", run_key="key")


def test_the_first_checkpoint_is_read_back_and_a_foreign_run_is_not_resumed(tmp_path: Path) -> None:
    loaded = adapted(tiny_model(tmp_path / "base", "gpt2"))
    run(loaded, tmp_path / "run")
    notes = [event["message"] for event in read_events(tmp_path / "run") if event["kind"] == "note"]
    assert sum("resume self-test" in note for note in notes) == 1
    with pytest.raises(CheckpointError, match="other settings"), EventLog(tmp_path / "run") as events:
        passes = PaddedPasses(loaded, loss_for(loaded), "fp32", 0)
        folder = tmp_path / "run" / "checkpoints"
        fit(loaded, rows_of(), [], passes, SETTINGS, events=events, checkpoints=folder, run_key="b", resume=True)
