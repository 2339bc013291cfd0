"""`audit.json`: what is wrong with the data, how badly, where, and what mends it."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from foretune.records.base import Record

__all__ = ["AuditRecord", "Finding", "TokenStats"]


class Finding(BaseModel):
    """One kind of fault found by one check; `places` are at most 20 examples of `count` rows.

    `certainty` is the share of flagged rows that are truly wrong, as measured; `effect` the share of the training rows
    that the finding spoils, by which findings are ranked; `sample_ids` at most 1,000 of the rows, for cleaning.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: str  # DATA012
    severity: Literal["info", "warning", "error"]
    title: str
    count: int
    places: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    fix: str = ""
    certainty: float = 1.0
    effect: float = 0.0
    sample_ids: tuple[str, ...] = ()


class TokenStats(BaseModel):
    """Sample lengths in tokens of the base model's tokenizer; fractions are of samples."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    mean: float
    p50: float
    p95: float
    max: int
    answer_mean: float
    answer_max: int
    truncated_fraction: float
    histogram: tuple[int, ...] = ()  # counts in 20 equal bins from 0 to max


class AuditRecord(Record):
    """All findings on one data set version, errors first."""

    file_name: ClassVar[str] = "audit.json"
    dataset_version: str
    num_samples: int
    findings: tuple[Finding, ...]
    tokens: dict[str, TokenStats] = Field(default_factory=dict)  # by split; empty without a tokenizer
    examples: tuple[str, ...] = ()  # a few samples as the model sees them, trained parts marked

    @property
    def num_errors(self) -> int:
        """How many findings stop the journey."""
        return sum(finding.severity == "error" for finding in self.findings)
