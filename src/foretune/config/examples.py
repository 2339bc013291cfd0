"""Use cases that come without data: their goal, their metric and the settings that suit them."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import tomllib
from importlib import resources
from typing import Any, NamedTuple

from foretune.config.job import JobConfig
from foretune.config.write import job_toml

__all__ = ["Example", "example_job", "example_named", "examples"]


class Example(NamedTuple):
    """A use case: `like` is the template whose settings it starts from, `row` shows a row of its data."""

    name: str
    goal: str
    like: str
    why: str
    row: str
    settings: dict[str, Any]

    @property
    def metric(self) -> str:
        """The metric that decides."""
        return str(self.settings["evaluate.primary_metric"])


def examples() -> list[Example]:
    """Every use case that comes without data, in the order of the file."""
    text = (resources.files("foretune.config") / "examples.toml").read_text(encoding="utf-8")
    rows = tomllib.loads(text)["example"]
    return [Example(row["name"], row["goal"], row["like"], row["why"], row["row"], row["set"]) for row in rows]


def example_named(name: str) -> Example | None:
    """The use case of that name, None where there is none."""
    return next((example for example in examples() if example.name == name), None)


def example_job(example: Example) -> str:
    """The job file of a use case: its template's settings with its own, and what to put where."""
    text = (resources.files("foretune.config") / "templates" / f"{example.like}.toml").read_text(encoding="utf-8")
    job = tomllib.loads(text) | {"name": example.name}
    for name, value in {"data.path": f"data/{example.name}.jsonl", **example.settings}.items():
        *sections, field = name.split(".")
        place: dict[str, Any] = job
        for section in sections:
            place = place.setdefault(section, {})
        place[field] = value
    comment = f"{example.goal}\n{example.why}.\nYour rows go into data/{example.name}.jsonl, such as\n{example.row}"
    return job_toml(JobConfig.model_validate(job), comment=comment)
