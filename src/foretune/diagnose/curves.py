"""Loss curves of a run: from `training.json`, or from its events while there is none yet."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foretune.records.events import read_events
from foretune.records.training import CurvePoint, TrainingRecord

__all__ = ["Curves", "read_curves"]


@dataclass(frozen=True)
class Curves:
    """Training and validation loss in nats a supervised token, by step; `failure` is how training broke off."""

    train: tuple[CurvePoint, ...] = ()
    validation: tuple[CurvePoint, ...] = ()
    planned_steps: int = 0
    error: str = ""  # class name of the error that ended training
    failure: str = ""  # its message
    fix: str = ""  # what would mend it
    stop_reason: str = ""

    @property
    def last_step(self) -> int:
        """The last optimizer step with a loss; 0 if there is none."""
        return self.train[-1].step if self.train else 0

    @property
    def first_bad_step(self) -> int | None:
        """The first step whose loss or gradient norm is NaN or infinite."""
        for point in self.train:
            if not math.isfinite(point.loss) or not math.isfinite(point.grad_norm or 0.0):
                return point.step
        return None

    @property
    def finite_train(self) -> tuple[CurvePoint, ...]:
        """The training points before the first NaN or infinity."""
        bad = self.first_bad_step
        return self.train if bad is None else tuple(point for point in self.train if point.step < bad)

    @property
    def finite_validation(self) -> tuple[CurvePoint, ...]:
        """The validations with a finite loss."""
        return tuple(point for point in self.validation if math.isfinite(point.loss))


def read_curves(run_dir: str | Path) -> Curves:
    """The curves of a run, empty where it has not trained yet. Raises DataError on a damaged `training.json`."""
    if TrainingRecord.exists(run_dir):
        record = TrainingRecord.read(run_dir)
        return Curves(record.train_curve, record.eval_curve, record.planned_steps, stop_reason=record.stop_reason)
    return _from_events(read_events(run_dir))


def _from_events(events: Iterable[dict[str, Any]]) -> Curves:
    """A resumed run repeats the steps since its checkpoint: the last value of a step counts."""
    train: dict[int, CurvePoint] = {}
    validation: dict[int, CurvePoint] = {}
    planned = 0
    ended: dict[str, Any] = {}
    failed: dict[str, Any] = {}
    for event in events:
        match event.get("kind"):
            case "train_start":
                planned, ended, failed = int(event.get("planned_steps", 0)), {}, {}
            case "step" if "step" in event:
                train[event["step"]] = _train_point(event)
            case "eval" if "step" in event:
                validation[event["step"]] = CurvePoint(step=event["step"], loss=event.get("eval_loss", math.nan))
            case "train_end":
                ended = event
            case "failed":
                failed = event
    return Curves(
        train=tuple(train[step] for step in sorted(train)),
        validation=tuple(validation[step] for step in sorted(validation)),
        planned_steps=planned,
        error=str(failed.get("error", "")),
        failure=str(failed.get("message", "")),
        fix=str(failed.get("fix", "")),
        stop_reason=str(ended.get("reason", "")),
    )


def _train_point(event: dict[str, Any]) -> CurvePoint:
    return CurvePoint(
        step=event["step"],
        loss=event.get("loss", math.nan),
        learning_rate=event.get("learning_rate"),
        grad_norm=event.get("grad_norm"),
    )
