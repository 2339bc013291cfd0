"""What a price is: a figure in dollars with its provider, its date and its source, and how old is too old."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass

__all__ = [
    "STALE_DAYS",
    "Billing",
    "HostedPrice",
    "HourlyPrice",
    "StoragePrice",
    "TrainingPrice",
    "date_badge",
]

STALE_DAYS = 90


def date_badge(date: datetime.date, today: datetime.date | None = None) -> str:
    """`stale: 143 days old`, `dated in the future: 2030-01-01`, or nothing."""
    age = ((today or datetime.date.today()) - date).days
    if age < 0:
        return f"dated in the future: {date}"
    return f"stale: {age} days old" if age > STALE_DAYS else ""


def _is_stale(date: datetime.date, today: datetime.date | None) -> bool:
    return ((today or datetime.date.today()) - date).days > STALE_DAYS


@dataclass(frozen=True)
class HourlyPrice:
    """Price of one device for an hour; `device` is a name of the device catalogue or your own.

    `spot_usd_per_hour` is the price of capacity that may be taken away; `min_gpus` is how many devices the smallest
    machine has, which is what you pay for; `is_marketplace` marks offers of private hosts, which change daily.
    """

    device: str
    provider: str
    usd_per_hour: float
    date: datetime.date
    source: str
    spot_usd_per_hour: float | None = None
    min_gpus: int = 1
    is_marketplace: bool = False

    def is_stale(self, today: datetime.date | None = None) -> bool:
        """Whether the price is more than 90 days old; prices change weekly."""
        return _is_stale(self.date, today)

    def devices_billed(self, num_devices: int) -> int:
        """How many devices are paid for when so many are used: whole machines."""
        return math.ceil(max(num_devices, 1) / self.min_gpus) * self.min_gpus


@dataclass(frozen=True)
class TrainingPrice:
    """What a provider asks for training, per 1,000 tokens and epoch; `historical` rows are shown, never used."""

    provider: str
    model: str
    usd_per_1k_tokens: float
    date: datetime.date
    source: str
    historical: bool = False

    def is_stale(self, today: datetime.date | None = None) -> bool:
        """Whether the price is more than 90 days old."""
        return _is_stale(self.date, today)


@dataclass(frozen=True)
class StoragePrice:
    """Price of keeping 1e9 bytes for a month."""

    provider: str
    what: str
    usd_per_gb_month: float
    date: datetime.date
    source: str

    def is_stale(self, today: datetime.date | None = None) -> bool:
        """Whether the price is more than 90 days old."""
        return _is_stale(self.date, today)


@dataclass(frozen=True)
class Billing:
    """How a provider counts time: started increments, and the least that is charged, in seconds."""

    provider: str
    increment_seconds: int
    minimum_seconds: int
    source: str


@dataclass(frozen=True)
class HostedPrice:
    """Price of a provider for 1e6 training tokens, for one model or for every model up to a size in 1e9 parameters."""

    provider: str
    usd_per_1m_tokens: float
    date: datetime.date
    source: str
    model: str = ""
    method: str = "lora"
    max_params_b: float = math.inf
    minimum_usd: float = 0.0

    def is_stale(self, today: datetime.date | None = None) -> bool:
        """Whether the price is more than 90 days old."""
        return _is_stale(self.date, today)
