"""`cross_fit.json`: a verdict for few data, on samples that were each scored once by a model that did not see them."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from foretune.records.base import Record
from foretune.records.evaluation import Delta, MetricValue, Verdict

__all__ = ["CrossFitRecord", "Fold"]


class Fold(BaseModel):
    """One part of the training split: a run trained on the others, and both systems' scores of this one."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    run_id: str
    num_trained_on: int
    n: int
    baseline: float | None  # None where no sample of the part has a score
    candidate: float | None


class CrossFitRecord(Record):
    """Training by this job on (K-1)/K of the samples against the best prompt; the test split stays sealed."""

    file_name: ClassVar[str] = "cross_fit.json"
    run_id: str
    metric: str
    n: int
    num_folds: int
    baseline: str  # base_zero_shot, base_few_shot, base_retrieval or constant: the best on validation
    baseline_score: MetricValue
    candidate_score: MetricValue
    delta: Delta
    smallest_visible_difference: float
    n_needed: int | None
    margin: float
    verdict: Verdict
    reason: str
    folds: tuple[Fold, ...]
    warnings: tuple[str, ...] = ()
