"""Frozen, strict configuration: TOML in, JSON out, one small model a verb."""

# SPDX-License-Identifier: Apache-2.0
from foretune.config.job import (
    AdvancedEvaluate,
    AdvancedTrain,
    DataConfig,
    EvaluateConfig,
    JobConfig,
    Method,
    PlanConfig,
    Strict,
    Task,
    TrainConfig,
)
from foretune.config.read import Origin, ResolvedJob, job_schema, read_job, resolve_job

__all__ = [
    "AdvancedEvaluate",
    "AdvancedTrain",
    "DataConfig",
    "EvaluateConfig",
    "JobConfig",
    "Method",
    "Origin",
    "PlanConfig",
    "ResolvedJob",
    "Strict",
    "Task",
    "TrainConfig",
    "job_schema",
    "read_job",
    "resolve_job",
]
