"""A plan alone as one self-contained page, with the style and the sections of the report."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import foretune
from foretune.plan.project import Outlook
from foretune.plan.whole import WholePlan
from foretune.records.base import write_atomically
from foretune.records.forecast import Forecast, Offer
from foretune.ui.planned import PlanView, forecast_predictions, forecast_view, offer_rows, outlook_view
from foretune.ui.report import environment
from foretune.ui.summary import Headline
from foretune.ui.trained import card_charts
from foretune.units import show_count

__all__ = ["render_plan", "write_outlook_page", "write_plan_page"]


def write_plan_page(path: Path, whole: WholePlan, offers: Sequence[Offer] = ()) -> Path:
    """Write the page of a whole plan, with ranked `offers` where they are known, and return its path.

    Raises DoesNotFit where it cannot be written.
    """
    forecast = whole.forecast
    view = forecast_view(forecast, whole.outlook.as_dict(), whole.sizes.as_dict())
    view = dataclasses.replace(view, offers=offer_rows(offers), offers_note=f"{len(offers):,} offers fit")
    cards = card_charts(forecast_predictions(forecast))
    share = forecast.trainable_parameters / max(1, forecast.total_parameters)
    trained, total = show_count(forecast.trainable_parameters), show_count(forecast.total_parameters)
    model = ("Trained share", f"{100 * share:.3g} %", f"{trained} of {total} parameters, {forecast.method}")
    warnings = [("plan", warning) for warning in forecast.warnings]
    write_atomically(path, render_plan(_forecast_headline(forecast), view, cards, model, warnings))
    return path


def write_outlook_page(path: Path, outlook: Outlook) -> Path:
    """Write the page of a project without a model and return its path."""
    view = outlook_view(outlook.as_dict())
    advice = outlook.advice
    top = Headline("open", "Advice", ((f"{advice.name[0].upper()}{advice.name[1:]}.", True),), advice.sentence)
    write_atomically(path, render_plan(top, view, [], None, []))
    return path


def render_plan(
    headline: Headline,
    view: PlanView,
    cards: list[Any],
    model: tuple[str, str, str] | None,
    warnings: list[tuple[str, str]],
) -> str:
    """The page as text; everything is escaped, nothing is loaded from anywhere."""
    values = {
        "headline": headline,
        "plan": view,
        "cards": cards,
        "trained": model,
        "warnings": warnings,
        "day": f"{datetime.date.today():%Y-%m-%d}",
        "foretune_version": foretune.__version__,
    }
    return environment().get_template("plan.html.j2").render(**values)


def _forecast_headline(forecast: Forecast) -> Headline:
    """Whether it fits, and the three figures, in one sentence."""
    spans = {item.quantity: item.span for item in forecast_predictions(forecast)}
    where = f"{forecast.num_gpus} x {forecast.device}" if forecast.device else "a device that is not known"
    parts: list[tuple[str, bool]] = [(f"{forecast.base}, {forecast.method}, on {where}: ", False)]
    parts += [(f"{spans['train_seconds']}", True), (", ", False)] if "train_seconds" in spans else []
    parts += [(spans["peak_memory_gb"], True), (" a device", False)]
    parts += [(", ", False), (spans["cost_usd"], True)] if "cost_usd" in spans else []
    kinds = {True: ("better", "Fits"), False: ("worse", "Does not fit"), None: ("open", "No device")}
    kind, label = kinds[forecast.fits]
    if forecast.fits is False and forecast.peak_memory_gb.expected <= forecast.device_memory_gb:
        kind, label = "inconclusive", "May not fit"
    room = f"{forecast.device_memory_gb:.1f} GB a device" if forecast.device_memory_gb else "not known"
    facts = (f"Room: {room}", f"Precision: {forecast.precision}", "Ranges hold four times of five")
    return Headline(kind, label, (*parts, (".", False)), "", facts)
