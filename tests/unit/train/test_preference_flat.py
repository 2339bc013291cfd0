"""Preference methods on flat tokens: the loss and gradient of the padded path, and the shared prompt computed once."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from foretune.config.job import AdvancedTrain, TrainConfig
from foretune.models.adapter import LoraLinear, attach_lora
from foretune.models.load import LoadedModel, load_model
from foretune.train.objective import Preference, Row
from foretune.train.passes import FlatPasses, choose_passes
from foretune.train.preference import PreferencePasses, Weights, preference_passes
from tiny import VOCABULARY, tiny_model


def rows_of(method: str, num: int = 7) -> list[Row]:
    """Pairs of unlike lengths behind a common system prompt; answers begin with the same two tokens."""
    draw = np.random.default_rng(1)

    def tokens(count: int) -> list[int]:
        return [int(i) for i in draw.integers(3, VOCABULARY, count)]

    system, rows = tokens(20), []
    for i in range(num):
        prompt = [*system, *tokens(18 + i)] if i % 3 else tokens(9)
        begin = tokens(2)
        sides = []
        for size in (4 + i, 3 + 2 * i):
            answer = [*begin, *tokens(size)]
            weights = np.array([0.0] * len(prompt) + [1.0] * len(answer), dtype=np.float32)
            sides.append((np.array([*prompt, *answer], dtype=np.int32), weights))
        rows.append(
            Row(*sides[0], preference=Preference(*sides[1], is_desirable=i % 2 == 0 if method == "kto" else None))
        )
    return rows


def adapted(folder: Path, *, trains_all: bool = False, dropout: float = 0.0) -> LoadedModel:
    """A tiny Llama with adapters that have moved, or with all weights trained."""
    loaded = load_model(folder, pad_id=0)
    if trains_all:
        loaded.model.requires_grad_(True)
        return loaded
    attach_lora(loaded, rank=4, alpha=8, dropout=dropout, target_modules=("all-linear",))
    generator = torch.Generator().manual_seed(2)
    for module in loaded.model.modules():
        if isinstance(module, LoraLinear):
            module.lora_b.data.normal_(std=0.3, generator=generator)
    return loaded


def passes_for(method: str, loaded: LoadedModel, engine: str = "auto") -> PreferencePasses:
    """The passes of a method on an engine."""
    passes, _ = choose_passes(loaded, precision="fp32", pad_id=0, max_seq_len=64, engine=engine)
    train = TrainConfig(method=method, advanced=AdvancedTrain(label_smoothing=0.1 if method == "dpo" else 0.0))  # type: ignore[arg-type]
    flat = passes if isinstance(passes, FlatPasses) else None
    return preference_passes(loaded, train, weights=Weights(1.5, 1.0), precision="fp32", pad_id=0, flat=flat)


def gradients(
    loaded: LoadedModel, passes: PreferencePasses, rows: list[Row], budget: int
) -> tuple[float, torch.Tensor]:
    """Loss and the whole gradient of one global batch."""
    loaded.model.train()
    loaded.model.zero_grad()
    loss = 0.0
    for micro in passes.cut(rows, budget):
        found = micro.loss().loss
        found.backward()
        loss += float(found.detach())
    return loss, torch.cat([p.grad.flatten() for p in loaded.model.parameters() if p.grad is not None])


@pytest.mark.parametrize("trains_all", [False, True])
@pytest.mark.parametrize("method", ["dpo", "orpo", "kto"])
@pytest.mark.req("R223")
def test_flat_pairs_learn_what_padded_ones_do(method: str, trains_all: bool, tmp_path: Path) -> None:
    folder, rows = tiny_model(tmp_path / "base"), rows_of(method)
    padded, flat = (adapted(folder, trains_all=trains_all) for _ in range(2))
    known = passes_for(method, load_model(folder, pad_id=0), "padded").with_reference(rows, 10_000)
    expected = gradients(padded, passes_for(method, padded, "padded"), known, 10_000)
    for budget in (10_000, 120, 1):
        loss, gradient = gradients(flat, passes_for(method, flat), known, budget)
        assert loss == pytest.approx(expected[0], rel=1e-6)
        assert float((gradient - expected[1]).norm() / expected[1].norm()) < 1e-5


def exact_dpo_loss(folder: Path, rows: list[Row], beta: float) -> float:
    """The loss of pairs computed wholly in fp64, by the transformers class, sequence by sequence."""
    moved = [adapted(folder).model.double().eval(), load_model(folder, pad_id=0).model.double().eval()]

    def gained(ids: np.ndarray, weights: np.ndarray) -> float:
        ids_BL = torch.from_numpy(ids.astype(np.int64))[None]
        asked = torch.from_numpy(weights[1:] > 0)
        with torch.no_grad():
            shares = [model(ids_BL).logits[0, :-1].log_softmax(-1) for model in moved]
        now, before = (share.gather(1, ids_BL[0, 1:, None])[asked].sum() for share in shares)
        return float(now - before)

    pairs = [(row.preference, gained(row.ids, row.weights)) for row in rows if row.preference is not None]
    return sum(float(np.logaddexp(0.0, -beta * (good - gained(one.ids, one.weights)))) for one, good in pairs)


@pytest.mark.parametrize("engine", ["auto", "padded"])
@pytest.mark.req("R223")
def test_the_loss_of_long_answers_is_that_of_fp64(engine: str, tmp_path: Path) -> None:
    draw, folder, rows = np.random.default_rng(4), tiny_model(tmp_path / "base"), []
    for _ in range(6):  # sums of 800 nats, whose margins are a hundredth of that
        asked = draw.integers(3, VOCABULARY, 30)
        weights = np.array([0.0] * 30 + [1.0] * 110, dtype=np.float32)
        good, poor = (np.append(asked, draw.integers(3, VOCABULARY, 110)).astype(np.int32) for _ in range(2))
        rows.append(Row(good, weights, preference=Preference(poor, weights)))
    known = passes_for("dpo", load_model(folder, pad_id=0), engine).with_reference(rows, 10_000)
    loaded = adapted(folder)
    loaded.model.eval()
    judged = preference_passes(
        loaded, TrainConfig(method="dpo"), weights=Weights(), precision="fp32", pad_id=0,
        flat=flat if isinstance(flat := passes_for("dpo", loaded, engine).layout.passes, FlatPasses) else None,
    )  # fmt: skip
    loss = sum(float(micro.loss().loss.detach()) for micro in judged.cut(known, 10_000))
    assert loss == pytest.approx(exact_dpo_loss(folder, rows, 0.1), rel=1e-6)


def test_the_reference_is_the_same_on_both_engines(tmp_path: Path) -> None:
    loaded = adapted(tiny_model(tmp_path / "base"))
    for method in ("dpo", "kto"):
        rows = rows_of(method)
        found = [
            [
                row.preference.reference
                for row in passes_for(method, loaded, engine).with_reference(rows, 90)
                if row.preference
            ]
            for engine in ("auto", "padded")
        ]
        assert np.allclose(*found, rtol=1e-5)


def test_a_pair_computes_its_prompt_once_and_is_never_parted(tmp_path: Path) -> None:
    loaded = adapted(tiny_model(tmp_path / "base"))
    loaded.model.train()
    rows = rows_of("dpo")
    passes = passes_for("dpo", loaded)
    whole = list(passes.cut(rows, 10_000))
    assert len(whole) == 1 and len(whole[0].rows) == len(rows)
    repeated = sum(len(row.ids) - 1 + len(row.preference.ids) - 1 for row in rows if row.preference)
    prompts = sum(int(np.argmax(row.weights)) + 2 for row in rows)  # and the two tokens that both answers begin with
    systems = 20 * (sum(i % 3 > 0 for i in range(len(rows))) - 1)
    assert whole[0].num_tokens <= repeated - prompts - systems + 16 * len(rows)
    assert whole[0].num_tokens < 0.6 * repeated
    cut = list(passes.cut(rows, 90))
    assert len(cut) > 2 and sum(len(micro.rows) for micro in cut) == len(rows)
    assert all(micro.num_tokens <= 90 or len(micro.rows) == 1 for micro in cut)


def test_dropout_keeps_the_two_answers_apart_unless_the_job_names_none(tmp_path: Path) -> None:
    assert TrainConfig.model_validate({"method": "dpo"}).advanced.dropout == 0.0
    named = TrainConfig.model_validate({"method": "kto", "advanced": {"dropout": 0.1, "beta": 0.2}})
    assert named.advanced.dropout == 0.1 and TrainConfig().advanced.dropout == 0.05
    loaded = adapted(tiny_model(tmp_path / "base"), dropout=0.1)
    loaded.model.train()
    rows = rows_of("dpo")
    (micro,) = passes_for("dpo", loaded).cut(rows, 10_000)
    assert micro.num_tokens == sum(len(row.ids) - 1 + len(row.preference.ids) - 1 for row in rows if row.preference)


def test_without_packing_each_pair_is_a_pass(tmp_path: Path) -> None:
    loaded = adapted(tiny_model(tmp_path / "base"))
    flat, _ = choose_passes(loaded, precision="fp32", pad_id=0, max_seq_len=64, without=("packing",))
    assert isinstance(flat, FlatPasses)
    train = TrainConfig(method="dpo")
    passes = preference_passes(loaded, train, weights=Weights(), precision="fp32", pad_id=0, flat=flat)
    assert [len(micro.rows) for micro in passes.cut(rows_of("dpo", 3), 10_000)] == [1, 1, 1]
