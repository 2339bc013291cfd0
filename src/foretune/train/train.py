"""`train`: fit the model of one run, in this process; everything a watcher needs goes to `events.jsonl`."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib.metadata
import json
import platform
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import foretune
from foretune.backends.processes import check_processes
from foretune.config import JobConfig
from foretune.config.job import WHOLE_METHODS
from foretune.data.served_files import served_files
from foretune.engine.memory import is_out_of_memory, peak_resident_bytes
from foretune.errors import DoesNotFit, ForetuneError
from foretune.models.provenance import AdapterNotes, weights_sha256, write_notes
from foretune.models.save import save_artefact
from foretune.records.base import write_atomically
from foretune.records.events import EventLog
from foretune.records.parity import ParityRecord
from foretune.records.run import locked_run
from foretune.records.training import TrainingRecord
from foretune.train.checkpoint import sha256_of
from foretune.train.disk import artefact_bytes, check_disk, checkpoint_bytes, run_bytes
from foretune.train.loop import FitResult, fit
from foretune.train.parity_gate import check_parity, parity
from foretune.train.pre_flight import audit_tokens, check_isolation
from foretune.train.processes import is_to_be_sharded, joined_processes
from foretune.train.setup import Setup, build_setup
from foretune.train.sharded import gathered, shard
from foretune.train.token_audit import check_tokens, said_findings
from foretune.train.trunk import remove_trunk

__all__ = [
    "CHECKPOINTS",
    "Guard",
    "StopFlag",
    "announce",
    "device_name",
    "finish",
    "guarded",
    "peak_memory_bytes",
    "pre_flight",
    "prepare",
    "run_key",
    "train",
]

CHECKPOINTS = "checkpoints"
UNGATED = "the parity gate did not run: foretune evaluate shows what the artefact answers"
OTHER_PROCESSES = "processes"  # event logs of all processes but the first, by number


class StopFlag:
    """Set by the first SIGINT or SIGTERM; the second one ends the process at once."""

    def __init__(self) -> None:
        self.is_set = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.is_set:
            raise KeyboardInterrupt
        self.is_set = True
        print("stopping at the next step with a checkpoint; once more aborts", file=sys.stderr, flush=True)


@contextmanager
def _stop_signals() -> Iterator[StopFlag]:
    flag = StopFlag()
    try:
        before = {number: signal.signal(number, flag) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: a caller's own affair
        yield flag
        return
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def train(
    job: JobConfig, *, run_dir: Path, runs_dir: Path, folder: Path, resume: bool = False
) -> TrainingRecord | None:
    """Train the run in `run_dir`; `folder` is what relative paths of the job are relative to.

    Returns None where it was stopped before the end (resume goes on). Raises ConfigError where another process writes
    the run, TrainingDiverged, DoesNotFit; every error is also an event.
    """
    with joined_processes() as processes:
        check_processes(job, processes.count)
        own_dir = run_dir if processes.is_first else run_dir / OTHER_PROCESSES / str(processes.number)
        with guarded(own_dir) as guard:
            setup = build_setup(job, run_dir=run_dir, runs_dir=runs_dir, folder=folder)
            found = pre_flight(job, setup, run_dir, is_sharded=is_to_be_sharded(job)) if processes.is_first else []
            if is_to_be_sharded(job):
                setup, processes = shard(job, setup, processes), replace(processes, is_sharded=True)
                _check_isolation(job, setup)
            announce(job, setup, guard.events, resume, num_processes=processes.count, found=() if resume else found)
            if processes.count == 1:
                prepare(job, setup, guard.events, run_dir)
            result = fit(
                setup.loaded,
                setup.train.rows,
                setup.validation.rows,
                setup.passes,
                setup.settings,
                events=guard.events,
                checkpoints=run_dir / CHECKPOINTS,
                run_key=run_key(job, setup.dataset_version),
                should_stop=lambda: guard.flag.is_set,
                resume=resume,
                processes=processes,
            )
            is_whole = result.stop_reason != "stopped"
            if is_whole and processes.is_sharded:
                setup = gathered(job, setup, processes)
            record = finish(job, setup, result, run_dir) if is_whole and processes.is_first else None
            guard.events.add("train_end", reason=result.stop_reason, step=result.state.step)
            return record


class Guard(NamedTuple):
    """What a process that writes a run holds: its event log, and whether it was asked to stop."""

    events: EventLog
    flag: StopFlag


@contextmanager
def guarded(run_dir: Path) -> Iterator[Guard]:
    """Hold a run's lock, its event log and the stop signals; an error in the block is also an event.

    Raises ConfigError where another process writes the run, DoesNotFit for any MemoryError.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    with locked_run(run_dir), EventLog(run_dir) as events, _stop_signals() as flag:
        try:
            yield Guard(events, flag)
        except MemoryError as error:
            if isinstance(error, ForetuneError):
                _report_failure(events, error)
                raise
            wrapped = DoesNotFit("out of memory while training", fix="train.advanced.micro_batch_size = 1")
            _report_failure(events, wrapped)
            raise wrapped from error
        except ForetuneError as error:
            _report_failure(events, error)
            raise


def pre_flight(job: JobConfig, setup: Setup, run_dir: Path, *, is_sharded: bool = False) -> list[str]:
    """What would make the run worthless or end it early is found before the first step; writes `token_audit.json`.

    Returns a line on each finding that does not end the run. Where weights will be sharded no pass is run yet: all
    processes must take part in it.
    Raises DataError, ConfigError, DoesNotFit.
    """
    parameters = list(setup.loaded.model.parameters())
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    is_whole = job.train.method in WHOLE_METHODS
    artefact = artefact_bytes(
        parameters if is_whole else trained,
        trains_whole_model=is_whole,
        has_bf16_weights=setup.settings.precision == "bf16",
    )
    needed = run_bytes(checkpoint_bytes(trained), artefact, keep_checkpoints=setup.settings.keep_checkpoints)
    check_disk(run_dir, needed, "the run")
    found: list[str] = []
    if "train" in setup.samples:
        record = audit_tokens(
            job,
            setup.loaded,
            setup.tokenizer,
            setup.train,
            setup.validation,
            setup.samples["train"],
            max_seq_len=setup.derived.max_seq_len,
        )
        record.write(run_dir)
        check_tokens(record)
        found = said_findings(record)
    if not is_sharded:
        _check_isolation(job, setup)
    return found


def _check_isolation(job: JobConfig, setup: Setup) -> None:
    rows, precision = setup.train.rows, setup.settings.precision
    check_isolation(setup.loaded, setup.passes, rows, method=job.train.method, precision=precision)


def _report_failure(events: EventLog, error: ForetuneError) -> None:
    try:
        events.add("failed", error=type(error).__name__, message=error.what, fix=error.fix)
    except ForetuneError as second:  # a full disk: the error itself still reaches the caller
        print(second, file=sys.stderr)


def run_key(job: JobConfig, dataset_version: str) -> str:
    """What a checkpoint must share with the run that resumes it: data, base, seed and training settings."""
    settings = {
        "base": job.base,
        "seed": job.seed,
        "train": job.train.model_dump(mode="json", exclude={"advanced": {"parallel"}}),
        "dataset": dataset_version,
    }
    return sha256_of(json.dumps(settings, sort_keys=True).encode())[:16]


def announce(
    job: JobConfig,
    setup: Setup,
    events: EventLog,
    resume: bool,
    *,
    num_processes: int = 1,
    found: Sequence[str] = (),
) -> None:
    """Say in the event log what begins: steps, sizes, notes on settings and engine, what was `found` in the rows."""
    events.add(
        "train_start",
        step=0,
        planned_steps=setup.settings.num_steps,
        resumed=resume,
        method=job.train.method,
        precision=setup.settings.precision,
        num_threads=setup.num_threads,
        num_processes=num_processes,
        num_train_samples=len(setup.train.rows),
        total_parameters=setup.total_parameters,
        trainable_parameters=setup.trainable_parameters,
    )
    for message in (*_warnings(setup), *setup.engine_notes, *found):
        events.add("note", message=message)


def prepare(job: JobConfig, setup: Setup, events: EventLog, run_dir: Path) -> None:
    """Compute once what is the same in every epoch, where there is more than one, and say so."""
    if setup.derived.num_epochs <= 1:
        return

    def key() -> str:
        return f"{run_key(job, setup.dataset_version)} {weights_sha256(setup.loaded.folder)}"

    rows = [*setup.train.rows, *setup.validation.rows]
    line = setup.passes.prepare(rows, setup.settings.budget_tokens, folder=run_dir, key=key)
    if line:
        events.add("note", message=line)


def _warnings(setup: Setup) -> list[str]:
    found = list(setup.derived.warnings)
    if setup.train.num_dropped:
        found.append(
            f"{setup.train.num_dropped} training samples are longer than {setup.train.max_seq_len} tokens and were "
            "left out, because their answers would be cut off"
        )
    if setup.validation.num_dropped:
        found.append(f"{setup.validation.num_dropped} validation samples are too long and were left out")
    return found


def _adapter_notes(job: JobConfig, setup: Setup, base_sha256: str) -> AdapterNotes:
    """What the adapter rests on, for whoever loads it."""
    return AdapterNotes(
        method=job.train.method,
        base=job.base,
        base_sha256=base_sha256,
        quantise_base=job.train.advanced.quantise_base,
        base_adapter=setup.lineage.name if setup.lineage else "",
        base_adapter_sha256=setup.lineage.sha256 if setup.lineage else "",
        target_mean=setup.scale.mean,
        target_deviation=setup.scale.deviation,
    )


def finish(job: JobConfig, setup: Setup, result: FitResult, run_dir: Path) -> TrainingRecord:
    """Save the artefact, write `training.json`, and hold the artefact against the model that was trained."""
    state = result.state
    remove_trunk(run_dir)
    artefact = save_artefact(
        setup.loaded,
        run_dir,
        method=job.train.method,
        base=job.base,
        labels=setup.labels,
        dtype="bf16" if setup.settings.precision == "bf16" else "fp32",
    )
    if job.train.method == "full":
        _write_served_files(setup, artefact)
    base_sha256 = weights_sha256(setup.loaded.folder)
    if job.train.method not in WHOLE_METHODS:
        write_notes(artefact, _adapter_notes(job, setup, base_sha256))
    peak = peak_memory_bytes()  # before the gate loads the artefact beside the model
    compared = _parity(job, setup, artefact, run_dir)
    hours = state.seconds / 3600
    record = TrainingRecord(
        run_id=run_dir.name,
        base=job.base,
        base_sha256=base_sha256,
        base_adapter=setup.lineage.name if setup.lineage else "",
        base_adapter_sha256=setup.lineage.sha256 if setup.lineage else "",
        method=job.train.method,
        dataset_version=setup.dataset_version,
        foretune_version=foretune.__version__,
        versions=_versions(),
        device=device_name(setup),
        precision=setup.settings.precision,
        seed=job.seed,
        total_parameters=setup.total_parameters,
        trainable_parameters=setup.trainable_parameters,
        num_steps=state.step,
        planned_steps=setup.settings.num_steps,
        num_epochs=round(state.step / setup.derived.steps_per_epoch, 4),
        num_tokens=state.num_tokens,
        num_loss_tokens=state.num_loss_tokens,
        seconds=state.seconds,
        train_seconds=state.train_seconds,
        tokens_per_second=state.num_tokens / max(state.train_seconds, 1e-9),
        peak_memory_bytes=peak,
        cost_usd=hours * job.plan.price_per_hour_usd,
        stop_reason=result.stop_reason,
        best_step=state.best_step,
        best_eval_loss=state.best_eval_loss,
        final_train_loss=state.train_curve[-1].loss if state.train_curve else float("nan"),
        train_curve=tuple(state.train_curve),
        eval_curve=tuple(state.eval_curve),
        num_dropped_samples=setup.train.num_dropped,
        micro_batch_size=state.micro_batch_size,
        recomputes_activations=state.recomputes_activations,
        artefact=artefact.name,
        artefact_sha256={path.name: sha256_of(path.read_bytes()) for path in sorted(artefact.iterdir())},
        labels=setup.labels,
        notes=tuple(setup.engine_notes),
        warnings=(*_warnings(setup), *([] if compared else [UNGATED])),
        parity=compared,
    )
    record.write(run_dir)
    if compared is not None:
        check_parity(compared)
    return record


def _write_served_files(setup: Setup, artefact: Path) -> None:
    """The chat template and the stop tokens beside a whole model, so that any server asks it as it was trained."""
    file = setup.loaded.folder / "generation_config.json"
    settings = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    for name, text in served_files(setup.tokenizer, settings).items():
        write_atomically(artefact / name, text)


def _parity(job: JobConfig, setup: Setup, artefact: Path, run_dir: Path) -> ParityRecord | None:
    """The artefact, loaded as it will be served, held against the model that was trained; writes `parity.json`.

    None where there is nothing to hold it against, and where memory is too small for a second copy of the model: a gate
    never loses what was trained.
    """
    advanced = job.train.advanced
    is_on_nothing = advanced.init == "random" and job.train.method not in WHOLE_METHODS  # no base to serve it on
    is_packed_by_bitsandbytes = advanced.quantise_base != "none" and setup.loaded.device.type == "cuda"
    if "validation" not in setup.samples or is_packed_by_bitsandbytes or is_on_nothing:
        return None
    try:
        record = parity(
            setup.loaded,
            setup.tokenizer,
            setup.samples["validation"],
            base=None if advanced.init == "random" else setup.loaded.folder,
            artefact=artefact,
            max_seq_len=setup.derived.max_seq_len,
            has_bf16_weights=job.train.method in WHOLE_METHODS and setup.settings.precision == "bf16",
        )
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, DoesNotFit) and not is_out_of_memory(error):
            raise
        return None
    record.write(run_dir)
    return record


def peak_memory_bytes() -> int:
    """Peak resident memory of this process, or of the CUDA allocator where there is one."""
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return peak_resident_bytes()


def _versions() -> dict[str, str]:
    names = ("torch", "transformers", "tokenizers", "safetensors", "numpy")
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in names}


def device_name(setup: Setup) -> str:
    if setup.loaded.device.type == "cuda":
        import torch

        return str(torch.cuda.get_device_name(setup.loaded.device))
    from foretune.hardware.detect import detect_machine

    return f"{detect_machine().cpu_name} ({setup.num_threads} threads)"
