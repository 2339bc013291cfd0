"""`parity.json`: is what lies on the disk the model that was trained, and does it differ from the base at all?"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from foretune.records.base import Record

__all__ = ["FormParity", "ParityRecord"]


class FormParity(BaseModel):
    """One form of the artefact against the trained model in memory, on the same tokens.

    KL is of the next-token (or class) distributions, nats, trained against the form. `greedy_agreement` is the share of
    positions of the trained model's own greedy answers where both choose the same token; 1 means equal answers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    form: str  # reloaded, merged, int8
    max_kl_nats: float
    mean_kl_nats: float
    greedy_agreement: float
    bound_nats: float  # of max_kl_nats, for int8 of mean_kl_nats
    holds: bool
    is_required: bool = True


class ParityRecord(Record):
    """The parity gate after training. `base_max_kl_nats` is how far the trained model is from its base."""

    file_name: ClassVar[str] = "parity.json"
    artefact: str
    num_prompts: int
    num_positions: int
    is_active: bool | None  # None: there is no base to differ from
    base_max_kl_nats: float | None
    base_max_logit_change: float | None
    forms: tuple[FormParity, ...]
    template_sha256: str
    is_template_equal: bool  # the same text for the same conversations
    special_ids: dict[str, tuple[int, ...]] = Field(default_factory=dict)
    are_special_ids_equal: bool = True
    is_finite: bool = True
    seconds: float = 0.0
    not_checked: dict[str, str] = Field(default_factory=dict)  # form -> why not
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether the artefact may be used."""
        return not self.problems
