"""The one training loop, read from top to bottom; methods are the rows and the loss handed to it.

Randomness depends on (seed, step) alone and the data order on (seed, epoch) alone, so a resumed run computes exactly
what an uninterrupted one does.
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from foretune.config.derive import calmer_rate
from foretune.data.micro import global_batch
from foretune.models.load import LoadedModel
from foretune.records.events import EventLog
from foretune.records.training import CurvePoint
from foretune.train.checkpoint import (
    LoopState,
    latest_checkpoint,
    load_checkpoint,
    prune_checkpoints,
    save_checkpoint,
)
from foretune.train.disk import check_disk, checkpoint_bytes
from foretune.train.loss_scale import checked_norm, loss_scaler, update
from foretune.train.memory_ladder import MemorySettings, Rung, next_rung
from foretune.train.objective import LossSum, Row
from foretune.train.passes import Micro, Passes
from foretune.train.processes import ALONE, Processes
from foretune.train.resume_test import check_resumable, resume_self_test
from foretune.train.sharded_passes import ShardedPasses, all_out_of_memory

__all__ = [
    "FitResult",
    "LoopSettings",
    "build_optimizer",
    "curve_every",
    "evaluate_loss",
    "fit",
    "learning_rate_at",
    "trainable",
]

StopReason = Literal["finished", "early_stopping", "budget", "stopped"]
CURVE_POINTS = 200
MOST_CURVE_STEPS = 100


@dataclass(frozen=True)
class LoopSettings:
    """Every number that the loop needs; all of them derived and shown before it starts."""

    num_steps: int
    global_batch_size: int
    micro_batch_size: int
    max_seq_len: int
    learning_rate: float
    warmup_steps: int
    schedule: Literal["cosine", "constant"]
    weight_decay: float
    max_grad_norm: float
    eval_every: int
    save_every: int
    keep_checkpoints: int
    patience: int
    precision: Literal["bf16", "fp16", "fp32"]
    seed: int
    pad_id: int
    max_seconds: float = math.inf
    method: str = "lora"
    quantise_base: str = "none"
    recomputes_activations: bool = False  # from the first step on
    can_recompute: bool = False  # where memory runs out

    @property
    def budget_tokens(self) -> int:
        """Positions that one micro-batch may compute."""
        return self.micro_batch_size * self.max_seq_len

    def memory(self) -> MemorySettings:
        """What decides the memory of a step, where the ladder begins."""
        return MemorySettings(
            self.micro_batch_size,
            self.global_batch_size,
            self.max_seq_len,
            self.method,
            recomputes_activations=self.recomputes_activations,
            can_recompute=self.can_recompute,
            quantise_base=self.quantise_base,
        )


class FitResult(NamedTuple):
    """How the loop ended; the model holds the best parameters by validation loss, or the last if none was measured."""

    state: LoopState
    stop_reason: StopReason
    started_from: int


def trainable(model: nn.Module) -> dict[str, Tensor]:
    """Parameters with gradients, by name, in the model's order."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def curve_every(num_steps: int) -> int:
    """Steps between points of the curve: about 200 points a run, at most 100 steps apart; events have every step."""
    return min(MOST_CURVE_STEPS, max(1, num_steps // CURVE_POINTS))


def learning_rate_at(step: int, settings: LoopSettings) -> float:
    """Linear warm-up, then cosine to a tenth of the peak (Loshchilov & Hutter 2017, arXiv 1608.03983) or constant."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    if settings.schedule == "constant":
        return settings.learning_rate
    done = (step - settings.warmup_steps) / max(1, settings.num_steps - settings.warmup_steps)
    return settings.learning_rate * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


def build_optimizer(parameters: dict[str, Tensor], settings: LoopSettings) -> torch.optim.Optimizer:
    """AdamW (arXiv 1711.05101) with decay on matrices only, not on norms and biases."""
    groups = [
        {"params": [p for p in parameters.values() if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters.values() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    used = [group for group in groups if group["params"]]
    return torch.optim.AdamW(used, lr=settings.learning_rate, betas=(0.9, 0.99), fused=True)


@torch.no_grad()
def evaluate_loss(
    loaded: LoadedModel,
    rows: Sequence[Row],
    passes: Passes,
    settings: LoopSettings,
    metrics: dict[str, float] | None = None,
    processes: Processes = ALONE,
) -> float:
    """Mean loss per supervised token (nats) over `rows`, in eval mode; `metrics` gets the means of all else.

    Where memory runs out it begins again with half as much at once. Raises DoesNotFit where one sample does not fit.
    """
    loaded.model.eval()
    weight = max(sum(row.weight for row in rows), 1e-9)
    room, mine = replace(settings.memory(), can_recompute=False), processes.share(rows)
    while True:
        try:
            loss, means = _evaluated(mine, passes, room.budget_tokens, weight)
            break
        except (MemoryError, RuntimeError) as error:
            room = _smaller(error, passes, room).settings
    whole = processes.joined({"loss": loss, **means})
    loss = whole.pop("loss")
    if metrics is not None:
        metrics.update(whole)
    return loss


def _evaluated(
    rows: Sequence[Row], passes: Passes, budget_tokens: int, weight: float
) -> tuple[float, dict[str, float]]:
    total = 0.0
    means: dict[str, float] = {}
    for micro in _micros(passes, rows, budget_tokens):
        found = micro.loss()
        total += float(found.loss)
        _add(means, found, weight)
    return total / weight, means


def _micros(passes: Passes, rows: Sequence[Row], budget_tokens: int) -> Iterable[Micro]:
    """The micro-batches of a share; a process without rows has some where weights are sharded."""
    return passes.cut(rows, budget_tokens) if rows or isinstance(passes, ShardedPasses) else ()


def _smaller(error: BaseException, passes: Passes, room: MemorySettings) -> Rung:
    """What to try after `error`. Raises DoesNotFit where nothing is left, `error` where it is not about memory."""
    if isinstance(passes, ShardedPasses):
        raise all_out_of_memory(error, room) from error
    return next_rung(error, room)


def _add(means: dict[str, float], found: LossSum, weight: float) -> None:
    for name, value in found.metrics.items():
        means[name] = means.get(name, 0.0) + value / weight


class _Step(NamedTuple):
    """What the passes of one global batch gave; the gradients lie in the parameters."""

    loss: float
    num_computed: int
    metrics: dict[str, float]


def _gradient(
    model: nn.Module,
    batch: Sequence[Row],
    passes: Passes,
    optimizer: torch.optim.Optimizer,
    room: MemorySettings,
    *,
    seed: int,
    weight: float,
    events: EventLog,
    scaler: torch.amp.GradScaler,
) -> tuple[_Step, MemorySettings]:
    """Forward and backward over one global batch; where memory runs out, again from its seed in smaller pieces."""
    while True:
        try:
            torch.manual_seed(seed)
            return _passed(model, batch, passes, room.budget_tokens, weight, scaler), room
        except (MemoryError, RuntimeError) as error:
            rung = _smaller(error, passes, room)
            events.add("note", message=rung.why)
        optimizer.zero_grad(set_to_none=True)
        if rung.settings.recomputes_activations and not room.recomputes_activations:
            passes.recompute()
        room = rung.settings


def _passed(
    model: nn.Module,
    batch: Sequence[Row],
    passes: Passes,
    budget_tokens: int,
    weight: float,
    scaler: torch.amp.GradScaler,
) -> _Step:
    model.train()
    loss, num_computed = 0.0, 0
    metrics: dict[str, float] = {}
    for micro in _micros(passes, batch, budget_tokens):
        found = micro.loss()
        share = found.loss / weight
        scaler.scale(share).backward()
        loss += float(share.detach())
        _add(metrics, found, weight)
        num_computed += micro.num_tokens
    return _Step(loss, num_computed, metrics)


def _room(settings: LoopSettings, state: LoopState) -> MemorySettings:
    """Where the ladder stands: where an earlier start of the run left it, so that what follows is computed alike."""
    room = settings.memory()
    size = min(state.micro_batch_size or room.micro_batch_size, room.micro_batch_size)
    return replace(
        room, micro_batch_size=size, recomputes_activations=room.recomputes_activations or state.recomputes_activations
    )


def _joined(step: _Step, parameters: dict[str, Tensor], processes: Processes) -> _Step:
    """The step of the whole global batch, from each process's share of it: losses and gradients are sums."""
    if processes.count == 1:
        return step
    processes.sum_gradients(parameters.values())
    whole = processes.joined({"loss": step.loss, "num_computed": step.num_computed, **step.metrics})
    return _Step(whole.pop("loss"), round(whole.pop("num_computed")), whole)


def fit(
    loaded: LoadedModel,
    rows: Sequence[Row],
    eval_rows: Sequence[Row],
    passes: Passes,
    settings: LoopSettings,
    *,
    events: EventLog,
    checkpoints: Path,
    run_key: str,
    should_stop: Callable[[], bool] = lambda: False,
    resume: bool = False,
    until: int | None = None,
    processes: Processes = ALONE,
) -> FitResult:
    """Train until the steps, the patience, the budget or `should_stop` end it; leave the best parameters in the model.

    At step `until` it stops with a checkpoint, to go on later as if nothing had been. Of several `processes` each
    computes its share of every global batch, and the first of them writes; over sharded weights, each its shard.
    Raises TrainingDiverged on a loss or gradient that is not finite, DoesNotFit on a full disk or where memory runs out
    with one sample at a time, CheckpointError where the checkpoints are of another run or do not read back.
    """
    model = loaded.model
    parameters = trainable(model)
    optimizer = build_optimizer(parameters, settings)
    state = LoopState()
    if resume:
        check_resumable(checkpoints, run_key)
        found = latest_checkpoint(
            checkpoints, parameters, optimizer, run_key, lambda line: events.add("note", message=line)
        )
        state = found or state
        if found is not None and found.step < settings.num_steps:
            events.add("note", message=f"goes on at step {found.step}, from its checkpoint")
    started_from, start_time, seconds_before = state.step, time.perf_counter(), state.seconds
    sizes = [row.num_tokens for row in rows]
    log_every = curve_every(settings.num_steps)

    def validate() -> bool:
        """Validate; true where this is the best so far."""
        begin = time.perf_counter()
        measured: dict[str, float] = {}
        loss = evaluate_loss(loaded, eval_rows, passes, settings, measured, processes)
        improved = state.best_eval_loss is None or loss < state.best_eval_loss
        state.evals_without_gain = 0 if improved else state.evals_without_gain + 1
        if improved:
            state.best_eval_loss, state.best_step = loss, state.step
        state.eval_curve.append(CurvePoint(step=state.step, loss=loss))
        seconds = round(time.perf_counter() - begin, 4)
        events.add("eval", step=state.step, eval_loss=loss, best=improved, seconds=seconds, **measured)
        return improved

    def checkpoint(*, tests_itself: bool) -> None:
        if not (processes.is_first or processes.is_sharded):
            return
        begin = time.perf_counter()
        seconds_so_far = seconds_before + time.perf_counter() - start_time
        state.seconds, state.train_seconds = processes.of_first([seconds_so_far, state.train_seconds])
        check_disk(checkpoints, checkpoint_bytes(parameters.values()), "a checkpoint")
        path = save_checkpoint(checkpoints, state, parameters, optimizer, run_key)
        if tests_itself:
            test = resume_self_test(path, parameters, optimizer, state, run_key)
            events.add("note", message=f"resume self-test: {test.num_tensors} tensors read back equal")
        if processes.is_first:
            prune_checkpoints(checkpoints, keep=settings.keep_checkpoints, best_step=state.best_step)
        seconds = round(time.perf_counter() - begin, 4)
        events.add("checkpoint", step=state.step, path=f"checkpoints/{path.name}", seconds=seconds)

    if state.step == 0 and eval_rows and not state.eval_curve:
        validate()
    reason: StopReason = "finished"
    room, is_tested = _room(settings, state), False
    scaler = loss_scaler(loaded.device, settings.precision, state)
    if room.recomputes_activations:
        passes.recompute()
    while state.step < settings.num_steps and not (until and state.step >= until):
        begin = time.perf_counter()
        if settings.patience and state.evals_without_gain >= settings.patience:
            reason = "early_stopping"
            break
        chosen = global_batch(state.step, len(rows), settings.global_batch_size, seed=settings.seed)
        weight = sum(rows[i].weight for i in chosen)
        learning_rate = learning_rate_at(state.step, settings)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        batch, seed = processes.share([rows[i] for i in chosen]), settings.seed * 1_000_003 + state.step
        seed += processes.seed_offset
        step, room = _gradient(
            model, batch, passes, optimizer, room, seed=seed, weight=weight, events=events, scaler=scaler
        )
        state.micro_batch_size, state.recomputes_activations = room.micro_batch_size, room.recomputes_activations
        step = _joined(step, parameters, processes)
        limit = settings.max_grad_norm or math.inf
        scaler.unscale_(optimizer)
        grad_norm = checked_norm(
            scaler,
            step.loss,
            processes.clipped_norm(parameters.values(), limit),
            step=state.step + 1,
            rate=learning_rate,
            calmer_rate=calmer_rate(settings.method, settings.learning_rate),
        )
        update(scaler, optimizer, state)
        if grad_norm is None:
            events.add("note", message=f"fp16 gradients overflowed in step {state.step + 1}: no update, smaller scale")
        optimizer.zero_grad(set_to_none=True)

        state.step += 1
        state.num_tokens += (num_tokens := sum(sizes[i] for i in chosen))
        state.num_loss_tokens += (num_loss_tokens := round(weight))
        state.train_seconds += (seconds := time.perf_counter() - begin)
        state.window.append(step.loss)
        if state.step % log_every == 0 or state.step == settings.num_steps:
            mean = sum(state.window) / len(state.window)
            state.window = []
            state.train_curve.append(
                CurvePoint(step=state.step, loss=mean, learning_rate=learning_rate, grad_norm=grad_norm)
            )
        events.add(
            "step",
            step=state.step,
            loss=step.loss,
            learning_rate=learning_rate,
            grad_norm=None if grad_norm is None else round(grad_norm, 6),
            tokens=num_tokens,
            loss_tokens=num_loss_tokens,
            padded_tokens=step.num_computed,
            seconds=round(seconds, 5),
            epoch=round(state.step * settings.global_batch_size / len(rows), 3),
            **step.metrics,
        )
        last = state.step == settings.num_steps
        improved = bool(eval_rows) and (last or state.step % settings.eval_every == 0) and validate()
        elapsed = seconds_before + time.perf_counter() - start_time
        over_budget = processes.agree(elapsed > settings.max_seconds) and not last
        stopping = processes.agree(should_stop()) or over_budget or state.step == until
        if improved or last or stopping or state.step % settings.save_every == 0:
            checkpoint(tests_itself=not is_tested)
            is_tested = True
        if stopping and not last:
            reason = "budget" if over_budget else "stopped"
            break

    if until and state.step >= until and state.step < settings.num_steps and reason == "finished":
        reason = "stopped"  # where it already stood when it was called
    state.seconds = seconds_before + time.perf_counter() - start_time
    processes.wait()  # until the first has written its last checkpoint
    best = checkpoints / f"step-{state.best_step:06d}"
    if eval_rows and state.best_step != state.step and reason != "stopped":
        if state.best_step == 0:
            events.add("note", message="no validation was better than before training; the last step is kept")
        else:
            load_checkpoint(best, parameters, None, run_key)
    passes.release()
    model.eval()
    return FitResult(state, reason, started_from)
