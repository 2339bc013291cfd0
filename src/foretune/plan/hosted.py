"""Hosted fine-tuning as offers: what each provider would take for a setup, with its state, its minimum and hosting."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import datetime

from foretune.hardware.prices import storage_price
from foretune.plan.providers import (
    PROVIDERS,
    HostedEstimate,
    HostedJob,
    Provider,
    estimate_everywhere,
    is_recommendable,
)
from foretune.plan.setup import Setup
from foretune.records.forecast import Offer, Unavailable

__all__ = ["hosted_job", "hosted_offers", "provider_status"]

BILLED_METHODS = {"full": "full", "dpo": "preference"}
BYTES_PER_SAVED_WEIGHT = 2  # providers hand results out in 16 bits


def hosted_job(setup: Setup, method: str = "", *, packs: bool = True) -> HostedJob | None:
    """A setup as a provider would count it; None where the number of its tokens is not known.

    `packs`: providers fill rows with many examples unless they are told not to.
    """
    epochs = setup.epochs or 1.0
    tokens = setup.tokens_total or setup.num_examples * setup.mean_tokens * epochs
    if not tokens:
        return None
    kind = "dpo" if setup.objective == "dpo" else method or setup.method
    return HostedJob(
        train_tokens=tokens / epochs,
        epochs=epochs,
        model=setup.model,
        params_b=setup.shape.parameters / 1e9,
        method=kind,
        packing=packs,
        num_rows=setup.num_examples,
        max_seq_len=setup.max_seq_len,
    )


def hosted_offers(
    setup: Setup, method: str = "", *, packs: bool = True, today: datetime.date | None = None
) -> tuple[list[Offer], list[Unavailable]]:
    """Offers of every provider with a price for the job, and why each other one makes none."""
    job = hosted_job(setup, method, packs=packs)
    if job is None:
        return [], [
            Unavailable(provider="all hosted", reason="tokens are not known: give --tokens-per-example or --data")
        ]
    offers, missing = [], []
    for one in estimate_everywhere(job, today=today):
        if one.usd is None:
            missing.append(Unavailable(provider=one.provider, reason=one.unavailable_reason))
        else:
            offers.append(_offer(setup, job, one, today))
    return offers, missing


def provider_status(provider: Provider, today: datetime.date | None = None) -> str:
    """The state of a provider with its date: `open (2026-11-21)`, `closes 2027-01-06 (2026-05-07)`."""
    until = provider.closes_on
    if until is not None:
        word = "closes" if until > (today or datetime.date.today()) else "closed"
        return f"{word} {until} (seen {provider.status_date})"
    return f"{provider.status} (seen {provider.status_date})"


def _offer(setup: Setup, job: HostedJob, one: HostedEstimate, today: datetime.date | None) -> Offer:
    provider = next((known for known in PROVIDERS if known.name == one.provider), None)
    hosting = min(provider.hosting, key=lambda row: row.usd_per_hour, default=None) if provider else None
    usable = provider is None or is_recommendable(provider, today)
    return Offer(
        device="",
        num_gpus=0,
        method="full" if job.method == "full" else "lora",
        precision="",
        provider=one.provider,
        fits=True,
        peak_memory_gb=None,
        train_hours=one.hours,
        cost_usd=one.usd,
        price=None,
        kind="hosted",
        basis=one.basis,
        status=provider_status(provider, today) if provider else "yours",
        closes_on=str(provider.closes_on or "") if provider else "",
        storage_usd_per_month=_storage(setup, one.provider),
        hosting_usd_per_hour=hosting.usd_per_hour if hosting else None,
        hosting_basis=f"{hosting.device}, {hosting.date}: {hosting.source}" if hosting else "",
        is_recommended=usable,
        warnings=(*one.warnings, *_model_warning(provider, job)),
    )


def _storage(setup: Setup, provider: str) -> float | None:
    """Dollars a month for keeping the result at the provider, where a price is known."""
    price = storage_price(provider)
    saved_gb = setup.trained_parameters * BYTES_PER_SAVED_WEIGHT / 1e9
    return None if price is None else price.usd_per_gb_month * saved_gb


def _model_warning(provider: Provider | None, job: HostedJob) -> tuple[str, ...]:
    """Prices by size say nothing of which models a provider takes."""
    if provider is None or any(
        price.model and price.model.casefold() in job.model.casefold() for price in provider.prices
    ):
        return ()
    return (f"{provider.name}: priced by size; look up in its list whether it takes {job.model or 'this model'}",)
