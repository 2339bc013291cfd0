"""The list of runs: which fault, on which task, base, method and seed, and which healthy run each is held against."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from diagnose_suite.tasks import BY_HEART, DEVELOPMENT, HELD_OUT
from foretune.records.diagnosis import Mode

__all__ = ["ACCEPTED", "FAULTS", "HARD", "HEALTHY", "LONG_PROMPT", "Case", "Half", "cases"]

Half = Literal["dev", "heldout"]
Place = tuple[str, str, str, int]  # task, base, method, seed
HEALTHY = "healthy"
LONG_PROMPT = "long_prompt"  # what loss on the prompt is held against

# The name that counts as right for each planted fault. Where two names are listed, both are what was planted.
ACCEPTED: dict[str, tuple[Mode, ...]] = {
    "rate_high": ("learning_rate_too_high", "diverged"),
    "rate_low": ("learning_rate_too_low",),
    "overfitting": ("overfitting", "too_little_data"),
    "underfitting": ("underfitting",),
    "label_noise": ("label_noise",),
    "shift": ("distribution_shift",),
    "style_only": ("style_without_substance", "unrelated_targets"),
    "leakage": ("leakage",),
    "template": ("template_mismatch",),
    "prompt_loss": ("loss_on_prompt",),
    "missing_end": ("missing_end",),
    "forgetting": ("forgetting",),
    "duplicates": ("duplicates",),
    "truncation": ("truncated_targets",),
    "shuffled": ("unrelated_targets",),
    "wrong_base": ("wrong_base",),
}
FAULTS = tuple(ACCEPTED)
CLASS_TASKS = ("mood", "desk")  # a hollow or cut answer of one word is not the planted fault but another
NOT_FOR: dict[str, tuple[str, ...]] = {
    "style_only": CLASS_TASKS,
    "truncation": CLASS_TASKS,
    "shuffled": CLASS_TASKS,
    "prompt_loss": ("record", "spanish"),  # learned so fast that diluted steps suffice
    "long_prompt": ("record", "spanish"),
    "overfitting": ("record", "spanish", "tags", "sale"),  # 60 rows teach these whole, however often they are seen
}
HARD = (
    "small_data",
    "ambiguous",
    "noisy_curve",
    "some_duplicates",
    "mild_forgetting",
    "harmless_shift",
    "early_stopped",
    "rank_4",
    "rank_64",
    "long_but_sound",
    "long_prompt",
)
LEAKING: dict[Half, tuple[str, ...]] = {"dev": ("price", "mood"), "heldout": tuple(task.name for task in BY_HEART)}
BASES: dict[Half, tuple[str, ...]] = {"dev": ("pebble",), "heldout": ("pebblet",)}
SEEDS: dict[Half, int] = {"dev": 2, "heldout": 5}
EACH: dict[Half, int] = {"dev": 4, "heldout": 22}  # runs of each fault
MORE = {
    "duplicates": 14,
    "label_noise": 10,
    "leakage": 2,
    "long_prompt": 6,
    "missing_end": 2,
    "overfitting": 14,
    "prompt_loss": 6,
}
HARD_EACH: dict[Half, int] = {"dev": 2, "heldout": 9}  # and of each hard kind, but as many long prompts as faults
TWIN_ROUNDS = 12  # in which all twins have come
FIRST_SEED: dict[Half, int] = {"dev": 0, "heldout": 1000}
METHODS = ("lora", "full")


@dataclass(frozen=True)
class Case:
    """One run: `label` is the planted fault, `healthy`, or the name of a hard but healthy kind."""

    half: Half
    label: str
    number: int
    task: str
    base: str
    method: str
    seed: int

    @property
    def name(self) -> str:
        """Unique in its half; also the name of its folder."""
        return f"{self.label}-{self.number:03d}"

    @property
    def is_fault(self) -> bool:
        """Whether something was planted that has to be found."""
        return self.label in ACCEPTED

    @property
    def twin(self) -> str:
        """What data and settings are drawn from, but for the fault: the same as of the healthy run to compare with."""
        return f"{self.task}.{self.base}.{self.method}.{self.seed}"


def cases(half: Half) -> list[Case]:
    """All runs of one half, in rounds: in each a few twins, and one run of every fault and of every hard kind."""
    twins = [Case(half, HEALTHY, number, *place) for number, place in enumerate(_places(half))]
    rounds = max(_num_runs(half, label) for label in (*FAULTS, *HARD))
    each = -(-len(twins) // TWIN_ROUNDS)
    found: list[Case] = []
    for number in range(rounds):
        found += [*twins[number * each : (number + 1) * each], *_round(half, number)]
    return found


def _places(half: Half, names: Sequence[str] = ()) -> list[Place]:
    tasks = names or [task.name for task in (DEVELOPMENT if half == "dev" else HELD_OUT)]
    return [
        (task, base, method, FIRST_SEED[half] + seed)
        for seed in range(SEEDS[half])
        for base in BASES[half]
        for method in METHODS
        for task in tasks
    ]


def _round(half: Half, number: int) -> Iterator[Case]:
    """The faults and hard kinds of one round; tasks, methods and seeds take turns."""
    for label in (*FAULTS, *HARD):
        if number >= _num_runs(half, label):
            continue
        usable = _usable(half, label)
        order = _in_turn(usable, LONG_PROMPT if label == "prompt_loss" else label)
        yield Case(half, label, number, *order[number % len(order)])


def _num_runs(half: Half, label: str) -> int:
    each = EACH if label in (*FAULTS, LONG_PROMPT) else HARD_EACH
    return each[half] + (MORE.get(label, 0) if half == "heldout" else 0)


def _usable(half: Half, label: str) -> list[Place]:
    if label == "leakage":
        return _places(half, LEAKING[half])
    usable = [place for place in _places(half) if place[0] not in NOT_FOR.get(label, ())]
    return [place for place in usable if place[2] == "lora"] if label.startswith("rank_") else usable


def _in_turn(places: list[Place], label: str) -> list[Place]:
    """The places in an order of the label's own in which every task comes up before one comes again."""
    mixed = Random(f"order/{label}").sample(places, len(places))
    met: Counter[str] = Counter()
    ranked = []
    for place in mixed:
        ranked.append((met[place[0]], place))
        met[place[0]] += 1
    return [place for _, place in sorted(ranked, key=lambda pair: pair[0])]
