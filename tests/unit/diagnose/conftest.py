"""Synthetic evidence: loss curves with seeded noise, and evaluations with given skills."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest

from foretune.config import JobConfig
from foretune.diagnose.curves import Curves
from foretune.diagnose.evidence import Evidence
from foretune.records.evaluation import Delta, EvaluationRecord, MetricValue, SkillScore, SystemResult
from foretune.records.training import CurvePoint


def cosine(step: int, num_steps: int, peak: float = 2e-4) -> float:
    """Warm-up over 6 % of the steps, then cosine to 0."""
    warmup = max(1, int(0.06 * num_steps))
    if step <= warmup:
        return peak * step / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, num_steps - warmup)))


@dataclass(frozen=True)
class Shape:
    """A run to simulate; losses as functions of the share of effort spent (0 to 1)."""

    train: Callable[[float], float]
    validation: Callable[[float], float]
    noise: float = 0.1  # of a train loss: standard deviation, or of its logarithm where `relative`
    relative: bool = False
    num_steps: int = 120
    num_validations: int = 8
    validation_noise: float = 0.01  # relative
    schedule: str = "cosine"


def curves_of(shape: Shape, seed: int) -> Curves:
    """The curves of a shape, with seeded noise."""
    rng = random.Random(seed)
    steps = range(1, shape.num_steps + 1)
    rates = [cosine(s, shape.num_steps) if shape.schedule == "cosine" else 2e-4 for s in steps]
    total, spent, shares = sum(rates), 0.0, []
    for rate in rates:
        spent += rate
        shares.append(spent / total)
    train = []
    for step, rate, share in zip(steps, rates, shares, strict=True):
        mean = shape.train(share)
        loss = mean * math.exp(rng.gauss(0, shape.noise)) if shape.relative else mean + rng.gauss(0, shape.noise)
        train.append(CurvePoint(step=step, loss=max(1e-4, loss), learning_rate=rate, grad_norm=abs(rng.gauss(1, 0.2))))
    every = max(1, math.ceil(shape.num_steps / max(1, shape.num_validations)))
    validation = [
        CurvePoint(step=s, loss=shape.validation(shares[s - 1]) * math.exp(rng.gauss(0, shape.validation_noise)))
        for s in range(every, shape.num_steps + 1, every)
        if shape.num_validations
    ]
    return Curves(tuple(train), tuple(validation), shape.num_steps, stop_reason="finished")


def decay(start: float, floor: float, rate: float) -> Callable[[float], float]:
    """Exponential fall from `start` towards `floor`; `rate` time constants fit into the run."""
    return lambda share: floor + (start - floor) * math.exp(-rate * share)


def evidence_of(
    curves: Curves, evaluation: EvaluationRecord | None = None, job: JobConfig | None = None, **train: Any
) -> Evidence:
    """Evidence for a job with these training settings."""
    return Evidence(job or JobConfig.model_validate({"train": train}), "demo-001", curves, evaluation)


def evaluation_of(
    tuned: float = 0.84,
    prompted: float = 0.31,
    verdict: str = "better",
    skills: tuple[SkillScore, ...] = (),
    zero_shot: float | None = None,
) -> EvaluationRecord:
    """An evaluation on 120 samples with an interval of +- 8 points."""

    def system(name: str, value: float) -> SystemResult:
        metric = MetricValue(value=value, ci_low=value - 0.08, ci_high=value + 0.08, n=120, method="wilson")
        return SystemResult(name=name, prompt="", metrics={"exact_match": metric}, seconds=4.0)

    first = prompted if zero_shot is None else zero_shot
    change = tuned - prompted
    return EvaluationRecord(
        run_id="demo-001",
        dataset_version="d" * 16,
        split="test",
        look=1,
        primary_metric="exact_match",
        n=120,
        systems=(system("base_zero_shot", first), system("base_few_shot", prompted), system("fine_tuned", tuned)),
        baseline="base_few_shot",
        candidate="fine_tuned",
        delta=Delta(value=change, ci_low=change - 0.1, ci_high=change + 0.1, p_value=0.001, method="mcnemar"),
        smallest_visible_difference=0.1,
        n_needed=None,
        margin=0.02,
        verdict=verdict,  # type: ignore[arg-type]
        reason="",
        general_skills=skills,
    )


def skill_of(name: str, before: float, after: float, half: float = 0.12, metric: str = "exact_match") -> SkillScore:
    """A skill whose change has an interval of +- `half`."""
    change = after - before
    return SkillScore(
        skill=name, metric=metric, before=before, after=after, n=40, ci_low=change - half, ci_high=change + half
    )


HEALTHY: dict[str, Shape] = {
    "converged": Shape(decay(2.5, 0.6, 6), decay(2.5, 0.66, 6)),
    "converged_long": Shape(decay(2.5, 0.6, 8), decay(2.5, 0.7, 8), noise=0.2, num_steps=400),
    "constant_rate": Shape(decay(2.2, 0.5, 7), decay(2.2, 0.56, 7), schedule="constant"),
    "instruction": Shape(decay(1.6, 1.2, 8), decay(1.6, 1.25, 8), noise=0.12, num_steps=300),
    "small_gain": Shape(decay(1.3, 1.19, 25), decay(1.32, 1.21, 25), noise=0.1, num_steps=300),
    "heavy_tailed": Shape(decay(2.0, 0.05, 7), decay(2.0, 0.07, 7), noise=0.5, relative=True, num_steps=200),
    "generalisation_gap": Shape(decay(2.4, 0.7, 6), decay(2.4, 0.91, 6), noise=0.15),
    "few_steps": Shape(decay(2.4, 0.8, 5), decay(2.4, 0.9, 5), num_steps=30),
    "noisy_validation": Shape(decay(2.4, 0.6, 6), decay(2.4, 0.65, 6), validation_noise=0.02),
    "large_batch": Shape(decay(1.1, 0.3, 5), decay(1.1, 0.34, 5), noise=0.02, num_steps=60),
    "known_already": Shape(decay(0.08, 0.05, 3), decay(0.09, 0.06, 3), noise=0.01),
}


def overfitted(share: float) -> float:
    """Validation that turns at 40 % of the effort and rises by a third."""
    return decay(2.5, 0.8, 8)(share) + 0.5 * max(0.0, share - 0.4)


def exploding(share: float) -> float:
    """Falls for 40 % of the effort, then climbs above its start."""
    return decay(2.5, 0.8, 8)(share) if share < 0.4 else 0.9 + 5 * (share - 0.4)


FAULTY: dict[str, tuple[str, Shape]] = {
    "rises": ("overfitting", Shape(decay(2.5, 0.1, 4), overfitted)),
    "rises_long": ("overfitting", Shape(decay(2.0, 0.05, 4), overfitted, num_steps=500, noise=0.15)),
    "plateau": ("overfitting", Shape(decay(2.5, 0.1, 4), decay(2.5, 0.9, 20), validation_noise=0.002)),
    "unfinished": ("underfitting", Shape(decay(2.5, 1.2, 0.7), decay(2.5, 1.3, 0.7), noise=0.05)),
    "unfinished_constant": (
        "underfitting",
        Shape(decay(3.0, 1.5, 1.0), decay(3.0, 1.6, 1.0), noise=0.05, schedule="constant", num_steps=200),
    ),
    "explodes": ("learning_rate_too_high", Shape(exploding, exploding)),
    "rises_from_start": ("learning_rate_too_high", Shape(lambda x: 2 + 2 * x, lambda x: 2 + 2 * x)),
    "barely_falls": ("learning_rate_too_low", Shape(lambda x: 2.5 - 0.1 * x, lambda x: 2.5 - 0.1 * x, noise=0.05)),
    "flat": ("learning_rate_too_low", Shape(lambda x: 2.5, lambda x: 2.5, validation_noise=0.0)),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for `healthy` or `faulty` runs once for each name of that table."""
    for name, table in (("healthy", HEALTHY), ("faulty", FAULTY)):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, list(table))


@pytest.fixture
def s() -> ModuleType:
    """The builders and tables of this file."""
    return sys.modules[__name__]


@pytest.fixture
def job_text() -> str:
    """A job file as a person writes it."""
    return """# Tickets to JSON
name = "tickets"   # begins the run id
base = "pebble"

[data]
path = "tickets.jsonl"

[train]
epochs = 3         # passes
rank = 16

[train.advanced]
# regularisation
dropout = 0.05     # LoRA

[evaluate]
primary_metric = "exact_match"
"""
