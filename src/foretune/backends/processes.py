"""How many processes train a run, kept beside its lock so that whoever resumes it starts as many, or another number."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

from foretune.config.job import PREFERENCE_METHODS, JobConfig
from foretune.errors import ConfigError
from foretune.records.base import write_atomically

__all__ = ["check_processes", "keep_processes", "kept_processes", "launched"]

PROCESSES_FILE = ".processes"
WHOLE_BATCH_METHODS = ("orpo", "kto")  # a row's loss takes a number of its whole global batch


def check_processes(job: JobConfig, count: int) -> None:
    """Raise ConfigError where a job cannot be shared by `count` processes."""
    if count < 1:
        raise ConfigError(f"{count} processes; expected at least 1", fix="--nproc 2")
    if count > 1 and job.train.method in WHOLE_BATCH_METHODS:
        raise ConfigError(
            f"method {job.train.method} judges a row by its whole global batch, which {count} processes do not see",
            fix="--nproc 1, or method dpo",
        )
    if count > 1 and job.train.advanced.parallel == "fsdp":
        _check_shards(job)
    if count > job.train.global_batch_size:
        raise ConfigError(
            f"{count} processes share {job.train.global_batch_size} samples an update; expected at least one each",
            fix=f"--nproc {job.train.global_batch_size}, or a larger train.global_batch_size",
        )


def _check_shards(job: JobConfig) -> None:
    """Raise ConfigError where the weights of a job cannot be held in shards."""
    if job.train.advanced.quantise_base != "none":
        raise ConfigError(
            f"a {job.train.advanced.quantise_base} base cannot be sharded: packed weights are no parameters",
            fix='train.advanced.parallel = "ddp", or train.advanced.quantise_base = "none"',
        )
    if job.train.advanced.precision == "fp16":
        raise ConfigError(
            "fp16 scales the losses of one process; sharded weights are trained in bf16 or fp32",
            fix='train.advanced.precision = "auto"',
        )
    if job.train.method in PREFERENCE_METHODS:
        raise ConfigError(
            f"method {job.train.method} asks the whole model for its reference before the first step",
            fix='train.advanced.parallel = "ddp"',
        )


def keep_processes(run_dir: Path, job: JobConfig, count: int) -> None:
    """Write down how many processes train this run from its next start on. Raises ConfigError, DoesNotFit."""
    check_processes(job, count)
    write_atomically(run_dir / PROCESSES_FILE, f"{count}\n")


def kept_processes(run_dir: Path) -> int:
    """How many processes train this run; 1 where nobody said."""
    path = run_dir / PROCESSES_FILE
    text = path.read_text(encoding="utf-8").strip() if path.is_file() else ""
    return max(1, int(text)) if text.isdigit() else 1


def launched(arguments: list[str], count: int) -> list[str]:
    """`python -m` arguments as torchrun starts them in `count` processes of this machine; unchanged for one."""
    if count == 1:
        return arguments
    return ["torch.distributed.run", "--standalone", f"--nproc-per-node={count}", "-m", *arguments]
