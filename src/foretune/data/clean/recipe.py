"""A recipe: ordered, parameterised steps with a seed; written as TOML, read back the same, hashed for the record."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from foretune.config.write import toml_value
from foretune.errors import ConfigError, NotFound
from foretune.records.audit import Finding
from foretune.records.base import write_atomically

__all__ = ["Recipe", "Step", "read_recipe", "recipe_from_findings", "recipe_toml", "write_recipe"]

FORMAT = 1
# What mends a finding better than dropping its rows. Other findings with rows drop them from training.
MENDS: dict[str, tuple[str, dict[str, Any]]] = {
    "DATA010": ("drop_equal", {}),
    "DATA011": ("drop_near", {}),
    "DATA041": ("rename_keys", {}),
    "DATA047": ("normalise", {}),
    "DATA051": ("strip_html", {}),
    "DATA053": ("normalise", {}),
}


class Step(BaseModel):
    """One step by name; `params` are its parameters, `splits` where it works (none named: its own choice)."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    do: str
    params: dict[str, Any] = Field(default_factory=dict)
    splits: tuple[str, ...] = ()
    why: str = ""


class Recipe(BaseModel):
    """Steps in order. The same recipe on the same version gives the same new version."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: int = FORMAT
    seed: int = 0
    steps: tuple[Step, ...] = ()

    @property
    def hash(self) -> str:
        """SHA-256 (first 16 hex digits) of what the recipe does; reasons do not count."""
        plain = [[step.do, step.params, list(step.splits)] for step in self.steps]
        text = json.dumps([self.seed, plain], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def recipe_from_findings(findings: Iterable[Finding], *, accepted: Iterable[str] = (), seed: int = 0) -> Recipe:
    """The recipe that mends the accepted findings (by id; none named: all that are not mere information).

    A finding that has a mend gets it; other findings drop the rows they list from training, never from held-out
    splits. Findings without listed rows make no step. Raises ConfigError for an accepted id that was not found.
    """
    listed = list(findings)
    wanted = set(accepted) or {finding.id for finding in listed if finding.severity != "info"}
    unknown = sorted(wanted - {finding.id for finding in listed})
    if unknown:
        have = ", ".join(sorted({finding.id for finding in listed})) or "none"
        raise ConfigError(f"no finding {unknown[0]} in this audit, expected one of {have}", fix="foretune audit")
    steps: dict[str, Step] = {}
    dropped: list[Step] = []
    for finding in sorted(listed, key=lambda finding: finding.id):
        if finding.id not in wanted:
            continue
        why = f"{finding.id} {finding.title}"
        if finding.id in MENDS:
            name, params = MENDS[finding.id]
            steps.setdefault(name, Step(do=name, params=params, why=why))
        elif finding.sample_ids:
            dropped.append(Step(do="drop_ids", params={"ids": list(finding.sample_ids)}, why=why))
    mends = sorted(steps.values(), key=lambda step: step.do.startswith("drop_"))
    return Recipe(seed=seed, steps=(*dropped, *mends))


def read_recipe(path: str | Path) -> Recipe:
    """Read a recipe. Raises NotFound, and ConfigError with the line or the key that is wrong."""
    file = Path(path)
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotFound(f"no recipe {file}", fix="foretune data recipe RUN --out clean.toml") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not valid TOML: {error}", fix="texts stand in double quotes") from None
    steps = values.pop("step", [])
    try:
        return Recipe.model_validate({**values, "steps": [_step(step) for step in steps]})
    except (ValidationError, AttributeError, TypeError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": ("step",), "msg": "not a table"}
        place = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{file}: {place}: {first['msg']}", fix='a step is [[step]] with do = "NAME"') from None


def _step(values: Mapping[str, Any]) -> dict[str, Any]:
    """A step of the file: every key but `do`, `splits` and `why` is a parameter."""
    known = {key: values[key] for key in ("do", "splits", "why") if key in values}
    return {**known, "params": {key: value for key, value in values.items() if key not in known}}


def recipe_toml(recipe: Recipe) -> str:
    """The recipe as TOML that reads back to an equal recipe."""
    lines = [f"format = {recipe.format}", f"seed = {recipe.seed}"]
    for step in recipe.steps:
        lines += ["", "[[step]]", f"do = {toml_value(step.do)}"]
        lines += [f"{name} = {toml_value(list(getattr(step, name)))}" for name in ("splits",) if step.splits]
        lines += [f"why = {toml_value(step.why)}"] if step.why else []
        lines += [f"{json.dumps(name)} = {_value(value)}" for name, value in step.params.items()]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    if not isinstance(value, Mapping):
        return toml_value(value)
    pairs = (f"{json.dumps(str(key), ensure_ascii=False)} = {_value(item)}" for key, item in value.items())
    return "{" + ", ".join(pairs) + "}"


def write_recipe(recipe: Recipe, path: str | Path) -> Path:
    """Write the recipe as TOML."""
    target = Path(path)
    write_atomically(target, recipe_toml(recipe))
    return target
