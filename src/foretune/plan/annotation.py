"""What labels cost: items at a price each, with dated price ranges by kind of task and vendor."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import datetime
from typing import NamedTuple

from foretune.errors import ConfigError, NotFound
from foretune.records.plan import Estimate

__all__ = ["ANNOTATION_PRICES", "AnnotationPrice", "annotation_cost", "find_annotation_price"]

SURVEY = "pccvdi.com/insights/ai-training-data-cost-benchmarks-2026, read 2026-11-21"
SURVEY_DATE = datetime.date(2026, 1, 1)


class AnnotationPrice(NamedTuple):
    """Dollars for one labelled item, lowest and highest that is asked."""

    kind: str
    low: float
    high: float
    date: datetime.date
    source: str


ANNOTATION_PRICES: tuple[AnnotationPrice, ...] = (
    AnnotationPrice("classification", 0.05, 0.15, SURVEY_DATE, SURVEY),
    AnnotationPrice("entities", 0.15, 0.40, SURVEY_DATE, SURVEY),
    AnnotationPrice("reasoning", 0.80, 3.00, SURVEY_DATE, SURVEY),
    AnnotationPrice("comparison", 0.40, 2.00, SURVEY_DATE, SURVEY),
    AnnotationPrice("expert-comparison", 5.00, 20.00, SURVEY_DATE, SURVEY),
    AnnotationPrice("synthetic", 0.02, 0.20, SURVEY_DATE, SURVEY),
    AnnotationPrice(
        "scale.ai-style",
        0.08,
        0.35,
        datetime.date(2026, 1, 1),
        "scorehive.polsia.app/blog/ai-training-data-evaluation-cost, standard classification tasks, read 2026-11-21",
    ),
)


def find_annotation_price(kind: str) -> AnnotationPrice:
    """The price range of that kind. Raises NotFound with the kinds that there are."""
    found = next((price for price in ANNOTATION_PRICES if price.kind == kind.strip().lower()), None)
    if found is None:
        kinds = ", ".join(price.kind for price in ANNOTATION_PRICES)
        raise NotFound(f"no annotation price `{kind}`; there are {kinds}", fix="or annotation_usd_per_item = 0.30")
    return found


def annotation_cost(num_items: int, usd_per_item: float | AnnotationPrice, num_annotators: int = 1) -> Estimate:
    """Dollars for labelling every item by so many people, at your price or at a range; raises ConfigError below 0."""
    low, high = (usd_per_item, usd_per_item) if isinstance(usd_per_item, int | float) else usd_per_item[1:3]
    if num_items < 0 or low < 0 or num_annotators < 1:
        raise ConfigError(f"{num_items} items at {low} dollars by {num_annotators}: expected 0 or more, by 1 or more")
    labels = num_items * num_annotators
    return Estimate(low=labels * low, expected=labels * (low + high) / 2, high=labels * high)
