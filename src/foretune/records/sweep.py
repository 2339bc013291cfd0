"""`sweep.json`: many settings over one base, halved by validation loss; `setting.json`: one of them."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from foretune.records.base import Record
from foretune.records.training import CurvePoint

__all__ = ["SettingRecord", "SettingResult", "SweepRecord"]

# waiting: not measured yet; kept: still in the race; stopped: others were better; failed: could not go on.
SettingState = Literal["waiting", "kept", "stopped", "failed", "winner"]


class SettingResult(BaseModel):
    """One setting at a glance; `eval_losses` are the best validation losses (nats) up to each rung that it reached."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    number: int
    folder: str  # relative to the run folder
    values: dict[str, Any]  # dotted field -> value
    state: SettingState = "waiting"
    step: int = 0
    planned_steps: int = 0
    has_ended: bool = False  # all its steps are done, or its patience is over
    eval_losses: tuple[float, ...] = ()
    seconds: float = 0.0
    why: str = ""  # it was stopped, or failed


class SweepRecord(Record):
    """Written after every leg of a setting. `planned_fraction` is the share of all settings' steps that halving takes.

    `seconds` counts every start of the sweep, loading included; `rung_sizes` are the settings that reach each rung.
    With the sampler `optuna` settings are added as they are proposed, out of `space`.
    """

    file_name: ClassVar[str] = "sweep.json"
    run_id: str
    sampler: Literal["grid", "random", "optuna"]
    fields: tuple[str, ...]  # what varies, as dotted names
    eta: int  # of eta settings one goes on
    rung_sizes: tuple[int, ...]
    planned_fraction: float
    seed: int
    settings: tuple[SettingResult, ...]
    space: tuple[str, ...] = ()  # `NAME=A,B` as it was asked for
    state: Literal["running", "stopped", "done", "budget"] = "running"
    winner: int = 0  # number of the setting; 0 while there is none
    num_steps: int = 0  # optimizer steps of all settings so far
    seconds: float = 0.0
    cost_usd: float = 0.0


class SettingRecord(Record):
    """One setting of a sweep with its curves, in its own folder beside its job, its events and its checkpoints."""

    file_name: ClassVar[str] = "setting.json"
    result: SettingResult
    best_step: int
    train_curve: tuple[CurvePoint, ...]
    eval_curve: tuple[CurvePoint, ...]
