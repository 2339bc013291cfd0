"""The project around a training: the questions that decide whether, when and at what gain, in one TOML file."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import dataclasses
import difflib
import math
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from foretune.config.write import toml_value
from foretune.errors import ConfigError, NotFound
from foretune.plan.advice import Advice, advise
from foretune.plan.money import CostBenefit, MoneyCase, cost_benefit
from foretune.plan.pilot import Pilot, pilot_of
from foretune.plan.place import Place, place
from foretune.plan.pretraining import PretrainingJob, PretrainingPlan, plan_pretraining
from foretune.plan.project_cost import ProjectCost, project_cost
from foretune.plan.situation import Situation, read_situation
from foretune.plan.timeline import Timeline, TimelineInputs, plan_timeline
from foretune.records.forecast import Forecast
from foretune.records.procedure import Stakes

__all__ = ["Outlook", "Project", "outlook", "questions", "read_project"]

TEXTS = ("annotation_kind",)  # fields of [money] that are no amounts
SECTIONS = ("situation", "timeline", "money", "stakes", "pretraining")


@dataclass(frozen=True)
class Project:
    """What a team says of its project; `money`, `stakes` and `pretraining` are None where nothing is said."""

    situation: Situation = field(default_factory=Situation)
    timeline: TimelineInputs = field(default_factory=TimelineInputs)
    money: MoneyCase | None = None
    stakes: Stakes | None = None
    pretraining: PretrainingJob | None = None


@dataclass(frozen=True)
class Outlook:
    """What follows from a project, and from the forecast of its training where there is one."""

    advice: Advice
    timeline: Timeline
    payback: CostBenefit | None
    pretraining: PretrainingPlan | None
    cost: ProjectCost
    place: Place
    pilot: Pilot | None

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values; what is infinite is None."""
        return {
            "advice": self.advice.model_dump(mode="json"),
            "timeline": self.timeline.model_dump(mode="json"),
            "payback": None if self.payback is None else _payback_values(self.payback),
            "pretraining": None if self.pretraining is None else self.pretraining.model_dump(mode="json"),
            "project_cost": self.cost.model_dump(mode="json"),
            "place": self.place.model_dump(mode="json"),
            "pilot": None if self.pilot is None else self.pilot.model_dump(mode="json"),
        }


def read_project(path: Path) -> Project:
    """A project file with any of [situation], [timeline], [money], [stakes] and [pretraining].

    Raises NotFound, or ConfigError with every fault of a section and the names that exist.
    """
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotFound(f"no file {path}", fix=f"foretune plan --questions > {path}") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}", fix="foretune plan --questions shows the form") from None
    wrong = [name for name in tree if name not in SECTIONS]
    if wrong:
        close = difflib.get_close_matches(wrong[0], SECTIONS, n=1)
        hint = f"; did you mean [{close[0]}]?" if close else ""
        raise ConfigError(f"{path}: unknown section [{wrong[0]}]{hint}", fix="foretune plan --questions")
    return Project(
        situation=read_situation(tree.get("situation", {})),
        timeline=_checked(TimelineInputs, tree.get("timeline", {}), "timeline"),
        money=_money(tree["money"]) if "money" in tree else None,
        stakes=_checked(Stakes, tree["stakes"], "stakes") if "stakes" in tree else None,
        pretraining=_checked(PretrainingJob, tree["pretraining"], "pretraining") if "pretraining" in tree else None,
    )


def outlook(
    project: Project,
    forecast: Forecast | None = None,
    *,
    num_examples: int = 0,
    epochs: float = 1.0,
    job: str = "job.toml",
) -> Outlook:
    """Advice, timeline, payback, costs, place, pilot and pretraining plan.

    What the forecast and the data of `num_examples` know fills what the project leaves open; `job` stands in commands.
    """
    situation = _situation(project.situation, forecast, num_examples)
    case = None if project.money is None else _case(project.money, forecast)
    hours, cost = (None, None) if forecast is None else (forecast.train_hours, forecast.cost_usd)
    return Outlook(
        advice=advise(situation),
        timeline=plan_timeline(_timeline(project.timeline, forecast, situation.num_examples)),
        payback=None if case is None else cost_benefit(case),
        pretraining=None if project.pretraining is None else plan_pretraining(project.pretraining),
        cost=project_cost(project.money, forecast),
        place=place(situation),
        pilot=None if forecast and forecast.fits is False else pilot_of(num_examples, epochs, hours, cost, job=job),
    )


def _payback_values(payback: CostBenefit) -> dict[str, Any]:
    """JSON knows no infinity: a payback that never comes is None."""
    values = dataclasses.asdict(payback)
    day = payback.break_even_date
    numbers = {name: None if value in (math.inf, -math.inf) else value for name, value in values.items()}
    return {**numbers, "break_even_date": None if day is None else day.isoformat()}


def questions() -> str:
    """A project file with every question commented out, its usual value and what it asks."""
    lines = ["# What a project is; every line is optional. Then: foretune plan --project project.toml"]
    models: dict[str, Any] = {
        "situation": Situation,
        "timeline": TimelineInputs,
        "stakes": Stakes,
        "pretraining": PretrainingJob,
    }
    for name, model in models.items():
        lines += ["", f"[{name}]" if name == "situation" else f"# [{name}]", *_fields(model)]
    lines += ["", "# [money]"]
    lines += [f"# {f.name} = {toml_value(f.default) if f.default is not None else '...'}" for f in _money_fields()]
    return "\n".join(lines) + "\n"


def _fields(model: Any) -> list[str]:
    lines = []
    for name, info in model.model_fields.items():
        value = info.get_default(call_default_factory=True)
        if isinstance(value, (BaseModel, dict, tuple)):
            continue
        text = "..." if value is None else toml_value(value)
        lines.append(f"# {name} = {text}  # {info.description or ''}".rstrip(" #"))
    return lines


def _money_fields() -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(MoneyCase)


def _checked(model: Any, values: dict[str, Any], section: str) -> Any:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        faults = [
            f"[{section}] `{'.'.join(map(str, e['loc']))}`: got {e['input']!r}, {e['msg']}" for e in error.errors()
        ]
    raise ConfigError("\n".join(faults), fix=f"fields: {', '.join(model.model_fields)}")


def _money(values: dict[str, Any]) -> MoneyCase:
    known = [f.name for f in _money_fields()]
    unknown = [name for name in values if name not in known]
    if unknown:
        close = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f"; did you mean `{close[0]}`?" if close else ""
        raise ConfigError(f"[money] unknown `{unknown[0]}`{hint}", fix=f"fields: {', '.join(known)}")
    wrong = [
        f"[money] `{name}`: got {value!r}, {fault}"
        for name, value in values.items()
        if (fault := _no_amount(name, value))
    ]
    if wrong:
        raise ConfigError("\n".join(wrong), fix="foretune plan --questions")
    return MoneyCase(**values)


def _no_amount(name: str, value: object) -> str:
    """What was expected, where a value of [money] is of another kind."""
    if name in TEXTS:
        return "" if isinstance(value, str) else "expected text in quotes"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "expected a number without a currency: dollars; multiply other currencies by their rate"
    return ""


def _situation(situation: Situation, forecast: Forecast | None, num_examples: int = 0) -> Situation:
    if num_examples and situation.num_examples is None:
        situation = situation.model_copy(update={"num_examples": num_examples})
    if forecast is None:
        return situation
    known: dict[str, Any] = {"parameters": float(forecast.total_parameters)}
    if forecast.device_memory_gb:
        known["device_memory_gb"] = forecast.device_memory_gb
    if forecast.cost_usd is not None:
        known["training_usd"] = forecast.cost_usd.expected
    open_ones = {name: value for name, value in known.items() if getattr(situation, name) is None}
    measured = {forecast.method: forecast.peak_memory_gb.high, **situation.method_memory_gb}
    return situation.model_copy(update={**open_ones, "method_memory_gb": measured})


def _timeline(inputs: TimelineInputs, forecast: Forecast | None, num_examples: int | None) -> TimelineInputs:
    known: dict[str, Any] = {}
    if inputs.num_examples is None and num_examples:
        known["num_examples"] = num_examples
    if inputs.train_hours is None and forecast is not None and forecast.train_hours is not None:
        known["train_hours"] = forecast.train_hours
    return inputs.model_copy(update=known) if known else inputs


def _case(case: MoneyCase, forecast: Forecast | None) -> MoneyCase:
    if case.training_usd or forecast is None or forecast.cost_usd is None:
        return case
    return dataclasses.replace(case, training_usd=forecast.cost_usd.expected)
