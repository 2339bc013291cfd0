"""Concrete next values of settings: every function gives the dotted settings to change, {} where there is no better."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math
from typing import Any

from foretune.config.derive import LEARNING_RATES, USUAL_LEARNING_RATES
from foretune.config.job import LORA_METHODS, JobConfig

__all__ = [
    "earlier_end",
    "higher_rate",
    "larger_rank",
    "later_end",
    "lower_rate",
    "more_regularised",
    "smaller_rank",
    "steadier",
]

Patch = dict[str, Any]
LARGER_RANKS = (8, 16, 32, 64)
SMALLER_RANKS = (8, 4, 2)


def two_digits(value: float) -> float:
    """Rounded to two significant digits, so that a person can read it."""
    return float(f"{value:.2g}")


def lower_rate(job: JobConfig, divisor: float) -> Patch:
    """The learning rate divided."""
    rate = job.train.learning_rate or LEARNING_RATES[job.train.method]
    return {"train.learning_rate": two_digits(rate / divisor)}


def higher_rate(job: JobConfig, factor: float = 5.0) -> Patch:
    """The rate times `factor`; where it lies below the usual range, at least the method's default."""
    rate = job.train.learning_rate or LEARNING_RATES[job.train.method]
    if rate < USUAL_LEARNING_RATES[job.train.method][0]:
        return {"train.learning_rate": max(LEARNING_RATES[job.train.method], two_digits(rate * factor))}
    return {"train.learning_rate": two_digits(rate * factor)}


def earlier_end(job: JobConfig, share: float) -> Patch:
    """End after `share` of the steps (0 < share < 1); epochs in halves, at least half a one."""
    if job.train.advanced.max_steps:
        steps = max(1, math.ceil(job.train.advanced.max_steps * share))
        return {"train.advanced.max_steps": steps} if steps < job.train.advanced.max_steps else {}
    epochs = max(0.5, math.ceil(job.train.epochs * share * 2) / 2)
    return {"train.epochs": epochs} if epochs < job.train.epochs else {}


def later_end(job: JobConfig, factor: float) -> Patch:
    """Train `factor` times as long."""
    if job.train.advanced.max_steps:
        return {"train.advanced.max_steps": math.ceil(job.train.advanced.max_steps * factor)}
    return {"train.epochs": two_digits(job.train.epochs * factor)}


def larger_rank(job: JobConfig) -> Patch:
    """The next rank of 8, 16, 32, 64; soft prompts get longer; {} at the top or without adapters."""
    if job.train.method == "prompt":
        return {"train.advanced.num_prompt_tokens": job.train.advanced.num_prompt_tokens * 2}
    larger = [rank for rank in LARGER_RANKS if rank > job.train.rank]
    return {"train.rank": larger[0]} if larger and job.train.method in LORA_METHODS else {}


def smaller_rank(job: JobConfig) -> Patch:
    """Rank 8 where it is above, else 4, else 2; {} without adapters."""
    smaller = [rank for rank in SMALLER_RANKS if rank < job.train.rank]
    return {"train.rank": smaller[0]} if smaller and job.train.method in LORA_METHODS else {}


def more_regularised(job: JobConfig) -> Patch:
    """Weight decay 0.1 and adapter dropout 0.1; where they stand there already, twice that, at most 0.3."""
    advanced = job.train.advanced
    patch: Patch = {}
    decay = 0.1 if advanced.weight_decay < 0.1 else min(0.3, two_digits(advanced.weight_decay * 2))
    if decay > advanced.weight_decay:
        patch["train.advanced.weight_decay"] = decay
    dropout = 0.1 if advanced.dropout < 0.1 else min(0.3, two_digits(advanced.dropout * 2))
    if dropout > advanced.dropout and job.train.method in LORA_METHODS:
        patch["train.advanced.dropout"] = dropout
    return patch


def steadier(job: JobConfig) -> Patch:
    """Warm-up over at least a tenth of the steps, and gradient clipping on."""
    patch: Patch = {}
    if job.train.advanced.warmup_fraction < 0.1:
        patch["train.advanced.warmup_fraction"] = 0.1
    if job.train.advanced.max_grad_norm == 0:
        patch["train.advanced.max_grad_norm"] = 1.0
    return patch
