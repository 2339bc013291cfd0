"""The whole plan of a request or a job: forecast, advice, timeline, costs, pilot and sizes, for every face alike."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import dataclasses
import datetime
from pathlib import Path
from typing import Any, NamedTuple

from foretune.models.shapes import ALL_LINEAR, default_targets, lora_parameters
from foretune.plan.answer import forecast_of_plan, requested_setup
from foretune.plan.forecast import forecast, given_price
from foretune.plan.measurements import measured_in, measured_situation
from foretune.plan.money import LARGE_USD, budget_warning, require_budget
from foretune.plan.project import Outlook, Project, outlook, read_project
from foretune.plan.request import PlanRequest
from foretune.plan.serving import model_sizes, saved_bytes
from foretune.plan.setup import Setup
from foretune.records.forecast import Forecast
from foretune.records.plan import PlanRecord

__all__ = ["Sizes", "WholePlan", "whole_plan", "whole_plan_of_job"]


LONG_HOURS = 24 * 120  # as in pretraining plans


class Sizes(NamedTuple):
    """Bytes of what training leaves and of the model in 16, 8 and 4 bits; adapters on two and on all linear layers."""

    saved: int
    bits16: float
    bits8: float
    bits4: float
    lora_usual: int = 0
    lora_all_linear: int = 0

    @property
    def lora_ratio(self) -> float | None:
        """How many times the parameters of the usual adapters those on all linear layers have; 4.77 for Llama-2-7B."""
        return self.lora_all_linear / self.lora_usual if self.lora_usual else None

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**self._asdict(), "lora_ratio": self.lora_ratio}


class WholePlan(NamedTuple):
    """Everything that is known before training."""

    forecast: Forecast
    outlook: Outlook
    sizes: Sizes

    def as_dict(self) -> dict[str, Any]:
        """The document of `foretune plan --json`."""
        document = dict(self.forecast.model_dump(mode="json"))
        return {**document, **self.outlook.as_dict(), "sizes": self.sizes.as_dict()}


def whole_plan(
    request: PlanRequest,
    *,
    data: Path | None = None,
    project: Path | None = None,
    max_cost_usd: float = 0.0,
    job: str = "job.toml",
) -> WholePlan:
    """The whole plan of a request. Raises ConfigError and DataError as `answer` does, GateRefused over the budget."""
    setup, assumptions = requested_setup(request, data=data)
    price = None if request.price_per_gpu_hour is None else given_price(str(request.price_per_gpu_hour))
    found = forecast(setup, assumptions=assumptions, price=price)
    found = _within(found.model_copy(update={"warnings": (*found.warnings, *_idle(setup))}), max_cost_usd)
    told = read_project(project) if project else Project()
    around = outlook(told, found, num_examples=setup.num_examples, epochs=setup.epochs or 1.0, job=job)
    return WholePlan(found, around, _sizes(setup))


def whole_plan_of_job(
    record: PlanRecord,
    *,
    project: Path | None = None,
    max_cost_usd: float = 0.0,
    job: str = "job.toml",
    measured: Path | None = None,
) -> WholePlan:
    """The whole plan around a job's plan on this machine; `measured` is a run whose measurements feed the advice.

    Raises GateRefused over the budget.
    """
    found = _within(forecast_of_plan(record), max_cost_usd)
    rows = max(1, record.num_train_samples)
    epochs = record.num_steps * record.micro_batch_size * record.grad_accum_steps / rows
    told = read_project(project) if project else Project()
    if measured is not None:
        known = measured_situation(told.situation, measured_in(measured, told))
        told = dataclasses.replace(told, situation=known)
    around = outlook(told, found, num_examples=record.num_train_samples, epochs=epochs, job=job)
    sizes = model_sizes(max(1, record.total_parameters))
    return WholePlan(found, around, Sizes(saved_bytes(record.trainable_parameters), *sizes))


def _within(found: Forecast, max_cost_usd: float) -> Forecast:
    """The forecast with what its money and time should warn of; GateRefused where the limit is expected to break."""
    said = []
    if found.cost_usd is not None:
        require_budget(found.cost_usd, max_cost_usd)
        warning = budget_warning(found.cost_usd, max_cost_usd)
        said += [warning] if warning and (max_cost_usd or found.cost_usd.expected > LARGE_USD) else []
    if found.train_hours is not None and found.train_hours.expected > LONG_HOURS:
        said.append("takes over four months: more devices, fewer tokens or a smaller model; hardware ages faster")
    if found.price is not None and found.price.date > datetime.date.today().isoformat():
        said.append(f"the price of {found.device} ({found.price.provider}) is dated in the future: {found.price.date}")
    return found.model_copy(update={"warnings": (*found.warnings, *said)}) if said else found


def _idle(setup: Setup) -> tuple[str, ...]:
    """More devices than examples: most of them wait."""
    if not setup.num_examples or setup.parallel.data <= setup.num_examples:
        return ()
    return (f"{setup.num_gpus:,} devices for {setup.num_examples:,} examples: most of them would wait",)


def _sizes(setup: Setup) -> Sizes:
    shape = setup.shape
    usual, everywhere = 0, 0
    if setup.method in ("lora", "qlora"):
        everywhere = lora_parameters(shape, rank=setup.rank, target_modules=(ALL_LINEAR,))
        names = {layer.last_name for layer in shape.layers}
        usual = lora_parameters(shape, rank=setup.rank) if names & set(default_targets(shape.family)) else 0
    return Sizes(saved_bytes(setup.trained_parameters), *model_sizes(shape.parameters), usual, everywhere)
