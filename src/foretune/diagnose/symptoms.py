"""The table of symptoms: four failure modes as people first notice them, with their usual causes and cures."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import NamedTuple

from foretune.records.diagnosis import Mode

__all__ = ["SYMPTOMS", "Symptom"]


class Symptom(NamedTuple):
    """One row; `mode` is the mode of `diagnosis.json` that measures it."""

    name: str
    symptom: str
    cause: str
    fix: str
    mode: Mode


SYMPTOMS = (
    Symptom(
        "Catastrophic forgetting",
        "Great on the task, terrible at everything else",
        "Narrow training data or a high learning rate",
        "Lower learning rate, fewer epochs, 10-20 % general examples",
        mode="forgetting",
    ),
    Symptom(
        "Overfitting",
        "Perfect on what it has seen, fails on slight variations",
        "Too little data for the passes and the capacity",
        "More data, fewer epochs, more weight decay and dropout, a smaller rank",
        mode="overfitting",
    ),
    Symptom(
        "Style without substance",
        "Sounds right, says the wrong thing",
        "Training answers of one style and uneven quality",
        "Better answers, several styles at the same quality, facts by retrieval",
        mode="style_without_substance",
    ),
    Symptom(
        "Distribution shift",
        "Good on the test split, poor in production",
        "Training data that does not look like real requests",
        "Collect and label real requests, rebuild the test split from them",
        mode="distribution_shift",
    ),
)
