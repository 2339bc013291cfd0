"""A job as settings by dotted name, and its paths rewritten for another folder."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foretune.config.job import JobConfig
from foretune.config.read import field_names

__all__ = ["PATH_FIELDS", "moved_paths", "settings_of", "with_settings"]

DATA_FILES = ("path", "validation_path", "test_path", "production_path", "mix_path")
PATH_FIELDS = (
    *("base", "data.advanced.outdated_terms", *(f"data.{name}" for name in DATA_FILES)),
    *("evaluate.json_schema", "evaluate.documents"),
)


def settings_of(job: Mapping[str, Any]) -> dict[str, Any]:
    """A job's values by dotted name, every field; those that an earlier version did not have get their defaults."""
    flat, whole = {}, JobConfig.model_validate(job).model_dump(mode="json")
    for name in field_names():
        value: Any = whole
        for part in name.split("."):
            value = value[part]
        flat[name] = value
    return flat


def moved_paths(settings: Mapping[str, Any], folder: Path, target: Path) -> dict[str, Any]:
    """The settings with relative paths that are there in `folder` written so that they mean the same from `target`."""
    moved = dict(settings)
    for name in PATH_FIELDS:
        value = moved[name]
        if value and not Path(value).is_absolute() and (folder / value).exists():
            moved[name] = os.path.relpath(folder / value, target.resolve())
    return moved


def with_settings(job: JobConfig, settings: Mapping[str, Any]) -> JobConfig:
    """The job with dotted fields replaced and validated again. Raises pydantic's ValidationError for a wrong value."""
    tree = job.model_dump()
    for name, value in settings.items():
        *path, last = name.split(".")
        place = tree
        for part in path:
            place = place[part]
        place[last] = value
    return JobConfig.model_validate(tree)
