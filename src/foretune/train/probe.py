"""A few real training steps on this machine, so that the plan rests on measurement: the longest batch first.

Its memory is that of the process it runs in, so the plan has it run in one like training's (`backends/probing.py`).
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import nn

from foretune.backends.probing import LESS_MEMORY, PROBE_FOLDER
from foretune.config import JobConfig
from foretune.data.micro import global_batch
from foretune.engine.engine import decode_seconds
from foretune.engine.memory import is_out_of_memory
from foretune.errors import DoesNotFit
from foretune.records.probe import ProbePoint, ProbeRecord
from foretune.train.checkpoint import LoopState, save_checkpoint
from foretune.train.loop import build_optimizer, trainable
from foretune.train.objective import Row
from foretune.train.pre_flight import check_finite
from foretune.train.resume_test import resume_self_test
from foretune.train.setup import Setup, build_setup
from foretune.train.train import device_name, peak_memory_bytes
from foretune.train.trunk import remove_trunk

__all__ = ["probe"]

NUM_STEPS = 6  # measured micro-batches after the longest one and one warm-up
NUM_UPDATES = 3
SEEN_STEPS = 4  # steps of the run that they are taken from


def probe(job: JobConfig, *, run_dir: Path, runs_dir: Path, folder: Path, recompute: bool = False) -> ProbeRecord:
    """Measure forward, backward, update, validation, saving and decoding; writes `probe.json`.

    `recompute`: activations are computed again in the backward pass, where the engine can. Nothing of it reaches the
    run: the model is thrown away. Raises as `train` does, and DoesNotFit where memory runs out.
    """
    begin = time.perf_counter()
    setup = build_setup(job, run_dir=run_dir, runs_dir=runs_dir, folder=folder)
    load_seconds = time.perf_counter() - begin
    check_finite(setup.loaded)  # as training does: this reads all weights, which loading alone does not
    resident = psutil.Process().memory_info().rss
    setup = _recomputing(setup, recompute)
    with _memory_explained(setup):
        measured = _measured(setup, run_dir)
    record = ProbeRecord(
        device=device_name(setup),
        num_threads=setup.num_threads,
        precision=setup.settings.precision,
        micro_batch_size=setup.settings.micro_batch_size,
        load_seconds=load_seconds,
        total_parameters=setup.total_parameters,
        trainable_parameters=setup.trainable_parameters,
        base_memory_bytes=resident,
        recomputes_activations=setup.settings.recomputes_activations,
        decode_seconds_per_token=_decode_seconds(setup, job.evaluate.advanced.batch_size),
        **measured,
    )
    record.write(run_dir)
    return record


def _recomputing(setup: Setup, recompute: bool) -> Setup:
    """The setup with activations computed again where the job or `recompute` says so."""
    wish = setup.settings.recomputes_activations or (recompute and setup.settings.can_recompute)
    if wish:
        setup.passes.recompute()
    return replace(setup, settings=replace(setup.settings, recomputes_activations=wish))


def _measured(setup: Setup, run_dir: Path) -> dict[str, Any]:
    """Times, and the memory of the passes and of saving."""
    parameters = trainable(setup.loaded.model)
    optimizer = build_optimizer(parameters, setup.settings)
    first, *chosen = _chosen(setup)
    _timed_pass(setup, first, backward=True)
    update_seconds = [_timed_update(parameters, optimizer, setup)]  # from here on the moments are held, as in a run
    eval_points = [_timed_pass(setup, rows, backward=False) for rows in chosen[:3]]
    _prepare(setup, chosen, run_dir)
    points: list[ProbePoint] = []
    for rows in chosen:
        points.append(_timed_pass(setup, rows, backward=True))
        if len(update_seconds) < NUM_UPDATES:
            update_seconds.append(_timed_update(parameters, optimizer, setup))
        optimizer.zero_grad(set_to_none=True)
    peak = peak_memory_bytes()
    save_seconds = _timed_saving(parameters, optimizer, run_dir)
    saving = peak_memory_bytes()
    setup.passes.release()
    return {
        "points": tuple(points),
        "eval_points": tuple(eval_points),
        "update_seconds": _median(update_seconds),
        "save_seconds": save_seconds,
        "peak_memory_bytes": peak,
        "saving_memory_bytes": saving,
    }


@contextmanager
def _memory_explained(setup: Setup) -> Iterator[None]:
    """Any error of memory in the block as DoesNotFit."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        settings = setup.settings
        raise DoesNotFit(
            f"out of memory in a probe of the largest batch, {settings.micro_batch_size} samples of up to "
            f"{settings.max_seq_len:,} tokens at once; training would be too",
            fix=LESS_MEMORY,
        ) from error


def _timed_saving(parameters: dict[str, torch.Tensor], optimizer: torch.optim.Optimizer, run_dir: Path) -> float:
    """Seconds of writing a checkpoint; it is read back and compared too, as the first one of a run is."""
    state, scratch = LoopState(step=1), run_dir / PROBE_FOLDER
    try:
        begin = time.perf_counter()
        path = save_checkpoint(scratch, state, parameters, optimizer, "probe")
        seconds = time.perf_counter() - begin
        resume_self_test(path, parameters, optimizer, state, "probe")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return seconds


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
    seconds = time.perf_counter() - begin
    optimizer.zero_grad(set_to_none=True)
    return seconds


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
