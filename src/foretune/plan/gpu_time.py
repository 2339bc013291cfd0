"""Tokens a second and hours of a training setup on named devices, with an interval and the seconds of each part."""

# SPDX-License-Identifier: Apache-2.0
#
# Steady speed comes from gpu_step.py; hours add what a whole run has beside its steps. Intervals are the errors of rows
# that a fit did not see, of the nearest kind of run; see benchmarks/plan_fit_time.py.
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from foretune.errors import DataError
from foretune.models.shapes import training_flops_per_token
from foretune.plan.gpu_step import FORMULAS, seconds
from foretune.plan.gpu_work import CLUSTER, Work, is_packed, mean_row_tokens, num_devices, work_of
from foretune.plan.setup import Setup
from foretune.plan.time_coefficients import TimeModel, centre_of, log_factor, regime_of, shares, time_family, time_model
from foretune.records.plan import Estimate

__all__ = ["GpuTime", "Run", "calibrated", "run_of", "throughput"]

USUAL_TOKENS = 250.0  # of an example of instruction tuning, where rows are packed and nothing is known of it


@dataclass(frozen=True)
class GpuTime:
    """The speed of a setup. `components` are seconds of one update on each device, with a formula each.

    `tokens_per_second` counts what a user counts: tokens of all devices, padding left out. `train_hours` is None where
    the setup names no amount of data; for a run told in device-hours it holds device-hours. `mfu` is the share of the
    16-bit peak that a model's own operations reach, recomputation left out. The interval holds eight runs of ten.
    """

    tokens_per_second: Estimate
    train_hours: Estimate | None
    mfu: float
    components: dict[str, float]
    formulas: dict[str, str]
    assumptions: tuple[str, ...]
    regime: str


class Run(NamedTuple):
    """The amount of work of a whole run: micro-batches of one copy, tokens as a user counts them, and whether the run
    is timed from start to end."""

    micro_batches: float
    tokens: float
    is_whole: bool


class Prediction(NamedTuple):
    """Seconds of one micro-batch by component, before intervals."""

    work: Work
    parts: dict[str, float]

    @property
    def micro_seconds(self) -> float:
        """Seconds of one micro-batch."""
        return sum(self.parts.values())


def throughput(setup: Setup, model: TimeModel | None = None) -> GpuTime:
    """The speed and hours of a setup from its description alone. Raises ConfigError for a device without a size."""
    known = model or time_model()
    regime = regime_of(setup, known)
    low, high = known.intervals.get(regime, known.intervals["new single"])
    return _time_of(setup, predicted(setup, known), 1.0, (low, high), regime, known)


def calibrated(setup: Setup, measured: Sequence[tuple[Setup, float]], model: TimeModel | None = None) -> GpuTime:
    """The speed of a setup after tokens a second of others were measured; the nearer ones count more.

    Raises DataError where a measured speed is not above 0.
    """
    known = model or time_model()
    if not measured:
        return throughput(setup, known)
    if any(not speed > 0 for _, speed in measured):
        raise DataError("a measured speed is not above 0 tokens a second", fix="leave it out")
    own = predicted(setup, known)
    factor, spread = correction(setup, own, measured, known)
    return _time_of(setup, own, factor, (math.exp(-spread), math.exp(spread)), "calibrated", known)


def predicted(setup: Setup, model: TimeModel) -> Prediction:
    """Seconds of one micro-batch of a setup, factors of framework, device and method included."""
    work = work_of(setup)
    log_seconds, log_share = log_factor(setup, model.factors)
    parts = seconds(work, model.coefficients, shares(log_share))
    scale = math.exp(log_seconds + centre_of(setup, model))
    return Prediction(work, {name: scale * float(value) for name, value in parts.items()})


def run_of(setup: Setup, work: Work) -> Run | None:
    """The amount of work that a setup names: by its steps, else its tokens, else its examples; None without any."""
    row = mean_row_tokens(setup)
    is_whole = bool(setup.num_examples or setup.epochs)
    if setup.steps and setup.steps_are_micro:
        return Run(float(setup.steps), setup.steps * work.reported_tokens, is_whole)
    if setup.steps and not setup.counts_device_hours:
        return Run(setup.steps * work.micro_per_step, setup.steps * setup.global_batch_size * row, is_whole)
    if setup.row_tokens and setup.num_examples and not is_packed(setup):
        rows = setup.num_examples * (setup.epochs or 1.0)
        return Run(rows * row / work.reported_tokens, rows * row, is_whole)
    if setup.tokens_total:
        return Run(setup.tokens_total / work.reported_tokens, setup.tokens_total, is_whole)
    if setup.num_examples:
        mean = setup.mean_tokens or (min(USUAL_TOKENS, row) if setup.packing else row)
        tokens = setup.num_examples * (setup.epochs or 1.0) * mean
        return Run(tokens / work.reported_tokens, tokens, is_whole)
    return None


def _time_of(
    setup: Setup,
    prediction: Prediction,
    factor: float,
    interval: tuple[float, float],
    regime: str,
    model: TimeModel,
) -> GpuTime:
    work, micro = prediction.work, prediction.micro_seconds * factor
    per_device = num_devices(setup) / setup.num_gpus
    speed = work.reported_tokens / micro / per_device
    run = run_of(setup, work)
    hours = None
    if run is not None:
        startup = model.coefficients["startup"] if run.is_whole else 0.0
        hours = (run.micro_batches * micro * per_device + startup) / 3600
    low, high = interval
    return GpuTime(
        tokens_per_second=Estimate(low=speed / high, expected=speed, high=speed / low),
        train_hours=None if hours is None else Estimate(low=hours * low, expected=hours, high=hours * high),
        mfu=_mfu(setup, speed, work),
        components={name: part * factor * work.micro_per_step for name, part in prediction.parts.items() if part > 0},
        formulas=dict(FORMULAS),
        assumptions=_assumptions(setup, regime, interval),
        regime=regime,
    )


def _mfu(setup: Setup, speed: float, work: Work) -> float:
    row = max(1, round(mean_row_tokens(setup)))
    flops = training_flops_per_token(
        setup.shape,
        row,
        trains_base=setup.trains_base,
        adapter_parameters=0 if setup.trains_base else setup.adapter_parameters,
        kernel="causal",
    )
    return flops * speed / (work.peak * setup.num_gpus)


def _assumptions(setup: Setup, regime: str, interval: tuple[float, float]) -> tuple[str, ...]:
    low, high = interval
    lines = [f"time: x{low:.2f} to x{high:.2f} holds 80 % of runs of this kind ({regime})"]
    if not setup.device:
        lines.append("time: no device named, the usual card of that memory is taken")
    if time_family(setup.framework).name == "other":
        lines.append("time: framework not known, the mean of all is taken")
    if setup.counts_device_hours:
        lines.append(f"time: device-hours, as of a run on {CLUSTER} devices")
    return tuple(lines)


def correction(
    setup: Setup, own: Prediction, measured: Sequence[tuple[Setup, float]], model: TimeModel
) -> tuple[float, float]:
    """The factor on seconds that measurements of other setups imply, and the half-width of its interval in logarithms.

    The logarithm of measured over predicted seconds is taken as a constant of machine and software plus a part that
    fades with distance: a Gaussian process (Rasmussen and Williams 2006, eq. 2.25) with `calibration` as its widths.
    """
    import numpy as np

    widths = model.calibration
    points = [predicted(other, model) for other, _ in measured]
    logs = [_log_ratio(point, speed, other) for point, (other, speed) in zip(points, measured, strict=True)]
    places = [_place(other, point, widths) for point, (other, _) in zip(points, measured, strict=True)]
    spots = np.array([_place(setup, own, widths), *places])
    squared = ((spots[:, None, :] - spots[None, :, :]) ** 2).sum(axis=2)
    covariance = widths["constant"] ** 2 + widths["local"] ** 2 * np.exp(-0.5 * squared)
    noise = widths["noise"] ** 2
    weights = np.linalg.solve(covariance[1:, 1:] + noise * np.eye(len(measured)), covariance[1:, 0])
    variance = max(float(covariance[0, 0] + noise - weights @ covariance[1:, 0]), noise)
    return math.exp(float(weights @ np.array(logs))), widths["interval"] * math.sqrt(variance)


def _log_ratio(point: Prediction, speed: float, other: Setup) -> float:
    expected = point.work.reported_tokens / point.micro_seconds / (num_devices(other) / other.num_gpus)
    return math.log(expected / speed)


def _place(setup: Setup, point: Prediction, widths: Mapping[str, float]) -> tuple[float, ...]:
    """Where a setup stands among others: tokens of a micro-batch, where its seconds go, and settings, in widths."""
    total, parts, shares_width = point.micro_seconds, point.parts, widths["shares"]
    exchanged = parts["sharding"] + parts["parallel"] + parts["bubble"]
    return (
        math.log2(max(1.0, point.work.tokens)) / widths["doublings"],
        parts["launch"] / total / shares_width,
        exchanged / total / shares_width,
        (parts["attention"] + parts["dequantisation"]) / total / shares_width,
        point.work.recompute / widths["settings"],
        math.log2(setup.num_gpus) / widths["devices"],
        (point.work.has_fp8 + point.work.has_fp4) / widths["settings"],
    )
