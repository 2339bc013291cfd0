"""Agreement: exact on published examples, equal to scikit-learn, and honest where it has no meaning."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretune.collect.agreement import agreement, cohen_kappa, krippendorff_alpha
from foretune.errors import DataError

# Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), part C: 4 observers, 12 units.
FOUR = {
    "A": "1 2 3 3 2 1 4 1 2 . . .",
    "B": "1 2 3 3 2 2 4 1 2 5 . 3",
    "C": ". 3 3 3 2 3 4 2 2 5 1 .",
    "D": "1 2 3 3 2 4 4 1 2 5 1 .",
}
# The worked example of the encyclopedia article on the coefficient: 3 coders, 15 units.
THREE = {
    "A": ". . . . . 3 4 1 2 1 1 3 3 . 3",
    "B": "1 . 2 1 3 3 4 3 . . . . . . .",
    "C": ". . 2 1 3 4 4 . 2 1 1 3 3 . 4",
}


def votes(table: dict[str, str]) -> dict[str, dict[str, str | float]]:
    rows = {name: line.split() for name, line in table.items()}
    num = len(next(iter(rows.values())))
    return {str(i): {name: row[i] for name, row in rows.items() if row[i] != "."} for i in range(num)}


@pytest.mark.req("R104")
@pytest.mark.parametrize(
    ("table", "level", "expected"),
    [
        (FOUR, "nominal", 0.743),
        (FOUR, "ordinal", 0.815),
        (FOUR, "interval", 0.849),
        (THREE, "nominal", 0.691),
        (THREE, "interval", 0.811),
        ({"A": "0 1 0 0 0 0 0 0 1 0", "B": "1 1 1 0 0 1 0 0 0 0"}, "nominal", 0.095),
    ],
)
def test_alpha_is_that_of_the_published_examples(table: dict[str, str], level: str, expected: float) -> None:
    assert krippendorff_alpha(votes(table), level=level) == pytest.approx(expected, abs=5e-4)  # type: ignore[arg-type]


def test_kappa_is_that_of_the_published_example() -> None:
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert cohen_kappa(first, second) == pytest.approx(0.4)


@pytest.mark.parametrize("weights", ["none", "linear", "quadratic"])
def test_kappa_equals_scikit_learns(weights: str) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    draw = random.Random(0)
    for _ in range(20):
        first = [draw.randrange(4) for _ in range(40)]
        second = [value if draw.random() < 0.6 else draw.randrange(4) for value in first]
        theirs = metrics.cohen_kappa_score(
            first, second, weights=None if weights == "none" else weights, labels=range(4)
        )
        assert cohen_kappa(first, second, weights=weights, order=range(4)) == pytest.approx(theirs)  # type: ignore[arg-type]


@pytest.mark.req("R105")
def test_the_report_says_how_sure_it_is_and_what_is_confused() -> None:
    draw = random.Random(1)
    table: dict[str, dict[str, str | float]] = {}
    for item in range(200):
        truth = draw.choice(["refund", "return", "other"])
        muddled = {"refund": "return", "return": "refund", "other": "other"}
        table[str(item)] = {who: muddled[truth] if draw.random() < 0.3 else truth for who in "abc"}
    found = agreement(table)
    assert found.alpha is not None and found.low is not None and found.high is not None
    assert found.low < found.alpha < found.high and found.high - found.low < 0.2
    assert found.confused[0][:2] == ("refund", "return")
    assert (found.by_value["other"], set(found.kappas)) == (1.0, {("a", "b"), ("a", "c"), ("b", "c")})
    assert (
        found.verdict.startswith(f"alpha {found.alpha:.2f}: not reliable") and "'refund' and 'return'" in found.verdict
    )
    assert agreement(table) == found and (found.num_items, found.num_answers) == (200, 600)


def test_the_interval_covers_the_alpha_of_many_more_items() -> None:
    def drawn(num: int, seed: int) -> dict[str, dict[str, str | float]]:
        draw = random.Random(seed)
        truths = [draw.choice("xyz") for _ in range(num)]
        return {
            str(n): {who: truth if draw.random() < 0.8 else draw.choice("xyz") for who in "ab"}
            for n, truth in enumerate(truths)
        }

    true = krippendorff_alpha(drawn(20_000, 99))
    assert true is not None
    intervals = [agreement(drawn(100, seed)) for seed in range(100)]
    covered = sum(
        found.low <= true <= found.high for found in intervals if found.low is not None and found.high is not None
    )
    assert 88 <= covered <= 100


def test_where_agreement_has_no_meaning_it_is_none() -> None:
    same = agreement({"1": {"a": "x", "b": "x"}, "2": {"a": "x", "b": "x"}})
    assert (same.alpha, same.low, same.percent) == (None, None, 1.0) and "says nothing" in same.verdict
    assert cohen_kappa(["x", "x"], ["x", "x"]) is None
    with pytest.raises(DataError, match="no item has answers of two"):
        agreement({"1": {"a": "x"}, "2": {"b": "x"}})
    with pytest.raises(DataError, match="'great' is not on the scale"):
        agreement({"1": {"a": "good", "b": "great"}}, level="ordinal", order=("bad", "good"))
    with pytest.raises(DataError, match="is no number"):
        agreement({"1": {"a": "good", "b": "bad"}}, level="interval")
    with pytest.raises(DataError, match="the same items twice"):
        cohen_kappa(["x"], [])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 3), min_size=2, max_size=4), min_size=2, max_size=12))
def test_alpha_knows_no_order_of_items_or_annotators_and_is_at_most_one(table: list[list[int]]) -> None:
    given_votes = {str(i): {str(j): value for j, value in enumerate(row)} for i, row in enumerate(table)}
    turned = {str(i): {str(j): value for j, value in enumerate(row[::-1])} for i, row in enumerate(table[::-1])}
    for level in ("nominal", "ordinal", "interval"):
        alpha, other = krippendorff_alpha(given_votes, level=level), krippendorff_alpha(turned, level=level)
        assert (alpha is None) == (other is None)
        if alpha is not None:
            assert alpha == pytest.approx(other) and alpha <= 1
    if all(len(set(row)) == 1 for row in table) and len({row[0] for row in table}) > 1:
        assert krippendorff_alpha(given_votes) == 1
