"""The diagnosis of a run that still trains: what its curve shows so far, from its events, after each validation."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import fmean
from typing import Any

from foretune.config.job import JobConfig
from foretune.diagnose.curves import Curves
from foretune.diagnose.diagnose import CHECKS
from foretune.diagnose.evidence import Evidence
from foretune.diagnose.rate import climbing
from foretune.records.diagnosis import Cause, Mode
from foretune.records.training import CurvePoint

__all__ = ["LIVE_MODES", "LiveDiagnosis"]

# In causal order: where one is found, those behind it are not looked for.
LIVE_MODES: tuple[Mode, ...] = ("diverged", "learning_rate_too_high", "overfitting", "learning_rate_too_low")
LEAST_STATISTIC = 1.25  # part of a curve wobbles more than the whole: an alarm asks for more than at the end
LEAST_SHARE = 0.3  # of the planned steps, before a curve that hardly falls is held to be slow: warm-up is over by then
CURVE_POINTS = 200  # the curve is drawn as training.json will have it


class LiveDiagnosis:
    """Takes in the events of a run in their order and says what its curve shows so far.

    `is_due` after a validation that nobody has diagnosed yet. A step costs an addition, a diagnosis some milliseconds.
    """

    def __init__(self, job: JobConfig, run_id: str) -> None:
        self._job = job
        self._run_id = run_id
        self._planned = 0
        self._step = 0
        self._window: list[float] = []
        self._train: dict[int, CurvePoint] = {}
        self._validation: dict[int, CurvePoint] = {}
        self._validated_step = self._told_step = 0

    def take(self, event: Mapping[str, Any]) -> None:
        """Take in one event; a run that goes on repeats the steps since its checkpoint, and the last value counts."""
        step = int(event.get("step", 0))
        match event.get("kind"):
            case "train_start":
                self._planned, self._window = int(event.get("planned_steps", 0)), []
                self._validated_step = self._told_step = 0
            case "step":
                self._step = step
                self._add_step(step, event)
            case "eval" if step:
                loss = _number(event.get("eval_loss"))
                self._validation[step] = CurvePoint(step=step, loss=loss)
                self._validated_step = step
            case "diagnosis":
                self._told_step = max(self._told_step, step)

    def _add_step(self, step: int, event: Mapping[str, Any]) -> None:
        """Means over as many steps as the curve of the finished run will have; what is not finite stands alone."""
        loss, norm = _number(event.get("loss")), event.get("grad_norm")
        self._window.append(loss)
        every = max(1, self._planned // CURVE_POINTS)
        if step % every == 0 or not math.isfinite(loss):
            mean = fmean(self._window)
            rate = event.get("learning_rate")
            self._train[step] = CurvePoint(step=step, loss=mean, learning_rate=rate, grad_norm=norm)
            self._window = []

    @property
    def is_due(self) -> bool:
        """Whether there was a validation since the last diagnosis."""
        return self._validated_step > self._told_step

    def diagnosis(self) -> dict[str, Any]:
        """The values of a `diagnosis` event: its step, the causes found so far, and the modes that were looked for."""
        self._told_step = self._validated_step
        evidence = Evidence(job=self._job, run_id=self._run_id, curves=self._curves())
        checked: list[Mode] = []
        causes: list[Cause] = []
        for mode in LIVE_MODES:
            if causes or CHECKS[mode].needs(evidence) or (mode == "learning_rate_too_low" and self._is_fast(evidence)):
                continue
            checked.append(mode)
            cause = CHECKS[mode].cause(evidence)
            if mode == "learning_rate_too_high":
                cause = max((one for one in (cause, climbing(evidence)) if one), key=_strength, default=None)
            if cause is not None and cause.statistic >= LEAST_STATISTIC:
                causes.append(cause)
        return {"step": self._validated_step, "causes": [_told(cause) for cause in causes], "checked": checked}

    def _is_fast(self, evidence: Evidence) -> bool:
        """Whether a loss that hardly falls says nothing of a low rate: early on, and at rates above the usual ones."""
        return self._step < LEAST_SHARE * self._planned or evidence.learning_rate > evidence.usual_rates[1]

    def _curves(self) -> Curves:
        """The curve up to the last step; what lies beyond it was before a resume from an earlier checkpoint."""
        return Curves(
            train=tuple(self._train[step] for step in sorted(self._train) if step <= self._step),
            validation=tuple(self._validation[step] for step in sorted(self._validation) if step <= self._step),
            planned_steps=self._planned,
        )


def _strength(cause: Cause) -> float:
    return cause.statistic


def _number(value: Any) -> float:
    return float(value) if value is not None else math.nan


def _told(cause: Cause) -> dict[str, Any]:
    return {
        "mode": cause.mode,
        "statistic": cause.statistic,
        "evidence": cause.evidence[0] if cause.evidence else "",
        "fix": cause.fixes[0] if cause.fixes else "",
        "patch": cause.patch,
    }
