"""`diagnosis.json`: which failure modes the evidence shows, strongest first, each with a setting that mends it."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from foretune.records.base import Record

__all__ = ["Cause", "DiagnosisRecord"]

Mode = Literal[
    "overfitting", "underfitting", "learning_rate_too_high", "learning_rate_too_low", "forgetting", "diverged"
]


class Cause(BaseModel):
    """One failure mode: `statistic` is how strong it is (1 = at the threshold), `patch` dotted settings to change."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    mode: Mode
    statistic: float
    evidence: tuple[str, ...]
    explanation: str
    fixes: tuple[str, ...]
    patch: dict[str, Any]
    step: int | None = None


class DiagnosisRecord(Record):
    """No causes means: nothing found."""

    file_name: ClassVar[str] = "diagnosis.json"
    run_id: str
    causes: tuple[Cause, ...]
    checked: tuple[str, ...]
    not_checked: dict[str, str] = Field(default_factory=dict)  # mode -> what evidence was missing
