"""What a budget buys: for each size of model and method the cheapest way that stays within it, and how much data."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from foretune.errors import ConfigError, DoesNotFit, GateRefused
from foretune.plan.answer import requested_setup
from foretune.plan.choice import Limits, offers
from foretune.plan.request import PlanRequest
from foretune.plan.setup import Setup
from foretune.records.forecast import Offer
from foretune.units import show_usd

__all__ = ["LADDER", "METHODS", "USUAL", "Affordable", "affordable"]

# One open model a size step, from what a laptop trains to what a server does.
LADDER = (
    "Qwen/Qwen3-0.6B",
    "meta-llama/Llama-3.2-1B",
    "Qwen/Qwen3-4B",
    "meta-llama/Llama-3.1-8B",
    "Qwen/Qwen3-14B",
    "Qwen/Qwen3-32B",
    "meta-llama/Llama-3.1-70B",
)
METHODS = ("lora", "qlora", "full")
USUAL = {"num_examples": 1000, "tokens_per_example": 500.0, "epochs": 3.0}


class Affordable(NamedTuple):
    """One model and method within the budget: the cheapest way, and the examples that the whole budget would pay."""

    base: str
    parameters: int
    method: str
    offer: Offer
    examples: int
    tries: int


def affordable(
    budget_usd: float, request: PlanRequest, *, data: Path | None = None, max_hours: float | None = None
) -> tuple[list[Affordable], tuple[str, ...]]:
    """What `budget_usd` buys, largest model first, and what was assumed; every cost is judged on its high end.

    The request's own model and method, or a ladder of open models and all methods. Raises ConfigError for a budget of
    0 or less, GateRefused where nothing is within it.
    """
    if not budget_usd > 0:
        raise ConfigError(f"a budget of {budget_usd:g} dollars: expected more than 0", fix="--max-cost 50")
    given, said = _with_data(request, data)
    limits = Limits(max_hours, budget_usd)
    rows = [row for base in _bases(given) for row in _rows(base, given, data, limits, budget_usd)]
    if not rows:
        raise GateRefused(
            f"nothing can be trained within {show_usd(budget_usd)}",
            fix="fewer examples or epochs (--num-examples 500 --epochs 1), or a smaller model (--base Qwen/Qwen3-0.6B)",
        )
    return sorted(rows, key=lambda row: (-row.parameters, METHODS.index(row.method))), said


def _with_data(request: PlanRequest, data: Path | None) -> tuple[PlanRequest, tuple[str, ...]]:
    """The request with the usual amount of data where it says nothing."""
    open_ones = {name: value for name, value in USUAL.items() if getattr(request, name) is None}
    if data is not None:
        open_ones = {name: value for name, value in open_ones.items() if name == "epochs"}
    words = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in open_ones.items())
    return request.model_copy(update=open_ones), (f"not given: {words}",) if words else ()


def _bases(request: PlanRequest) -> Sequence[PlanRequest]:
    if request.base is not None or request.params is not None:
        return (request,)
    return tuple(request.model_copy(update={"base": base}) for base in LADDER)


def _rows(
    base: PlanRequest, given: PlanRequest, data: Path | None, limits: Limits, budget_usd: float
) -> Iterator[Affordable]:
    for method in (given.method,) if given.method else METHODS:
        setup, _ = requested_setup(base.model_copy(update={"method": method}), data=data)
        try:
            best = offers(setup, goal="cheapest", limits=limits)[0]
        except (DoesNotFit, GateRefused):
            continue
        yield _row(setup, method, best, budget_usd)


def _row(setup: Setup, method: str, best: Offer, budget_usd: float) -> Affordable:
    """Cost grows with the examples, so the budget pays for so many more."""
    high = best.cost_usd.high if best.cost_usd else 0.0
    times = budget_usd / high if high > 0 else 1.0
    return Affordable(
        base=setup.model or f"a model of {setup.shape.parameters / 1e9:.3g}B",
        parameters=setup.shape.parameters,
        method=method,
        offer=best,
        examples=int(setup.num_examples * times),
        tries=int(times),
    )
