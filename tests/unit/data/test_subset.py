"""Subsets: the right number of rows, by the right rule, the same for the same seed."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from foretune.data.embed.vectors import unit_rows
from foretune.data.samples import Message, Sample
from foretune.data.subset import best_rated, diverse, random_subset, sliced, split_by, stratified
from foretune.errors import ConfigError, DataError


def row(number: int, label: str = "a", **meta: object) -> Sample:
    return Sample(f"r{number}", (Message("user", f"question {number}"), Message("assistant", label)), meta=dict(meta))


ROWS = [row(n, "rare" if n % 10 == 0 else "common", rating=n % 7, product="x" if n < 30 else "y") for n in range(100)]


@pytest.mark.req("R263")
def test_random_subsets_are_nested_and_do_not_depend_on_order() -> None:
    small, large = random_subset(ROWS, 10, seed=1), random_subset(ROWS, 40, seed=1)
    assert {s.id for s in small} < {s.id for s in large}
    assert {s.id for s in random_subset(ROWS[::-1], 10, seed=1)} == {s.id for s in small}
    assert random_subset(ROWS, 10, seed=2) != small
    assert random_subset(ROWS, 500) == ROWS
    with pytest.raises(ConfigError, match="count is 0"):
        random_subset(ROWS, 0)


@pytest.mark.req("R263")
def test_stratified_keeps_the_shares_and_every_class() -> None:
    assert Counter(s.target for s in stratified(ROWS, 20)) == {"common": 18, "rare": 2}
    assert Counter(s.target for s in stratified(ROWS, 3)) == {"common": 2, "rare": 1}
    assert len(stratified(ROWS, 33, key=lambda s: str(s.meta["rating"]))) == 33


@pytest.mark.req("R263")
def test_slices_get_what_was_asked_for() -> None:
    chosen = sliced(ROWS, {"x": 5, "y": 7}, key=lambda s: str(s.meta["product"]))
    assert Counter(s.meta["product"] for s in chosen) == {"x": 5, "y": 7}
    with pytest.raises(DataError, match="slice 'z' has 0 rows"):
        sliced(ROWS, {"z": 1}, key=lambda s: str(s.meta["product"]))


@pytest.mark.req("R164")
def test_rows_are_parted_by_language_for_a_model_each() -> None:
    rows = [row(n, language="es" if n % 4 == 0 else "en") for n in range(20)]
    parts = split_by(rows, lambda s: str(s.meta["language"]))
    assert {name: len(part) for name, part in parts.items()} == {"en": 15, "es": 5}


@pytest.mark.req("R130")
@pytest.mark.req("R263")
def test_the_best_rated_are_kept() -> None:
    chosen = best_rated(ROWS, 20)
    assert len(chosen) == 20
    assert min(s.meta["rating"] for s in chosen) >= 5
    with pytest.raises(DataError, match="no row has a number"):
        best_rated(ROWS, 5, rating="stars")


def test_diverse_rows_leave_no_corner_empty() -> None:
    vectors = unit_rows(np.repeat(np.eye(5), 20, axis=0) + 0.01 * np.random.default_rng(0).normal(size=(100, 5)))
    chosen = diverse(ROWS, 5, vectors)
    places = [int(sample.id[1:]) // 20 for sample in chosen]
    assert sorted(places) == [0, 1, 2, 3, 4]
    assert diverse(ROWS, 100, vectors) == ROWS
    with pytest.raises(DataError, match="5 vectors"):
        diverse(ROWS, 5, vectors[:5])
