"""The learning curve's early stop: how often it is right, and how much training it saves, on simulated curves.

A part of `python benchmarks/run.py verdicts`. Systems answer the same samples; which ones they get right depends on how
hard a sample is and on chance, so that two models agree more than they would by chance alone.
"""

# SPDX-License-Identifier: Apache-2.0
#
# Shapes: N samples.
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import expit, ndtri

from foretune.evaluate.learning_curve import SHARES
from foretune.stats.learning_curve import is_flat, most_doubling_gain, most_full_gain
from foretune.stats.paired import MARGIN, compare_paired

__all__ = ["curve"]

Row = dict[str, Any]
Curve = Callable[[float], float]  # share of the data -> score
CURVES = 4000
AGREEMENT = 0.7  # correlation of two models' latent answers


def _flat(rng: np.random.Generator) -> Curve:
    level, slope = rng.uniform(0.2, 0.9), rng.uniform(0, 0.004)
    return lambda share: level + slope * math.log2(10 * share)


def _power(rng: np.random.Generator) -> Curve:
    top, lost, rate = rng.uniform(0.5, 0.98), rng.uniform(0.02, 0.4), rng.uniform(0.2, 1.0)
    return lambda share: max(0.01, top - lost * (10 * share) ** -rate)


def _logits(rng: np.random.Generator) -> Curve:
    start, slope = rng.uniform(-2, 2), rng.uniform(0, 0.5)
    return lambda share: float(expit(start + slope * math.log2(10 * share)))


def _late(rng: np.random.Generator) -> Curve:
    """Nothing is learnt before some share of the data, then it rises: what no early look can foresee."""
    low, gain = rng.uniform(0.1, 0.6), rng.uniform(0.1, 0.35)
    middle, steepness = rng.uniform(-2.5, 1.0), rng.uniform(1, 4)
    return lambda share: low + gain * float(expit(steepness * (math.log2(share) - middle)))


SHAPES: dict[str, Callable[[np.random.Generator], Curve]] = {
    "flat": _flat,
    "power law": _power,
    "straight in logits": _logits,
    "late": _late,
}


def _answers(rng: np.random.Generator, hard_N: np.ndarray, score: float) -> np.ndarray:
    """(N,) 0/1 scores of a model that is right on a share `score`."""
    own = rng.standard_normal(hard_N.size)
    latent = math.sqrt(AGREEMENT) * hard_N + math.sqrt(1 - AGREEMENT) * own
    right: np.ndarray = (latent < ndtri(np.clip(score, 1e-4, 1 - 1e-4))).astype(float)
    return right


def curve() -> list[Row]:
    """More data will not help (the run is trained), and training will not help (it is not): by shape of the curve."""
    return [
        row
        for n in (200, 500)
        for name, shape in SHAPES.items()
        for row in (_more_data(name, shape, n), _any_training(name, shape, n))
    ]


def _more_data(name: str, shape: Callable[[np.random.Generator], Curve], n: int) -> Row:
    """Stopped, wrongly (twice the data gains the margin), and the share of the parts' training that was saved."""
    rng = np.random.default_rng([n, len(name), 1])
    stopped = wrong = idle = old = wrong_by_half = 0
    saved = 0.0
    for _ in range(CURVES):
        score = shape(rng)
        hard = rng.standard_normal(n)
        whole = _answers(rng, hard, score(1.0))
        is_idle = score(2.0) - score(1.0) < MARGIN
        idle += is_idle
        last = compare_paired(_answers(rng, hard, score(0.5)), whole)
        wrong_by_half += not is_idle and is_flat(last.value, last.ci_low, last.ci_high)
        for number, share in enumerate(SHARES[:-1]):
            high = compare_paired(_answers(rng, hard, score(share)), whole).ci_high
            old += number == 0 and high < MARGIN
            if most_doubling_gain(float(whole.mean()), high, math.log2(1 / share)) < MARGIN:
                stopped += 1
                wrong += not is_idle
                saved += sum(SHARES[number + 1 :]) / sum(SHARES)
                break
    row = _row(f"more data, {name}, n={n}", stopped, wrong, idle, saved)
    half = {"by_all_parts_wrong_of_worth_percent": round(100 * wrong_by_half / max(1, CURVES - idle), 1)}
    return row | half | {"first_part_as_good_percent": round(100 * old / CURVES, 1)}


def _any_training(name: str, shape: Callable[[np.random.Generator], Curve], n: int) -> Row:
    """The same before the run itself is trained: of 10, 25, 50 and 100 %, two parts come before the look."""
    rng = np.random.default_rng([n, len(name), 2])
    stopped = wrong = idle = 0
    saved = 0.0
    trained, rest = SHARES[0] + SHARES[1], SHARES[2] + 1
    for _ in range(CURVES):
        score = shape(rng)
        base = float(np.clip(score(1.0) - rng.uniform(-0.3, 0.3), 0.02, 0.98))
        hard = rng.standard_normal(n)
        prompted, small, larger = (_answers(rng, hard, one) for one in (base, score(SHARES[0]), score(SHARES[1])))
        is_idle = score(1.0) - base < MARGIN
        idle += is_idle
        doublings, left = math.log2(SHARES[1] / SHARES[0]), math.log2(1 / SHARES[1])
        if most_full_gain(prompted, small, larger, doublings=doublings, left=left) < MARGIN:
            stopped += 1
            wrong += not is_idle
            saved += rest / (trained + rest)
    return _row(f"any training, {name}, n={n}", stopped, wrong, idle, saved)


def _row(case: str, stopped: int, wrong: int, idle: int, saved: float) -> Row:
    return {
        "case": case,
        "reps": CURVES,
        "idle_percent": round(100 * idle / CURVES, 1),
        "stopped_of_idle_percent": round(100 * (stopped - wrong) / max(1, idle), 1),
        "wrong_of_stopped_percent": round(100 * wrong / max(1, stopped), 1),
        "wrong_of_worth_percent": round(100 * wrong / max(1, CURVES - idle), 1),
        "training_saved_percent": round(100 * saved / CURVES, 1),
    }
