"""`failures.json` and `failures.jsonl`: the prompted base on validation samples, and why it fails where it fails."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from foretune.records.base import Record
from foretune.records.evaluation import MetricValue

__all__ = ["FAILURES_FILE", "ContextSource", "FailedSample", "FailureKind", "FailuresRecord", "Share"]

FAILURES_FILE = "failures.jsonl"
FailureKind = Literal["format", "knowledge", "behaviour"]
ContextSource = Literal["field", "documents", "examples", "none"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Share(_Part):
    """A share of what the prompted base loses, or a difference of scores, with its 95 % interval."""

    value: float
    ci_low: float
    ci_high: float


class FailedSample(_Part):
    """One line of `failures.jsonl`: a failed sample, asked again in each way, and the kind of its failure.

    Scores are those of the primary metric; `as_format` of the answer read leniently or asked for with the format
    stated, whichever is better; None where a way was not tried.
    """

    sample_id: str
    input: str
    expected: str
    answer: str
    score: float
    lenient_score: float
    format_answer: str = ""
    as_format: float | None = None
    context_answer: str = ""
    with_context: float | None = None
    placebo_answer: str = ""
    with_placebo: float | None = None
    kind: FailureKind


class FailuresRecord(Record):
    """The best prompt of the base on validation samples (gate 1), and the kinds of its failures (gate 2).

    Shares are of the score that is lost; they add up to 1. A share is what its remedy mends less what any other change
    of the prompt mends by chance (`placebo`). `sample_scores` pairs them with what a trained model scores. The test
    split stays sealed. `format` and `knowledge` are None where nothing failed or the remedy could not be tried.
    """

    file_name: ClassVar[str] = "failures.json"
    run_id: str
    base: str
    dataset_version: str
    metric: str
    prompt: str
    prompt_description: str
    num_prompts_tried: int
    num_chosen_on: int  # samples that the prompt was chosen on; they are not scored where enough others are left
    baseline: MetricValue
    num_failures: int
    knowledge: Share | None
    format: Share | None
    behaviour: Share | None
    placebo: Share | None
    context_source: ContextSource
    retrieval: MetricValue | None = None  # the base with passages that it looked up itself, on the same samples
    retrieval_gain: Share | None = None  # over the baseline
    sample_scores: dict[str, float] = Field(default_factory=dict)
    tuned_left: Share | None = None  # of all samples: what a trained model fails and the right facts mend
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
