"""Advice graded in simulated projects: the true score of every option is known, the advice sees what is measured."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import random
from typing import NamedTuple

import pytest

from foretune.plan.advice import advise
from foretune.plan.situation import Measured, Score, Situation

NUM_WORLDS = 600
NUM_TEST = 1000
# What an option costs to build and keep, as points of score: the simplest that is good enough wins.
EFFORT = {"prompting": 0.0, "few-shot": 0.002, "structured-output": 0.004, "rag": 0.01, "fine-tune": 0.02}
EFFORT |= {"rag-fine-tune": 0.03}
TIE = 0.01


class World(NamedTuple):
    """One project: true scores by option, and why the prompted model fails."""

    num_examples: int
    scores: dict[str, float]
    knowledge: float
    layout: float
    behaviour: float
    target: float


def world(rng: random.Random) -> World:
    """Failures of the prompted model have three causes; each option mends most of its own, tuning by its data."""
    zero = rng.uniform(0.3, 0.9)
    few = zero + rng.uniform(0.0, 0.4) * (1 - zero)
    weights = [rng.random() ** 2 for _ in range(3)]
    knowledge, layout, behaviour = (weight / sum(weights) for weight in weights)
    count = round(10 ** rng.uniform(1.3, 4.5))
    learned = count / (count + rng.choice((300, 800, 2000)))
    overfit = 0.1 if count < 300 else 0.0
    left = 1 - few
    tuned = few + left * (0.8 * behaviour * learned + 0.7 * layout * learned) - overfit * left
    scores = {
        "prompting": zero,
        "few-shot": few,
        "structured-output": few + left * 0.9 * layout,
        "rag": few + left * 0.75 * knowledge - 0.01,
        "fine-tune": tuned,
        "rag-fine-tune": tuned + left * 0.75 * knowledge - 0.01,
    }
    return World(count, scores, knowledge, layout, behaviour, rng.uniform(0.6, 0.98))


def seen(rng: random.Random, true: float) -> Score:
    """A measured score: `NUM_TEST` draws."""
    return Score(value=sum(rng.random() < true for _ in range(NUM_TEST)) / NUM_TEST, n=NUM_TEST)


def situation(rng: random.Random, given: World, *, all_measured: bool) -> Situation:
    measured = {
        "target": given.target,
        "zero_shot": seen(rng, given.scores["prompting"]),
        "few_shot": seen(rng, given.scores["few-shot"]),
        "knowledge_share": given.knowledge,
        "format_share": given.layout,
        "behaviour_share": given.behaviour,
    }
    if all_measured:
        names = {"structured_output": "structured-output", "rag": "rag", "fine_tuned": "fine-tune"}
        measured |= {name: seen(rng, given.scores[option]) for name, option in names.items()}
    return Situation(num_examples=given.num_examples, data_quality="good", measured=Measured.model_validate(measured))


def right(given: World) -> set[str]:
    """Stopping where the best prompt is at the target, else all options within a point of the best net score."""
    prompted = max(given.scores["prompting"], given.scores["few-shot"])
    if prompted >= given.target + 0.02:
        return {"dont"}
    net = {option: score - EFFORT[option] for option, score in given.scores.items()}
    best = {option for option, value in net.items() if value >= max(net.values()) - TIE}
    enough = {option for option in net if given.scores[option] >= given.target}
    unseen = {"collect-data"} if given.target - prompted < 0.045 else set()  # what this test set cannot show
    return best | enough | unseen | ({"dont", "prompting", "few-shot"} if prompted >= given.target - 0.02 else set())


def shares(seed: int, *, all_measured: bool) -> tuple[float, float]:
    """The share of right answers, and that of training advised where it gains under 2 points over the prompt."""
    rng = random.Random(seed)
    hits, wasted = 0, 0
    for _ in range(NUM_WORLDS):
        given = world(rng)
        chosen = advise(situation(rng, given, all_measured=all_measured)).chosen
        hits += chosen in right(given)
        gain = given.scores.get(chosen, 0.0) - max(given.scores["prompting"], given.scores["few-shot"])
        wasted += chosen in ("fine-tune", "rag-fine-tune") and gain < 0.02
    return hits / NUM_WORLDS, wasted / NUM_WORLDS


@pytest.mark.parametrize("seed", [3, 17])
def test_from_the_prompted_baseline_and_the_causes_of_failures(seed: int) -> None:
    hits, wasted = shares(seed, all_measured=False)
    assert hits >= 0.85
    assert wasted <= 0.01


@pytest.mark.parametrize("seed", [3, 17])
def test_with_every_arm_measured(seed: int) -> None:
    hits, wasted = shares(seed, all_measured=True)
    assert hits >= 0.90
    assert wasted <= 0.01
