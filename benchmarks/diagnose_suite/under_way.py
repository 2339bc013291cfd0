"""What the badge of a run under way would have said: the recorded curve told event by event, as training tells it."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import Any

from diagnose_suite.cases import ACCEPTED
from diagnose_suite.pack import Recorded
from foretune.diagnose.live import LiveDiagnosis

__all__ = ["first_alarm", "live_report"]


def first_alarm(run: Recorded) -> tuple[str, float]:
    """The first cause that the badge shows, and after which share of the steps; ("", 1) where it shows none."""
    curves = run.evidence.curves
    last = max((point.step for point in curves.train), default=0)
    planned = curves.planned_steps or last
    live = LiveDiagnosis(run.evidence.job, run.name)
    live.take({"kind": "train_start", "planned_steps": planned})
    events: list[tuple[int, int, dict[str, Any]]] = [
        *((point.step, 0, {"kind": "step", **_values(point)}) for point in curves.train),
        *(
            (point.step, 1, {"kind": "eval", "step": point.step, "eval_loss": point.loss})
            for point in curves.validation
        ),
    ]
    for step, _, event in sorted(events, key=lambda one: one[:2]):
        live.take(event)
        causes = live.diagnosis()["causes"] if live.is_due else []
        if causes:
            return str(causes[0]["mode"]), step / max(planned, 1)
    return "", 1.0


def _values(point: Any) -> dict[str, Any]:
    return {name: getattr(point, name) for name in ("step", "loss", "learning_rate", "grad_norm")}


def live_report(runs: Sequence[Recorded]) -> str:
    """By fault how often the badge named it, or something else, and when; and the alarms of sound runs."""
    told: dict[str, list[tuple[Recorded, str, float]]] = {}
    for run in runs:
        told.setdefault(run.label if run.is_fault else "sound runs", []).append((run, *first_alarm(run)))
    lines = []
    for label, some in sorted(told.items()):
        named = Counter(mode for _, mode, _ in some if mode)
        shares = [share for _, mode, share in some if mode in ACCEPTED.get(label, ())]
        when = f", half of them by {100 * median(shares):.0f} % of the steps" if shares else ""
        what = ", ".join(f"{mode} {count}" for mode, count in named.most_common()) or "nothing"
        lines.append(f"{label:14} {what} of {len(some)}{when}")
    return "\n".join(lines)
