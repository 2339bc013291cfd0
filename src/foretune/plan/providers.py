"""Hosted fine-tuning: which providers take jobs until when, what a job would cost there, and how long it would take."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from foretune.errors import ConfigError, NotFound
from foretune.hardware import HostedPrice, date_badge, read_price_book, user_prices_path
from foretune.records.plan import Estimate
from foretune.units import show_count, show_usd

__all__ = [
    "PROVIDERS",
    "HostedEstimate",
    "HostedJob",
    "Hosting",
    "Provider",
    "TokenPrice",
    "billed_tokens",
    "estimate_everywhere",
    "estimate_hosted",
    "find_provider",
    "hosted_hours",
    "is_recommendable",
]

Status = Literal["open", "closing", "closed", "unclear"]
CLOSING_DAYS = 90  # a provider that closes sooner is never recommended
# Training at a provider: 10,000 examples of 500 tokens take 1 to 3 hours (the brief), beside waiting in the queue.
TOKENS_PER_HOUR = Estimate(low=1.67e6, expected=2.5e6, high=5e6)
QUEUE_HOURS = Estimate(low=0.05, expected=0.2, high=0.5)


@dataclass(frozen=True)
class TokenPrice:
    """Dollars for 1e6 training tokens, for one model or for models up to a size; `low` and `high` where a range is
    all that is known; `historical` prices are shown, never used."""

    method: str
    usd_per_1m: float
    low_usd_per_1m: float
    high_usd_per_1m: float
    date: datetime.date
    source: str
    model: str = ""
    max_params_b: float = math.inf
    historical: bool = False


class Hosting(NamedTuple):
    """Price of an hour of a tuned model on a machine of its own."""

    device: str
    usd_per_hour: float
    date: datetime.date
    source: str


@dataclass(frozen=True)
class Provider:
    """A provider of fine-tuning. `closes_on` is the last day without new jobs; `weights_export` is None if unknown.

    `bills_padding_without_packing`: rows that are not packed are charged at their longest length.
    """

    name: str
    status: Status
    status_date: datetime.date
    status_source: str
    closes_on: datetime.date | None = None
    weights_export: bool | None = None
    control: str = ""
    infrastructure: str = "hosted"
    minimum_usd: float = 0.0
    minimum_source: str = ""
    minimum_is_certain: bool = True
    bills_padding_without_packing: bool = False
    bills_validation: bool = False
    inference_multiplier: tuple[float, float] = (1.0, 1.0)
    no_price_reason: str = ""
    prices: tuple[TokenPrice, ...] = ()
    hosting: tuple[Hosting, ...] = ()


@dataclass(frozen=True)
class HostedJob:
    """What is to be trained: tokens of one epoch, and what a provider needs to count them its own way.

    `params_b` is the size of the model in 1e9 parameters, `num_rows` and `max_seq_len` count without packing.
    """

    train_tokens: float
    epochs: float = 1.0
    model: str = ""
    params_b: float | None = None
    method: str = "lora"
    validation_tokens: float = 0.0
    num_evals: int = 0
    packing: bool = True
    num_rows: int = 0
    max_seq_len: int = 0

    def __post_init__(self) -> None:
        numbers = (self.train_tokens, self.epochs, self.validation_tokens, self.num_evals, self.params_b or 0.0)
        if any(not math.isfinite(number) or number < 0 for number in numbers):
            raise ConfigError(f"hosted job with {numbers}: counts must be 0 or more", fix="--num-examples 10000")


@dataclass(frozen=True)
class HostedEstimate:
    """What a provider would ask in dollars, or why nothing can be said."""

    provider: str
    usd: Estimate | None
    billed_tokens: float
    hours: Estimate
    basis: str
    unavailable_reason: str = ""
    warnings: tuple[str, ...] = field(default=())


def _read_providers() -> tuple[Provider, ...]:
    tree = json.loads(Path(__file__).with_name("providers.json").read_text(encoding="utf-8"))
    return tuple(_provider_of(row, tree["sources"]) for row in tree["providers"])


def _provider_of(row: dict[str, Any], sources: dict[str, dict[str, str]]) -> Provider:
    known = dict(row)
    for name in ("status_date", "closes_on"):
        if name in known:
            known[name] = datetime.date.fromisoformat(known[name])
    if "minimum_source" in known:
        known["minimum_source"] = sources[known["minimum_source"]]["source"]
    if "inference_multiplier" in known:
        known["inference_multiplier"] = tuple(known["inference_multiplier"])
    known["prices"] = tuple(_price_of(price, sources[price["source"]]) for price in row["prices"])
    known["hosting"] = tuple(_hosting_of(offer, sources[offer["source"]]) for offer in row["hosting"])
    return Provider(**known)


def _price_of(row: dict[str, Any], origin: dict[str, str]) -> TokenPrice:
    usd = row["usd_per_1m"]
    return TokenPrice(
        row["method"],
        usd,
        row.get("low_usd_per_1m", usd),
        row.get("high_usd_per_1m", usd),
        datetime.date.fromisoformat(origin["date"]),
        origin["source"],
        row.get("model", ""),
        row.get("max_params_b", math.inf),
        row.get("historical", False),
    )


def _hosting_of(row: dict[str, Any], origin: dict[str, str]) -> Hosting:
    return Hosting(row["device"], row["usd_per_hour"], datetime.date.fromisoformat(origin["date"]), origin["source"])


PROVIDERS: tuple[Provider, ...] = _read_providers()


def find_provider(name: str) -> Provider:
    """The provider of that name in any case. Raises NotFound with the names that there are."""
    found = next((one for one in PROVIDERS if one.name.casefold() == name.strip().casefold()), None)
    if found is None:
        raise NotFound(f"no provider `{name}`; there are {', '.join(one.name for one in PROVIDERS)}")
    return found


def is_recommendable(provider: Provider, today: datetime.date | None = None) -> bool:
    """Whether jobs can be started there today and for 90 days more; a provider of unclear state is not."""
    if provider.status in ("closed", "unclear"):
        return False
    if provider.closes_on is None:
        return provider.status == "open"
    return provider.closes_on > (today or datetime.date.today()) + datetime.timedelta(days=CLOSING_DAYS)


def billed_tokens(provider: Provider, job: HostedJob) -> float:
    """Tokens that the provider charges: epochs x training (+ evaluations x validation); rows at full length where it
    does not pack."""
    per_epoch = job.train_tokens
    if provider.bills_padding_without_packing and not job.packing and job.num_rows and job.max_seq_len:
        per_epoch = float(job.num_rows * job.max_seq_len)
    validation = job.validation_tokens * job.num_evals if provider.bills_validation else 0.0
    return per_epoch * job.epochs + validation


def hosted_hours(tokens: float) -> Estimate:
    """Hours from sending a job to its end: the queue, and the brief's 1 to 3 hours for 5e6 billed tokens."""
    return Estimate(
        low=QUEUE_HOURS.low + tokens / TOKENS_PER_HOUR.high,
        expected=QUEUE_HOURS.expected + tokens / TOKENS_PER_HOUR.expected,
        high=QUEUE_HOURS.high + tokens / TOKENS_PER_HOUR.low,
    )


def estimate_hosted(
    provider: Provider, job: HostedJob, path: str | Path | None = None, today: datetime.date | None = None
) -> HostedEstimate:
    """What `provider` would ask for `job`, with your own prices (`path`, by default `user_prices_path()`) first.

    Without a usable price, `usd` is None and `unavailable_reason` says why. Raises ConfigError on a faulty price file.
    """
    tokens = billed_tokens(provider, job)
    warnings = tuple(_status_warnings(provider, today))
    gone = _gone_reason(provider, today)
    price = None if gone else _own_price(provider, job, path) or _bundled_price(provider, job)
    if price is None:
        reason = gone or _no_price_reason(provider, job)
        return HostedEstimate(provider.name, None, tokens, hosted_hours(tokens), "", reason, warnings)
    badge = date_badge(price.date, today)
    basis = (
        f"{show_count(tokens)} tokens at {show_usd(price.usd_per_1m)} per million ({price.date}: {price.source})"
        + (f", at least {show_usd(provider.minimum_usd)} a job" if provider.minimum_usd else "")
    )
    return HostedEstimate(
        provider.name,
        _dollars(provider, price, tokens),
        tokens,
        hosted_hours(tokens),
        basis,
        warnings=(*warnings, *((f"price of {provider.name}: {badge}",) if badge else ())),
    )


def estimate_everywhere(
    job: HostedJob, path: str | Path | None = None, today: datetime.date | None = None
) -> tuple[HostedEstimate, ...]:
    """The job at every provider: those with a price first, cheapest first; recommendable ones before the others."""
    providers = (*PROVIDERS, *_own_providers(path))
    usable = {provider.name: is_recommendable(provider, today) for provider in providers}
    found = [estimate_hosted(provider, job, path, today) for provider in providers]
    return tuple(
        sorted(found, key=lambda one: (one.usd is None, not usable[one.provider], one.usd.expected if one.usd else 0.0))
    )


def _dollars(provider: Provider, price: TokenPrice, tokens: float) -> Estimate:
    """Tokens at the price; the least that a job costs counts fully where it is certain, else only as the high end."""
    least = provider.minimum_usd
    sure = least if provider.minimum_is_certain else 0.0
    return Estimate(
        low=max(tokens * price.low_usd_per_1m / 1e6, sure),
        expected=max(tokens * price.usd_per_1m / 1e6, sure),
        high=max(tokens * price.high_usd_per_1m / 1e6, least),
    )


def _own_providers(path: str | Path | None) -> Iterator[Provider]:
    """Providers that only your price file names."""
    known = {provider.name.casefold() for provider in PROVIDERS}
    book = read_price_book(Path(path) if path is not None else user_prices_path())
    for price in book.hosted:
        if price.provider.casefold() not in known:
            known.add(price.provider.casefold())
            least = price.minimum_usd
            yield Provider(price.provider, "open", price.date, price.source, minimum_usd=least)


def _own_price(provider: Provider, job: HostedJob, path: str | Path | None) -> TokenPrice | None:
    book = read_price_book(Path(path) if path is not None else user_prices_path())
    own = (_token_price(price) for price in book.hosted if price.provider.casefold() == provider.name.casefold())
    return _closest(own, job)


def _token_price(price: HostedPrice) -> TokenPrice:
    usd = price.usd_per_1m_tokens
    return TokenPrice(price.method, usd, usd, usd, price.date, price.source, price.model, price.max_params_b)


def _bundled_price(provider: Provider, job: HostedJob) -> TokenPrice | None:
    return _closest((price for price in provider.prices if not price.historical), job)


def _closest(prices: Iterator[TokenPrice], job: HostedJob) -> TokenPrice | None:
    """The price of this very model, else of the smallest band that holds its size."""
    same = [price for price in prices if price.method == _billing_method(job.method)]
    named = [price for price in same if price.model and _is_same_model(price.model, job.model)]
    if named:
        return named[0]
    if job.params_b is None:
        return None
    bands = [price for price in same if not price.model and job.params_b <= price.max_params_b]
    return min(bands, key=lambda price: price.max_params_b, default=None)


def _billing_method(method: str) -> str:
    if method in ("dpo", "preference"):
        return "preference"
    return "full" if method in ("full", "pretrain") else "lora"


def _is_same_model(one: str, other: str) -> bool:
    return bool(other) and one.casefold() == other.rsplit("/", 1)[-1].casefold()


def _gone_reason(provider: Provider, today: datetime.date | None) -> str:
    over = provider.closes_on is not None and provider.closes_on <= (today or datetime.date.today())
    if provider.status != "closed" and not over:
        return ""
    past = next((price for price in provider.prices if price.historical), None)
    figure = f"; historical price {show_usd(past.usd_per_1m)} per million of {past.date}" if past else ""
    return f"closed since {provider.closes_on or provider.status_date} ({provider.status_source}){figure}"


def _no_price_reason(provider: Provider, job: HostedJob) -> str:
    if provider.no_price_reason:
        return f"{provider.no_price_reason}; enter yours under [[hosted]] in {user_prices_path()}"
    what = job.model or (f"{job.params_b:g}B parameters" if job.params_b is not None else "a model of unknown size")
    past = next(
        (price for price in provider.prices if price.historical and _is_same_model(price.model, job.model)), None
    )
    figure = f"; historical price {show_usd(past.usd_per_1m)} per million of {past.date}" if past else ""
    return f"no price for {job.method} of {what} is known{figure}; enter yours under [[hosted]] in {user_prices_path()}"


def _status_warnings(provider: Provider, today: datetime.date | None) -> Iterator[str]:
    if provider.status == "unclear":
        yield f"{provider.name}: state unclear ({provider.status_source})"
    if provider.status == "closing":
        until = f" on {provider.closes_on}" if provider.closes_on else ""
        yield f"{provider.name} closes to new jobs{until} ({provider.status_source})"
