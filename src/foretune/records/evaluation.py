"""`evaluation.json` and `answers.jsonl`: the systems on the same samples, and the verdict."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from foretune.records.base import Record

__all__ = [
    "ANSWERS_FILE",
    "Answer",
    "Delta",
    "EvaluationRecord",
    "MetricValue",
    "NoisyScore",
    "SkillScore",
    "SystemResult",
    "Verdict",
]

ANSWERS_FILE = "answers.jsonl"
Verdict = Literal["better", "not_better", "worse", "inconclusive"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MetricValue(_Part):
    """A metric over samples with its 95 % interval; fractions in 0..1."""

    value: float
    ci_low: float
    ci_high: float
    n: int
    method: str


class Delta(_Part):
    """Candidate minus baseline on the same samples."""

    value: float
    ci_low: float
    ci_high: float
    p_value: float
    method: str


class SystemResult(_Part):
    """One system on the test samples. `prompt` is how it was asked."""

    name: str  # base_zero_shot, base_few_shot, constant (no model: one answer to everything), fine_tuned
    prompt: str
    num_shots: int = 0
    metrics: dict[str, MetricValue]
    seconds: float
    generated_tokens: int = 0


class SkillScore(_Part):
    """One general skill before and after fine-tuning: exact match, or perplexity for other models."""

    skill: str
    metric: str
    before: float
    after: float
    n: int
    ci_low: float  # interval of after - before
    ci_high: float
    p_value: float | None = None  # of the paired test, not corrected for the number of skills


class NoisyScore(_Part):
    """One system on the test samples and on their noisy twins: typing errors, abbreviations, a casual tone."""

    system: str
    metric: str
    clean: float
    noisy: float
    n: int
    ci_low: float  # interval of noisy - clean
    ci_high: float
    p_value: float


class Answer(_Part):
    """One line of `answers.jsonl`."""

    sample_id: str
    system: str
    place: str
    messages: tuple[dict[str, str], ...]
    prediction: str
    expected: str
    scores: dict[str, float]


class EvaluationRecord(Record):
    """The verdict compares the fine-tuned model with the best of the others on validation, on the primary metric alone.

    Those are the base without examples, the base with its best prompt, and the most frequent answer given to all.
    """

    file_name: ClassVar[str] = "evaluation.json"
    run_id: str
    dataset_version: str
    split: str
    look: int  # how many times this test split has been opened
    primary_metric: str
    n: int
    systems: tuple[SystemResult, ...]
    baseline: str
    candidate: str
    delta: Delta
    smallest_visible_difference: float
    n_needed: int | None
    margin: float
    verdict: Verdict
    reason: str
    prompt_choices: tuple[dict[str, Any], ...] = ()  # every prompt tried on validation with its score
    general_skills: tuple[SkillScore, ...] = ()
    noisy: tuple[NoisyScore, ...] = ()  # where data.advanced.noisy_test asked for it
    confusion: dict[str, Any] | None = None  # {labels, counts} of the candidate, for classification
    exact_match_rate: float | None = None
    human_eval_queue: int = 0  # answers waiting for a person's rating
    warnings: tuple[str, ...] = ()

    @property
    def confidence_percent(self) -> float:
        """Confidence of the interval of `delta`: 95 at the first look at the test split, 100 - 5 / k at the k-th."""
        return round(100.0 - 5.0 / max(1, self.look), 2)

    def system(self, name: str) -> SystemResult:
        """The result of the system called `name`."""
        return next(system for system in self.systems if system.name == name)
