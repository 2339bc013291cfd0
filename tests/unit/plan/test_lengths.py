"""The plan counts the very batches that training runs."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections import Counter

import pytest

from foretune.config import JobConfig
from foretune.config.derive import Derived, derive
from foretune.data.micro import global_batch, micro_batches, padded_tokens
from foretune.plan import Lengths, lengths


def derived_for(lengths_: Lengths, **train: object) -> Derived:
    job = JobConfig.model_validate({"train": train})
    return derive(
        job,
        num_train_samples=len(lengths_.train),
        longest_sample_tokens=lengths_.longest_train,
        model_max_len=None,
    )


@pytest.mark.parametrize(("samples", "epochs"), [(33, 1.0), (100, 2.5), (16, 3.0), (5, 4.0)])
def test_work_is_what_the_loop_does(samples: int, epochs: float) -> None:
    data = Lengths(train=[10 + (index * 53) % 290 for index in range(samples)])
    derived = derived_for(data, epochs=epochs)
    rectangles: Counter[tuple[int, int]] = Counter()
    padded = 0
    for step in range(derived.num_steps):
        chosen = global_batch(step, samples, derived.global_batch_size, seed=3)
        for micro in micro_batches(
            chosen, data.train, micro_batch_size=derived.micro_batch_size, max_seq_len=derived.max_seq_len
        ):
            rectangles[len(micro), data.train[micro[0]]] += 1
            padded += padded_tokens(micro, data.train)
    work = lengths.training_work(data, derived, seed=3)
    assert work.rectangles == rectangles
    assert work.padded_tokens == padded
    assert work.largest[0] * work.largest[1] == max(rows * tokens for rows, tokens in rectangles)
    assert not work.is_sampled
    assert lengths.training_work(data, derived, seed=4).rectangles != rectangles or samples == 16 or samples == 5


def test_many_steps_are_sampled_within_a_percent(monkeypatch: pytest.MonkeyPatch) -> None:
    data = Lengths(train=[10 + (index * 53) % 290 for index in range(2000)])
    derived = derived_for(data, epochs=5.0)
    exact = lengths.training_work(data, derived, seed=0)
    monkeypatch.setattr(lengths, "MOST_ROWS", 3000)
    sampled = lengths.training_work(data, derived, seed=0)
    assert sampled.is_sampled
    assert sampled.padded_tokens == pytest.approx(exact.padded_tokens, rel=0.01)
    assert sampled.largest[1] == max(data.train)


def test_rows_are_cut_where_the_samples_are() -> None:
    data = Lengths(train=[50, 900], max_seq_len=128)
    assert data.longest_train == 128
    derived = derived_for(data, epochs=1.0)
    assert max(tokens for _, tokens in lengths.training_work(data, derived, seed=0).rectangles) == 128
    assert Lengths(train=[]).longest_train == 0
