"""The project around a training: the questions that decide whether, when and at what gain, in one TOML file."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from foretune.config.write import toml_value
from foretune.errors import ConfigError, NotFound
from foretune.plan.advice import Advice, advise
from foretune.plan.money import CostBenefit, MoneyCase, cost_benefit
from foretune.plan.pretraining import PretrainingJob, PretrainingPlan, plan_pretraining
from foretune.plan.situation import Situation, read_situation
from foretune.plan.timeline import Timeline, TimelineInputs, plan_timeline
from foretune.records.forecast import Forecast

__all__ = ["Outlook", "Project", "outlook", "questions", "read_project"]

SECTIONS = ("situation", "timeline", "money", "pretraining")


@dataclass(frozen=True)
class Project:
    """What a team says of its project; `money` and `pretraining` are None where nothing is said."""

    situation: Situation = field(default_factory=Situation)
    timeline: TimelineInputs = field(default_factory=TimelineInputs)
    money: MoneyCase | None = None
    pretraining: PretrainingJob | None = None


@dataclass(frozen=True)
class Outlook:
    """What follows from a project, and from the forecast of its training where there is one."""

    advice: Advice
    timeline: Timeline
    payback: CostBenefit | None
    pretraining: PretrainingPlan | None


def read_project(path: Path) -> Project:
    """A project file with any of [situation], [timeline], [money] and [pretraining].

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
        pretraining=_checked(PretrainingJob, tree["pretraining"], "pretraining") if "pretraining" in tree else None,
    )


def outlook(project: Project, forecast: Forecast | None = None) -> Outlook:
    """Advice, timeline, payback and pretraining plan; what the forecast knows fills what the project leaves open."""
    return Outlook(
        advice=advise(_situation(project.situation, forecast)),
        timeline=plan_timeline(_timeline(project.timeline, forecast)),
        payback=None if project.money is None else cost_benefit(_case(project.money, forecast)),
        pretraining=None if project.pretraining is None else plan_pretraining(project.pretraining),
    )


def questions() -> str:
    """A project file with every question commented out, its usual value and what it asks."""
    lines = ["# What a project is; every line is optional. Then: foretune plan --project project.toml"]
    models: dict[str, Any] = {"situation": Situation, "timeline": TimelineInputs, "pretraining": PretrainingJob}
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
    wrong = [name for name, value in values.items() if isinstance(value, bool) or not isinstance(value, (int, float))]
    if wrong:
        raise ConfigError(
            f"[money] `{wrong[0]}`: got {values[wrong[0]]!r}, expected a number", fix="foretune plan --questions"
        )
    return MoneyCase(**values)


def _situation(situation: Situation, forecast: Forecast | None) -> Situation:
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


def _timeline(inputs: TimelineInputs, forecast: Forecast | None) -> TimelineInputs:
    if forecast is None or forecast.train_hours is None or inputs.train_hours is not None:
        return inputs
    return inputs.model_copy(update={"train_hours": forecast.train_hours})


def _case(case: MoneyCase, forecast: Forecast | None) -> MoneyCase:
    if case.training_usd or forecast is None or forecast.cost_usd is None:
        return case
    return dataclasses.replace(case, training_usd=forecast.cost_usd.expected)
