"""`--sweep lr=1e-4,2e-4`: the values that fields of `train` are tried with, as the jobs of all settings."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import difflib
import itertools
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from foretune.config.job import JobConfig
from foretune.config.read import field_names, parsed_value
from foretune.errors import ConfigError

__all__ = ["FEW", "MANY", "LogRange", "Values", "Variation", "num_combinations", "parsed_sweep", "variations", "varied"]

ALIASES = {"lr": "learning_rate", "batch": "global_batch_size"}
# What a validation loss is the loss of: with other values it is another number, and settings cannot be compared by it.
INCOMPARABLE = (
    "train.method",
    "train.max_seq_len",
    "train.advanced.train_on",
    "train.advanced.beta",
    "train.advanced.label_smoothing",
)
FEW, MANY = 2, 256


@dataclass(frozen=True)
class LogRange:
    """Values between two ends, even in their logarithm; whole where both ends are."""

    low: float
    high: float

    @property
    def is_whole(self) -> bool:
        """Whether its values are whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def drawn(self, source: random.Random) -> float:
        """One value."""
        return self.rounded(math.exp(source.uniform(math.log(self.low), math.log(self.high))))

    def rounded(self, value: float) -> float:
        """A value as it is written: whole, or with four digits; never outside."""
        near = round(value) if self.is_whole else float(f"{value:.4g}")
        return min(max(near, self.low), self.high)


@dataclass(frozen=True)
class Variation:
    """One setting: the values of the swept fields, and the whole job with them."""

    values: dict[str, Any]
    job: JobConfig


Values = tuple[Any, ...] | LogRange


def parsed_sweep(texts: Sequence[str]) -> dict[str, Values]:
    """`["lr=1e-4,2e-4", "rank=8..64"]` as the values of each dotted field; `A..B` is a range to draw from.

    Several names of modules are joined by `+`. Raises ConfigError with the nearest name for an unknown field, and for
    fields that settings cannot be compared by.
    """
    found: dict[str, Values] = {}
    for text in texts:
        name, sign, values = text.partition("=")
        if not sign or not values.strip():
            raise ConfigError(f"--sweep {text}: expected NAME=VALUE,VALUE", fix="for example --sweep lr=1e-4,2e-4")
        field = _field(name.strip())
        if field in found:
            raise ConfigError(f"--sweep names {field} twice", fix=f"give all its values in one: --sweep {name}=A,B")
        found[field] = _values(field, values)
    return found


def _field(name: str) -> str:
    known = [field for field in field_names() if field.startswith("train.")]
    short = {field.rpartition(".")[2]: field for field in known}
    field = name if name in known else short.get(ALIASES.get(name, name), "")
    if not field:
        close = difflib.get_close_matches(name, [*short, *ALIASES, *known], n=1)
        raise ConfigError(
            f"--sweep {name}: no such field of train", fix=f"did you mean {close[0]}?" if close else "foretune config"
        )
    if field in INCOMPARABLE:
        raise ConfigError(
            f"--sweep {field}: it changes what the validation loss measures, so settings cannot be compared by it",
            fix="one run for each value, then foretune compare",
        )
    return field


def _values(field: str, text: str) -> Values:
    low, dots, high = text.partition("..")
    if dots:
        ends = parsed_value(low.strip()), parsed_value(high.strip())
        if not all(isinstance(end, (int, float)) for end in ends) or not 0 < ends[0] < ends[1]:
            raise ConfigError(f"--sweep {field}={text}: expected LOW..HIGH, two numbers above 0", fix="1e-5..1e-3")
        return LogRange(*ends)
    values = [_value(field, one.strip()) for one in text.split(",") if one.strip()]
    distinct = [value for place, value in enumerate(values) if value not in values[:place]]
    return tuple(distinct)


def _value(field: str, text: str) -> Any:
    if field in ("train.advanced.target_modules", "train.advanced.without"):
        return tuple(text.split("+"))
    return parsed_value(text)


def variations(job: JobConfig, sweep: Mapping[str, Values], *, num_samples: int = 0) -> list[Variation]:
    """Every combination of the values, or `num_samples` drawn by the job's seed; ranges need such a number.

    Raises ConfigError where a value does not fit its field, and for fewer than 2 or more than 256 settings.
    """
    chosen = _drawn(sweep, num_samples, job.seed) if num_samples else _grid(sweep)
    if not FEW <= len(chosen) <= MANY:
        raise ConfigError(
            f"the sweep has {len(chosen)} {'setting' if len(chosen) == 1 else 'settings'}; expected {FEW} to {MANY}",
            fix="--sweep-samples 16 draws as many" if len(chosen) > MANY else "--sweep lr=1e-4,2e-4,4e-4",
        )
    return [varied(job, values) for values in chosen]


def varied(job: JobConfig, values: Mapping[str, Any]) -> Variation:
    """One setting: the job with these values. Raises ConfigError where one does not fit its field."""
    return Variation(dict(values), _with(job, values))


def num_combinations(sweep: Mapping[str, Values]) -> float:
    """How many settings there are; infinite with a range."""
    sizes = [math.inf if isinstance(values, LogRange) else len(values) for values in sweep.values()]
    return math.prod(sizes)


def _grid(sweep: Mapping[str, Values]) -> list[dict[str, Any]]:
    lists = []
    for field, values in sweep.items():
        if isinstance(values, LogRange):
            raise ConfigError(f"--sweep {field}: a range has no end of values", fix="--sweep-samples 16 draws 16")
        lists.append(values)
    return [dict(zip(sweep, one, strict=True)) for one in itertools.product(*lists)]


def _drawn(sweep: Mapping[str, Values], num_samples: int, seed: int) -> list[dict[str, Any]]:
    """Distinct random settings; where the values are a small grid, a sample of it."""
    source = random.Random(seed)
    if not any(isinstance(values, LogRange) for values in sweep.values()):
        grid = _grid(sweep)
        return source.sample(grid, min(num_samples, len(grid)))
    found: list[dict[str, Any]] = []
    for _ in range(100 * num_samples):
        one = {name: v.drawn(source) if isinstance(v, LogRange) else source.choice(v) for name, v in sweep.items()}
        if one not in found:
            found.append(one)
        if len(found) == num_samples:
            break
    return found


def _with(job: JobConfig, values: Mapping[str, Any]) -> JobConfig:
    tree = job.model_dump(mode="json")
    for name, value in values.items():
        *parents, last = name.split(".")
        node = tree
        for parent in parents:
            node = node[parent]
        node[last] = list(value) if isinstance(value, tuple) else value
    try:
        return JobConfig.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        shown = ", ".join(f"{name}={value}" for name, value in values.items())
        message = first["msg"].removeprefix("Value error, ")
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"--sweep {shown}: {place}: {message}", fix="foretune config schema") from None
