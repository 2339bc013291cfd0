"""The frozen lower blocks computed once: the same losses and gradients, no graph below, kept in memory or on disk."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from foretune.config.job import TrainConfig
from foretune.errors import ConfigError
from foretune.models.adapter import LoraLinear, attach_lora, load_adapter, save_adapter
from foretune.models.load import LoadedModel, load_model
from foretune.records.events import EventLog
from foretune.train import trunk as trunk_module
from foretune.train.loop import FitResult, LoopSettings, fit
from foretune.train.objective import Preference, Row, loss_for
from foretune.train.passes import FlatPasses, PaddedPasses, Passes, choose_passes
from foretune.train.preference import Weights, preference_passes
from foretune.train.trunk import TRUNK_FILE, build_trunk, remove_trunk
from tiny import VOCABULARY, tiny_model

SETTINGS = LoopSettings(
    num_steps=6, global_batch_size=4, micro_batch_size=2, max_seq_len=64, learning_rate=1e-2, warmup_steps=0,
    schedule="constant", weight_decay=0.0, max_grad_norm=1.0, eval_every=2, save_every=1, keep_checkpoints=9,
    patience=0, precision="fp32", seed=5, pad_id=0,
)  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama of four blocks."""
    import transformers as hf

    folder = tiny_model(tmp_path_factory.mktemp("trunk") / "base")
    config = json.loads((folder / "config.json").read_text())
    config = hf.LlamaConfig(**{**config, "num_hidden_layers": 4, "layer_types": None})
    torch.manual_seed(0)
    hf.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def rows_of(num: int = 8) -> list[Row]:
    """Rows behind a common prefix of 20 tokens, the first two alike."""
    draw = np.random.default_rng(0)
    prefix, rows = draw.integers(3, VOCABULARY, 20), []
    for i in range(num):
        ids = np.concatenate([prefix, draw.integers(3, VOCABULARY, 6 + 2 * i)]).astype(np.int32)
        weights = np.zeros(len(ids), dtype=np.float32)
        weights[-5:] = 1
        rows.append(Row(ids, weights))
    return [rows[0], *rows]


def adapted(base: Path, top_layers: int = 1, *, dropout: float = 0.0, num_labels: int = 0) -> LoadedModel:
    """Adapters in the upper blocks alone."""
    loaded = load_model(base, num_labels=num_labels, pad_id=0)
    targets = ("all-linear",)
    attach_lora(loaded, rank=4, alpha=8, dropout=dropout, target_modules=targets, seed=1, top_layers=top_layers)
    generator = torch.Generator().manual_seed(3)
    for module in loaded.model.modules():
        if isinstance(module, LoraLinear):
            module.lora_b.data.normal_(std=0.2, generator=generator)
    loaded.model.train()
    return loaded


def flat_passes(loaded: LoadedModel, **options: Any) -> FlatPasses:
    """Flat passes."""
    passes, _ = choose_passes(loaded, precision=options.pop("precision", "fp32"), pad_id=0, max_seq_len=64, **options)
    assert isinstance(passes, FlatPasses)
    return passes


def prepared(passes: Passes, rows: list[Row], folder: Path, key: str = "key") -> str:
    """What `prepare` says."""
    return passes.prepare(rows, 90, folder=folder, key=lambda: key)


def gradients(loaded: LoadedModel, passes: Passes, rows: list[Row]) -> tuple[float, torch.Tensor]:
    """Loss and the whole gradient of one global batch."""
    loaded.model.zero_grad()
    loss = 0.0
    for micro in passes.cut(rows, 120):
        found = micro.loss().loss
        found.backward()
        loss += float(found.detach())
    return loss, torch.cat([p.grad.flatten() for p in loaded.model.parameters() if p.grad is not None])


def count_calls(passes: FlatPasses) -> list[tuple[int, bool]]:
    """Every later call of a block: its number, and whether a graph was built."""
    model, calls = passes.model(), []

    def spy(number: int, layer: Any) -> Any:
        def called(*inputs: Any) -> Any:
            calls.append((number, torch.is_grad_enabled()))
            return layer(*inputs)

        return called

    model.layers = [spy(number, layer) for number, layer in enumerate(model.layers)]
    return calls


def test_adapters_sit_in_the_last_blocks_alone(base: Path) -> None:
    loaded = adapted(base, 2)
    blocks = {name.split(".")[2] for name, p in loaded.model.named_parameters() if p.requires_grad}
    assert blocks == {"2", "3"} and flat_passes(loaded).model().num_frozen == 2
    assert flat_passes(adapted(base, 0)).model().num_frozen == 0
    assert flat_passes(adapted(base, 1, num_labels=3)).model().num_frozen == 3
    with pytest.raises(ConfigError, match="more than the 4 blocks") as caught:
        adapted(base, 5)
    assert caught.value.fix == "train.advanced.top_layers = 1"
    with pytest.raises(ValueError, match="top_layers"):
        TrainConfig.model_validate({"method": "full", "advanced": {"top_layers": 2}})


@pytest.mark.parametrize("top_layers", [1, 3])
def test_a_kept_trunk_changes_neither_loss_nor_gradient(top_layers: int, base: Path, tmp_path: Path) -> None:
    rows = rows_of()
    padded, plain, kept = (adapted(base, top_layers) for _ in range(3))
    expected = gradients(padded, PaddedPasses(padded, loss_for(padded), "fp32", 0), rows)
    passes = flat_passes(kept)
    assert "kept in memory" in prepared(passes, rows, tmp_path)
    for loaded, used in ((plain, flat_passes(plain)), (kept, passes)):
        loss, gradient = gradients(loaded, used, rows)
        assert loss == pytest.approx(expected[0], rel=1e-6)
        assert float((gradient - expected[1]).norm() / expected[1].norm()) < 1e-5
    assert passes.trunk is not None
    unique = {tuple(row.ids[:-1]) for row in rows}
    assert len(passes.trunk.states_UD) < sum(map(len, unique))  # the prefix once


def test_the_backward_pass_stops_below_the_lowest_adapter(base: Path, tmp_path: Path) -> None:
    loaded, rows = adapted(base, 1), rows_of()
    passes = flat_passes(loaded)
    calls = count_calls(passes)
    gradients(loaded, passes, rows)
    assert set(calls) == {(0, False), (1, False), (2, False), (3, True)}
    prepared(passes, rows, tmp_path)
    calls.clear()
    gradients(loaded, passes, rows)
    assert set(calls) == {(3, True)}  # the lower blocks are not computed at all
    calls.clear()
    gradients(loaded, passes, [*rows, Row(rows[0].ids[3:], rows[0].weights[3:])])
    assert (0, False) in calls  # a row that is not known


def test_the_switch_and_adapters_everywhere_keep_nothing(base: Path, tmp_path: Path) -> None:
    off, everywhere = flat_passes(adapted(base, 1), without=("cached_trunk",)), flat_passes(adapted(base, 0))
    assert prepared(off, rows_of(), tmp_path) == "" == prepared(everywhere, rows_of(), tmp_path)
    assert off.trunk is None and everywhere.trunk is None


def test_a_trunk_too_large_for_memory_lies_on_disk_and_is_read_again(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, loaded = rows_of(), adapted(base, 1)
    memory = flat_passes(loaded)
    prepared(memory, rows, tmp_path)
    monkeypatch.setattr(trunk_module, "MEMORY_SHARE", 0.0)
    disk = flat_passes(loaded)
    assert "kept in disk" in prepared(disk, rows, tmp_path)
    assert memory.trunk is not None and disk.trunk is not None
    assert torch.equal(memory.trunk.states_UD, disk.trunk.states_UD)
    size = (tmp_path / TRUNK_FILE).stat().st_size
    assert size == disk.trunk.states_UD.nbytes
    for key, is_read in (("key", True), ("other base", False)):
        again = flat_passes(loaded)
        calls = count_calls(again)
        prepared(again, rows, tmp_path, key)
        assert (not calls) is is_read and again.trunk is not None
        assert torch.equal(again.trunk.states_UD, memory.trunk.states_UD)
    remove_trunk(tmp_path)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(trunk_module, "DISK_SHARE", 0.0)
    none = flat_passes(loaded)
    assert "too much room" in prepared(none, rows, tmp_path) and none.trunk is None


def test_a_trunk_of_other_blocks_is_made_anew(base: Path, tmp_path: Path) -> None:
    first, second = flat_passes(adapted(base, 1)), flat_passes(adapted(base, 2))
    prepared(first, rows_of(), tmp_path)
    second.trunk = first.trunk
    prepared(second, rows_of(), tmp_path)
    assert second.trunk is not first.trunk
    third = flat_passes(adapted(base, 1))
    third.trunk = first.trunk
    prepared(third, rows_of(), tmp_path)
    assert third.trunk is first.trunk  # a sweep's next setting


def test_bf16_states_are_those_of_bf16_passes(base: Path, tmp_path: Path) -> None:
    loaded = adapted(base, 1)
    passes = flat_passes(loaded, precision="bf16")
    plain = gradients(loaded, passes, rows_of())
    prepared(passes, rows_of(), tmp_path)
    kept = gradients(loaded, passes, rows_of())
    assert kept[0] == pytest.approx(plain[0], rel=2e-3)
    assert float((kept[1] - plain[1]).norm() / plain[1].norm()) < 0.05


def test_preference_pairs_use_it_too(base: Path, tmp_path: Path) -> None:
    rows = [
        Row(row.ids, row.weights, preference=Preference(other.ids, other.weights, reference=(-40.0, -41.0)))
        for row, other in zip(rows_of(5), rows_of(6)[1:], strict=True)
    ]
    loaded = adapted(base, 1)
    flat = flat_passes(loaded)
    train = TrainConfig(method="dpo")
    passes = preference_passes(loaded, train, weights=Weights(), precision="fp32", pad_id=0, flat=flat)
    calls = count_calls(flat)
    plain = gradients(loaded, passes, rows)
    prepared(passes, rows, tmp_path)
    calls.clear()
    kept = gradients(loaded, passes, rows)
    assert {number for number, _ in calls} == {3}
    assert kept[0] == pytest.approx(plain[0], rel=1e-6)
    assert float((kept[1] - plain[1]).norm() / plain[1].norm()) < 1e-5


def trained(base: Path, folder: Path, *, keeps: bool, **options: Any) -> FitResult:
    """Three epochs, or a part of them."""
    loaded, rows = adapted(base, 1, dropout=0.1), rows_of()
    passes = flat_passes(loaded, without=() if keeps else ("cached_trunk",))
    assert bool(prepared(passes, rows, folder)) is keeps
    with EventLog(folder) as events:
        return fit(
            loaded, rows[1:], rows[:3], passes, SETTINGS, events=events, checkpoints=folder / "c", run_key="key",
            **options,
        )  # fmt: skip


def test_epochs_over_a_kept_trunk_learn_the_same_and_resume_to_the_bit(base: Path, tmp_path: Path) -> None:
    plain, kept = (trained(base, tmp_path / str(keeps), keeps=keeps) for keeps in (False, True))
    ours, theirs = ([point.loss for point in one.state.train_curve] for one in (kept, plain))
    assert ours == pytest.approx(theirs, rel=1e-5)
    trained(base, tmp_path / "cut", keeps=True, until=3)
    rest = trained(base, tmp_path / "cut", keeps=True, resume=True)
    assert [point.loss for point in rest.state.train_curve] == ours and rest.started_from == 3


def test_peft_reads_the_adapter_of_the_upper_blocks(base: Path, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    import transformers as hf

    loaded, ids = adapted(base, 2), torch.tensor([[5, 9, 200, 31]])
    loaded.model.eval()
    save_adapter(loaded, tmp_path / "adapter", base=str(base))
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["layers_to_transform"] == [2, 3] and "q_proj" in config["target_modules"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft asks transformers by a name that it deprecates
        theirs = peft.PeftModel.from_pretrained(hf.AutoModelForCausalLM.from_pretrained(base), tmp_path / "adapter")
    again = load_model(base, pad_id=0)
    load_adapter(again, tmp_path / "adapter")
    with torch.no_grad():
        expected = loaded.model(ids).logits
        assert torch.allclose(theirs(ids).logits, expected, atol=1e-5)
        assert torch.equal(again.model(ids).logits, expected)
    assert sum(isinstance(m, LoraLinear) for m in again.model.modules()) == 14


def test_the_states_follow_from_the_rows_alone(base: Path, tmp_path: Path) -> None:
    model = flat_passes(adapted(base, 1)).model()
    inputs = [row.ids[:-1] for row in rows_of()]
    first, second = (build_trunk(model, inputs, budget_tokens=90, folder=tmp_path, key=str) for _ in range(2))
    assert first is not None and second is not None and torch.equal(first.states_UD, second.states_UD)
    assert replace(first).fits(model)
