"""DPO, ORPO and KTO against TRL on the same batch: loss and gradient, however the batch is cut."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib.util
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from foretune.config.job import AdvancedTrain, TrainConfig
from foretune.models.load import LoadedModel
from foretune.train.objective import Preference, Row
from foretune.train.passes import FlatPasses, choose_passes
from foretune.train.preference import PreferencePasses, Weights, preference_passes

sys.path.insert(0, str(Path(__file__).parent))
import trl_losses as oracle

CASES = {"dpo": 0.0, "dpo_smoothed": oracle.SMOOTHING, "orpo": 0.0, "kto": 0.0}


def _expected(model: Any, reference: Any) -> dict[str, list[float]]:
    """What TRL gives here and now where it is installed, else what it gave when it was recorded."""
    if importlib.util.find_spec("trl") is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return oracle.trl_losses(model, reference)
    recorded = json.loads(oracle.FIXTURE.read_text(encoding="utf-8"))
    if [oracle.checksum(model), oracle.checksum(reference)] != pytest.approx(recorded["weights"], rel=1e-9):
        pytest.skip("this torch makes other random weights from the same seed, and trl is not installed")
    losses: dict[str, list[float]] = recorded["losses"]
    return losses


def _passes(name: str, model: Any, engine: str) -> PreferencePasses:
    advanced = AdvancedTrain(beta=oracle.BETA, label_smoothing=CASES[name])
    train = TrainConfig(method=name.partition("_")[0], advanced=advanced)  # type: ignore[arg-type]
    loaded = LoadedModel(model, "causal", "llama", Path(), torch.device("cpu"))
    weights = Weights(oracle.DESIRABLE, oracle.UNDESIRABLE)
    passes, _ = choose_passes(loaded, precision="fp32", pad_id=oracle.PAD, max_seq_len=64, engine=engine)
    flat = passes if isinstance(passes, FlatPasses) else None
    assert (flat is None) == (engine == "padded")
    return preference_passes(loaded, train, weights=weights, precision="fp32", pad_id=oracle.PAD, flat=flat)


def _sequence(prompt: list[int], answer: list[int]) -> tuple[np.ndarray, np.ndarray]:
    ids = np.array([*prompt, *answer], dtype=np.int32)
    return ids, np.array([0.0] * len(prompt) + [1.0] * len(answer), dtype=np.float32)


def _rows(name: str) -> list[Row]:
    rows = []
    for one in oracle.examples():
        own = _sequence(one["prompt_ids"], one["chosen_ids"])
        other = _sequence(one["prompt_ids"], one["kl_ids" if name == "kto" else "rejected_ids"])
        rows.append(Row(*own, preference=Preference(*other, is_desirable=one["label"] if name == "kto" else None)))
    return rows


@pytest.mark.parametrize("engine", ["auto", "padded"])
@pytest.mark.parametrize("budget_tokens", [10_000, 40, 1])
def test_losses_and_gradients_are_those_of_trl(budget_tokens: int, engine: str, tmp_path: Path) -> None:
    model, reference = oracle.two_models(tmp_path)
    expected = _expected(model, reference)
    for name in CASES:
        rows = _passes(name, reference, engine).with_reference(_rows(name), budget_tokens)
        model.zero_grad()
        loss = 0.0
        for micro in _passes(name, model, engine).cut(rows, budget_tokens):
            share = micro.loss().loss / len(rows)
            share.backward()
            loss += float(share.detach())
        assert loss == pytest.approx(expected[name][0], rel=1e-5), name
        assert oracle.gradient_norm(model) == pytest.approx(expected[name][1], rel=1e-4), name


def test_the_fixture_says_what_it_was_made_with() -> None:
    recorded = json.loads(oracle.FIXTURE.read_text(encoding="utf-8"))
    assert (
        recorded["trl"].count(".") == 2 and recorded["date"].startswith("20") and set(recorded["losses"]) == set(CASES)
    )
