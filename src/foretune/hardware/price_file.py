"""Your own price file: hourly, spot, hosted training and storage prices in any currency whose rate you declare."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import datetime
import math
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foretune.errors import ConfigError, Fault
from foretune.hardware.offers import HostedPrice, HourlyPrice, StoragePrice, date_badge

__all__ = ["PriceBook", "read_price_book"]

EXAMPLE = '[[hourly]]\ndevice = "H100"\nusd_per_hour = 2.5\ndate = 2026-11-21'
TEXT = (str, "text in quotes")
MONEY = ((int, float), "a number, 0 or more")
DATE = (datetime.date, "a date as 2026-11-21")
COUNT = (int, "a whole number, 1 or more")
Kind = tuple[type | tuple[type, ...], str]
# Section: fields that must stand in a row, fields that may, and the price fields that a currency converts.
SECTIONS: dict[str, tuple[dict[str, Kind], dict[str, Kind], tuple[str, ...]]] = {
    "hourly": (
        {"device": (str, "a device name in quotes"), "usd_per_hour": MONEY, "date": DATE},
        {"provider": TEXT, "source": TEXT, "spot_usd_per_hour": MONEY, "min_gpus": COUNT},
        ("usd_per_hour", "spot_usd_per_hour"),
    ),
    "hosted": (
        {"provider": TEXT, "usd_per_1m_tokens": MONEY, "date": DATE},
        {"model": TEXT, "method": TEXT, "source": TEXT, "max_params_b": MONEY, "minimum_usd": MONEY},
        ("usd_per_1m_tokens", "minimum_usd"),
    ),
    "storage": (
        {"provider": TEXT, "usd_per_gb_month": MONEY, "date": DATE},
        {"what": TEXT, "source": TEXT},
        ("usd_per_gb_month",),
    ),
}


@dataclass(frozen=True)
class PriceBook:
    """Every price of one file, in dollars; `warnings` names rows that are stale or dated in the future."""

    hourly: tuple[HourlyPrice, ...] = ()
    hosted: tuple[HostedPrice, ...] = ()
    storage: tuple[StoragePrice, ...] = ()
    warnings: tuple[str, ...] = ()


def read_price_book(path: Path, today: datetime.date | None = None) -> PriceBook:
    """Rows `[[hourly]]`, `[[hosted]]` and `[[storage]]`, with `[rates]` for other currencies; empty without a file.

    A row in another currency says `currency = "EUR"`, and `[rates]` says `EUR = 1.08` dollars. Raises ConfigError
    with every fault.
    """
    if not path.is_file():
        return PriceBook()
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}", fix="strings need quotes, dates are 2026-11-21") from None
    faults = [str(fault) for fault in _faults(path, tree)]
    if faults:
        raise ConfigError("\n".join(faults), fix=EXAMPLE)
    rates = tree.get("rates", {})
    rows = {name: [_in_dollars(row, name, rates, path) for row in tree.get(name, [])] for name in SECTIONS}
    return PriceBook(
        hourly=tuple(HourlyPrice(**{"provider": "yours", **row}) for row in rows["hourly"]),
        hosted=tuple(HostedPrice(**row) for row in rows["hosted"]),
        storage=tuple(StoragePrice(**{"what": "storage", **row}) for row in rows["storage"]),
        warnings=tuple(_date_warnings(path, rows, today)),
    )


def _faults(path: Path, tree: dict[str, Any]) -> Iterator[Fault]:
    rates = tree.get("rates", {})
    for name in sorted(set(tree) - {*SECTIONS, "rates"}):
        yield Fault(str(path), 0, f"unknown section `{name}`", expected=", ".join((*SECTIONS, "rates")))
    if not isinstance(rates, dict) or not all(_is_money(rate) and rate > 0 for rate in rates.values()):
        yield Fault(str(path), 0, "`rates`", str(rates), "dollars per unit of a currency: EUR = 1.08")
        rates = {}
    for section in SECTIONS:
        rows = tree.get(section, [])
        if not isinstance(rows, list):
            yield Fault(str(path), 0, f"`{section}`", expected=f"rows under [[{section}]]")
            continue
        label = "" if section == "hourly" else f"{section} "
        for number, row in enumerate(rows, 1):
            yield from _row_faults(path, f"{label}row {number}", section, row, rates)


def _row_faults(path: Path, place: str, section: str, row: object, rates: dict[str, Any]) -> Iterator[Fault]:
    if not isinstance(row, dict):
        yield Fault(str(path), 0, place, str(row), f"fields under [[{section}]]")
        return
    needed, optional, _ = SECTIONS[section]
    for name, (kind, wanted) in {**needed, **optional}.items():
        value = row.get(name)
        if not (value is None and name in optional) and not _is_allowed(value, kind):
            yield Fault(str(path), 0, f"{place}: `{name}`", str(value), wanted)
    currency = row.get("currency", "USD")
    if currency != "USD" and currency not in rates:
        yield Fault(str(path), 0, f"{place}: `currency`", str(currency), f"its rate under [rates]: {currency} = 1.08")
    for name in sorted(set(row) - {*needed, *optional, "currency"}):
        yield Fault(str(path), 0, f"{place}: unknown key `{name}`")


def _is_allowed(value: object, kind: type | tuple[type, ...]) -> bool:
    if not isinstance(value, kind) or isinstance(value, bool):
        return False
    least = 1 if kind is int else 0
    return not isinstance(value, (int, float)) or (math.isfinite(value) and value >= least)


def _is_money(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _in_dollars(row: dict[str, Any], section: str, rates: dict[str, float], path: Path) -> dict[str, Any]:
    """A checked row with its prices in dollars, its date without a time, and the file as its source."""
    currency = row.get("currency", "USD")
    rate = rates.get(currency, 1.0)
    prices = {name: float(row[name]) * rate for name in SECTIONS[section][2] if name in row}
    source = row.get("source", str(path)) + ("" if currency == "USD" else f" ({currency} at {rate:g} dollars)")
    date = row["date"].date() if isinstance(row["date"], datetime.datetime) else row["date"]
    kept = {name: value for name, value in row.items() if name != "currency"}
    return {**kept, **prices, "source": source, "date": date}


def _date_warnings(path: Path, rows: dict[str, list[dict[str, Any]]], today: datetime.date | None) -> Iterator[str]:
    for section, found in rows.items():
        for row in found:
            badge = date_badge(row["date"], today)
            if badge:
                yield f"{path}: {section} price of {row.get('device') or row['provider']} is {badge}"
