"""The list of runs: which fault, on which task, base, method and seed, and which healthy run each is held against."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from diagnose_suite.halves import HALVES, Half
from foretune.records.diagnosis import Mode

__all__ = ["ACCEPTED", "FAULTS", "HARD", "HEALTHY", "LONG_PROMPT", "Case", "cases"]

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
    "language_loss": ("language_loss",),
    "duplicates": ("duplicates",),
    "truncation": ("truncated_targets",),
    "shuffled": ("unrelated_targets",),
    "wrong_base": ("wrong_base",),
}
FAULTS = tuple(ACCEPTED)
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
    "english_only",
    "both_languages",
)
METHODS = ("lora", "full")
ONLY_NAMED = ("language_loss", "english_only", "both_languages")  # only in halves whose `more` names them


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
    def key(self) -> str:
        """The half's part of what its data is drawn from."""
        return HALVES[self.half].key

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
    each = -(-len(twins) // HALVES[half].twin_rounds)
    found: list[Case] = []
    for number in range(rounds):
        found += [*twins[number * each : (number + 1) * each], *_round(half, number)]
    return found


def _places(half: Half, names: Sequence[str] = ()) -> list[Place]:
    plan = HALVES[half]
    return [
        (task, plan.base, method, plan.first_seed + seed)
        for seed in range(plan.num_seeds)
        for method in METHODS
        for task in names or [task.name for task in plan.tasks]
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
    plan = HALVES[half]
    if label in ONLY_NAMED:
        return plan.more.get(label, 0)
    return (plan.each if label in (*FAULTS, LONG_PROMPT) else plan.hard_each) + plan.more.get(label, 0)


def _usable(half: Half, label: str) -> list[Place]:
    if label == "leakage":
        return _places(half, HALVES[half].leaking)
    usable = [place for place in _places(half) if place[0] not in HALVES[half].not_for.get(label, ())]
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
