"""How targets fit their own inputs beside those of others: wrong targets show at every tail, hard ones at wide ones."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import random

import pytest

from foretune.data.pair_fit import own_inputs, pair_costs, pair_fits
from foretune.evaluate.probes.fits import LEVELS, fit_of
from foretune.records.evidence import FitEvidence

NUM = 2000


def pairings(rng: random.Random, own_dearness: float) -> list[float]:
    """Costs after four other inputs: a target's own dearness and what each input adds."""
    return [own_dearness + rng.gauss(3.0, 1.0) for _ in range(4)]


def fit(kind: str, wrong: float = 0.0) -> FitEvidence:
    """Targets that are `learned`, `hard` (known to any degree) or `blind`; a share of them belongs to other inputs."""
    rng = random.Random(kind)
    own, others = [], []
    for number in range(NUM):
        dear = rng.uniform(0.0, 4.0)
        after_others = pairings(rng, dear)
        right = {"learned": 0.05, "hard": rng.uniform(0.0, 3.0), "blind": rng.gauss(3.0, 1.0)}[kind]
        own.append(dear + (rng.gauss(3.0, 1.0) if number < wrong * NUM else right))
        others.append(after_others)
    return fit_of("train", own, others)


def rates(found: FitEvidence) -> dict[float, float]:
    """What each tail says of the share of wrong targets."""
    return {tail.level: tail.targets_fraction / tail.pairings_fraction for tail in found.tails}


def test_every_tail_tells_the_share_of_wrong_targets() -> None:
    assert rates(fit("learned", wrong=0.3)) == pytest.approx(dict.fromkeys(LEVELS, 0.3), abs=0.06)
    assert max(rates(fit("learned")).values()) < 0.01
    assert fit("learned").cheaper_fraction < 0.02


def test_hard_targets_reach_the_wide_tails_alone() -> None:
    """A task that is known in part has targets like those of others, but hardly any among the dearest."""
    found = rates(fit("hard"))
    assert found[0.1] < 0.03 and found[0.25] < 0.1 and found[0.7] > 0.25
    assert rates(fit("hard", wrong=0.3))[0.25] > 0.25
    assert fit("hard").cheaper_fraction > 0.08


def test_inputs_that_say_nothing_leave_all_targets_like_those_of_others() -> None:
    assert rates(fit("blind")) == pytest.approx(dict.fromkeys(LEVELS, 1.0), abs=0.2)
    same = fit_of("train", [2.0] * 20, [[2.0, 2.0]] * 20)
    assert rates(same) == pytest.approx(dict.fromkeys(LEVELS, 1.0))


def test_a_dear_target_is_measured_from_its_own_mean() -> None:
    """Rare words cost much after any input: that alone makes no target odd."""
    rng = random.Random(5)
    dear = [100.0 if number % 4 == 0 else 0.0 for number in range(400)]
    found = fit_of("train", [value + 0.1 for value in dear], [pairings(rng, value) for value in dear])
    assert max(rates(found).values()) < 0.02


def test_words_alone_count_the_targets_that_belong_to_other_inputs() -> None:
    """Half of the targets are copied words, half translated ones; then a third of them is moved on by one row."""
    rng = random.Random(3)
    colours = {"red": "rojo", "blue": "azul", "green": "verde", "black": "negro", "white": "blanco"}
    names = ["ana", "ben", "carl", "dora", "eva", "finn"]
    rows = [(rng.choice(names), rng.choice(list(colours))) for _ in range(240)]
    inputs = [f"{name} wants a {colour} chair, please" for name, colour in rows]
    targets = [f"{name}: silla {colours[colour]}" for name, colour in rows]
    wrong = [targets[at - 1] if at % 3 == 0 else target for at, target in enumerate(targets)]

    def told(these: list[str]) -> FitEvidence:
        costs = pair_costs(inputs, these, num_others=4)
        assert [len(row) for row in costs.others] == [4] * len(inputs)
        assert costs.own == [-value for value in pair_fits(inputs, these)]
        return fit_of("train", costs.own, costs.others)

    assert told(targets).cheaper_fraction < 0.05 and rates(told(targets))[0.7] < 0.05
    assert 0.15 < rates(told(wrong))[0.7] < 0.4
    mixed = rng.sample(targets, len(targets))
    assert told(mixed).cheaper_fraction > 0.4 and own_inputs(inputs, mixed, most_confused=0.1) is None
    belongs = own_inputs(inputs, wrong, most_confused=0.1)
    assert belongs is not None
    odd = [at for at, target in enumerate(targets) if wrong[at] != target]
    assert sum(belongs[at] for at in odd) < 0.25 * len(odd)
    assert sum(belongs) > 0.98 * (len(targets) - len(odd))
