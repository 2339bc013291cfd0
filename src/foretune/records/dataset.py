"""`dataset.json`: which data, from where, in which splits, under which version hash."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from foretune.records.base import Record

__all__ = ["DatasetRecord", "DatasetSource", "SplitInfo"]


class DatasetSource(BaseModel):
    """One file that samples came from; `sha256` is of its bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    path: str
    sha256: str
    format: str
    num_rows: int
    licence: str = "unknown"


class SplitInfo(BaseModel):
    """Size and content hash of one split."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    num_samples: int
    sha256: str


class DatasetRecord(Record):
    """A data set version: the hash of its samples and of how they are split."""

    file_name: ClassVar[str] = "dataset.json"
    version: str
    task: str  # chat, classify or text
    sources: tuple[DatasetSource, ...]
    splits: dict[str, SplitInfo]  # train, validation, test
    labels: tuple[str, ...] = ()  # classes, sorted; only for task classify
    num_clusters: int = 0  # groups of near-duplicates or declared groups with more than one sample
    seed: int = 0
    warnings: tuple[str, ...] = ()
