"""`probe.json`: a few real training steps measured on this machine, for the plan to build on."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from foretune.records.base import Record

__all__ = ["ProbePoint", "ProbeRecord"]


class ProbePoint(BaseModel):
    """Forward and backward of one micro-batch: `num_rows` x `row_tokens` computed positions in `seconds`.

    Flat tokens are one row; `num_pairs` counts the pairs of positions that attention computed (0: a whole rectangle).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    num_rows: int
    row_tokens: int
    seconds: float
    num_pairs: int = 0


class ProbeRecord(Record):
    """What was measured. `update_seconds` is clipping plus optimizer; `eval_points` are forward passes only."""

    file_name: ClassVar[str] = "probe.json"
    device: str
    num_threads: int
    precision: str
    micro_batch_size: int
    load_seconds: float
    points: tuple[ProbePoint, ...]
    eval_points: tuple[ProbePoint, ...]
    update_seconds: float
    save_seconds: float
    total_parameters: int
    trainable_parameters: int
    base_memory_bytes: int  # resident memory with the model loaded, before the first step
    peak_memory_bytes: int  # after the longest batch
    saving_memory_bytes: int = 0  # the same once a checkpoint was saved and read back; 0: not measured
    recomputes_activations: bool = False
    decode_seconds_per_token: float = 0.0  # one generated token for one batch of evaluation
