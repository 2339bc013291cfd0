"""The plan counts the very batches that training runs."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from foretune.config import JobConfig
from foretune.config.derive import Derived, derive
from foretune.data.micro import global_batch, micro_batches, padded_tokens
from foretune.models.flat_rules import row_multiple
from foretune.plan import Lengths, lengths
from foretune.plan.lengths import Cutting, Pass


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
    passes: Counter[Pass] = Counter()
    padded = 0
    for step in range(derived.num_steps):
        chosen = global_batch(step, samples, derived.global_batch_size, seed=3)
        budget = derived.micro_batch_size * derived.max_seq_len
        for micro in micro_batches(chosen, data.train, budget_tokens=budget):
            passes[Pass.padded(len(micro), data.train[micro[0]])] += 1
            padded += padded_tokens(micro, data.train)
    work = lengths.training_work(data, derived, seed=3)
    assert work.passes == passes
    assert work.num_computed_tokens == padded
    assert work.largest.num_tokens == max(one.num_tokens for one in passes)
    assert not work.is_sampled
    assert lengths.training_work(data, derived, seed=4).passes != passes or samples == 16 or samples == 5


def test_many_steps_are_sampled_within_a_percent(monkeypatch: pytest.MonkeyPatch) -> None:
    data = Lengths(train=[10 + (index * 53) % 290 for index in range(2000)])
    derived = derived_for(data, epochs=5.0)
    exact = lengths.training_work(data, derived, seed=0)
    monkeypatch.setattr(lengths, "MOST_ROWS", 3000)
    sampled = lengths.training_work(data, derived, seed=0)
    assert sampled.is_sampled
    assert sampled.num_computed_tokens == pytest.approx(exact.num_computed_tokens, rel=0.01)
    assert sampled.largest.row_tokens == max(data.train)


def test_rows_are_cut_where_the_samples_are() -> None:
    data = Lengths(train=[50, 900], max_seq_len=128)
    assert data.longest_train == 128
    derived = derived_for(data, epochs=1.0)
    assert max(one.row_tokens for one in lengths.training_work(data, derived, seed=0).passes) == 128
    assert Lengths(train=[]).longest_train == 0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("shares", [True, False])
@pytest.mark.parametrize("num_prompt_tokens", [0, 20])
def test_flat_work_is_what_the_flat_engine_does(shares: bool, num_prompt_tokens: int, precision: Any) -> None:
    """The plan cuts flat tokens as train/flat.py does, shared prefixes and soft prompts included."""
    torch = pytest.importorskip("torch")
    from foretune.models.decoder import FlatSettings
    from foretune.train.flat import flat_batches
    from foretune.train.objective import Row

    random = np.random.default_rng(0)
    heads = [random.integers(0, 50, 40), random.integers(0, 50, 18)]
    ids = [np.concatenate([heads[i % 2], random.integers(0, 50, 3 + i % 30)]).astype(np.int32) for i in range(50)]
    data = Lengths(train=[len(one) for one in ids], train_ids=ids if shares else ())
    derived = derived_for(data, epochs=1.0, advanced={"micro_batch_size": 4})
    cutting = Cutting(True, shares, num_prompt_tokens, row_multiple=row_multiple(precision))
    work = lengths.training_work(data, derived, seed=3, cutting=cutting)

    class Model:
        settings = FlatSettings(has_shared_prefix=shares, precision=precision)
        shares_prefixes = shares

    model: Any = Model()
    model.num_prompt_tokens = num_prompt_tokens
    computed: Counter[int] = Counter()
    budget = derived.micro_batch_size * derived.max_seq_len
    for step in range(derived.num_steps):
        rows = [Row(ids[i], np.ones(len(ids[i]))) for i in global_batch(step, 50, derived.global_batch_size, seed=3)]
        for batch in flat_batches(rows, model, budget_tokens=budget, device=torch.device("cpu")):
            computed[batch.num_tokens] += 1
    planned: Counter[float] = Counter()
    for one, count in work.passes.items():
        planned[one.num_tokens] += count
    assert planned == computed
    assert precision == "bf16" or not shares or work.num_computed_tokens < sum(data.train) * derived.num_epochs


@pytest.mark.parametrize("shares", [True, False])
def test_pairs_are_cut_as_training_cuts_them(shares: bool) -> None:
    """Both answers of a pair stay together, and their prompt is computed once where prefixes are shared."""
    torch = pytest.importorskip("torch")
    from foretune.models.decoder import FlatSettings
    from foretune.train.flat import Asked, flat_sequences

    random = np.random.default_rng(0)
    prompts = [random.integers(0, 50, 20 + i % 7).astype(np.int32) for i in range(30)]
    own, others = (
        [np.concatenate([p, random.integers(0, 50, 3 + i % 9)]) for i, p in enumerate(prompts)] for _ in "ab"
    )
    longest = [max(len(a), len(b)) for a, b in zip(own, others, strict=True)]
    data = Lengths(train=longest, train_ids=own, train_others=others)
    derived = derived_for(data, epochs=1.0, advanced={"micro_batch_size": 4})
    work = lengths.training_work(data, derived, seed=3, cutting=Cutting(True, shares, num_sequences=2))

    class Model:
        settings = FlatSettings(has_shared_prefix=shares)
        shares_prefixes = shares

    model: Any = Model()
    computed: Counter[float] = Counter()
    budget = derived.micro_batch_size * derived.max_seq_len
    for step in range(derived.num_steps):
        chosen = global_batch(step, 30, derived.global_batch_size, seed=3)
        groups = [[Asked(one[i], np.ones(len(one[i]))) for one in (own, others)] for i in chosen]
        for batch in flat_sequences(groups, model, budget_tokens=budget, device=torch.device("cpu")):
            computed[len(batch.tokens.ids_T)] += 1
            assert len(batch.tokens.ids_T) <= budget
    planned: Counter[float] = Counter()
    for one, count in work.passes.items():
        planned[one.num_tokens] += count
    assert planned == computed
    pairs = sum(len(a) + len(b) - 2 for a, b in zip(own, others, strict=True))
    assert work.num_computed_tokens == pairs if not shares else work.num_computed_tokens < 0.75 * pairs
