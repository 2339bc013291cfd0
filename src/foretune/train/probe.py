"""A few real training steps on this machine, so that the plan rests on measurement: the longest batch first."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import torch
from torch import nn

from foretune.config import JobConfig
from foretune.data.micro import global_batch
from foretune.engine.engine import decode_seconds
from foretune.records.probe import ProbePoint, ProbeRecord
from foretune.train.checkpoint import LoopState, save_checkpoint
from foretune.train.loop import build_optimizer, trainable
from foretune.train.objective import Row
from foretune.train.setup import Setup, build_setup
from foretune.train.train import device_name, peak_memory_bytes
from foretune.train.trunk import remove_trunk

__all__ = ["probe"]

NUM_STEPS = 6  # measured micro-batches after the longest one and one warm-up
SEEN_STEPS = 4  # steps of the run that they are taken from


def probe(job: JobConfig, *, run_dir: Path, runs_dir: Path, folder: Path) -> ProbeRecord:
    """Measure forward, backward, update, validation, saving and decoding; writes `probe.json`.

    Nothing of it reaches the run: the model is thrown away. Raises as `train` does.
    """
    begin = time.perf_counter()
    setup = build_setup(job, run_dir=run_dir, runs_dir=runs_dir, folder=folder)
    load_seconds = time.perf_counter() - begin
    resident = psutil.Process().memory_info().rss
    parameters = trainable(setup.loaded.model)
    optimizer = build_optimizer(parameters, setup.settings)
    if setup.settings.recomputes_activations:
        setup.passes.recompute()
    first, *chosen = _chosen(setup)
    _timed_pass(setup, first, backward=True)
    eval_points = [_timed_pass(setup, rows, backward=False) for rows in chosen[:3]]
    _prepare(setup, chosen, run_dir)
    points = [_timed_pass(setup, rows, backward=True) for rows in chosen]
    update_seconds = _median([_timed_update(parameters, optimizer, setup) for _ in range(3)])
    setup.passes.release()
    with tempfile.TemporaryDirectory(dir=run_dir) as scratch:
        begin = time.perf_counter()
        save_checkpoint(Path(scratch), LoopState(step=1), parameters, optimizer, "probe")
        save_seconds = time.perf_counter() - begin
    record = ProbeRecord(
        device=device_name(setup),
        num_threads=setup.num_threads,
        precision=setup.settings.precision,
        micro_batch_size=setup.settings.micro_batch_size,
        load_seconds=load_seconds,
        points=tuple(points),
        eval_points=tuple(eval_points),
        update_seconds=update_seconds,
        save_seconds=save_seconds,
        total_parameters=setup.total_parameters,
        trainable_parameters=setup.trainable_parameters,
        base_memory_bytes=resident,
        peak_memory_bytes=peak_memory_bytes(),
        recomputes_activations=setup.settings.recomputes_activations,
        decode_seconds_per_token=_decode_seconds(setup, job.evaluate.advanced.batch_size),
    )
    record.write(run_dir)
    return record


def _prepare(setup: Setup, chosen: Sequence[Sequence[Row]], run_dir: Path) -> None:
    """What a run computes once before its steps, for the rows that are measured."""
    rows = [row for batch in chosen for row in batch]
    if setup.derived.num_epochs > 1:
        setup.passes.prepare(rows, setup.settings.budget_tokens, folder=run_dir, key=lambda: "probe")
    remove_trunk(run_dir)  # where memory was too small for it; the pages stay while they are used


def _chosen(setup: Setup) -> list[list[Row]]:
    """The largest micro-batch that there can be twice (memory, then warm), then some of the run, spread by size."""
    rows, settings = setup.train.rows, setup.settings
    found: list[tuple[int, list[Row]]] = []
    for step in range(min(SEEN_STEPS, settings.num_steps)):
        chosen = global_batch(step, len(rows), settings.global_batch_size, seed=settings.seed)
        found += _cut(setup, [rows[i] for i in chosen])
    longest = sorted(rows, key=lambda row: -row.length)[: settings.global_batch_size]
    largest = max(_cut(setup, longest), key=lambda pair: pair[0])[1]
    found.sort(key=lambda pair: pair[0])
    spread = [found[round(i * (len(found) - 1) / max(1, NUM_STEPS - 1))][1] for i in range(NUM_STEPS)]
    return [largest, largest, *spread]


def _cut(setup: Setup, rows: Sequence[Row]) -> list[tuple[int, list[Row]]]:
    """The micro-batches of one global batch: computed positions, and rows."""
    setup.loaded.model.train()
    return [(micro.num_tokens, list(micro.rows)) for micro in setup.passes.cut(rows, setup.settings.budget_tokens)]


def _timed_pass(setup: Setup, rows: Sequence[Row], *, backward: bool) -> ProbePoint:
    setup.loaded.model.train(backward)
    _synchronise(setup.loaded.device)
    tokens = pairs = 0
    begin = time.perf_counter()
    with torch.set_grad_enabled(backward):
        for micro in setup.passes.cut(rows, setup.settings.budget_tokens):
            loss = micro.loss().loss
            if backward:
                loss.backward()
            float(loss.detach())
            tokens, pairs = tokens + micro.num_tokens, pairs + micro.num_pairs
    _synchronise(setup.loaded.device)
    seconds = time.perf_counter() - begin
    return ProbePoint(num_rows=1, row_tokens=tokens, seconds=seconds, num_pairs=pairs)


def _timed_update(parameters: dict[str, torch.Tensor], optimizer: torch.optim.Optimizer, setup: Setup) -> float:
    for parameter in parameters.values():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    begin = time.perf_counter()
    nn.utils.clip_grad_norm_(parameters.values(), 1.0)
    optimizer.step()
    _synchronise(setup.loaded.device)
    return time.perf_counter() - begin


def _decode_seconds(setup: Setup, batch_size: int) -> float:
    """Seconds for one generated token of one evaluation batch; 0 for classifiers, which generate nothing."""
    if setup.loaded.kind in ("classify", "regress"):
        return 0.0
    return decode_seconds(setup.loaded, setup.tokenizer, batch_size)


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
