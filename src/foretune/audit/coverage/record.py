"""`coverage.json`: what production asks for, how much of it training holds, and what is missing."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from foretune.audit.coverage.tone import Compared
from foretune.records.base import Record

__all__ = ["CoverageRecord", "MapPoint", "Topic"]


class Topic(BaseModel):
    """One slice or cluster: its shares in 0..1, and how many training rows would bring it to its production share.

    `typical` are production texts from its middle, `farthest` those least like any training row: what to collect first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    kind: Literal["slice", "cluster", "language"]
    status: Literal["ok", "weak", "missing", "unused"]
    num_train: int
    num_production: int
    train_share: float
    production_share: float
    p_value: float
    needed: int = 0
    typical: tuple[str, ...] = ()
    farthest: tuple[str, ...] = ()

    @property
    def is_gap(self) -> bool:
        """Whether training holds too little of it."""
        return self.status in ("weak", "missing")


class MapPoint(BaseModel):
    """One row on the two-dimensional map; `topic` counts the cluster topics of the record from 0."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    x: float
    y: float
    side: Literal["train", "production"]
    topic: int
    text: str


class CoverageRecord(Record):
    """Training against a sample of production. `embedder` is the model or method that the clusters rest on.

    `shift_p_value` is of the two-sample test on all vectors; `num_strange` production rows lie farther from training
    than 99 % of the training rows lie from each other, and `is_drifting` says whether chance explains them.
    """

    file_name: ClassVar[str] = "coverage.json"
    num_train: int
    num_production: int
    embedder: str
    topics: tuple[Topic, ...]
    length: Compared
    formality: Compared
    shift_statistic: float = 0.0
    shift_p_value: float = 1.0
    num_strange: int = 0
    is_drifting: bool = False
    drift_p_value: float = 1.0
    points: tuple[MapPoint, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def gaps(self) -> tuple[Topic, ...]:
        """The topics that training holds too little of, the largest share gap first."""
        found = [topic for topic in self.topics if topic.is_gap]
        return tuple(sorted(found, key=lambda topic: topic.train_share - topic.production_share))
