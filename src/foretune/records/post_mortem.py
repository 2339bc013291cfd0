"""`post_mortem.json`: why a run ended before its end, what shows it, and settings with which it would have gone on."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from foretune.records.base import Record

__all__ = ["FailureCause", "PostMortemRecord"]

FailureCause = Literal[
    "out_of_memory",
    "killed",
    "disk_full",
    "diverged",
    "data",
    "config",
    "locked",
    "interrupted",
    "damaged_checkpoint",
    "missing_package",
    "fault",
]


class PostMortemRecord(Record):
    """One failed run. `patch` are dotted settings; empty where no setting would mend it."""

    file_name: ClassVar[str] = "post_mortem.json"
    run_id: str
    cause: FailureCause
    certainty: Literal["certain", "likely"]
    title: str
    explanation: str
    evidence: tuple[str, ...]
    fixes: tuple[str, ...]
    patch: dict[str, Any] = Field(default_factory=dict)
    last_step: int = 0
    planned_steps: int = 0
    last_checkpoint_step: int | None = None
    can_resume: bool = False

    @property
    def lost_steps(self) -> int:
        """Steps that a resumed run has to do again."""
        return self.last_step - (self.last_checkpoint_step or 0)
