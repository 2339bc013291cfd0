"""Bradley-Terry strengths: exact on a published table, finite without losses, covered by their intervals."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
import random

import pytest

from foretune.collect.comparisons import Comparison, bradley_terry, first_shown_share
from foretune.errors import DataError

# Wins of the 1987 American League (Agresti, Categorical Data Analysis, 2002, table 10.10): row beat column.
TEAMS = ("Milwaukee", "Detroit", "Toronto", "New York", "Boston", "Cleveland", "Baltimore")
WINS = (
    (0, 7, 9, 7, 7, 9, 11),
    (6, 0, 7, 5, 11, 9, 9),
    (4, 6, 0, 7, 7, 8, 12),
    (6, 8, 6, 0, 6, 7, 10),
    (6, 2, 6, 7, 0, 7, 12),
    (4, 4, 5, 6, 6, 0, 6),
    (2, 4, 1, 3, 1, 7, 0),
)
STRENGTHS = (1.581, 1.436, 1.294, 1.248, 1.108, 0.684, 0.0)


def season() -> list[Comparison]:
    return [Comparison(TEAMS[i], TEAMS[j], "a") for i in range(7) for j in range(7) for _ in range(WINS[i][j])]


@pytest.mark.req("R107")
def test_strengths_are_those_of_the_published_table() -> None:
    found = {one.name: one.strength for one in bradley_terry(season(), prior_precision=0)}
    for team, expected in zip(TEAMS, STRENGTHS, strict=True):
        assert found[team] - found["Baltimore"] == pytest.approx(expected, abs=6e-4)
    ranked = bradley_terry(season())
    assert [one.name for one in ranked] == list(TEAMS)
    assert ranked[0].win_rate == pytest.approx(50 / 78) and ranked[0].num_comparisons == 78
    assert sum(one.strength for one in ranked) == pytest.approx(0, abs=1e-9)


def test_a_tie_is_half_a_win_for_each_and_the_side_does_not_matter() -> None:
    ties = [Comparison("x", "y", "tie")] * 4 + [Comparison("y", "x", "b"), Comparison("x", "y", "b")]
    first, second = bradley_terry(ties)
    assert (first.win_rate, first.strength, second.strength) == (0.5, 0.0, 0.0)


def test_one_who_won_everything_stays_finite_by_the_prior_and_is_told_without_it() -> None:
    always = [Comparison("new", "old", "a")] * 10
    first, second = bradley_terry(always)
    assert first.name == "new" and math.isfinite(first.high) and first.low > second.high - 20
    with pytest.raises(DataError, match="won or lost everything"):
        bradley_terry(always, prior_precision=0)


def test_intervals_cover_the_true_strengths() -> None:
    true = {"p": 0.8, "q": 0.0, "r": -0.8}
    covered = 0
    for seed in range(100):
        draw = random.Random(seed)
        comparisons = []
        for _ in range(150):
            a, b = draw.sample(sorted(true), 2)
            wins = draw.random() < 1 / (1 + math.exp(true[b] - true[a]))
            comparisons.append(Comparison(a, b, "a" if wins else "b"))
        covered += sum(one.low <= true[one.name] <= one.high for one in bradley_terry(comparisons))
    assert 0.92 <= covered / 300 <= 0.99


def test_what_cannot_be_ranked_is_said() -> None:
    with pytest.raises(DataError, match="0 variant"):
        bradley_terry([])
    with pytest.raises(DataError, match="compared with itself"):
        bradley_terry([Comparison("a", "a", "a"), Comparison("a", "b", "a")])
    with pytest.raises(DataError, match="expected a, b or tie"):
        bradley_terry([Comparison("a", "b", "left")])  # type: ignore[arg-type]
    with pytest.raises(DataError, match="every comparison is a tie"):
        first_shown_share([Comparison("a", "b", "tie")])
    assert first_shown_share([Comparison("a", "b", "a"), Comparison("b", "a", "a"), Comparison("a", "b", "b")]) == 2 / 3
