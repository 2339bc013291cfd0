"""What a whole project costs: training as it is billed, tries, labels, labour, and what the result costs a month."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import Literal

from foretune.config import Strict
from foretune.hardware.prices import HourlyPrice, billing_words, hourly_prices, storage_price
from foretune.plan.annotation import find_annotation_price
from foretune.plan.cost import LABOUR_HOURS, rental_cost, storage_cost_usd
from foretune.plan.money import SENIOR_HOURS, MoneyCase
from foretune.records.forecast import Forecast
from foretune.records.plan import Estimate
from foretune.units import show_usd

__all__ = ["CostLine", "ProjectCost", "project_cost"]

NOTHING = Estimate(low=0.0, expected=0.0, high=0.0)
KEPT_MONTHS = 1.0


class CostLine(Strict):
    """One cost in dollars, once or every month, with what it rests on."""

    name: str
    per: Literal["once", "month"]
    usd: Estimate
    basis: str


class ProjectCost(Strict):
    """Every line, the sums, and what has no price yet."""

    lines: tuple[CostLine, ...]
    once: Estimate
    per_month: Estimate
    unpriced: tuple[str, ...]


def project_cost(case: MoneyCase | None = None, forecast: Forecast | None = None) -> ProjectCost:
    """The costs of a project from what is known of its money and from the forecast of its training, either optional.

    Training is counted as its provider bills it (whole machines, increments, minimum); labels and labour as ranges.
    """
    given = case or MoneyCase()
    lines = (*_once(given, forecast), *_monthly(given, forecast))
    return ProjectCost(
        lines=lines,
        once=_sum(line.usd for line in lines if line.per == "once"),
        per_month=_sum(line.usd for line in lines if line.per == "month"),
        unpriced=tuple(_unpriced(given, lines)),
    )


def _once(case: MoneyCase, forecast: Forecast | None) -> Iterator[CostLine]:
    training = _training(case, forecast)
    if training is not None:
        yield training
    if case.annotation_items:
        yield CostLine(name="labels", per="once", usd=case.labels, basis=_label_basis(case))
    if case.labour_usd_per_hour:
        low, high = LABOUR_HOURS if case.labour_hours == SENIOR_HOURS else (case.labour_hours, case.labour_hours)
        hours = Estimate(low=low, expected=case.labour_hours, high=high)
        words = f"{low:g} to {high:g} hours" if low != high else f"{low:g} hours"
        usd = _scaled(hours, case.labour_usd_per_hour)
        yield CostLine(name="labour", per="once", usd=usd, basis=f"{words} at {show_usd(case.labour_usd_per_hour)}")


def _monthly(case: MoneyCase, forecast: Forecast | None) -> Iterator[CostLine]:
    if case.hosting_usd_per_hour:
        usd = case.hosting_usd_per_hour * case.hosting_hours_per_month
        words = f"{case.hosting_hours_per_month:g} hours at {show_usd(case.hosting_usd_per_hour)}"
        yield CostLine(name="hosting", per="month", usd=_exactly(usd), basis=words)
    yield from _storage(case, forecast)
    if case.upkeep_usd_per_month:
        yield CostLine(name="upkeep", per="month", usd=_exactly(case.upkeep_usd_per_month), basis="as given")


def _training(case: MoneyCase, forecast: Forecast | None) -> CostLine | None:
    tries = f", {case.num_trainings:g} times" if case.num_trainings != 1 else ""
    if case.training_usd:
        usd = _exactly(case.training_usd * case.num_trainings)
        return CostLine(name="training", per="once", usd=usd, basis=f"as given{tries}")
    if forecast is None or forecast.cost_usd is None or forecast.price is None:
        return None
    row = _price_row(forecast)
    billed = forecast.cost_usd
    how = forecast.price.source
    if row is not None and forecast.train_hours is not None:
        billed = rental_cost(forecast.train_hours, row, forecast.num_gpus)
        how = f"{billing_words(row.provider)}, {row.date}"
    rate = f"{forecast.num_gpus} x {forecast.device} at {show_usd(forecast.price.usd_per_gpu_hour)} an hour"
    basis = f"{rate}, {forecast.price.provider}, {how}{tries}"
    return CostLine(name="training", per="once", usd=_scaled(billed, case.num_trainings), basis=basis)


def _price_row(forecast: Forecast) -> HourlyPrice | None:
    """The row of the price table that the forecast was counted with, None where the price was given."""
    price = forecast.price
    if price is None:
        return None
    return next(
        (
            row
            for row in hourly_prices()
            if (row.device, row.provider, row.usd_per_hour) == (forecast.device, price.provider, price.usd_per_gpu_hour)
        ),
        None,
    )


def _storage(case: MoneyCase, forecast: Forecast | None) -> Iterator[CostLine]:
    """Checkpoints and result, at your price, else at the provider's where one is known."""
    if case.storage_gb and case.storage_usd_per_gb_month:
        usd = storage_cost_usd(case.storage_gb, case.storage_usd_per_gb_month, KEPT_MONTHS)
        words = f"{case.storage_gb:g} GB at {show_usd(case.storage_usd_per_gb_month)} a GB"
        yield CostLine(name="storage", per="month", usd=_exactly(usd), basis=words)
    elif forecast is not None and forecast.price is not None:
        provider = forecast.price.provider
        price = next((found for name in (provider, *provider.split()[:1]) if (found := storage_price(name))), None)
        if price is not None:
            usd = storage_cost_usd(forecast.disk_gb, price.usd_per_gb_month, KEPT_MONTHS)
            words = f"{forecast.disk_gb:.0f} GB kept, {price.provider} {price.what}, {price.date}"
            yield CostLine(name="storage", per="month", usd=_exactly(usd), basis=words)


def _label_basis(case: MoneyCase) -> str:
    count = f"{case.annotation_items:,.0f} items"
    people = f" by {case.num_annotators:g}" if case.num_annotators != 1 else ""
    if case.annotation_usd_per_item or not case.annotation_kind:
        return f"{count}{people} at {show_usd(case.annotation_usd_per_item)}"
    price = find_annotation_price(case.annotation_kind)
    return (
        f"{count}{people}, {price.kind}: {show_usd(price.low)} to {show_usd(price.high)}, {price.date}: {price.source}"
    )


def _unpriced(case: MoneyCase, lines: Iterable[CostLine]) -> Iterator[str]:
    names = {line.name for line in lines}
    if "labour" not in names:
        low, high = LABOUR_HOURS
        yield f"labour, usually {low:g} to {high:g} senior hours and the larger part: labour_usd_per_hour under [money]"
    if "labels" not in names:
        yield "labels: annotation_items and annotation_kind under [money]"
    if "hosting" not in names and not case.tuned_usd_per_query and not case.tuned_usd_per_1m_output:
        yield "serving the result: hosting_usd_per_hour, or tuned_usd_per_query, under [money]"


def _exactly(usd: float) -> Estimate:
    return Estimate(low=usd, expected=usd, high=usd)


def _scaled(usd: Estimate, factor: float) -> Estimate:
    return Estimate(low=usd.low * factor, expected=usd.expected * factor, high=usd.high * factor)


def _sum(parts: Iterable[Estimate]) -> Estimate:
    """Ends are added up as if all went well, or all badly: wider than chance would make it."""
    return functools.reduce(
        lambda one, other: Estimate(
            low=one.low + other.low, expected=one.expected + other.expected, high=one.high + other.high
        ),
        parts,
        NOTHING,
    )
