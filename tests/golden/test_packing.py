"""Packing changes nothing but where tokens lie: samples cannot see each other, any cut gives the same gradient."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch

from foretune.models.adapter import attach_lora
from foretune.models.decoder import FlatModel, FlatSettings, flat_model
from foretune.models.load import load_model
from foretune.train.flat import flat_batches, flat_loss
from foretune.train.objective import Row
from tiny import PEBBLE


def _model(settings: FlatSettings | None = None) -> FlatModel:
    loaded = load_model(PEBBLE)
    attach_lora(loaded, rank=4, alpha=8.0, dropout=0.0, target_modules=("all-linear",), seed=1)
    model = flat_model(loaded, settings or FlatSettings())
    assert model is not None
    return model


def _rows(num: int = 24, shared: int = 40) -> list[Row]:
    draw = np.random.default_rng(5)
    prefix = draw.integers(3, 2048, shared)
    rows = []
    for i in range(num):
        ids = np.concatenate([prefix if i % 3 else prefix[:10], draw.integers(3, 2048, 4 + 5 * (i % 7))])
        weights = np.zeros(len(ids), dtype=np.float32)
        weights[-3:] = 1
        rows.append(Row(ids.astype(np.int32), weights))
    return rows


def _step(model: FlatModel, rows: list[Row], budget_tokens: int) -> tuple[float, torch.Tensor, int]:
    """Loss, gradient and number of passes of one global batch."""
    model.loaded.model.zero_grad()
    losses = []
    for batch in flat_batches(rows, model, budget_tokens=budget_tokens, device=model.loaded.device):
        loss = flat_loss(model, batch).loss
        loss.backward()
        losses.append(float(loss.detach()))
    grads = [p.grad.flatten() for p in model.loaded.model.parameters() if p.grad is not None]
    return sum(losses), torch.cat(grads), len(losses)


def test_any_cut_gives_the_same_gradient() -> None:
    model, rows = _model(), _rows()
    loss, gradient, passes = _step(model, rows, 100_000)
    assert passes == 1
    for budget in (1, 64, 300):
        again, other, more = _step(model, rows, budget)
        assert more > passes
        assert again == pytest.approx(loss, rel=1e-6)
        assert float((other - gradient).norm() / gradient.norm()) < 1e-5


@pytest.mark.parametrize("is_shared", [True, False])
def test_a_sample_is_blind_to_its_neighbours(is_shared: bool) -> None:
    """Other tokens in every neighbour leave a sample's own hidden states as they were, bit for bit or nearly."""
    model, rows = _model(FlatSettings(has_shared_prefix=is_shared)), _rows()
    watched = rows[4]
    alone = _hidden(model, [watched])
    for seed in range(3):
        draw = np.random.default_rng(seed)
        others = [
            Row(
                np.concatenate([r.ids[:40], draw.integers(3, 2048, len(r.ids))]).astype(np.int32),
                np.tile(r.weights, 2)[: 40 + len(r.ids)],
            )
            for r in rows[:3]
        ]
        together = _losses(model, [*others, watched]) - _losses(model, others)
        assert together == pytest.approx(_losses(model, [watched]), abs=2e-4)
    assert alone.shape[0] == 3


def _losses(model: FlatModel, rows: list[Row]) -> float:
    with torch.no_grad():
        batches = flat_batches(rows, model, budget_tokens=100_000, device=model.loaded.device)
        return sum(float(flat_loss(model, batch).loss) for batch in batches)


def _hidden(model: FlatModel, rows: list[Row]) -> torch.Tensor:
    with torch.no_grad():
        (batch,) = flat_batches(rows, model, budget_tokens=100_000, device=model.loaded.device)
        return model.hidden(batch.tokens)


def test_sharing_computes_fewer_tokens_and_the_same_gradient() -> None:
    rows = _rows()
    shared = _model()
    repeated = _model(FlatSettings(has_shared_prefix=False))
    (few,) = flat_batches(rows, shared, budget_tokens=100_000, device=shared.loaded.device)
    (many,) = flat_batches(rows, repeated, budget_tokens=100_000, device=shared.loaded.device)
    assert many.num_tokens == many.num_repeated_tokens == few.num_repeated_tokens
    assert few.num_tokens < 0.55 * many.num_tokens
    loss, gradient, _ = _step(shared, rows, 100_000)
    again, other, _ = _step(repeated, rows, 100_000)
    assert again == pytest.approx(loss, rel=1e-6)
    assert float((other - gradient).norm() / gradient.norm()) < 1e-5
