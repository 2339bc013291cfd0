"""Money: what a run costs, what a provider would ask, and when a fine-tuned model pays for itself."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math
from typing import NamedTuple

from foretune.hardware import HourlyPrice, instance_hours
from foretune.records.plan import Estimate
from foretune.units import show_usd

__all__ = [
    "Payback",
    "batch_speed_up",
    "labour_usd",
    "monthly_cost_usd",
    "monthly_saving_usd",
    "payback",
    "payback_months",
    "rental_cost",
    "run_cost",
    "saving_verdict",
    "storage_cost_usd",
    "training_cost_usd",
]

LABOUR_HOURS = (20.0, 40.0)  # senior hours that preparing data and evaluating usually take
NO_REPEATS = Estimate(low=1, expected=1, high=1)
SPOT_REPEATS = Estimate(low=1.05, expected=1.1, high=1.3)  # work done again after interruptions; assumed
WORTH_MONTHS = 12.0  # a payback beyond a year is not worth it: prices and models change faster


class Payback(NamedTuple):
    """Months until the saving has paid for training, alone and with the labour; infinite without a saving."""

    training_only: float
    with_labour: float


def run_cost(seconds: Estimate, price_per_hour_usd: float) -> Estimate:
    """Dollars of machine time at a price per hour; 0 for your own machine."""
    rate = price_per_hour_usd / 3600
    return Estimate(low=seconds.low * rate, expected=seconds.expected * rate, high=seconds.high * rate)


def rental_cost(hours: Estimate, price: HourlyPrice, num_devices: int = 1, *, is_spot: bool = False) -> Estimate:
    """Dollars for renting so many devices for so many hours each: whole machines, billed as the provider counts time.

    On spot capacity the work that interruptions repeat is added (5 to 30 %; assumed); a row without a spot price is
    charged on demand.
    """
    spot = price.spot_usd_per_hour if is_spot else None
    rate = (price.usd_per_hour if spot is None else spot) * price.devices_billed(num_devices)
    again = NO_REPEATS if spot is None else SPOT_REPEATS
    return Estimate(
        low=instance_hours(hours.low * again.low, price.provider) * rate,
        expected=instance_hours(hours.expected * again.expected, price.provider) * rate,
        high=instance_hours(hours.high * again.high, price.provider) * rate,
    )


def storage_cost_usd(size_gb: float, usd_per_gb_month: float, months: float = 1.0) -> float:
    """Dollars for keeping so many GB (1e9 bytes) for so many months."""
    return size_gb * usd_per_gb_month * months


def training_cost_usd(num_examples: int, tokens_per_example: float, num_epochs: float, usd_per_1k: float) -> float:
    """What a provider asks for training: tokens of all epochs at a price per 1,000; providers bill every epoch."""
    return num_examples * tokens_per_example * num_epochs * usd_per_1k / 1000


def labour_usd(usd_per_hour: float, hours: tuple[float, float] = LABOUR_HOURS) -> tuple[float, float]:
    """Cost of the work at your own rate, for the fewest and the most hours."""
    return hours[0] * usd_per_hour, hours[1] * usd_per_hour


def monthly_cost_usd(usd_per_query: float, queries_per_month: float) -> float:
    """Dollars a month at a price per query."""
    return usd_per_query * queries_per_month


def monthly_saving_usd(usd_per_query_now: float, usd_per_query_then: float, queries_per_month: float) -> float:
    """Dollars a month saved by the cheaper query; negative if it is dearer."""
    return (usd_per_query_now - usd_per_query_then) * queries_per_month


def payback_months(spent_usd: float, saving_usd_per_month: float) -> float:
    """Months until what was spent is saved; infinite where nothing is saved."""
    return spent_usd / saving_usd_per_month if saving_usd_per_month > 0 else math.inf


def payback(training_usd: float, labour_cost_usd: float, saving_usd_per_month: float) -> Payback:
    """Both answers: training alone flatters, the labour is usually the larger part."""
    return Payback(
        payback_months(training_usd, saving_usd_per_month),
        payback_months(training_usd + labour_cost_usd, saving_usd_per_month),
    )


def saving_verdict(training_usd: float, labour_cost_usd: float, saving_usd_per_month: float) -> str:
    """`worth it` or `not worth it`, with the saving and both paybacks."""
    months = payback(training_usd, labour_cost_usd, saving_usd_per_month)
    verdict = "worth it" if months.with_labour <= WORTH_MONTHS else "not worth it"
    if math.isinf(months.with_labour):
        return f"{verdict}: nothing is saved"
    return (
        f"{verdict}: saves {show_usd(saving_usd_per_month)} a month, pays back in {months.with_labour:.2f} months with "
        f"labour, {months.training_only:.3f} without"
    )


def batch_speed_up(batch_size: int, time_factor: float) -> float:
    """How many times faster rows are done when a batch takes `time_factor` times as long as one row."""
    return batch_size / time_factor
