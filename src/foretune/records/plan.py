"""`plan.json`: what training will take in parameters, memory, time and money, and later what it took."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from foretune.records.base import Record

__all__ = ["Estimate", "PlanRecord", "Reconciliation"]


class Estimate(BaseModel):
    """A figure with the interval it should fall in nine times of ten."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    low: float
    expected: float
    high: float

    def holds(self, actual: float) -> bool:
        """Whether `actual` lies in the stated interval."""
        return self.low <= actual <= self.high


class PlanRecord(Record):
    """The prediction made before training. GB = 1e9 bytes; memory is the peak of one process."""

    file_name: ClassVar[str] = "plan.json"
    base: str
    method: str
    device: str
    total_parameters: int
    trainable_parameters: int
    num_train_samples: int
    num_train_tokens: int  # of one epoch, without padding
    num_steps: int
    micro_batch_size: int
    grad_accum_steps: int
    max_seq_len: int
    recomputes_activations: bool = False
    fits: bool
    available_memory_gb: float
    peak_memory_gb: Estimate
    memory_components: dict[str, float]  # bytes
    train_seconds: Estimate
    total_seconds: Estimate  # with loading, validation, saving and evaluation
    tokens_per_second: Estimate
    cost_usd: Estimate
    price_per_hour_usd: float
    disk_bytes: int
    probed: bool  # whether speed was measured by real steps on this machine
    engine: str = ""  # what computes the batches, with its version; empty in records of before
    num_test_samples: int | None = None  # None where nothing is answered: raw text, no test split
    smallest_visible_difference: float | None = None  # of these, fraction, 80 % power; 1 in 5 answers taken to differ
    assumptions: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Reconciliation(BaseModel):
    """Predicted against actual, for one quantity."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    quantity: str  # train_seconds, peak_memory_gb, cost_usd
    predicted: Estimate
    actual: float
    held: bool
