"""`evidence.json`: what a finished run's data and models show when probed, measured once and read by `diagnose`."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from foretune.records.base import Record

__all__ = [
    "AlikeEvidence",
    "EndEvidence",
    "EvidenceRecord",
    "FitEvidence",
    "LanguageEvidence",
    "OverlapEvidence",
    "PromptEvidence",
    "RowEvidence",
    "SampleLoss",
    "Score",
    "ShapeEvidence",
    "ShiftEvidence",
    "TailShare",
    "TemplateLoss",
]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Score(_Part):
    """A mean over `n` samples with its 95 % interval; fractions in 0..1, losses in nats per token."""

    value: float
    ci_low: float
    ci_high: float
    n: int


class RowEvidence(_Part):
    """The rows that training really saw (token ids and loss mask), and the samples they came from."""

    num_rows: int
    supervised_fraction: float  # tokens that carry loss
    ended_fraction: float  # rows whose last trained token ends the answer
    truncated_fraction: float  # rows whose target was cut
    duplicate_fraction: float  # samples that repeat an earlier one (input and target)
    largest_duplicate_fraction: float  # share of the largest group of equal samples
    conflicting_fraction: float  # samples whose equal input has another target elsewhere
    num_distinct: int
    prompt_supervised_fraction: float = 0.0  # rows whose prompt carries loss


class SampleLoss(_Part):
    """One sample's target under base and fine-tuned model, in nats per token, and whether the answer was right."""

    sample_id: str
    split: Literal["train", "validation"]
    base_nats: float
    tuned_nats: float
    score: float | None = None  # the primary metric of the fine-tuned model's answer
    base_nats_last: float | None = None  # of the last tenth of the target, at least one token
    tuned_nats_last: float | None = None
    given_others: float | None = None  # tuned nats of this target after other samples' inputs, their mean


class TailShare(_Part):
    """The dearest pairings of a target with another sample's input, and the targets that cost as much after their own.

    Their ratio is the share of targets that fit their own input no better than another's, as this tail tells it.
    """

    level: float  # the share of the pairings that was aimed at
    pairings_fraction: float
    targets_fraction: float


class FitEvidence(_Part):
    """How the targets of one split fit their own inputs, beside how they fit the inputs of others.

    `cheaper_fraction` is the share of pairings with other inputs that fit better than the median target fits its own.
    """

    split: Literal["train", "validation"]
    n: int
    num_pairings: int
    cheaper_fraction: float
    tails: tuple[TailShare, ...]


class TemplateLoss(_Part):
    """Mean loss of validation targets under one way of writing the prompt."""

    name: Literal["training", "serving", "tokenizer", "plain"]
    template_sha256: str
    nats: float
    n: int


class EndEvidence(_Part):
    """Whether the fine-tuned model stops: P(end token | whole reference), and generations that ended by themselves."""

    p_end: Score
    base_p_end: float
    ended_fraction: Score
    length_ratio: float  # median generated tokens over median target tokens
    runs_past_target_fraction: float  # answers that begin with the whole target and go on
    validation_longer: Score | None = None  # chance that a validation target has more tokens than a training target


class PromptEvidence(_Part):
    """Loss of the prompt's own tokens before and after: falls where prompts were trained on."""

    base_nats: float
    tuned_nats: float
    n: int


class ShapeEvidence(_Part):
    """Form against content of the fine-tuned model's answers on validation.

    `form` is the share of answers that look like targets (same JSON keys, same frame of words, same kind of value),
    `content_given_form` the primary metric on those, `shuffled` the same against other samples' targets.
    """

    form: Score
    base_form: float
    content_given_form: Score
    shuffled: float
    base_content: float  # of the base with its best prompt: whether the content can be known at all


class AlikeEvidence(_Part):
    """How many test inputs lie near a training row with the same answer, beside validation inputs, which should not.

    Inputs count as alike from `similarity` on (weighted words in common, 0..1): where test and validation differ most.
    """

    similarity: float
    num_test: int
    num_alike: int
    num_validation: int
    num_alike_validation: int
    by_chance: float  # share that would be alike by how alike test inputs are among themselves, lower end
    score_alike: Score | None = None  # primary metric on those
    score_other: Score | None = None  # on the other test and validation inputs
    train_ids: tuple[str, ...] = ()  # training rows that test inputs are like, where these are more than validation's


class OverlapEvidence(_Part):
    """Held-out samples that training saw."""

    num_test: int
    num_exact: int  # equal input after normalisation
    num_near: int  # near-duplicate input, exact ones included
    score_seen: Score | None  # primary metric on those
    score_clean: Score | None
    alike: AlikeEvidence | None = None  # None: no validation inputs to compare with


class ShiftEvidence(_Part):
    """A sample of production against the training inputs; None anywhere it was not given."""

    num_production: int
    auc: Score  # of a classifier that tells them apart, out of fold
    mmd_p_value: float
    uncovered_fraction: Score  # production inputs farther from training than 95 % of held-out training inputs
    score_production: Score | None  # primary metric, where production has targets
    score_test: Score | None
    worst_places: tuple[str, ...] = ()
    nats_production: Score | None = None  # of production's targets, where it has them, per token
    nats_validation: Score | None = None  # of validation's targets, by the same model


class LanguageEvidence(_Part):
    """One language: its share of the training data and of what is asked, and general skills in it before and after."""

    language: str
    train_fraction: float
    asked_fraction: float
    base_score: float | None
    tuned_score: float | None
    n: int
    p_value: float | None = None


class EvidenceRecord(Record):
    """Probes of a run. A part that could not be measured is None, with the reason in `not_measured`."""

    file_name: ClassVar[str] = "evidence.json"
    run_id: str
    primary_metric: str
    num_train_samples: int
    seconds: float
    rows: RowEvidence | None = None
    losses: tuple[SampleLoss, ...] = ()
    fits: tuple[FitEvidence, ...] = ()
    word_fit: FitEvidence | None = None  # of training targets, by the words of other pairs, without a model
    train_score: Score | None = None  # primary metric on a sample of the training data, fine-tuned model
    validation_score: Score | None = None
    base_validation_score: Score | None = None  # base with its best prompt
    chance_score: float | None = None  # primary metric of shuffled targets
    templates: tuple[TemplateLoss, ...] = ()
    end: EndEvidence | None = None
    prompt: PromptEvidence | None = None
    shape: ShapeEvidence | None = None
    overlap: OverlapEvidence | None = None
    shift: ShiftEvidence | None = None
    languages: tuple[LanguageEvidence, ...] = ()
    tokens_per_character: float | None = None  # of the training texts under this tokenizer
    base_input_nats: float | None = None  # loss of the base on the training inputs, per token
    uniform_nats: float | None = None  # the loss of a model that knows nothing: log of the vocabulary in use
    whole_validation_nats: float | None = None  # by the measure of training's own validation loss, rows uncut
    unended_validation_nats: float | None = None  # the same without the tokens that end answers
    not_measured: dict[str, str] = Field(default_factory=dict)
