"""Where to train and serve: a hosted provider, rented machines or your own, by team, privacy, size and dollars."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Literal

from foretune.config import Strict
from foretune.plan.hosted import provider_status
from foretune.plan.money import hosting_choice
from foretune.plan.providers import PROVIDERS, find_provider, is_recommendable
from foretune.plan.situation import Situation

__all__ = ["Place", "PlaceReason", "place", "self_host_break_even"]

Where = Literal["hosted", "self-host", "own machines"]
START: dict[Where, int] = {"hosted": 10, "self-host": 10, "own machines": 0}
SMALL_EXAMPLES = 5_000
HIGH_TRAFFIC = 1_000_000


class PlaceReason(Strict):
    """One reason: the points it gives, in words, and its source."""

    where: Where
    points: int
    text: str
    source: str


class Place(Strict):
    """The answer, the points of all three, every reason, and the providers that are or are not to be used."""

    where: Where
    points: dict[str, int]
    reasons: tuple[PlaceReason, ...]
    providers: tuple[str, ...]
    warnings: tuple[str, ...]


def place(situation: Situation, today: datetime.date | None = None) -> Place:
    """Where to train; ties go to what is simpler. Deterministic for a day: providers close (R325, R330, R336)."""
    reasons = tuple(_reasons(situation, today))
    points = {where: start + sum(one.points for one in reasons if one.where == where) for where, start in START.items()}
    best = max(START, key=lambda where: points[where])
    return Place(
        where=best,
        points={str(where): value for where, value in points.items()},
        reasons=reasons,
        providers=tuple(one.name for one in PROVIDERS if is_recommendable(one, today)),
        warnings=tuple(_warnings(today)),
    )


def self_host_break_even(usd_per_hour: float, usd_per_query: float) -> float:
    """Queries a month from which a machine that waits all month is cheaper than paying per query (R330)."""
    return hosting_choice(usd_per_hour, usd_per_query, 0.0).break_even_queries


def _reasons(situation: Situation, today: datetime.date | None) -> Iterator[PlaceReason]:
    if situation.team == "ml-engineers":
        yield _said(
            "self-host", 40, "a team of ML engineers gets the best cost and performance from its own stack", "R336"
        )
        yield _said(
            "self-host", 10, "self-hosting gives the most control and, at steady traffic, the lowest cost", "R330"
        )
    if situation.team == "none":
        yield _said("hosted", 40, "without ML infrastructure a hosted provider is the easiest start", "R325")
    if situation.num_examples is not None and situation.num_examples <= SMALL_EXAMPLES:
        yield _said("hosted", 10, "a small job costs a few dollars hosted, and nothing is left running", "R325")
    if (situation.queries_per_month or 0) >= HIGH_TRAFFIC:
        yield _said("self-host", 20, "at a million queries a month a machine of your own is paid for", "R330")
    if situation.privacy == "on-premise":
        yield _said("own machines", 200, "data may not leave the house: open weights on your own machines", "judgement")
        yield _said("hosted", -200, "data would leave the house", "judgement")
    if situation.privacy == "private-cloud":
        yield _said("self-host", 60, "data stays in your cloud: rent machines there", "judgement")
    if not any(is_recommendable(one, today) for one in PROVIDERS):
        yield _said("hosted", -100, "no provider can be recommended today", "provider table")


def _said(where: Where, points: int, text: str, source: str) -> PlaceReason:
    return PlaceReason(where=where, points=points, text=text, source=source)


def _warnings(today: datetime.date | None) -> Iterator[str]:
    """The usual first name for small projects is said with its state (R325)."""
    known = find_provider("OpenAI")
    if not is_recommendable(known, today):
        yield f"OpenAI, often called the easiest for small projects, is out: {provider_status(known, today)}"
