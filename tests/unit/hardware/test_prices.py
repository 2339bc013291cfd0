"""Prices: source and date on each, stale after 90 days, overridden by the user's own file."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from foretune.errors import ConfigError
from foretune.hardware import (
    HOURLY_PRICES,
    TRAINING_PRICES,
    HourlyPrice,
    find_device,
    hourly_prices,
    price_per_hour,
    training_price,
    user_prices_path,
)

OWN = '[[hourly]]\ndevice = "H100"\nusd_per_hour = 1.5\ndate = 2026-11-01\nprovider = "basement"\n'


@pytest.mark.req("R433")
def test_every_price_has_source_and_date() -> None:
    for price in (*HOURLY_PRICES, *TRAINING_PRICES):
        assert price.source
        assert price.date.year >= 2023


@pytest.mark.req("R433")
def test_a_price_is_stale_after_90_days() -> None:
    price = HourlyPrice("H100", "x", 2.0, datetime.date(2026, 1, 1), "page")
    assert not price.is_stale(datetime.date(2026, 4, 1))
    assert price.is_stale(datetime.date(2026, 4, 2))


@pytest.mark.req("R433")
def test_the_users_file_overrides(tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(OWN)
    prices = hourly_prices(path)
    assert [price.provider for price in prices if price.device == "H100"] == ["basement"]
    assert any(price.device == "H200" for price in prices)
    own = price_per_hour("H100", path)
    assert own is not None
    assert (own.usd_per_hour, own.date, own.source) == (1.5, datetime.date(2026, 11, 1), str(path))


def test_without_a_file_the_lowest_bundled_price_counts(tmp_path: Path) -> None:
    price = price_per_hour("H100", tmp_path / "none.toml")
    assert price is not None
    assert price.usd_per_hour == min(p.usd_per_hour for p in HOURLY_PRICES if p.device == "H100") == 2.29
    assert price_per_hour("abacus", tmp_path / "none.toml") is None


def test_the_file_lies_in_the_users_config_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert user_prices_path() == tmp_path / "foretune" / "prices.toml"
    user_prices_path().parent.mkdir()
    user_prices_path().write_text(OWN)
    price = price_per_hour("H100")
    assert price is not None and price.usd_per_hour == 1.5


@pytest.mark.req("R072")
def test_the_historical_training_price_is_marked_and_dated() -> None:
    price = training_price("OpenAI", "gpt-3.5-turbo")
    assert price is not None
    assert (price.usd_per_1k_tokens, price.historical) == (0.008, True)
    assert price.date == datetime.date(2023, 8, 22)
    assert price.is_stale()
    assert training_price("OpenAI", "nothing") is None


def test_every_fault_of_a_price_file_is_reported_at_once(tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(
        '[[hourly]]\ndevice = 5\nusd_per_hour = "2"\n[[hourly]]\ndevice = "T4"\nusd_per_hour = -1\n'
        "date = 2026-01-01\ncolour = 1\n"
    )
    with pytest.raises(ConfigError) as caught:
        hourly_prices(path)
    text = str(caught.value)
    for part in ("row 1: `device`", "row 1: `usd_per_hour`", "row 1: `date`", "row 2: `usd_per_hour`", "`colour`"):
        assert part in text
    assert caught.value.fix


def test_a_price_file_that_is_not_toml(tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_text("hourly: no")
    with pytest.raises(ConfigError, match="not valid TOML"):
        hourly_prices(path)


def test_bundled_devices_are_those_of_the_catalogue() -> None:
    for price in HOURLY_PRICES:
        device = find_device(price.device)
        assert device is not None and device.name == price.device
