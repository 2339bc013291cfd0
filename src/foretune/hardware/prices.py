"""Prices with source and date: an hour of a device, a month of storage, a thousand training tokens; yours override."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import datetime
import json
import math
import os
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from foretune.hardware.offers import (
    STALE_DAYS,
    Billing,
    HostedPrice,
    HourlyPrice,
    StoragePrice,
    TrainingPrice,
    date_badge,
)
from foretune.hardware.price_file import PriceBook, read_price_book
from foretune.units import show_seconds, show_usd

__all__ = [
    "BILLING",
    "HOURLY_PRICES",
    "STALE_DAYS",
    "STORAGE_PRICES",
    "TRAINING_PRICES",
    "Billing",
    "HostedPrice",
    "HourlyPrice",
    "PriceBand",
    "PriceBook",
    "StoragePrice",
    "TrainingPrice",
    "band_warning",
    "billing_words",
    "date_badge",
    "hourly_prices",
    "instance_hours",
    "price_band",
    "price_per_hour",
    "price_warnings",
    "read_price_book",
    "read_price_file",
    "spot_price_per_hour",
    "storage_price",
    "training_price",
    "user_prices_path",
]

# The brief's rule of thumb for renting a suitable card of 16 to 80 GB; a price outside is flagged, not refused.
USUAL_BAND_USD = (1.0, 3.0)
USUAL_BAND_GB = (16.0, 80.0)
HOURLY_BILLING_SECONDS = 3600  # what is assumed of a provider whose billing is not known: whole hours


class PriceBand(NamedTuple):
    """Lowest, median and highest on-demand price of a device among its providers, dollars an hour."""

    low: float
    typical: float
    high: float


def _read_prices() -> tuple[tuple[HourlyPrice, ...], tuple[StoragePrice, ...], tuple[Billing, ...]]:
    tree = json.loads(Path(__file__).with_name("prices.json").read_text(encoding="utf-8"))
    hourly = tuple(_hourly(row, tree["sources"][row["source"]]) for row in tree["hourly"])
    storage = tuple(StoragePrice(**{**row, "date": _date(row["date"])}) for row in tree["storage"])
    return hourly, storage, tuple(Billing(**row) for row in tree["billing"])


def _hourly(row: dict[str, Any], origin: dict[str, str]) -> HourlyPrice:
    return HourlyPrice(
        row["device"],
        row["provider"],
        row["usd_per_hour"],
        _date(origin["date"]),
        origin["source"],
        row.get("spot_usd_per_hour"),
        row.get("min_gpus", 1),
        row.get("marketplace", False),
    )


def _date(text: str) -> datetime.date:
    return datetime.date.fromisoformat(text)


HOURLY_PRICES, STORAGE_PRICES, BILLING = _read_prices()

TRAINING_PRICES: tuple[TrainingPrice, ...] = (
    TrainingPrice(
        "OpenAI",
        "gpt-3.5-turbo",
        0.008,
        datetime.date(2023, 8, 22),
        "openai.com/blog/gpt-3-5-turbo-fine-tuning-and-api-updates",
        historical=True,
    ),
)


def user_prices_path() -> Path:
    """Your own prices: `$XDG_CONFIG_HOME/foretune/prices.toml`."""
    home = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(home) / "foretune" / "prices.toml"


def read_price_file(path: Path) -> tuple[HourlyPrice, ...]:
    """The hourly prices of your price file; () where there is none. Raises ConfigError with every fault."""
    return read_price_book(path).hourly


def hourly_prices(path: str | Path | None = None) -> tuple[HourlyPrice, ...]:
    """Every hourly price, your own first; a device that you price hides the bundled rows of that device.

    `path` is a price file, by default `user_prices_path()`. Raises ConfigError on a faulty one.
    """
    own = read_price_file(Path(path) if path is not None else user_prices_path())
    priced = {price.device for price in own}
    return (*own, *(price for price in HOURLY_PRICES if price.device not in priced))


def price_per_hour(
    device: str, path: str | Path | None = None, num_devices: int = 1, today: datetime.date | None = None
) -> HourlyPrice | None:
    """Your own price of a device, else the bundled one that is lowest for so many devices, else None.

    A machine of eight counts with all eight. Prices of the last 90 days go before older ones, and offers of private
    hosts count only where there is nothing else.
    """
    found = [price for price in hourly_prices(path) if price.device == device]
    found = [price for price in found if not price.is_marketplace] or found
    found = [price for price in found if not price.is_stale(today)] or found
    return min(found, key=lambda price: price.usd_per_hour * price.devices_billed(num_devices), default=None)


def spot_price_per_hour(device: str, path: str | Path | None = None) -> HourlyPrice | None:
    """The row with the lowest price for capacity that may be taken away, or None where no row has one."""
    found = [price for price in hourly_prices(path) if price.device == device and price.spot_usd_per_hour is not None]
    return min(found, key=lambda price: price.spot_usd_per_hour or 0.0, default=None)


def price_band(device: str, path: str | Path | None = None) -> PriceBand | None:
    """Lowest, median and highest on-demand price of a device, or None: the same card differs by 2 to 7 times."""
    found = [price.usd_per_hour for price in hourly_prices(path) if price.device == device]
    return PriceBand(min(found), statistics.median(found), max(found)) if found else None


def band_warning(usd_per_hour: float, memory_gb: float) -> str:
    """A sentence where a price of a card of 16 to 80 GB lies outside the usual $1 to $3 an hour, else nothing."""
    low, high = USUAL_BAND_USD
    if not USUAL_BAND_GB[0] <= memory_gb <= USUAL_BAND_GB[1] or low <= usd_per_hour <= high:
        return ""
    side = "below" if usd_per_hour < low else "above"
    return f"{show_usd(usd_per_hour)} an hour is {side} the usual ${low:g} to ${high:g} for a card of {memory_gb:g} GB"


def price_warnings(
    prices: Iterable[HourlyPrice | TrainingPrice | StoragePrice | HostedPrice], today: datetime.date | None = None
) -> tuple[str, ...]:
    """One sentence for each price that is stale or dated in the future."""
    badges = ((price.provider, date_badge(price.date, today)) for price in prices)
    return tuple(f"price of {provider}: {badge}" for provider, badge in badges if badge)


def storage_price(provider: str, path: str | Path | None = None) -> StoragePrice | None:
    """Your own storage price of a provider, else the lowest bundled one, else None."""
    own = read_price_book(Path(path) if path is not None else user_prices_path()).storage
    found = [price for price in own if price.provider == provider]
    found = found or [price for price in STORAGE_PRICES if price.provider == provider]
    return min(found, key=lambda price: price.usd_per_gb_month, default=None)


def instance_hours(hours: float, provider: str) -> float:
    """Hours that a provider charges for so many hours of work: started increments, at least its minimum.

    A provider whose billing is not known is taken to charge started hours.
    """
    billing = _billing_of(provider)
    if hours <= 0:
        return 0.0
    started = math.ceil(round(hours * 3600 / billing.increment_seconds, 6)) * billing.increment_seconds
    return max(started, billing.minimum_seconds) / 3600


def billing_words(provider: str) -> str:
    """How a provider counts time: `by the second`, `by started minutes, at least 1 min`."""
    billing = _billing_of(provider)
    unit = {1: "by the second", 60: "by started minutes", 3600: "by started hours"}.get(
        billing.increment_seconds, f"by started {billing.increment_seconds} s"
    )
    least = f", at least {show_seconds(billing.minimum_seconds)}" if billing.minimum_seconds > 1 else ""
    return f"{unit}{least}" if billing.source else f"{unit} (assumed)"


def _billing_of(provider: str) -> Billing:
    known = next((one for one in BILLING if provider.startswith(one.provider)), None)
    return known or Billing(provider, HOURLY_BILLING_SECONDS, HOURLY_BILLING_SECONDS, "")


def training_price(provider: str, model: str) -> TrainingPrice | None:
    """The bundled training price of a provider's model, if there is one."""
    return next((price for price in TRAINING_PRICES if (price.provider, price.model) == (provider, model)), None)
