"""The folder that a finished run leaves: its records by name, what was planted, and its job."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

from foretune.config.job import JobConfig
from foretune.records.run import ResolvedRecord

__all__ = ["CASE_FILE", "FAILED_FILE", "KEPT", "job_of"]

KEPT = (
    "audit.json",
    "dataset.json",
    "evaluation.json",
    "evidence.json",
    "job.toml",
    "plan.json",
    "resolved.json",
    "token_audit.json",
    "training.json",
)
CASE_FILE = "case.json"  # what was planted
FAILED_FILE = "failed.json"  # the error that training broke off with


def job_of(folder: Path) -> JobConfig:
    """The job of a kept run."""
    return JobConfig.model_validate(ResolvedRecord.read(folder).job)
