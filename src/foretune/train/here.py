"""Train the run in a folder, in this process: one job, or a sweep of many settings; or measure a few steps of it."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

from foretune.config import JobConfig
from foretune.records.probe import ProbeRecord
from foretune.records.run import ResolvedRecord
from foretune.records.sweep import SweepRecord
from foretune.records.training import TrainingRecord
from foretune.train.probe import probe
from foretune.train.sweep import sweep
from foretune.train.train import train

__all__ = ["probe_run", "train_run"]


def train_run(run_dir: Path, *, resume: bool = False) -> TrainingRecord | None:
    """Train the run whose `resolved.json` stands in `run_dir`; a sweep where `sweep.json` stands there too.

    Returns None where it was stopped before the end. A sweep always goes on where it is; `resume` says so of one job.
    """
    resolved = ResolvedRecord.read(run_dir)
    runs_dir, folder = run_dir.parent, Path(resolved.folder)
    if SweepRecord.exists(run_dir):
        return sweep(run_dir, runs_dir=runs_dir, folder=folder)
    job = JobConfig.model_validate(resolved.job)
    return train(job, run_dir=run_dir, runs_dir=runs_dir, folder=folder, resume=resume)


def probe_run(run_dir: Path, *, recompute: bool = False) -> ProbeRecord:
    """Measure a few real steps of the run in `run_dir`; see `probe`."""
    resolved = ResolvedRecord.read(run_dir)
    job, folder = JobConfig.model_validate(resolved.job), Path(resolved.folder)
    return probe(job, run_dir=run_dir, runs_dir=run_dir.parent, folder=folder, recompute=recompute)
