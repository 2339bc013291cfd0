"""`learning_curve.json`: the score after training on parts of the data, and what more of it would give."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from foretune.records.base import Record

__all__ = ["CurvePart", "LearningCurveRecord"]


class CurvePart(BaseModel):
    """One part of the training split; parts are nested, each holds the smaller ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    share: float
    num_samples: int
    score: float
    ci_low: float
    ci_high: float
    n: int  # validation samples
    run_id: str


class LearningCurveRecord(Record):
    """Scores on validation samples, the test split stays sealed. `answer`: whether more data would help.

    `last_doubling_gain` and `full_score`, of the largest part, are what plan's advice takes as measured
    (`[situation.measured] last_doubling_gain`, `fine_tuned`). `predicted_score` is for twice its data, with a band of
    at least 5 points. `stopped_early`: the parts that were trained settle it, the others were not trained; where the
    last part is not all of the data, all of it could not gain the margin over the prompted base.
    """

    file_name: ClassVar[str] = "learning_curve.json"
    run_id: str
    metric: str
    parts: tuple[CurvePart, ...]
    answer: Literal["helps", "flat", "unclear"]
    last_doubling_gain: float
    gain_low: float
    gain_high: float
    full_score: float
    predicted_score: float
    predicted_low: float
    predicted_high: float
    samples_for_margin: int | None
    margin: float
    prompted_score: float | None = None  # of the best prompt on validation, where an evaluation measured it
    stopped_early: bool = False
    advice: str
    sample_scores: dict[str, float] = Field(default_factory=dict)  # of the model of the largest part, by sample id
    warnings: tuple[str, ...] = ()
