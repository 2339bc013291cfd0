"""`diagnosis.json`: which failure modes the evidence shows, root causes first, each with what mends it."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from foretune.records.base import Record

__all__ = ["Cause", "DataStep", "DiagnosisRecord", "Mode"]

Mode = Literal[
    "overfitting",
    "underfitting",
    "learning_rate_too_high",
    "learning_rate_too_low",
    "forgetting",
    "diverged",
    "template_mismatch",
    "truncated_targets",
    "missing_end",
    "loss_on_prompt",
    "duplicates",
    "leakage",
    "label_noise",
    "unrelated_targets",
    "style_without_substance",
    "distribution_shift",
    "too_little_data",
    "wrong_base",
    "language_loss",
]


STEP_SENTENCES = {
    "drop_equal": "Training rows that repeat another one are dropped.",
    "drop_copies": "Training rows that stand in validation or test too are dropped.",
    "drop_odd": "{num} listed training rows are dropped, or all that fit their input as badly.",
    "cut_answers": "Answers end where the input of another row begins in them.",
    "add_production": "Half of the labelled production rows join training.",
    "add_general": "General rows join training.",
}


class DataStep(BaseModel):
    """A change of the training rows that `--apply` makes in a copy.

    drop_equal: rows that repeat another one. drop_copies: rows that stand in validation or test too. drop_odd: the
    rows `ids`, or all whose target fits its input as badly. cut_answers: what follows in a target from where
    another row's input begins. add_production: half of the labelled rows of production. add_general: general rows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    do: Literal["drop_equal", "drop_copies", "drop_odd", "cut_answers", "add_production", "add_general"]
    ids: tuple[str, ...] = ()
    why: str = ""

    @property
    def sentence(self) -> str:
        """What it does, for people."""
        return STEP_SENTENCES[self.do].format(num=f"{len(self.ids):,}")


class Cause(BaseModel):
    """One failure mode: `statistic` is how strong it is (1 = at the threshold), `patch` dotted settings to change.

    `explained_by` names the causes that this one follows from; none of them: it is a root cause.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    mode: Mode
    statistic: float
    evidence: tuple[str, ...]
    explanation: str
    fixes: tuple[str, ...]
    patch: dict[str, Any]
    step: int | None = None
    data_steps: tuple[DataStep, ...] = ()
    explained_by: tuple[Mode, ...] = ()

    @property
    def is_root(self) -> bool:
        """Whether no other cause explains this one."""
        return not self.explained_by

    @property
    def can_apply(self) -> bool:
        """Whether `--apply` changes anything."""
        return bool(self.patch or self.data_steps)


class DiagnosisRecord(Record):
    """Root causes first, of data and setup before learning; no causes means: nothing found in what was checked."""

    file_name: ClassVar[str] = "diagnosis.json"
    run_id: str
    causes: tuple[Cause, ...]
    checked: tuple[str, ...]
    not_checked: dict[str, str] = Field(default_factory=dict)  # mode -> what evidence was missing
    statistics: dict[str, float] = Field(default_factory=dict)  # mode -> how near its threshold (1), found or not
    without_settings: bool = False  # judged by behaviour alone: learning rate, epochs and token counts unseen

    @property
    def roots(self) -> tuple[Cause, ...]:
        """The causes that no other one explains."""
        return tuple(cause for cause in self.causes if cause.is_root)

    @property
    def first_to_apply(self) -> int:
        """The number, from 1, of the first cause with something for `--apply` to change; 0 if there is none."""
        return next((number for number, cause in enumerate(self.causes, start=1) if cause.can_apply), 0)
