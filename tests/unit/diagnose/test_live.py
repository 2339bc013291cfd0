"""Diagnosis while a run trains: from its events, once a validation, quick, and silent on healthy curves."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from foretune.config import JobConfig
from foretune.diagnose.live import LiveDiagnosis
from unit.diagnose.conftest import cosine

STEPS = 160
Event = dict[str, Any]


def events(
    train: Callable[[float], float],
    validation: Callable[[float], float],
    *,
    noise: float = 0.05,
    seed: int = 0,
    steps: int = STEPS,
) -> Iterator[Event]:
    """The events of a run of 160 steps with eight validations."""
    rng = random.Random(seed)
    yield {"kind": "train_start", "planned_steps": steps}
    for step in range(1, steps + 1):
        share = step / steps
        loss = train(share) * math.exp(rng.gauss(0, noise))
        yield {"kind": "step", "step": step, "loss": loss, "learning_rate": cosine(step, steps), "grad_norm": 1.0}
        if step % (steps // 8) == 0:
            yield {"kind": "eval", "step": step, "eval_loss": validation(share) * math.exp(rng.gauss(0, 0.005))}


def told(stream: Iterator[Event], **train: Any) -> list[Event]:
    """Every diagnosis that a follower of these events makes."""
    live = LiveDiagnosis(JobConfig.model_validate({"train": train}), "run-001")
    found = []
    for event in stream:
        live.take(event)
        if live.is_due:
            found.append(live.diagnosis())
    return found


def modes(found: list[Event]) -> list[str]:
    return [cause["mode"] for one in found for cause in one["causes"]]


def falling(share: float) -> float:
    return 0.3 + 2.5 * math.exp(-6 * share)


@pytest.mark.parametrize("seed", range(12))
def test_a_healthy_run_is_told_nothing(seed: int) -> None:
    """One diagnosis a validation, each with the modes that were looked for and none found."""
    found = told(events(falling, falling, seed=seed))
    assert [one["step"] for one in found] == list(range(20, STEPS + 1, 20))
    assert modes(found) == []
    assert set(found[-1]["checked"]) == {"diverged", "learning_rate_too_high", "overfitting", "learning_rate_too_low"}


def test_overfitting_is_told_while_it_happens() -> None:
    """Validation turns at a third: told before the run is over, with the step and a setting."""
    found = told(
        events(falling, lambda share: falling(share) if share < 0.35 else falling(0.35) * (1 + 1.2 * (share - 0.35)))
    )
    first = next(one for one in found if one["causes"])
    assert first["causes"][0]["mode"] == "overfitting" and first["step"] < STEPS
    assert first["causes"][0]["patch"] and first["causes"][0]["evidence"] and first["causes"][0]["fix"]


def test_a_rate_that_is_too_high_is_told() -> None:
    """The loss falls and explodes."""

    def burst(share: float) -> float:
        return falling(share) if share < 0.3 else 6.0

    found = told(events(burst, burst), learning_rate=0.01)
    assert "learning_rate_too_high" in modes(found) and "overfitting" not in modes(found)


def test_a_rate_that_drives_the_loss_up_is_told_at_the_first_validation() -> None:
    """Up at first and down again: at a usual rate that is no alarm."""

    def hill(share: float) -> float:
        return 3.0 + 40 * share if share < 0.1 else 2.9 + 4 * math.exp(-20 * (share - 0.1))

    first = told(events(hill, hill, noise=0.4), learning_rate=0.01)[0]
    assert modes([first]) == ["learning_rate_too_high"] and first["step"] == 20
    assert first["causes"][0]["patch"]["train.learning_rate"] == 1e-3
    assert modes(told(events(hill, hill, noise=0.4), learning_rate=2e-4)[:1]) == []


def test_a_rate_that_is_too_low_is_told_after_the_warm_up_only() -> None:
    """A straight line that hardly falls; early on that says nothing."""

    def slow(share: float) -> float:
        return 2.8 - 0.02 * share

    found = told(events(slow, slow, noise=0.01), learning_rate=1e-7)
    early = [one for one in found if one["step"] < 0.3 * STEPS]
    assert modes(early) == [] and modes(found)[-1] == "learning_rate_too_low"
    assert modes(told(events(slow, slow, noise=0.01), learning_rate=0.1)) == []


def test_a_loss_that_is_no_number_is_told() -> None:
    """As soon as a validation follows."""
    stream = list(events(falling, falling))
    broken = [
        {**event, "loss": None} if event.get("step") == 70 and event["kind"] == "step" else event for event in stream
    ]
    found = told(iter(broken))
    assert modes(found)[0] == "diverged"


def test_what_was_told_is_not_told_again() -> None:
    """A follower that comes later reads the diagnoses of the log; a resumed run begins anew."""
    stream = list(events(falling, falling))
    logged = [*stream, {"kind": "diagnosis", "step": STEPS, "causes": [], "checked": []}]
    live = LiveDiagnosis(JobConfig(), "run-001")
    for event in logged:
        live.take(event)
    assert not live.is_due
    live.take({"kind": "train_start", "planned_steps": STEPS, "resumed": True})
    live.take({"kind": "eval", "step": 100, "eval_loss": 0.5})
    assert live.is_due


def test_it_costs_next_to_nothing() -> None:
    """5,000 steps and their validations take less than 1 % of what steps of 20 ms would."""
    stream = list(events(falling, falling, steps=5000))
    live = LiveDiagnosis(JobConfig(), "run-001")
    began = time.process_time()
    for event in stream:
        live.take(event)
        if live.is_due:
            live.diagnosis()
    assert time.process_time() - began < 0.01 * 5000 * 0.02
