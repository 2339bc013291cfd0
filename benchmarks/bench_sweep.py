"""Eight settings by a sweep against eight separate runs to the end: CPU time, steps, and what halving missed.

Both start from the same collected data; a separate run is a process of its own, as `foretune train` starts it. The
separate runs also say which setting really was the best, so that the loss of judging early is seen.
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from foretune import api
from foretune.config.job import JobConfig
from foretune.config.read import ResolvedJob, resolve_job
from foretune.records.run import ResolvedRecord
from foretune.records.sweep import SweepRecord
from foretune.records.training import TrainingRecord
from foretune.train.sweep_plan import Sweep

SWEEP = ("lr=2e-4,1e-3,3e-3,1e-2", "rank=8,16")
FLAGS: dict[str, Any] = {
    "train.advanced.num_threads": 1,
    "train.advanced.precision": "fp32",
    "train.advanced.patience": 0,
    "evaluate.primary_metric": "",
    "evaluate.json_schema": "",
}
BAR = 0.4  # of the CPU time of the separate runs


class _Spent(NamedTuple):
    """CPU seconds of one training process, and what it left."""

    cpu_seconds: float
    record: TrainingRecord


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _trained(run_dir: Path) -> _Spent:
    before = _cpu_seconds()
    done = subprocess.run([sys.executable, "-m", "foretune.train", str(run_dir)], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return _Spent(_cpu_seconds() - before, TrainingRecord.read(run_dir))


def _planned(given: ResolvedJob, runs_dir: Path) -> Path:
    """A run folder with data collected and planned, but not trained."""
    return api.run(given, runs_dir=runs_dir, dry_run=True).run_dir


def _separate(swept: Path, given: ResolvedJob, runs_dir: Path) -> list[_Spent]:
    """Every setting of the sweep, trained to the end in a run and a process of its own."""
    spent = []
    for setting in SweepRecord.read(swept).settings:
        job = JobConfig.model_validate(ResolvedRecord.read(swept / setting.folder).job)
        spent.append(_trained(_planned(ResolvedJob(job, given.origins, given.folder), runs_dir)))
        print(f"setting {setting.number}: {spent[-1].cpu_seconds:.1f} s", file=sys.stderr, flush=True)
    return spent


def measure(quick: bool = False) -> dict[str, Any]:
    """CPU time of the sweep as a share of that of the separate runs; the bar is 0.4."""
    with tempfile.TemporaryDirectory() as name:
        job_file = api.init("json-extract", Path(name) / "job")
        given = resolve_job(job_file, {**FLAGS, **({"data.max_rows": 200} if quick else {})})
        runs_dir = Path(name) / "runs"
        run_dir = _planned(given, runs_dir)
        planned = Sweep(SWEEP).planned(given.job)
        planned.write(run_dir, lambda plan: None, None)
        swept = _trained(run_dir)
        record = SweepRecord.read(run_dir)
        alone = _separate(run_dir, given, runs_dir)
        return {"metrics": _metrics(swept, record, alone), "config": {**FLAGS, "sweep": SWEEP, "eta": record.eta}}


def _metrics(swept: _Spent, record: SweepRecord, alone: list[_Spent]) -> dict[str, Any]:
    losses = [one.record.best_eval_loss or float("nan") for one in alone]
    whole = sum(one.cpu_seconds for one in alone)
    same = alone[record.winner - 1].record
    return {
        "cpu_share": round(swept.cpu_seconds / whole, 3),
        "bar": BAR,
        "sweep_cpu_seconds": round(swept.cpu_seconds, 1),
        "separate_cpu_seconds": round(whole, 1),
        "steps_share": round(record.num_steps / sum(one.record.num_steps for one in alone), 3),
        "settings": len(alone),
        "winner": record.winner,
        "best_alone": losses.index(min(losses)) + 1,
        "winner_eval_loss": swept.record.best_eval_loss,
        "best_alone_eval_loss": min(losses),
        "winner_rank_of_settings": sorted(losses).index(losses[record.winner - 1]) + 1,
        "is_adapter_equal": swept.record.artefact_sha256["adapter_model.safetensors"]
        == same.artefact_sha256["adapter_model.safetensors"],
        "eval_losses": [list(one.eval_losses) for one in record.settings],
        "alone_eval_losses": losses,
    }
