"""Serving in figures: bytes of a model by format, batches, a small model's speed, and serverless against always on."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import random
from typing import NamedTuple

from foretune.errors import ConfigError

__all__ = [
    "ModelSizes",
    "Serverless",
    "decode_speed_up",
    "model_sizes",
    "saved_bytes",
    "serverless_saving",
    "sporadic_arrivals",
]

SECONDS_PER_DAY = 86_400.0
SAVED_BYTES_PER_WEIGHT = 4  # adapters and prompts are written in fp32, as PEFT reads them


class ModelSizes(NamedTuple):
    """Bytes of the weights alone, in 16, 8 and 4 bits; 7e9 parameters are 14, 7 and 3.5 GB (R351)."""

    bits16: float
    bits8: float
    bits4: float


class Serverless(NamedTuple):
    """A day in dollars, always on and by the second, the share saved, and how many queries wait for a start."""

    always_on_usd: float
    serverless_usd: float
    saved_fraction: float
    cold_starts: int


def model_sizes(parameters: float) -> ModelSizes:
    """Bytes of the weights: parameters x bits / 8. Raises ConfigError below 1."""
    if not parameters >= 1:
        raise ConfigError(f"{parameters} parameters: expected 1 or more", fix="--params 7B")
    return ModelSizes(2 * parameters, parameters, parameters / 2)


def saved_bytes(trainable_parameters: int) -> int:
    """Bytes of a saved adapter or soft prompt: 4 a trained weight; LoRA r16 on q and v of 7B is 34 MB (R191)."""
    return SAVED_BYTES_PER_WEIGHT * trainable_parameters


def decode_speed_up(large_parameters: float, small_parameters: float) -> float:
    """How many times faster the small model writes: each token reads all weights, so it goes by bytes (R357).

    An upper bound: what does not shrink with the model (launches, network) is left out.
    """
    if not (large_parameters > 0 and small_parameters > 0):
        raise ConfigError("sizes of both models must be above 0", fix="--params 7B")
    return large_parameters / small_parameters


def sporadic_arrivals(queries_per_day: int, *, hours_per_day: float = 9.0, seed: int = 0) -> tuple[float, ...]:
    """Seconds of the day at which so many queries come, in bursts during office hours; the same for the same seed."""
    chance = random.Random(seed)
    bursts = max(1, queries_per_day // 10)
    starts = [chance.uniform(9 * 3600, (9 + hours_per_day) * 3600) for _ in range(bursts)]
    return tuple(sorted(chance.choice(starts) + chance.expovariate(1 / 60) for _ in range(queries_per_day)))


def serverless_saving(
    arrivals: tuple[float, ...],
    *,
    usd_per_hour: float,
    premium: float = 1.5,
    seconds_per_query: float = 3.0,
    idle_seconds: float = 300.0,
    cold_start_seconds: float = 60.0,
) -> Serverless:
    """One day of queries on a machine that always runs, and on one that is started and ended with the traffic (R355).

    By the second the machine costs `premium` times as much; it stays `idle_seconds` after its last query, and each
    start is paid for `cold_start_seconds`.
    """
    billed, ends, starts = 0.0, -1.0, 0
    for time in arrivals:
        if time > ends:
            starts += 1
            billed += cold_start_seconds + seconds_per_query + idle_seconds
            ends = time + cold_start_seconds + seconds_per_query + idle_seconds
        else:
            longer = max(ends, time + seconds_per_query + idle_seconds)
            billed += longer - ends
            ends = longer
    always = usd_per_hour * SECONDS_PER_DAY / 3600
    serverless = usd_per_hour * premium * billed / 3600
    saved = 1 - serverless / always if always else 0.0
    return Serverless(always, serverless, saved, starts)
