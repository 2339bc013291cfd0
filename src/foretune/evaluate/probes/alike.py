"""Test inputs that lie nearer to training rows than validation inputs do: what the split should never let happen."""

# SPDX-License-Identifier: Apache-2.0
#
# In a narrow task every input is near some training row, so nearness alone is no leak. But test and validation rows
# are held out alike: where test rows lie nearer, training saw them. How near is near shows in the data: the similarity
# at which the two shares differ most (Smirnov's statistic, one-sided). Validation inputs from another source would
# look farther as well; against that stands how often test inputs are alike among themselves.
from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import NamedTuple

from foretune.data.likeness import Asked, Likeness
from foretune.data.samples import Sample
from foretune.evaluate.probes.rows import plain_input
from foretune.records.evidence import AlikeEvidence, Score

__all__ = ["LEAST_HELD_OUT", "Answered", "HeldOut", "alike_evidence"]

LEAST_HELD_OUT = 20  # test and validation inputs each; fewer show no difference between the two
LEAST_SIMILARITY = 0.3  # below, inputs share little but the words of the task
CERTAINTY = 0.05  # one-sided, of how often test inputs are alike among themselves
MOST_COMPARED = 300  # test inputs that are compared with each other
MOST_IDS = 5000

ScoreOf = Callable[[Sequence[str], Sequence[str]], Score]


class Answered(NamedTuple):
    """A held-out question and what the fine-tuned model said to it."""

    asked: Asked
    said: str


class HeldOut(NamedTuple):
    """The questions of both splits that training should not have seen."""

    test: Sequence[Answered]
    validation: Sequence[Answered]


def alike_evidence(train: Sequence[Sample], held_out: HeldOut, score: ScoreOf) -> AlikeEvidence | None:
    """Shares of test and of validation inputs that are like a training row; None where either split is too small."""
    if min(len(held_out.test), len(held_out.validation)) < LEAST_HELD_OUT:
        return None
    own = [Asked(plain_input(sample.prompt), sample.target) for sample in train]
    likeness = Likeness(own, [one.asked for side in held_out for one in side])
    test, validation = ([likeness.nearest(one.asked) for one in side] for side in held_out)
    similarity = _most_apart(test, validation)
    alike = [one for one, near in zip(held_out.test, test, strict=True) if near >= similarity]
    num_alike_validation = sum(near >= similarity for near in validation)
    both = (*zip(held_out.test, test, strict=True), *zip(held_out.validation, validation, strict=True))
    stands_out = len(alike) * len(validation) > 2 * num_alike_validation * len(test)
    return AlikeEvidence(
        similarity=similarity,
        num_test=len(test),
        num_alike=len(alike),
        num_validation=len(validation),
        num_alike_validation=num_alike_validation,
        by_chance=_by_chance(likeness, [one.asked for one in held_out.test], similarity),
        score_alike=_score(alike, score),
        score_other=_score([one for one, near in both if near < similarity], score),
        train_ids=_ids(train, likeness, alike, similarity) if stands_out else (),
    )


def _most_apart(test: Sequence[float], validation: Sequence[float]) -> float:
    """The similarity that most more test than validation inputs reach."""

    def apart(similarity: float) -> float:
        shares = [sum(near >= similarity for near in side) / len(side) for side in (test, validation)]
        return shares[0] - shares[1]

    return max(sorted({LEAST_SIMILARITY, *(near for near in test if near >= LEAST_SIMILARITY)}), key=apart)


def _by_chance(likeness: Likeness, test: Sequence[Asked], similarity: float) -> float:
    """The share of inputs with a like one among the training rows, if these were as like as test inputs to each other.

    From the lower end of the rate of alike pairs (exact Poisson limit), so that a chance pair or two prove nothing.
    """
    from scipy.stats import chi2

    pairs = list(combinations(test[:MOST_COMPARED], 2))
    count = sum(likeness.between(left, right) >= similarity for left, right in pairs)
    rate = float(chi2.ppf(CERTAINTY, 2 * count)) / 2 / len(pairs) if count else 0.0
    return 1.0 - (1.0 - min(1.0, rate)) ** likeness.num_distinct


def _ids(train: Sequence[Sample], likeness: Likeness, alike: Sequence[Answered], similarity: float) -> tuple[str, ...]:
    """The training rows that these inputs are like."""
    places = {place for one in alike for place in likeness.at_least(one.asked, similarity)}
    return tuple(train[place].id for place in sorted(places))[:MOST_IDS]


def _score(answered: Sequence[Answered], score: ScoreOf) -> Score | None:
    if not answered:
        return None
    return score([one.said for one in answered], [one.asked.target for one in answered])
