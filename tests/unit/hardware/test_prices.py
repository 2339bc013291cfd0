"""Prices: source and date on each, stale after 90 days, overridden by the user's own file."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from foretune.errors import ConfigError
from foretune.hardware import (
    BILLING,
    HOURLY_PRICES,
    STORAGE_PRICES,
    TRAINING_PRICES,
    HourlyPrice,
    band_warning,
    date_badge,
    find_device,
    hourly_prices,
    instance_hours,
    price_band,
    price_per_hour,
    price_warnings,
    read_price_book,
    spot_price_per_hour,
    storage_price,
    training_price,
    user_prices_path,
)

TODAY = datetime.date(2026, 11, 21)

OWN = '[[hourly]]\ndevice = "H100"\nusd_per_hour = 1.5\ndate = 2026-11-01\nprovider = "basement"\n'


@pytest.mark.req("R433")
def test_every_price_has_source_and_date() -> None:
    for price in (*HOURLY_PRICES, *TRAINING_PRICES, *STORAGE_PRICES):
        assert price.source and price.date <= TODAY
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


def test_without_a_file_the_lowest_fresh_bundled_price_counts(tmp_path: Path) -> None:
    none = tmp_path / "none.toml"
    price = price_per_hour("H100", none, today=TODAY)
    assert price is not None and not price.is_stale(TODAY)
    assert (price.provider, price.usd_per_hour) == ("Hyperstack", 3.2)
    old = price_per_hour("L40S", none, today=datetime.date(2100, 1, 1))
    assert old is not None and (old.provider, old.is_stale(TODAY)) == ("Nebius", True)
    assert price_per_hour("abacus", none) is None


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


@pytest.mark.req("R070")
@pytest.mark.parametrize("cloud", ["AWS", "Google Cloud", "Azure"])
def test_the_large_clouds_have_dated_prices(cloud: str) -> None:
    found = [price for price in HOURLY_PRICES if price.provider.startswith(cloud)]
    assert len(found) >= 3
    assert any(not price.is_stale(TODAY) for price in found)


def test_each_device_and_provider_stands_once() -> None:
    pairs = [(price.device, price.provider) for price in HOURLY_PRICES]
    assert len(set(pairs)) == len(pairs) >= 100


def test_spot_is_cheaper_than_on_demand() -> None:
    spot = [price for price in HOURLY_PRICES if price.spot_usd_per_hour is not None]
    assert len(spot) >= 10
    assert all((price.spot_usd_per_hour or 0) < price.usd_per_hour for price in spot)


def test_the_lowest_spot_price(tmp_path: Path) -> None:
    price = spot_price_per_hour("H100", tmp_path / "none.toml")
    assert price is not None and (price.provider, price.spot_usd_per_hour) == ("CoreWeave", 2.464)
    assert spot_price_per_hour("T4", tmp_path / "none.toml") is None


def test_a_machine_of_eight_is_the_cheaper_one_only_for_many(tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(
        '[[hourly]]\ndevice = "H100"\nprovider = "single"\nusd_per_hour = 3\ndate = 2026-11-01\n'
        '[[hourly]]\ndevice = "H100"\nprovider = "eight"\nusd_per_hour = 2\nmin_gpus = 8\ndate = 2026-11-01\n'
    )
    providers = [price_per_hour("H100", path, num) for num in (1, 4, 6, 8)]
    assert [price.provider for price in providers if price] == ["single", "single", "eight", "eight"]


def test_private_hosts_count_only_where_there_is_nothing_else(tmp_path: Path) -> None:
    none = tmp_path / "none.toml"
    rented = price_per_hour("A100-80", none, today=TODAY)
    assert rented is not None and not rented.is_marketplace
    home = price_per_hour("RTX 3090", none)
    assert home is not None and home.is_marketplace


def test_the_band_of_a_device(tmp_path: Path) -> None:
    band = price_band("H100", tmp_path / "none.toml")
    assert band is not None and band.low == 2.4024 and band.low < band.typical < band.high == 12.29
    assert price_band("abacus", tmp_path / "none.toml") is None


@pytest.mark.req("R082")
def test_a_price_outside_one_to_three_dollars_is_flagged_for_cards_of_16_to_80_gb() -> None:
    assert band_warning(2.0, 80) == ""
    assert band_warning(0.2, 24) == "$0.20 an hour is below the usual $1 to $3 for a card of 24 GB"
    assert "above" in band_warning(12.29, 80)
    assert band_warning(9.0, 141) == band_warning(0.1, 8) == ""


@pytest.mark.req("R055")
def test_the_briefs_g5_run_costs_what_the_table_says() -> None:
    price = next(price for price in HOURLY_PRICES if price.provider == "AWS g5.2xlarge")
    assert 10.6 * price.usd_per_hour == pytest.approx(13, rel=0.05)
    assert price.usd_per_hour == pytest.approx(13 / 10, rel=0.1)


def test_badges() -> None:
    assert date_badge(TODAY, TODAY) == date_badge(datetime.date(2026, 8, 23), TODAY) == ""
    assert date_badge(datetime.date(2026, 8, 22), TODAY) == "stale: 91 days old"
    assert date_badge(datetime.date(2027, 1, 1), TODAY) == "dated in the future: 2027-01-01"
    late = HourlyPrice("H100", "x", 2.0, datetime.date(2027, 1, 1), "page")
    assert price_warnings((late,), TODAY) == ("price of x: dated in the future: 2027-01-01",)


def test_time_is_billed_as_the_provider_counts() -> None:
    assert all(billing.source for billing in BILLING)
    assert instance_hours(1.5, "RunPod Community") == pytest.approx(1.5)
    assert instance_hours(0.001, "AWS g5.xlarge") == pytest.approx(1 / 60)
    assert instance_hours(1.001, "Lambda 8x") == pytest.approx(61 / 60)
    assert instance_hours(1.2, "unknown") == 2
    assert instance_hours(1.0, "unknown") == 1
    assert instance_hours(0.0, "unknown") == 0


def test_storage_prices(tmp_path: Path) -> None:
    bundled = storage_price("RunPod", tmp_path / "none.toml")
    assert bundled is not None and bundled.usd_per_gb_month == 0.10
    assert storage_price("nobody", tmp_path / "none.toml") is None
    path = tmp_path / "prices.toml"
    path.write_text('[[storage]]\nprovider = "RunPod"\nusd_per_gb_month = 0.05\ndate = 2026-11-01\n')
    own = storage_price("RunPod", path)
    assert own is not None and own.usd_per_gb_month == 0.05


def test_another_currency_needs_its_rate(tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    row = '[[hourly]]\ndevice = "H100"\nusd_per_hour = 2\nspot_usd_per_hour = 1\ncurrency = "EUR"\ndate = 2026-11-01\n'
    path.write_text(row)
    with pytest.raises(ConfigError, match=r"`currency`, got EUR, expected its rate under \[rates\]: EUR = 1.08"):
        hourly_prices(path)
    path.write_text(f"[rates]\nEUR = 1.1\n{row}")
    price = price_per_hour("H100", path)
    assert price is not None
    assert (price.usd_per_hour, price.spot_usd_per_hour) == pytest.approx((2.2, 1.1))
    assert price.source.endswith("(EUR at 1.1 dollars)")


@pytest.mark.parametrize("rate", ["0", "-1", "true", '"1.1"', "inf"])
def test_a_rate_is_a_positive_number(tmp_path: Path, rate: str) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(f"[rates]\nEUR = {rate}\n")
    with pytest.raises(ConfigError, match="`rates`"):
        read_price_book(path)


def test_dates_in_the_future_and_long_past_are_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(
        '[[hourly]]\ndevice = "H100"\nusd_per_hour = 2\ndate = 2030-01-01\n'
        '[[storage]]\nprovider = "me"\nusd_per_gb_month = 1\ndate = 2025-01-01T12:00:00\n'
    )
    warnings = read_price_book(path, TODAY).warnings
    assert warnings == (
        f"{path}: hourly price of H100 is dated in the future: 2030-01-01",
        f"{path}: storage price of me is stale: 689 days old",
    )


def test_unknown_sections_and_rows_of_the_wrong_shape(tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_text('hourly = [1]\nhosted = "no"\n[hurly]\na = 1\n')
    with pytest.raises(ConfigError) as caught:
        read_price_book(path)
    for part in ("unknown section `hurly`", "row 1, got 1", "rows under [[hosted]]"):
        assert part in str(caught.value)


@pytest.mark.parametrize("price", ["nan", "inf", "true", "-0.5"])
def test_a_price_is_a_plain_number(tmp_path: Path, price: str) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(f'[[hourly]]\ndevice = "H100"\nusd_per_hour = {price}\ndate = 2026-11-01\n')
    with pytest.raises(ConfigError, match="`usd_per_hour`"):
        hourly_prices(path)
