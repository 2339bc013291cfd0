"""Hosted fine-tuning: state and closing dates, each provider's way to count tokens, and honest gaps."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import datetime
import math
from dataclasses import replace
from pathlib import Path

import pytest

from foretune.errors import ConfigError, NotFound
from foretune.plan.providers import (
    PROVIDERS,
    HostedJob,
    billed_tokens,
    estimate_everywhere,
    estimate_hosted,
    find_provider,
    hosted_hours,
    is_recommendable,
)

TODAY = datetime.date(2026, 11, 21)
JOB = HostedJob(train_tokens=5e6, epochs=3, params_b=8)


@pytest.fixture
def no_file(tmp_path: Path) -> Path:
    return tmp_path / "none.toml"


def dollars(name: str, job: HostedJob, path: Path) -> tuple[float, float, float]:
    usd = estimate_hosted(find_provider(name), job, path, TODAY).usd
    assert usd is not None
    return usd.low, usd.expected, usd.high


def test_every_provider_has_a_state_with_date_and_source() -> None:
    assert len({provider.name for provider in PROVIDERS}) == len(PROVIDERS) >= 12
    for provider in PROVIDERS:
        assert provider.status in ("open", "closing", "closed", "unclear")
        assert provider.status_source and provider.status_date <= datetime.date(2100, 1, 1)
        assert provider.prices or provider.no_price_reason or provider.status == "closed"
        for price in provider.prices:
            assert price.source and price.low_usd_per_1m <= price.usd_per_1m <= price.high_usd_per_1m


@pytest.mark.req("R421")
@pytest.mark.req("R326")
def test_anyscale_is_kept_as_a_closed_entry(no_file: Path) -> None:
    anyscale = find_provider("anyscale")
    assert (anyscale.status, anyscale.closes_on) == ("closed", datetime.date(2024, 8, 1))
    assert "docs.anyscale.com" in anyscale.status_source
    estimate = estimate_hosted(anyscale, JOB, no_file, TODAY)
    assert estimate.usd is None
    assert estimate.unavailable_reason.startswith("closed since 2024-08-01")


@pytest.mark.req("R422")
def test_a_provider_that_closes_within_90_days_is_never_recommended() -> None:
    openai = find_provider("OpenAI")
    assert (openai.status, openai.closes_on) == ("closing", datetime.date(2027, 1, 6))
    assert not is_recommendable(openai, TODAY)
    assert not is_recommendable(openai, datetime.date(2026, 10, 8))  # exactly 90 days before
    assert is_recommendable(openai, datetime.date(2026, 10, 7))
    assert [one.name for one in PROVIDERS if is_recommendable(one, TODAY)][:2] == ["Together", "Fireworks"]
    for name in ("Mistral", "Cohere", "Anyscale", "Predibase"):
        assert not is_recommendable(find_provider(name), TODAY)


def test_after_its_closing_date_a_provider_takes_no_job(no_file: Path) -> None:
    openai = find_provider("OpenAI")
    job = replace(JOB, model="gpt-4o")
    assert estimate_hosted(openai, job, no_file, TODAY).usd is not None
    late = estimate_hosted(openai, job, no_file, datetime.date(2027, 1, 6))
    assert late.usd is None and "closed since 2027-01-06" in late.unavailable_reason


@pytest.mark.req("R072")
@pytest.mark.req("R417")
def test_the_briefs_price_is_historical_and_never_used(no_file: Path) -> None:
    openai = find_provider("OpenAI")
    old = next(price for price in openai.prices if price.historical)
    assert (old.model, old.usd_per_1m, old.date) == ("gpt-3.5-turbo", 8.0, datetime.date(2023, 8, 22))
    assert 10_000 * 500 * 3 * old.usd_per_1m / 1e6 == 120
    estimate = estimate_hosted(openai, replace(JOB, model="gpt-3.5-turbo"), no_file, TODAY)
    assert estimate.usd is None
    assert "historical price $8.00 per million of 2023-08-22" in estimate.unavailable_reason


def test_size_bands(no_file: Path) -> None:
    assert dollars("Fireworks", JOB, no_file)[1] == pytest.approx(7.5)
    assert dollars("Fireworks", replace(JOB, params_b=70), no_file)[1] == pytest.approx(45)
    assert dollars("Fireworks", replace(JOB, params_b=235), no_file)[1] == pytest.approx(90)
    assert dollars("Fireworks", replace(JOB, params_b=671), no_file)[1] == pytest.approx(150)
    assert dollars("Fireworks", replace(JOB, method="dpo"), no_file)[1] == pytest.approx(15)
    assert dollars("Fireworks", replace(JOB, method="full"), no_file)[1] == pytest.approx(15)


def test_a_price_of_the_very_model_goes_first(no_file: Path) -> None:
    assert dollars("Tinker", replace(JOB, model="Qwen/Qwen3-8B"), no_file)[1] == pytest.approx(6.6)
    assert estimate_hosted(find_provider("Tinker"), JOB, no_file, TODAY).usd is None


def test_a_range_and_an_uncertain_minimum_widen_the_interval(no_file: Path) -> None:
    assert dollars("Together", JOB, no_file) == pytest.approx((7.2, 7.2, 20.25))
    assert dollars("Together", HostedJob(train_tokens=1e5, params_b=8), no_file) == pytest.approx((0.048, 0.048, 4.0))


def test_together_counts_validation_and_whole_rows_without_packing() -> None:
    together = find_provider("Together")
    job = HostedJob(
        train_tokens=1e6, epochs=2, params_b=8, validation_tokens=1e5, num_evals=4, num_rows=1000, max_seq_len=4096
    )
    assert billed_tokens(together, job) == 2e6 + 4e5
    assert billed_tokens(together, replace(job, packing=False)) == 2 * 1000 * 4096 + 4e5
    assert billed_tokens(find_provider("Fireworks"), replace(job, packing=False)) == 2e6


def test_a_missing_price_says_why_and_where_to_enter_it(no_file: Path) -> None:
    google = estimate_hosted(find_provider("Google Vertex"), JOB, no_file, TODAY)
    assert google.usd is None
    assert "no official training price" in google.unavailable_reason and "[[hosted]]" in google.unavailable_reason


@pytest.mark.req("R433")
def test_a_stale_price_carries_its_badge(no_file: Path) -> None:
    warnings = estimate_hosted(find_provider("Together"), JOB, no_file, TODAY).warnings
    assert warnings == ("price of Together: stale: 197 days old",)
    assert estimate_hosted(find_provider("Ori"), JOB, no_file, TODAY).warnings == ()


@pytest.mark.req("R433")
def test_your_own_price_goes_first_and_may_name_a_new_provider(tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(
        '[rates]\nEUR = 1.1\n[[hosted]]\nprovider = "Fireworks"\nusd_per_1m_tokens = 0.25\ndate = 2026-11-01\n'
        '[[hosted]]\nprovider = "Uncle"\nusd_per_1m_tokens = 0.1\ncurrency = "EUR"\nminimum_usd = 5\n'
        "date = 2026-11-01\n"
    )
    assert dollars("Fireworks", JOB, path)[1] == pytest.approx(3.75)
    uncle = next(one for one in estimate_everywhere(JOB, path, TODAY) if one.provider == "Uncle")
    assert uncle.usd is not None and uncle.usd.expected == pytest.approx(5.5)
    assert uncle.basis.startswith("15.0 M tokens at $0.11 per million (2026-11-01")


def test_everywhere_lists_priced_and_recommendable_ones_first_and_cheapest(no_file: Path) -> None:
    found = estimate_everywhere(JOB, no_file, TODAY)
    assert len(found) == len(PROVIDERS)
    priced = [one.usd.expected for one in found if one.usd is not None]
    assert found[0].usd is not None and priced == sorted(priced)
    assert all(one.unavailable_reason for one in found if one.usd is None)
    usable = [is_recommendable(find_provider(one.provider), TODAY) for one in found if one.usd is not None]
    assert usable == sorted(usable, reverse=True)


@pytest.mark.req("R049")
def test_ten_thousand_examples_take_one_to_three_hours() -> None:
    hours = hosted_hours(10_000 * 500)
    assert hours.low <= 3 and hours.high >= 1
    assert 1 <= hours.expected <= 3
    assert hosted_hours(1e7).expected > hours.expected


@pytest.mark.req("R327")
def test_bundled_prices_against_the_briefs_range() -> None:
    per_1k = [price.usd_per_1m / 1000 for price in find_provider("Together").prices]
    assert any(0.001 <= usd <= 0.01 for usd in per_1k)


@pytest.mark.req("R324")
@pytest.mark.req("R328")
def test_the_comparison_has_export_control_and_infrastructure() -> None:
    openai, together = find_provider("OpenAI"), find_provider("Together")
    assert openai.weights_export is False and together.weights_export is True
    assert openai.control and openai.infrastructure == "hosted"
    assert openai.inference_multiplier == (1.5, 8.0)


def test_impossible_jobs_and_unknown_names_are_refused() -> None:
    for wrong in (-1.0, math.nan, math.inf):
        with pytest.raises(ConfigError, match="0 or more"):
            HostedJob(train_tokens=wrong)
    with pytest.raises(NotFound, match="there are Together"):
        find_provider("Acme")
