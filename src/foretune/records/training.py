"""`training.json`: what a finished training run did, and what came out of it."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from foretune.records.base import Record
from foretune.records.parity import ParityRecord
from foretune.records.plan import Reconciliation

__all__ = ["CurvePoint", "TrainingRecord"]


class CurvePoint(BaseModel):
    """One point of a curve: the loss is the mean over supervised tokens, in nats."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    step: int
    loss: float
    learning_rate: float | None = None
    grad_norm: float | None = None


class TrainingRecord(Record):
    """Written once, at the end. `seconds` counts every start of the run, `train_seconds` the optimizer steps alone."""

    file_name: ClassVar[str] = "training.json"
    run_id: str
    base: str
    base_sha256: str
    method: str
    dataset_version: str
    foretune_version: str
    versions: dict[str, str]  # python, torch, transformers, peft ...
    device: str
    precision: str
    seed: int
    total_parameters: int
    trainable_parameters: int
    num_steps: int
    planned_steps: int
    num_epochs: float
    num_tokens: int  # all tokens seen, padding excluded
    num_loss_tokens: int
    seconds: float
    train_seconds: float
    tokens_per_second: float
    peak_memory_bytes: int
    cost_usd: float
    stop_reason: Literal["finished", "early_stopping", "budget", "stopped"]
    best_step: int
    best_eval_loss: float | None
    final_train_loss: float
    train_curve: tuple[CurvePoint, ...]
    eval_curve: tuple[CurvePoint, ...]
    num_dropped_samples: int = 0
    micro_batch_size: int = 0  # of the last step: smaller than planned where memory ran out; 0: not known
    recomputes_activations: bool = False
    artefact: str  # adapter or model, relative to the run folder
    artefact_sha256: dict[str, str]
    labels: tuple[str, ...] = ()
    base_adapter: str = ""  # the earlier adapter that training started from, as the job names it
    base_adapter_sha256: str = ""
    reconciliation: tuple[Reconciliation, ...] = ()
    notes: tuple[str, ...] = ()  # on the engine: what computed the passes, and why not faster
    warnings: tuple[str, ...] = ()
    parity: ParityRecord | None = None  # the artefact, reloaded, against the model that was trained
