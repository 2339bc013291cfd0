"""Seconds of training and evaluation: a line through measured steps, summed over the real batches of the run."""

# SPDX-License-Identifier: Apache-2.0
#
# A pass over T computed tokens with P pairs that attend takes a + b T + c P seconds: launching, matrix products,
# attention.
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from foretune.config import JobConfig
from foretune.config.derive import Derived
from foretune.errors import DataError
from foretune.hardware import Machine
from foretune.models.shapes import Shape, forward_flops_per_token
from foretune.plan.lengths import Cutting, Lengths, Pass, Work, validation_passes
from foretune.plan.trained import extra_passes
from foretune.records.plan import Estimate
from foretune.records.probe import ProbePoint, ProbeRecord

__all__ = [
    "EVALUATION_FACTORS",
    "PROBED_FACTORS",
    "UNPROBED_FACTORS",
    "Factors",
    "Speed",
    "Times",
    "busy_factors",
    "calculated_speed",
    "evaluation_seconds",
    "fit_speed",
    "predicted_times",
    "probed_speed",
    "scaled",
]

Z90 = 1.645  # half-width of a 90 % normal interval in standard deviations
# Share of the peak that Hugging Face style training reaches, by whether the base is trained; from published runs:
# 6 N D at 40 % is right in the middle for full training, and for LoRA as well, which computes a third less.
UTILISATION = {True: 0.40, False: 0.27}
UNKNOWN_GPU_FLOPS, UNKNOWN_GPU_BANDWIDTH = 60e12, 500e9
CPU_BANDWIDTH = 10e9
LAUNCH_SECONDS_PER_LAYER = {"cpu": 2e-4, "cuda": 1e-3}
TERM_CHOICES = ((1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2))  # of a, b, c; never launching alone
HUBER_KNEE, HUBER_ROUNDS = 0.1, 20  # relative residuals beyond the knee count linearly
UNKNOWN_SPREAD = 0.1  # relative standard error where there are no more points than terms
STARTUP_SECONDS = 4.0  # import of the libraries
DISK_BYTES_PER_SECOND = 500e6
NUM_SKILLS = 12
CLASS_TOKENS = 8  # tokens of a class that the base model answers with


@dataclass(frozen=True)
class Factors:
    """How far the truth may lie from the expected value, as factors on it, and where that comes from."""

    low: float
    high: float
    reason: str


PROBED_FACTORS = Factors(0.8, 1.3, "usual noise of a machine that does other things too: x0.8 to x1.3")
UNPROBED_FACTORS = Factors(0.4, 2.5, "nothing was measured here: x0.4 to x2.5")
EVALUATION_FACTORS = Factors(0.4, 2.0, "answers may be shorter or longer than the training targets: x0.4 to x2")


def busy_factors(factors: Factors) -> Factors:
    """Wider factors for a machine that other processes keep busy: they may end, or more may come."""
    return Factors(
        0.6 * factors.low, 1.7 * factors.high, f"{factors.reason}; widened, as other processes keep this machine busy"
    )


@dataclass(frozen=True)
class Speed:
    """Seconds of passes on this machine. `spread` is the relative standard error of the fit.

    `train` and `forward` are (a, b, c) of forward plus backward and of forward alone.
    """

    train: tuple[float, float, float]
    forward: tuple[float, float, float]
    update_seconds: float
    save_seconds: float
    load_seconds: float
    decode_seconds: float  # one generated token for one batch
    spread: float
    is_probed: bool


@dataclass(frozen=True)
class Times:
    """Seconds of the parts of a run; `total` is the sum of the others with the optimizer steps in `train`."""

    train: Estimate
    validation: float
    saving: float
    loading: float
    evaluation: Estimate
    total: Estimate


def pass_seconds(line: tuple[float, float, float], one: Pass) -> float:
    """Seconds of one pass."""
    fixed, per_token, per_pair = line
    return fixed + per_token * one.num_tokens + per_pair * one.num_pairs


def fit_speed(points: Sequence[ProbePoint]) -> tuple[tuple[float, float, float], float]:
    """(a, b, c) with the smallest relative error and none negative, and its relative standard error.

    A single pass that something else held up counts less (Huber's loss). With two sizes a straight line, with one size
    proportional to tokens; the square needs four sizes. Raises DataError without points.
    """
    if not points:
        raise DataError("the probe measured no pass", fix="foretune plan job.toml --probe")
    sizes = [(point.num_rows * point.row_tokens, pairs_of(point)) for point in points]
    columns = np.array([[1.0, tokens, pairs] for tokens, pairs in sizes])
    seconds = np.array([max(point.seconds, 1e-9) for point in points])
    num_sizes = len(set(sizes))
    candidates = [(1,)] if num_sizes < 2 else [(1,), (0, 1)] if num_sizes < 4 else TERM_CHOICES
    fits = [_fitted(columns, seconds, terms) for terms in candidates]
    best = min((fit for fit in fits if min(fit.line) >= 0), key=lambda fit: fit.loss * (1 + 1e-6 * fit.num_terms))
    free = len(points) - best.num_terms
    spread = math.sqrt(best.squares / free / len(points)) if free > 0 else UNKNOWN_SPREAD
    return best.line, spread


def pairs_of(point: ProbePoint) -> int:
    """Pairs of positions that a measured pass attends over; those of a padded rectangle where it does not say."""
    return point.num_pairs or point.num_rows * point.row_tokens**2


class _Fit(NamedTuple):
    """A line with Huber's loss and the sum of squares of its relative residuals."""

    line: tuple[float, float, float]
    loss: float
    squares: float
    num_terms: int


def _fitted(columns: Any, seconds: Any, terms: tuple[int, ...]) -> _Fit:
    """Iteratively reweighted least squares of the relative residuals: rows divided by their seconds, target 1."""
    relative = columns[:, terms] / seconds[:, None]
    scale = np.abs(relative).max(axis=0)
    relative = relative / scale
    weights = np.ones(len(seconds))
    for _ in range(HUBER_ROUNDS):
        root = np.sqrt(weights)
        solution, *_ = np.linalg.lstsq(relative * root[:, None], root, rcond=None)
        size = np.abs(relative @ solution - 1)
        weights = np.minimum(1.0, HUBER_KNEE / np.maximum(size, 1e-12))
    loss = np.where(size <= HUBER_KNEE, size**2 / 2, HUBER_KNEE * (size - HUBER_KNEE / 2)).sum()
    values = dict(zip(terms, (solution / scale).tolist(), strict=True))
    line = (values.get(0, 0.0), values.get(1, 0.0), values.get(2, 0.0))
    return _Fit(line, float(loss), float((size**2).sum()), len(terms))


def probed_speed(probe: ProbeRecord) -> Speed:
    """The speed that the probe measured. Without forward passes of their own, a third of a training pass."""
    train, spread = fit_speed(probe.points)
    third = (train[0] / 3, train[1] / 3, train[2] / 3)
    forward = fit_speed(probe.eval_points)[0] if probe.eval_points else third
    return Speed(
        train=train,
        forward=forward,
        update_seconds=probe.update_seconds,
        save_seconds=probe.save_seconds,
        load_seconds=probe.load_seconds,
        decode_seconds=probe.decode_seconds_per_token or pass_seconds(forward, Pass.padded(1, 1)),
        spread=spread,
        is_probed=True,
    )


def calculated_speed(
    shape: Shape,
    machine: Machine,
    *,
    trains_base: bool,
    trainable: int,
    is_bf16: bool,
    trunk_share: float = 0.0,
    keeps_trunk: bool = False,
) -> Speed:
    """The speed from FLOPs over the device's peak times the share usually reached; nothing measured.

    `trunk_share` of the layers are frozen below the adapters: no backward pass, and with `keeps_trunk` no forward.
    """
    flops, bandwidth = _device_speed(machine, is_bf16)
    reached = flops * UTILISATION[trains_base]
    passes = 3.0 if trains_base else 2.0 - trunk_share * (2 if keeps_trunk else 1)
    per_token = forward_flops_per_token(shape, 0) / reached
    per_square = (forward_flops_per_token(shape, 1) - forward_flops_per_token(shape, 0)) / reached
    launch = LAUNCH_SECONDS_PER_LAYER[machine.kind] * shape.num_layers
    adapter = 0.0 if trains_base else 6.0 * trainable / reached
    weight_bytes = 4.0 * shape.parameters
    return Speed(
        train=(passes * launch, passes * per_token + adapter, passes * per_square),
        forward=(launch, per_token, per_square),
        update_seconds=28.0 * trainable / bandwidth,  # weights, gradients and two moments read, three written; fp32
        save_seconds=12.0 * trainable / DISK_BYTES_PER_SECOND,
        load_seconds=STARTUP_SECONDS + weight_bytes / DISK_BYTES_PER_SECOND,
        decode_seconds=launch + weight_bytes / bandwidth,
        spread=0.0,
        is_probed=False,
    )


def _device_speed(machine: Machine, is_bf16: bool) -> tuple[float, float]:
    """FLOP/s and bytes/s of the device that training will use."""
    if machine.kind == "cpu":
        return machine.cpu_flops, CPU_BANDWIDTH
    device = machine.gpus[0].device
    if device is None:
        return UNKNOWN_GPU_FLOPS, UNKNOWN_GPU_BANDWIDTH
    return (device.half_flops if is_bf16 else device.fp32_flops), device.bandwidth_bytes_per_second


def scaled(expected: float, factors: Factors, spread: float = 0.0) -> Estimate:
    """The interval around `expected`: the factors' own width and the fit's spread, added as independent errors."""
    below = math.hypot(1 - factors.low, Z90 * spread)
    above = math.hypot(factors.high - 1, Z90 * spread)
    return Estimate(low=expected * max(0.1, 1 - below), expected=expected, high=expected * (1 + above))


def predicted_times(
    job: JobConfig,
    derived: Derived,
    lengths: Lengths,
    work: Work,
    shape: Shape,
    speed: Speed,
    factors: Factors,
    cutting: Cutting,
    *,
    trunk_share: float = 0.0,
    recomputes: bool = False,
) -> Times:
    """Seconds of every part of the run: its real batches, updates, validations, checkpoints and the evaluation.

    `trunk_share` and `recomputes` as in `extra_passes`.
    """
    passes = sum(count * pass_seconds(speed.train, one) for one, count in work.passes.items())
    forward = sum(count * pass_seconds(speed.forward, one) for one, count in work.passes.items())
    extra = extra_passes(job, derived, is_probed=speed.is_probed, trunk_share=trunk_share, recomputes=recomputes)
    passes += extra.each_step * forward
    train = scaled(passes + derived.num_steps * speed.update_seconds, factors, speed.spread)
    validations = 1 + math.ceil(derived.num_steps / derived.eval_every)  # one before the first step
    one_validation = sum(
        pass_seconds(speed.forward, one) for one in validation_passes(lengths, derived, cutting=cutting)
    )
    validation = validations * one_validation
    saving = (math.ceil(derived.num_steps / derived.save_every) + 1) * speed.save_seconds
    evaluation = scaled(evaluation_seconds(job, lengths, shape, speed), EVALUATION_FACTORS)
    loading = 3 * speed.load_seconds  # training, and the base and the result in evaluation
    others = scaled(validation + saving + loading + extra.before * forward, factors, speed.spread)
    return Times(train, validation, saving, loading, evaluation, _sum((train, others, evaluation)))


def _sum(estimates: Sequence[Estimate]) -> Estimate:
    """The sum with ends added: the errors share the machine, so they do not cancel."""
    return Estimate(
        low=sum(part.low for part in estimates),
        expected=sum(part.expected for part in estimates),
        high=sum(part.high for part in estimates),
    )


def evaluation_seconds(job: JobConfig, lengths: Lengths, shape: Shape, speed: Speed) -> float:
    """Seconds to answer with three systems (base, prompted base, result), to choose the prompt and to check skills."""
    settings = job.evaluate.advanced
    num_test = min(len(lengths.test), settings.max_test_samples or len(lengths.test))
    if not num_test:
        return 0.0
    size = min(settings.batch_size, num_test)
    sample = sum(lengths.test) / len(lengths.test)
    if job.train.method == "pretrain":
        return 2 * math.ceil(num_test / size) * pass_seconds(speed.forward, Pass.padded(size, round(sample)))
    answer = job.evaluate.max_new_tokens or max(lengths.test_answers, default=round(sample / 2)) or CLASS_TOKENS
    question = max(1, round(sample - answer))
    most_shots = max(job.evaluate.few_shot, default=0)
    prompted = min(shape.max_len or 10**9, round(question + most_shots * sample))
    num_chosen = min(len(lengths.validation), settings.max_validation_samples)
    num_prompts = (1 + len(job.evaluate.few_shot)) * (1 + len(job.evaluate.instructions))
    tuned_answer = 0 if job.train.method in ("classify", "regress") else answer
    return (
        _answer_seconds(speed, num_test, size, question, answer)
        + _answer_seconds(speed, num_test, size, prompted, answer)
        + _answer_seconds(speed, num_test, size, question, tuned_answer)
        + num_prompts * _answer_seconds(speed, num_chosen, size, prompted, answer)
        + 2 * _answer_seconds(speed, NUM_SKILLS * settings.probe_samples, settings.batch_size, question, answer)
    )


def _answer_seconds(speed: Speed, num_samples: int, batch_size: int, prompt_tokens: int, new_tokens: int) -> float:
    """Seconds to read the prompts and generate the answers of all samples."""
    batches = math.ceil(num_samples / batch_size)
    return batches * (
        pass_seconds(speed.forward, Pass.padded(batch_size, prompt_tokens)) + new_tokens * speed.decode_seconds
    )
