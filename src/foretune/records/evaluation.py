"""`evaluation.json` and `answers.jsonl`: the systems on the same samples, and the verdict."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from foretune.records.base import Record

__all__ = [
    "ANSWERS_FILE",
    "Answer",
    "Criterion",
    "Delta",
    "EvaluationRecord",
    "JudgeResult",
    "MetricValue",
    "NoisyScore",
    "QuantisedGate",
    "SideClaim",
    "Similarity",
    "SkillScore",
    "SystemGap",
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

    # base_zero_shot, base_few_shot, base_retrieval, constant (no model: one answer to everything), fine_tuned,
    # fine_tuned_8bit, fine_tuned_4bit, endpoint:MODEL
    name: str
    prompt: str
    num_shots: int = 0
    metrics: dict[str, MetricValue]  # over the samples that it answered
    seconds: float
    generated_tokens: int = 0
    seconds_per_answer: float | None = None  # median
    cost_usd: float | None = None  # of all its answers; None where no price is known
    num_missing: int = 0  # samples without an answer, which are scored nowhere
    gap: str = ""  # why they are missing


class SystemGap(_Part):
    """A system that answered nothing, so that nothing is said of it."""

    system: str
    reason: str


class SideClaim(_Part):
    """The candidate against a system that does not decide, on the samples that both answered."""

    system: str
    metric: str
    n: int
    delta: Delta  # candidate minus system
    p_adjusted: float  # Holm over all such claims
    verdict: Verdict  # by the interval, and by p_adjusted


class QuantisedGate(_Part):
    """What fewer bits cost on the primary metric, and whether it stays within the gate."""

    system: str
    whole: float
    quantised: float
    loss_fraction: float  # of the whole model's metric
    allowed_fraction: float
    status: Literal["holds", "breached", "unproven"]
    n_needed: int | None = None
    reason: str


class Criterion(_Part):
    """Marks of 1 to 5 on one criterion of the rubric, for both systems."""

    name: str
    candidate: float
    baseline: float
    n: int


class JudgeResult(_Part):
    """What a model that judges says of candidate and baseline; it never decides.

    Each pair is asked in both orders; a win counts only where both orders agree, all else is a tie. `position_share`
    is how often the first shown won, of the decided ones: far from 0.5 the judge follows the order. `corrected` is the
    share of wins by the judge and `num_labels` human votes together (PPI++), None with fewer than 3.
    """

    model: str
    n: int
    wins: int
    losses: int
    ties: int
    num_missing: int
    inconsistent: int  # pairs whose winner changed with the order
    position_share: float | None
    preference: float  # (wins - losses) / n
    ci_low: float
    ci_high: float
    criteria: tuple[Criterion, ...] = ()
    num_labels: int = 0
    agreement: float | None = None  # Cohen's kappa with the human votes
    corrected: MetricValue | None = None
    cost_usd: float | None = None
    gap: str = ""


class Similarity(_Part):
    """Mean cosine of answers and targets, and of answers and the targets of other samples, which it must exceed."""

    embedder: str
    mean: float
    ci_low: float
    ci_high: float
    shuffled: float
    above_chance: float  # (mean - shuffled) / (1 - shuffled)


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
    scores: dict[str, float]  # without those that there is none of
    unscored: dict[str, str] = {}  # metrics that the user's own scorer gave no number for, and why
    seconds: float | None = None  # to answer; a batch's time is shared out evenly
    cost_usd: float | None = None


class EvaluationRecord(Record):
    """The verdict compares the fine-tuned model with the best of the others on validation, on the primary metric alone.

    Those are the base without examples, with its best prompt, with retrieval where there are documents, and the most
    frequent answer given to all. Endpoints and quantised variants are shown beside it (`claims`, `gates`).
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
    claims: tuple[SideClaim, ...] = ()
    gates: tuple[QuantisedGate, ...] = ()
    gaps: tuple[SystemGap, ...] = ()
    similarity: Similarity | None = None
    judge: JudgeResult | None = None
    warnings: tuple[str, ...] = ()

    @property
    def confidence_percent(self) -> float:
        """Confidence of the interval of `delta`: 95 at the first look at the test split, 100 - 5 / k at the k-th."""
        return round(100.0 - 5.0 / max(1, self.look), 2)

    @property
    def avg_similarity(self) -> float | None:
        """Mean cosine of the candidate's answers and the targets."""
        return None if self.similarity is None else self.similarity.mean

    def system(self, name: str) -> SystemResult:
        """The result of the system called `name`."""
        return next(system for system in self.systems if system.name == name)
