"""Copies of test rows one word apart stand out against validation rows; a narrow task by itself does not."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest

from foretune.data.likeness import Asked
from foretune.data.samples import Message, Sample
from foretune.evaluate.probes.alike import Answered, HeldOut, alike_evidence
from foretune.evaluate.probes.scope import mean_score
from foretune.records.evidence import AlikeEvidence, Score

THINGS = [f"{first}{second}" for first in ("lam", "des", "vas", "sof", "ru") for second in ("po", "ka", "te", "ri")]
POLITE = ("please", "thanks", "now", "today")


def score(said: Sequence[str], targets: Sequence[str]) -> Score:
    return mean_score([float(text == target) for text, target in zip(said, targets, strict=True)])


def asked(rng: Random, word: str = "please") -> Asked:
    """Two numbers and a thing: a narrow task, whose rows share most of their words."""
    a, b, thing = rng.randrange(10, 99), rng.randrange(10, 99), rng.choice(THINGS)
    return Asked(f"{a} and {b} {thing} {word}", f"{a + b} {thing}")


def sample(place: int, one: Asked) -> Sample:
    return Sample(f"t{place}", (Message("user", one.text), Message("assistant", one.target)))


def evidence(share: float, *, num: int = 50, seed: int = 0) -> AlikeEvidence | None:
    """`share` of the test rows stands in training with another last word, and is answered right."""
    rng = Random(seed)
    train = [asked(rng, rng.choice(POLITE[1:])) for _ in range(60)]
    test, validation = ([asked(rng) for _ in range(num)] for _ in range(2))
    leaked = test[: round(share * num)]
    train += [one._replace(text=one.text.replace("please", rng.choice(POLITE[1:]))) for one in leaked]
    held_out = HeldOut(
        [Answered(one, one.target if one in leaked else "?") for one in test],
        [Answered(one, "?") for one in validation],
    )
    return alike_evidence([sample(place, one) for place, one in enumerate(train)], held_out, score)


def test_copies_one_word_apart_are_counted_and_named() -> None:
    found = evidence(0.6)
    assert found is not None and (found.num_test, found.num_validation) == (50, 50)
    assert 28 <= found.num_alike <= 34 and found.num_alike_validation <= 3 and found.by_chance < 0.1
    assert found.score_alike is not None and found.score_alike.value > 0.85
    assert found.score_other is not None and found.score_other.value < 0.1
    assert {f"t{place}" for place in range(60, 90)} <= set(found.train_ids)


@pytest.mark.parametrize("seed", range(5))
def test_rows_of_one_kind_are_as_near_on_both_sides(seed: int) -> None:
    found = evidence(0.0, seed=seed)
    assert found is not None
    assert abs(found.num_alike - found.num_alike_validation) < 12


def test_validation_from_elsewhere_is_no_leak_where_test_rows_are_alike_among_themselves() -> None:
    """Test and training ask of four things only, validation of others."""
    rng = Random(0)
    few = [Asked(f"price of {thing} {word}", thing) for thing in THINGS[:4] for word in POLITE]
    train = [sample(place, rng.choice(few)) for place in range(80)]
    test = [Answered(rng.choice(few), "?") for _ in range(40)]
    other = [Answered(Asked(f"hours of {thing} {n}", thing), "?") for n, thing in enumerate(THINGS * 2)]
    found = alike_evidence(train, HeldOut(test, other), score)
    assert found is not None and found.num_alike == 40 and found.by_chance > 0.9


def test_too_few_held_out_rows_show_nothing() -> None:
    assert evidence(0.6, num=19) is None
