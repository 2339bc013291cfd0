"""The planner of flat batches: what is shared, how it lies, where it is cut; no weights are read."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foretune.models.decoder import FlatSettings
from foretune.train.flat import FlatBatch, flat_batches
from foretune.train.objective import Row


class FakeModel:
    """What the planner asks of a model."""

    def __init__(self, *, num_prompt_tokens: int = 0, **changes: Any) -> None:
        self.settings = FlatSettings(**changes)
        self.num_prompt_tokens = num_prompt_tokens
        self.shares_prefixes = self.settings.has_shared_prefix


def _row(ids: list[int], num_learned: int = 1) -> Row:
    weights = np.zeros(len(ids), dtype=np.float32)
    weights[len(ids) - num_learned :] = 1
    return Row(np.array(ids, dtype=np.int32), weights)


def _batches(rows: list[Row], budget: int = 10_000, **changes: Any) -> list[FlatBatch]:
    model: Any = FakeModel(**changes)
    return list(flat_batches(rows, model, budget_tokens=budget, device=torch.device("cpu")))


def _seen(batch: FlatBatch, row: int) -> list[int]:
    """Ids that the token at flat place `row` sees, in order of position, itself last."""
    ids = batch.tokens.ids_T.tolist()
    for segment in batch.tokens.segments:
        if segment.start <= row < segment.end:
            before = [a for a in batch.tokens.segments if a.end <= segment.start and segment.end <= a.reach]
            places = [p for a in before for p in range(a.start, a.end)] + list(range(segment.start, row + 1))
            assert batch.tokens.positions_T[places].tolist() == list(range(len(places)))
            return [ids[p] for p in places]
    raise AssertionError(row)


def _learned(batches: list[FlatBatch]) -> dict[tuple[tuple[int, ...], int], float]:
    """Weight of every (context, target) that the batches learn."""
    found: dict[tuple[tuple[int, ...], int], float] = {}
    for batch in batches:
        triples = zip(batch.tokens.rows_N.tolist(), batch.targets_N.tolist(), batch.weights_N.tolist(), strict=True)
        for row, target, weight in triples:
            key = (tuple(_seen(batch, row)), target)
            found[key] = found.get(key, 0.0) + weight
    return found


def _expected(rows: list[Row]) -> dict[tuple[tuple[int, ...], int], float]:
    wanted: dict[tuple[tuple[int, ...], int], float] = {}
    for row in rows:
        for place in range(1, len(row.ids)):
            if row.weights[place] > 0:
                key = (tuple(row.ids[:place].tolist()), int(row.ids[place]))
                wanted[key] = wanted.get(key, 0.0) + float(row.weights[place])
    return wanted


@given(
    st.lists(
        st.lists(st.integers(3, 4), min_size=2, max_size=14).flatmap(
            lambda ids: st.tuples(st.just(ids), st.integers(1, len(ids) - 1))
        ),
        min_size=1,
        max_size=9,
    ),
    st.integers(1, 40),
    st.integers(1, 5),
)
@settings(max_examples=150, deadline=None)
def test_every_prediction_keeps_its_own_context_and_weight(
    drawn: list[tuple[list[int], int]], budget: int, least: int
) -> None:
    rows = [_row(ids, learned) for ids, learned in drawn]
    batches = _batches(rows, budget, min_prefix_tokens=least)
    assert _learned(batches) == pytest.approx(_expected(rows))
    assert sum(len(batch.chosen) for batch in batches) == len(rows)
    assert sum(batch.num_repeated_tokens for batch in batches) == sum(len(row.ids) - 1 for row in rows)
    for batch in batches:
        assert batch.num_tokens <= budget or len(batch.chosen) == 1


def test_a_tree_of_prefixes_is_computed_once() -> None:
    system, template = list(range(100, 120)), list(range(200, 216))
    rows = [_row([*system, *template, 7, 8]), _row([*system, *template, 9, 8]), _row([*system, 5, 6, 8])]
    (batch,) = _batches(rows)
    assert batch.num_tokens == 20 + 16 + 1 + 1 + 2
    assert [tuple(s) for s in batch.tokens.segments] == [
        (0, 20, 40),
        (20, 22, 22),
        (22, 38, 40),
        (38, 39, 39),
        (39, 40, 40),
    ]


def test_prefixes_shorter_than_the_least_are_repeated() -> None:
    rows = [_row([*range(100, 115), i, 9]) for i in (3, 4)]
    assert _batches(rows)[0].num_tokens == 32
    assert _batches(rows, min_prefix_tokens=15)[0].num_tokens == 17


def test_equal_samples_are_one_with_twice_the_weight() -> None:
    (batch,) = _batches([_row(list(range(50, 80)), 2)] * 2)
    assert batch.num_tokens == 29
    assert batch.weights_N.tolist() == [2.0, 2.0]
    assert batch.counts_N.tolist() == [2, 2]


def test_without_packing_every_sample_is_a_pass() -> None:
    assert len(_batches([_row([3, 4, 5])] * 4, has_packing=False)) == 4


def test_a_soft_prompt_is_a_prefix_that_everyone_shares() -> None:
    (batch,) = _batches([_row([3, 4, 5]), _row([6, 7, 8, 9])], num_prompt_tokens=20)
    assert batch.tokens.ids_T.tolist() == [*range(-1, -21, -1), *sorted([3, 4]), 6, 7, 8] or batch.num_tokens == 25
    assert batch.num_tokens == 25
    assert batch.tokens.positions_T.tolist() == [*range(20), 20, 21, 20, 21, 22]


def test_a_class_is_read_at_the_last_token() -> None:
    rows = [
        Row(np.array(ids, dtype=np.int32), np.zeros(len(ids), dtype=np.float32), label=n)
        for n, ids in enumerate([[3, 4, 5], [6, 7]])
    ]
    (batch,) = _batches(rows)
    assert sorted(zip(batch.tokens.rows_N.tolist(), batch.targets_N.tolist(), strict=True)) == [(2, 0), (4, 1)]


@pytest.mark.parametrize("has_own_products", [True, False])
def test_bf16_passes_are_filled_up_to_few_sizes_without_learning_from_it(
    monkeypatch: pytest.MonkeyPatch, has_own_products: bool
) -> None:
    monkeypatch.setattr("foretune.models.flat_rules.has_bf16_products", lambda: has_own_products)
    rows = [_row(list(range(10 + i, 40 + 2 * i)), 3 + i) for i in range(6)]
    batches = _batches(rows, 150, precision="bf16")
    assert len(batches) > 1
    sizes = {size for batch in batches for size in (batch.num_tokens, len(batch.targets_N))}
    assert {size % (32 if has_own_products else 128) for size in sizes} == {0}
    learned = {key: weight for key, weight in _learned(batches).items() if weight}
    assert learned == pytest.approx(_expected(rows))
    assert sum(int(batch.counts_N.sum()) for batch in batches) == sum(3 + i for i in range(6))
