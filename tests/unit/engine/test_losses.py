"""Losses of given tokens: equal to the model's own, whatever the batch, the prompt's virtual tokens or the adapter."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from foretune.engine import losses as losses_module
from foretune.engine.engine import Engine, load_engine
from foretune.engine.losses import Asked, class_losses, losses_of
from foretune.models.adapter import attach_lora, attach_prefix, attach_soft_prompt, merge_lora
from foretune.models.load import load_model
from tiny import tiny_model

ROWS = [
    Asked([5, 9, 300, 41, 7, 8], [3, 4, 5]),
    Asked([6, 11, 12, 13, 14, 15, 16, 17, 18, 19], [1, 9]),
    Asked([9, 8], [1]),
    Asked([3, 4, 5], []),
]


def expected(engine: Engine, row: Asked) -> np.ndarray:
    """One row by itself, straight from the model."""
    model: Any = engine.loaded.model
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([list(row.ids)])).logits[0].log_softmax(-1)
    return np.array([-float(logits[place - 1, row.ids[place]]) for place in row.places])


@pytest.mark.parametrize("family", ["llama", "gpt2", "bloom"])
def test_losses_are_the_models_own_in_any_batch(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Padded together or alone, in the order asked."""
    engine = load_engine(tiny_model(tmp_path, family))
    told: list[tuple[int, int]] = []
    together = losses_of(engine, ROWS, on_progress=lambda done, total: told.append((done, total)))
    monkeypatch.setattr(losses_module, "BUDGET_TOKENS", 1)
    alone = losses_of(engine, ROWS)
    for row, one, other in zip(ROWS, together, alone, strict=True):
        np.testing.assert_allclose(one, expected(engine, row), atol=1e-4)
        np.testing.assert_allclose(other, one, atol=1e-4)
    assert told[-1][1] == len(ROWS)


def test_the_base_lies_within_an_adapter(tmp_path: Path) -> None:
    """`is_base` is the model before the adapter; merging changes the tuned losses by rounding only."""
    engine = load_engine(tiny_model(tmp_path))
    before = losses_of(engine, ROWS)
    attach_lora(engine.loaded, rank=4, alpha=64, dropout=0.0)
    with torch.no_grad():
        for name, parameter in engine.loaded.model.named_parameters():
            if parameter.requires_grad:
                parameter.normal_(0, 0.3, generator=torch.Generator().manual_seed(len(name)))
    tuned, base = losses_of(engine, ROWS), losses_of(engine, ROWS, is_base=True)
    np.testing.assert_allclose(np.concatenate(base), np.concatenate(before), atol=1e-5)
    assert np.abs(np.concatenate(tuned) - np.concatenate(before)).max() > 0.1
    merge_lora(engine.loaded)
    np.testing.assert_allclose(np.concatenate(losses_of(engine, ROWS)), np.concatenate(tuned), atol=1e-3)


@pytest.mark.parametrize("attach", [attach_soft_prompt, attach_prefix])
def test_virtual_tokens_stand_before_every_row(attach: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They change the losses, and rows still do not see each other."""
    engine = load_engine(tiny_model(tmp_path))
    before = np.concatenate(losses_of(engine, ROWS))
    attach(engine.loaded, num_tokens=3, seed=1)
    together = np.concatenate(losses_of(engine, ROWS))
    monkeypatch.setattr(losses_module, "BUDGET_TOKENS", 1)
    np.testing.assert_allclose(together, np.concatenate(losses_of(engine, ROWS)), atol=1e-4)
    assert np.abs(together - before).max() > 1e-3


def test_an_encoder_decoder_predicts_its_targets(tmp_path: Path) -> None:
    """As the class computes its own loss from labels."""
    engine = load_engine(tiny_model(tmp_path, "t5"))
    rows = [Asked([9, 8, 7, 2], [0, 1, 2, 3], [3, 4, 5]), Asked([6, 2], [0, 1], [8, 8, 8, 8, 9])]
    model: Any = engine.loaded.model
    for row, found in zip(rows, losses_of(engine, rows), strict=True):
        with torch.inference_mode():
            loss = model(input_ids=torch.tensor([row.source]), labels=torch.tensor([row.ids])).loss
        assert found.mean() == pytest.approx(float(loss), abs=1e-4)


def test_classes_have_a_loss_each(tmp_path: Path) -> None:
    """Minus the logarithm of the probability of the right one."""
    loaded = load_model(tiny_model(tmp_path), num_labels=3, pad_id=0)
    tokenizer = load_engine(tmp_path).tokenizer
    engine = Engine(loaded, tokenizer, ("a", "b", "c"))
    inputs = [[5, 6, 7], [8, 9], [3, 4, 5, 6]]
    by_label = [class_losses(engine, inputs, [label] * 3) for label in "abc"]
    np.testing.assert_allclose(np.exp(-np.array(by_label)).sum(axis=0), 1, atol=1e-5)
    assert engine.classify(inputs) == ["abc"[int(np.argmin(column))] for column in np.array(by_label).T]
    with pytest.raises(KeyError):
        class_losses(engine, inputs, ["d"] * 3)
