"""The halves of the suite: two to make rules on, one held out, one for mended rules, a last, and one of languages."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from diagnose_suite.check_tasks import CHECK, CHECK_BY_HEART
from diagnose_suite.final_tasks import FINAL, FINAL_BY_HEART
from diagnose_suite.language_tasks import LANGUAGE
from diagnose_suite.tasks import BY_HEART, DEVELOPMENT, FIRST, Task
from diagnose_suite.third_tasks import THIRD, THIRD_BY_HEART

__all__ = ["FINAL_STEPS", "HALVES", "TASKS", "Half", "HalfPlan"]

Half = Literal["dev", "first", "heldout", "check", "final", "language"]


@dataclass(frozen=True)
class HalfPlan:
    """What a half is made of. `key` seeds its data: of `first` it is the name that it had when it was held out."""

    key: str
    tasks: tuple[Task, ...]
    leaking: tuple[str, ...]  # tasks that are learned by heart, where test rows leak
    base: str
    first_seed: int
    num_seeds: int
    each: int  # runs of each fault
    hard_each: int  # and of each hard kind, but as many long prompts as faults
    more: Mapping[str, int] = field(default_factory=dict)  # runs beyond these, and of what few halves have
    not_for: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # tasks that a fault is not planted in
    settings: Mapping[str, Any] = field(default_factory=dict)
    general: str = "mixed"  # the general rows that sound runs mix in
    rates: Mapping[str, float] = field(default_factory=dict)  # learning rate by method, where not the base's own
    twin_rounds: int = 12  # in which all twins have come

    @property
    def all_tasks(self) -> set[str]:
        """The names of all tasks of the half, those learned by heart included; no other half has one of them."""
        return {*(task.name for task in self.tasks), *self.leaking}


def _not_for(classes: tuple[str, ...], **more: tuple[str, ...]) -> Mapping[str, tuple[str, ...]]:
    """Which tasks a fault is not planted in: a hollow or cut answer of one word is not that fault but another."""
    return dict.fromkeys(("style_only", "truncation", "shuffled"), classes) | more


NOT_FOR = _not_for(
    ("mood", "desk"),
    prompt_loss=("record", "spanish"),  # learned so fast that diluted steps suffice
    long_prompt=("record", "spanish"),
    overfitting=("record", "spanish", "tags", "sale"),  # 60 rows teach these whole, however often they are seen
)
FINAL_STEPS = 110  # of 8 rows

HALVES: Mapping[Half, HalfPlan] = MappingProxyType(
    {
        "dev": HalfPlan("dev", DEVELOPMENT, ("price", "mood"), "pebble", 0, 2, each=4, hard_each=2, not_for=NOT_FOR),
        "first": HalfPlan(
            "heldout",
            FIRST,
            tuple(task.name for task in BY_HEART),
            "pebblet",
            1000,
            5,
            each=22,
            hard_each=9,
            more={
                "duplicates": 14,
                "label_noise": 10,
                "leakage": 2,
                "long_prompt": 6,
                "missing_end": 2,
                "overfitting": 14,
                "prompt_loss": 6,
            },
            not_for=NOT_FOR,
        ),
        "heldout": HalfPlan(
            "third",
            THIRD,
            tuple(task.name for task in THIRD_BY_HEART),
            "pebbleq",
            2000,
            4,
            each=24,
            hard_each=8,
            more={
                "duplicates": 8,
                "label_noise": 4,
                "language_loss": 24,
                "long_prompt": 8,
                "overfitting": 8,
                "prompt_loss": 8,
                "shift": 4,
            },
            not_for=_not_for(
                ("topic", "urgency"),
                language_loss=("ficha", "both", "redact"),  # two teach the language; the third costs skills in both
            ),
            settings={"evaluate.advanced.probe_samples": 24},  # 24 general tasks in Spanish
            general="even",
        ),
        "check": HalfPlan(
            "check",
            CHECK,
            tuple(task.name for task in CHECK_BY_HEART),
            "pebbleq",
            3000,
            2,
            each=5,
            hard_each=5,
            not_for=_not_for(
                ("leave", "carrier"),
                overfitting=("recipe",),  # a dozen rows teach it whole
                duplicates=("recipe",),
            ),
            settings={"train.advanced.max_steps": 110},
            rates={"lora": 1.5e-3, "full": 2.5e-4},  # at the held-out half's, some sound runs lost general skills
            twin_rounds=5,
        ),
        "final": HalfPlan(
            "final",
            FINAL,
            tuple(task.name for task in FINAL_BY_HEART),
            "pebblen",
            4000,
            4,
            each=23,
            hard_each=8,
            more={
                "duplicates": 9,
                "label_noise": 3,
                "long_prompt": 8,
                "overfitting": 11,
                "prompt_loss": 8,
                "rate_high": 4,
                "shift": 4,
                "shuffled": 2,
                "truncation": 2,
            },
            not_for=_not_for(
                ("tongue", "feed"),
                overfitting=("postcard", "menu", "riddle", "stock"),  # a dozen rows teach these
                duplicates=("postcard", "menu", "riddle"),
                rate_high=("tongue",),  # a ruined model still tells two languages apart
                early_stopped=("riddle",),  # for long, or with fewer general rows, it costs the skill of copying
                long_but_sound=("riddle",),
                mild_forgetting=("riddle",),
            ),
            settings={"evaluate.advanced.probe_samples": 24, "train.advanced.max_steps": FINAL_STEPS},
            general="even",
        ),
        "language": HalfPlan(
            "language",
            LANGUAGE,
            (),
            "pebblen",
            5000,
            2,
            each=0,
            hard_each=0,
            more={"language_loss": 28, "english_only": 12, "both_languages": 12},
            settings={"evaluate.advanced.probe_samples": 40, "train.advanced.max_steps": 150},
            general="wide_even",
            twin_rounds=10,
        ),
    }
)
EVERY = (
    *(*DEVELOPMENT, *FIRST, *BY_HEART, *THIRD, *THIRD_BY_HEART),
    *(*CHECK, *CHECK_BY_HEART, *FINAL, *FINAL_BY_HEART, *LANGUAGE),
)
TASKS = {task.name: task for task in EVERY}
