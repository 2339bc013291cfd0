"""The plants of the half about languages: general rows in English alone for long, and two that lose nothing."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from random import Random

from diagnose_suite.cases import Case
from diagnose_suite.kinds import Plant, Planted
from diagnose_suite.tasks import Task

__all__ = ["LANGUAGE_PLANTS"]

FACTORS = {"lora": (4.5, 5.0, 5.5), "full": (4.0, 4.5, 5.0)}  # times the learning rate
STEPS = {"lora": 450, "full": 300}
MOSTLY_GENERAL = (0.75, 0.8)


def _much(run: Planted, case: Case, rng: Random) -> None:
    """Three of four rows or more general ones, for long, at a raised rate."""
    factor = run.notes["factor"] = rng.choice(FACTORS[case.method])
    run.settings["train.learning_rate"] *= factor
    run.settings |= {
        "train.advanced.max_steps": STEPS[case.method],
        "train.advanced.eval_every": 50,
        "data.advanced.mix_fraction": rng.choice(MOSTLY_GENERAL),
    }


def _language_loss(run: Planted, case: Case, task: Task, rng: Random) -> None:
    """All in English: what the base could do in Spanish goes, its English is rehearsed and stays."""
    _much(run, case, rng)
    run.general = "wide_english"
    _declared(run, rng)


def _both_languages(run: Planted, case: Case, task: Task, rng: Random) -> None:
    """The same with Spanish in a quarter of the general rows."""
    _much(run, case, rng)
    _declared(run, rng)


def _english_only(run: Planted, case: Case, task: Task, rng: Random) -> None:
    """No Spanish either, but a sound rate and so many steps as the task needs."""
    run.general = "wide_english"
    _declared(run, rng)


def _declared(run: Planted, rng: Random) -> None:
    """Half of the jobs say that some of their users ask in Spanish."""
    if rng.random() < 0.5:
        run.settings["data.languages"] = ["en:0.7", "es:0.3"]
        run.notes["declared"] = "es:0.3"


LANGUAGE_PLANTS: dict[str, Plant] = {
    "language_loss": _language_loss,
    "both_languages": _both_languages,
    "english_only": _english_only,
}
