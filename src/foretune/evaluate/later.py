"""Which settings of an evaluation may still be set once the model is trained: those that never decide the verdict."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from foretune.config.job import JobConfig
from foretune.config.settings import settings_of, with_settings
from foretune.errors import ConfigError
from foretune.evaluate.scorers.registry import SCORERS

__all__ = ["deciding_settings", "with_shown"]

SHOWN_ONLY = (
    "evaluate.scorers",
    "evaluate.endpoints",
    "evaluate.judge",
    "evaluate.json_schema",
    "evaluate.advanced.quantised",
    "evaluate.advanced.endpoint_keys",
    "evaluate.advanced.endpoint_prices",
    "evaluate.advanced.timeout_seconds",
    "evaluate.advanced.judge_samples",
    "evaluate.advanced.rubric",
    "evaluate.advanced.embedder",
    "evaluate.advanced.run_code",
    "evaluate.advanced.batch_size",
)
# what a primary metric may need of them, in which case they decide after all
NEEDED_BY = {"schema": "evaluate.json_schema", "embedder": "evaluate.advanced.embedder"}


def deciding_settings(job: JobConfig, primary_metric: str) -> dict[str, Any]:
    """The settings of [evaluate] that answers and verdict depend on, by dotted name; defaults are left out.

    So that a later version, with a setting more, goes on with the evaluations of an earlier one.
    """
    usual, flat = settings_of({}), settings_of(job.model_dump(mode="json"))
    left_out = {*_shown_only(primary_metric), *(name for name, value in flat.items() if value == usual[name])}
    return {name: value for name, value in flat.items() if name.startswith("evaluate.") and name not in left_out}


def _shown_only(primary_metric: str) -> tuple[str, ...]:
    """The settings that decide nothing where this metric decides."""
    spec = SCORERS.get(primary_metric)  # the user's own needs none of them
    return tuple(name for name in SHOWN_ONLY if spec is None or name != NEEDED_BY.get(spec.needs))


def with_shown(job: JobConfig, settings: Mapping[str, Any], primary_metric: str) -> JobConfig:
    """The job of a trained run with settings of what is shown beside its verdict.

    Raises ConfigError for a setting that decides, is unknown, or has a wrong value: the metric and how the systems
    are asked were fixed before training.
    """
    open_to = _shown_only(primary_metric)
    fixed = [name for name in settings if name not in open_to]
    if fixed:
        is_known = fixed[0] in settings_of(job.model_dump(mode="json"))
        what = "was fixed before training" if is_known else "is no setting"
        raise ConfigError(
            f"{fixed[0]} {what}; after training only what never decides can be set: {', '.join(open_to)}",
            fix=f"foretune run job.toml --set {fixed[0]}=...   # a new run" if is_known else "--set NAME=VALUE",
        )
    try:
        return with_settings(job, settings)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"] if not isinstance(part, int))
        is_list = first["type"] == "tuple_type"
        message = f'expected a list, such as ["{first["input"]}"]' if is_list else first["msg"]
        message = message.removeprefix("Value error, ")
        raise ConfigError(f"--set {name}: {message}", fix="foretune config schema   # lists every field") from None
