"""`procedure.json`: should we fine-tune at all, gate by gate, with the measurements that each rests on."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from foretune.records.base import Record

__all__ = ["ACTIONS", "Action", "Curve", "Gain", "Gate", "Kinds", "Measurements", "ProcedureRecord", "Rate", "Stakes"]

Action = Literal[
    "prompt",
    "constrained decoding",
    "RAG",
    "fine-tune",
    "fine-tune + RAG",
    "collect data first",
    "do not automate",
]
ACTIONS: tuple[Action, ...] = (
    "prompt",
    "constrained decoding",
    "RAG",
    "fine-tune",
    "fine-tune + RAG",
    "collect data first",
    "do not automate",
)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class Rate(_Part):
    """A score of 0 to 1 over `n` samples with its 95 % interval."""

    value: float = Field(ge=0, le=1)
    n: int = Field(ge=1)
    low: float = Field(ge=0, le=1)
    high: float = Field(ge=0, le=1)


class Gain(_Part):
    """A difference of two scores on the same samples with its 95 % interval."""

    value: float
    low: float
    high: float


class Kinds(_Part):
    """Shares of the score that the prompted base loses: mended by facts, by a stated format, by neither.

    `num_failures` samples were asked again. `left_to_context`: the share of all samples that training does not mend
    and the right facts do; None where no model was trained.
    """

    num_failures: int
    knowledge: float | None
    format: float | None
    behaviour: float | None
    left_to_context: float | None = None


class Curve(_Part):
    """The learning curve: its largest part, the gain of the last doubling, and what twice the data should give."""

    num_samples: int
    full_score: float
    doubling_gain: float
    gain_low: float
    gain_high: float
    answer: Literal["helps", "flat", "unclear"]
    predicted: float
    predicted_low: float
    predicted_high: float
    samples_for_margin: int | None = None


class Stakes(_Part):
    """What right and wrong answers are worth and what each way costs, in dollars; one-off costs fall before the start.

    `value_per_success_usd` is what a right answer saves or earns against how it is done today, and
    `cost_per_failure_usd` what a wrong one loses; with both 0, only costs are compared.
    """

    value_per_success_usd: float = Field(0.0, ge=0, description="What a right answer saves or earns.")
    cost_per_failure_usd: float = Field(0.0, ge=0, description="What a wrong answer loses.")
    queries_per_month: float = Field(0.0, ge=0, description="Traffic; [money] says it too.")
    usd_per_query: float = Field(0.0, ge=0, description="Cost of a query to the prompted base.")
    rag_usd_per_query: float | None = Field(None, ge=0, description="Cost of a query with retrieval.")
    tuned_usd_per_query: float | None = Field(None, ge=0, description="Cost of a query to the tuned model.")
    hosting_usd_per_month: float = Field(0.0, ge=0, description="Hosting of the tuned model.")
    constrained_setup_usd: float = Field(0.0, ge=0, description="Work on constrained decoding.")
    rag_setup_usd: float = Field(0.0, ge=0, description="Work on retrieval.")
    training_usd: float = Field(0.0, ge=0, description="A training; the forecast fills it.")
    people_usd: float = Field(0.0, ge=0, description="Work on data, evaluation and deployment of a tuned model.")
    label_usd_per_item: float = Field(0.0, ge=0, description="A further label.")
    life_months: float = Field(12.0, gt=0, description="How long the system will serve.")
    max_payback_days: float = Field(180.0, gt=0, description="Training must have paid back by then.")
    retrain_every_days: float = Field(0.0, ge=0, description="How often it must be trained anew; 0 = never.")


class Measurements(_Part):
    """All that the procedure looks at; None is not measured, and nothing is guessed in its place."""

    num_labelled: int | None = None  # labelled samples to measure with: validation and test
    num_test: int | None = None  # samples that the verdict will rest on
    num_train: int | None = None
    human_agreement: float | None = None  # Krippendorff's alpha
    target: float | None = None
    ceiling: float | None = None
    prompted: Rate | None = None
    kinds: Kinds | None = None
    format_gain: Gain | None = None
    retrieval_gain: Gain | None = None  # of retrieval as it really finds, not of the right facts
    tuned: Rate | None = None
    tuned_gain: Gain | None = None
    curve: Curve | None = None
    stakes: Stakes | None = None


class Gate(_Part):
    """One gate: what it asks, what it found, the numbers it rests on, and the command that measures what is missing.

    A gate that stops names the `action` to take instead of training.
    """

    name: Literal["measurable", "prompted baseline", "kind of failure", "learning curve", "money"]
    question: str
    status: Literal["pass", "stop", "unknown"]
    numbers: dict[str, float | None]
    sentence: str
    action: Action | None = None
    command: str = ""


class ProcedureRecord(Record):
    """The gates in order, and the action that follows; `action` is None until what decides has been measured.

    `numbers` are the three that decided; `pre_mortem` says which results would change the answer. `expected` holds the
    score of each action, measured or carried on from measurements, and `required_gain` what each must gain to be worth
    it: points of score over the prompt.
    """

    file_name: ClassVar[str] = "procedure.json"
    created: str
    foretune_version: str
    run_id: str = ""
    base: str = ""
    dataset_version: str = ""
    metric: str = ""
    measurements: Measurements
    gates: tuple[Gate, ...]
    action: Action | None
    stopped_at: str = ""
    sentence: str
    numbers: dict[str, float | None]
    pre_mortem: tuple[str, ...]
    expected: dict[str, float] = Field(default_factory=dict)
    required_gain: dict[str, float] = Field(default_factory=dict)
    next_command: str = ""

    @property
    def stops_training(self) -> bool:
        """Whether the answer is settled and is not to train now."""
        return self.action is not None and not self.action.startswith("fine-tune")
