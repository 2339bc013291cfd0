"""Time: the line through measured passes, and its sums and intervals."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import random
from typing import Any

import pytest

from foretune.errors import DataError
from foretune.hardware import Machine
from foretune.models.shapes import model_shape
from foretune.plan.lengths import Pass
from foretune.plan.time import PROBED_FACTORS, Factors, calculated_speed, fit_speed, pass_seconds, probed_speed, scaled
from foretune.records.probe import ProbePoint

from .conftest import LLAMA_7B, LLAMA_13B, gpu_machine, probe_of

SIZES = [(16, 200), (16, 120), (8, 60), (16, 30), (4, 180), (16, 80), (2, 20)]


def points(a: float, b: float, c: float, noise: float = 0.0, sizes: Any = SIZES) -> list[ProbePoint]:
    rng = random.Random(1)
    return [
        ProbePoint(num_rows=r, row_tokens=t, seconds=(a + b * r * t + c * r * t * t) * (1 + noise * rng.gauss(0, 1)))
        for r, t in sizes
    ]


@pytest.mark.parametrize(
    "line", [(0.01, 2e-5, 0.0), (0.0, 2e-5, 0.0), (0.02, 1e-5, 3e-7), (0.0, 0.0, 1e-6), (0.0, 1e-5, 3e-7)]
)
def test_exact_points_give_the_exact_line(line: tuple[float, float, float]) -> None:
    fitted, spread = fit_speed(points(*line))
    assert fitted == pytest.approx(line, rel=1e-3, abs=1e-9)
    assert spread < 1e-3


def test_no_term_is_ever_negative() -> None:
    for seed_noise in (0.1, 0.3, 0.6):
        fitted, spread = fit_speed(points(0.01, 2e-5, 1e-8, noise=seed_noise))
        assert min(fitted) >= 0
        assert spread > 0.01


def test_one_size_is_proportional_and_two_give_a_line() -> None:
    assert fit_speed(points(0.0, 2e-5, 0.0, sizes=[(8, 100)]))[0] == pytest.approx((0.0, 2e-5, 0.0))
    fitted, _ = fit_speed(points(0.01, 2e-5, 0.0, sizes=[(8, 100), (8, 100), (2, 50)]))
    assert fitted == pytest.approx((0.01, 2e-5, 0.0), rel=1e-6)
    assert fit_speed(points(0.0, 2e-5, 0.0, sizes=[(8, 100)]))[1] == pytest.approx(0.1)


def test_one_interrupted_pass_hardly_moves_the_line() -> None:
    clean = points(0.01, 2e-5, 0.0)
    slow = [clean[0].model_copy(update={"seconds": 5 * clean[0].seconds}), *clean[1:]]
    line, spread = fit_speed(slow)
    assert pass_seconds(line, Pass.padded(16, 100)) == pytest.approx(0.01 + 2e-5 * 1600, rel=0.15)
    assert spread > 0.1  # the interval says that something was held up


def test_a_probe_without_passes_is_an_error() -> None:
    with pytest.raises(DataError):
        fit_speed([])


def test_probed_speed_falls_back_for_what_was_not_measured() -> None:
    speed = probed_speed(probe_of(eval_points=(), decode_seconds_per_token=0.0))
    assert speed.forward == pytest.approx([value / 3 for value in speed.train])
    assert speed.decode_seconds == pytest.approx(pass_seconds(speed.forward, Pass.padded(1, 1)))


def test_interval_holds_the_expected_value_and_widens_with_the_spread() -> None:
    plain, spread = scaled(100, PROBED_FACTORS), scaled(100, PROBED_FACTORS, 0.2)
    assert (plain.low, plain.expected, plain.high) == pytest.approx((80, 100, 130))
    assert spread.low < plain.low < plain.high < spread.high
    assert scaled(100, Factors(0.5, 2, ""), 5.0).low > 0


@pytest.mark.req("R064")
def test_time_falls_with_compute_power(machine: Machine) -> None:
    shape = model_shape(LLAMA_7B)
    devices = [machine, *(gpu_machine(name) for name in ("Tesla T4", "NVIDIA A10G", "NVIDIA A100", "NVIDIA H100"))]
    seconds = [
        pass_seconds(
            calculated_speed(shape, device, trains_base=False, trainable=8_388_608, is_bf16=True).train,
            Pass.padded(4, 512),
        )
        for device in devices
    ]
    assert seconds == sorted(seconds, reverse=True)
    assert len(set(seconds)) == len(seconds)


@pytest.mark.req("R052")
@pytest.mark.parametrize("trains_base", [True, False])
def test_13b_takes_thirteen_sevenths_of_7b(trains_base: bool) -> None:
    times = []
    for config in (LLAMA_7B, LLAMA_13B):
        shape = model_shape(config)
        speed = calculated_speed(
            shape, gpu_machine(), trains_base=trains_base, trainable=shape.parameters // 800, is_bf16=True
        )
        times.append(pass_seconds(speed.train, Pass.padded(4, 512)))
    assert times[1] / times[0] == pytest.approx(13 / 7, rel=0.1)


def test_training_the_base_takes_longer_than_adapters_by_the_flops() -> None:
    shape = model_shape(LLAMA_7B)
    full, lora = (
        calculated_speed(shape, gpu_machine(), trains_base=trains, trainable=8_388_608, is_bf16=True)
        for trains in (True, False)
    )
    # Three passes at 40 % of the peak against two at 27 %: adapters compute a third less, at a lower rate.
    assert full.train[1] / lora.train[1] == pytest.approx((3 / 0.40) / (2 / 0.27), rel=0.01)
    assert full.forward[1] < full.train[1]


def test_an_unknown_gpu_still_gets_a_figure() -> None:
    speed = calculated_speed(
        model_shape(LLAMA_7B), gpu_machine("Mystery 9000"), trains_base=True, trainable=10, is_bf16=True
    )
    assert 0 < pass_seconds(speed.train, Pass.padded(1, 512)) < 3600
