"""One run of the suite with its fault in place: data and settings of its twin, then what the plant changes."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from random import Random
from typing import Any

from diagnose_suite.cases import Case
from diagnose_suite.final_plants import FINAL_PLANTS
from diagnose_suite.halves import HALVES, TASKS, Half
from diagnose_suite.kinds import STEPS, Plant, Planted, pairs_of
from diagnose_suite.language_plants import LANGUAGE_PLANTS
from diagnose_suite.plants import PLANTS
from diagnose_suite.tasks import Task
from diagnose_suite.third_plants import CHECK_PLANTS, THIRD_PLANTS

__all__ = ["BASE_SETTINGS", "planted"]

BASE_SETTINGS: dict[tuple[str, str], dict[str, Any]] = {
    ("pebble", "lora"): {"train.learning_rate": 2e-3},
    ("pebble", "full"): {"train.learning_rate": 2.5e-4},
    ("pebblet", "lora"): {"train.learning_rate": 4e-3},
    ("pebblet", "full"): {"train.learning_rate": 8e-4},
    ("pebbleq", "lora"): {"train.learning_rate": 2.5e-3},
    ("pebbleq", "full"): {"train.learning_rate": 4e-4},
    ("pebblen", "lora"): {"train.learning_rate": 1.8e-3},
    ("pebblen", "full"): {"train.learning_rate": 2.3e-4},
}
OWN_PLANTS: dict[Half, dict[str, Plant]] = {
    "heldout": THIRD_PLANTS,
    "check": CHECK_PLANTS,
    "final": FINAL_PLANTS,
    "language": LANGUAGE_PLANTS,
}
SIZES = (240, 300, 360, 420)
NUM_VALIDATION, NUM_TEST = 50, 100


def planted(case: Case) -> Planted:
    """The run of `case`. Data and settings but for the fault are those of its twin."""
    task, half = TASKS[case.task], HALVES[case.half]
    rng = Random(f"twin/{half.key}/{case.twin}")
    seen: set[str] = set()
    size = rng.choice(SIZES)
    test = pairs_of(task, Random(f"test/{case.task}/{case.seed}"), NUM_TEST, seen)
    validation = pairs_of(task, Random(f"validation/{case.task}/{case.seed}"), NUM_VALIDATION, seen)
    train = pairs_of(task, rng, size, seen)
    run = Planted(train, validation, test, _settings(case, task, rng), general=half.general)
    plants = PLANTS | OWN_PLANTS.get(case.half, {})
    if case.label in plants:
        plants[case.label](run, case, task, Random(f"plant/{half.key}/{case.name}/{case.twin}"))
    return run


def _settings(case: Case, task: Task, rng: Random) -> dict[str, Any]:
    """The settings of a sound run."""
    half = HALVES[case.half]
    own_rate = {"train.learning_rate": half.rates[case.method]} if case.method in half.rates else {}
    return {
        "train.method": case.method,
        "train.global_batch_size": 8,
        "train.rank": rng.choice((8, 16)),
        "train.advanced.target_modules": ["all-linear"],
        "train.advanced.dropout": 0.0,
        "train.advanced.max_steps": STEPS,
        "train.advanced.eval_every": 16,
        "train.advanced.patience": 0,
        "data.advanced.mix_fraction": 0.4,
        "evaluate.primary_metric": task.metric,
        **half.settings,
        **BASE_SETTINGS[case.base, case.method],
        **own_rate,
    }
