"""`reworded.json`: whether training samples are still answered in other words, held against validation samples."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from foretune.records.base import Record

__all__ = ["REWORDED_ANSWERS", "Finding", "RewordedRecord", "RewordedSplit", "Surplus"]

Finding = Literal["by_heart", "even", "unclear"]
REWORDED_ANSWERS = "reworded.jsonl"  # in a run folder: every input both ways, with both answers


class RewordedSplit(BaseModel):
    """The primary metric on the same `n` samples, as they were seen and reworded; `fall` with its 95 % interval.

    Few samples are reworded several times each, `num_wordings` in all, averaged within the sample. Beside them there
    are `num_unchanged` samples that no other words were found for; they are left out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    seen: float
    reworded: float
    fall: float
    ci_low: float
    ci_high: float
    n: int
    num_wordings: int
    num_unchanged: int


class Surplus(BaseModel):
    """How much further training samples fall than validation's, with its 95 % interval."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    value: float
    ci_low: float
    ci_high: float


class RewordedRecord(Record):
    """The fine-tuned model's answers to inputs as seen and in other words; the test split stays sealed.

    `by` is "rules" or the model that reworded; `finding` by_heart: training samples are proven to fall further; even:
    they are proven not to, beyond what matters; unclear: neither. `key` names what the answers depend on.
    """

    file_name: ClassVar[str] = "reworded.json"
    run_id: str
    primary_metric: str
    by: str
    key: str
    artefact_sha256: dict[str, str]
    train: RewordedSplit
    validation: RewordedSplit
    surplus: Surplus
    finding: Finding
    reason: str
    seconds: float
    warnings: tuple[str, ...] = ()
