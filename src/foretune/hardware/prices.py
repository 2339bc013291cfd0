"""Prices with source and date: an hour of a device, a thousand training tokens of a provider; yours override them."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import datetime
import os
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from foretune.errors import ConfigError, Fault

__all__ = [
    "HOURLY_PRICES",
    "STALE_DAYS",
    "TRAINING_PRICES",
    "HourlyPrice",
    "TrainingPrice",
    "hourly_prices",
    "price_per_hour",
    "read_price_file",
    "training_price",
    "user_prices_path",
]

STALE_DAYS = 90
CATALOGUE = "skypilot-org/skypilot-catalog, read in 2026; the day was not kept, so the first of the year stands"
CATALOGUE_DATE = datetime.date(2026, 1, 1)


def _is_stale(date: datetime.date, today: datetime.date | None) -> bool:
    return ((today or datetime.date.today()) - date).days > STALE_DAYS


@dataclass(frozen=True)
class HourlyPrice:
    """On-demand price of one device for an hour; `device` is a name of the device catalogue or your own."""

    device: str
    provider: str
    usd_per_hour: float
    date: datetime.date
    source: str

    def is_stale(self, today: datetime.date | None = None) -> bool:
        """Whether the price is more than 90 days old; prices change weekly."""
        return _is_stale(self.date, today)


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


def _hourly(device: str, provider: str, usd: float) -> HourlyPrice:
    return HourlyPrice(device, provider, usd, CATALOGUE_DATE, CATALOGUE)


HOURLY_PRICES: tuple[HourlyPrice, ...] = (
    _hourly("H100", "Verda", 2.29),
    _hourly("H100", "Nebius", 2.95),
    _hourly("H100", "Lambda", 3.99),
    _hourly("H200", "Verda", 3.39),
    _hourly("H200", "Nebius", 3.50),
    _hourly("A100-80", "Verda", 1.29),
    _hourly("A100-40", "Vast", 0.76),
    _hourly("L40S", "AWS g6e.xlarge", 1.86),
    _hourly("RTX A6000", "Lambda", 1.09),
    _hourly("RTX 4090", "Vast", 0.40),
    _hourly("RTX 3090", "Vast", 0.17),
    _hourly("V100", "Lambda", 0.79),
    _hourly("A10G", "AWS g5.xlarge", 1.01),
    HourlyPrice("L4", "AWS g6.2xlarge", 0.978, datetime.date(2024, 1, 1), "blogs of 2023 and 2024"),
)

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


def hourly_prices(path: str | Path | None = None) -> tuple[HourlyPrice, ...]:
    """Every hourly price, your own first; a device that you price hides the bundled rows of that device.

    `path` is a price file, by default `user_prices_path()`. Raises ConfigError on a faulty one.
    """
    own = read_price_file(Path(path) if path is not None else user_prices_path())
    priced = {price.device for price in own}
    return (*own, *(price for price in HOURLY_PRICES if price.device not in priced))


def price_per_hour(device: str, path: str | Path | None = None) -> HourlyPrice | None:
    """Your own price of a device, else the lowest bundled one, else None."""
    found = [price for price in hourly_prices(path) if price.device == device]
    return min(found, key=lambda price: price.usd_per_hour, default=None)


def training_price(provider: str, model: str) -> TrainingPrice | None:
    """The bundled training price of a provider's model, if there is one."""
    return next((price for price in TRAINING_PRICES if (price.provider, price.model) == (provider, model)), None)


def read_price_file(path: Path) -> tuple[HourlyPrice, ...]:
    """Rows `[[hourly]] device, usd_per_hour, date` with optional `provider` and `source`; () where there is no file.

    Raises ConfigError with every fault.
    """
    if not path.is_file():
        return ()
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}", fix="strings need quotes, dates are 2026-11-21") from None
    rows = tree.get("hourly", [])
    faults = [str(fault) for number, row in enumerate(rows, 1) for fault in _row_faults(path, number, row)]
    if faults:
        raise ConfigError("\n".join(faults), fix='[[hourly]]\ndevice = "H100"\nusd_per_hour = 2.5\ndate = 2026-11-21')
    return tuple(_price_of(row, path) for row in rows)


def _row_faults(path: Path, number: int, row: dict[str, Any]) -> list[Fault]:
    expected: dict[str, tuple[type | tuple[type, ...], str]] = {
        "device": (str, "a device name in quotes"),
        "usd_per_hour": ((int, float), "a number of dollars, 0 or more"),
        "date": (datetime.date, "a date as 2026-11-21"),
    }
    faults = [
        Fault(str(path), 0, f"row {number}: `{name}`", str(row.get(name)), wanted)
        for name, (kind, wanted) in expected.items()
        if not isinstance(row.get(name), kind) or isinstance(row.get(name), bool)
    ]
    if not faults and row["usd_per_hour"] < 0:
        faults.append(Fault(str(path), 0, f"row {number}: `usd_per_hour`", str(row["usd_per_hour"]), "0 or more"))
    unknown = sorted(set(row) - {*expected, "provider", "source"})
    return faults + [Fault(str(path), 0, f"row {number}: unknown key `{name}`") for name in unknown]


def _price_of(row: dict[str, Any], path: Path) -> HourlyPrice:
    date: datetime.date = row["date"].date() if isinstance(row["date"], datetime.datetime) else row["date"]
    bare = HourlyPrice(row["device"], "yours", float(row["usd_per_hour"]), date, str(path))
    return replace(bare, provider=row.get("provider", bare.provider), source=row.get("source", bare.source))
