"""The flat-token decoder against the transformers class and our padded path: loss, gradients, files."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from foretune.errors import ConfigError
from foretune.models.adapter import LoraLinear, attach_lora, attach_soft_prompt, load_adapter, save_adapter
from foretune.models.decoder import FlatModel, FlatSettings, flat_model, why_not_flat
from foretune.models.load import LoadedModel, load_model
from foretune.models.save import save_model
from foretune.train.flat import flat_batches, flat_loss
from foretune.train.objective import Row, build_batch, causal_loss, loss_for
from tiny import BLOCK, PEBBLE, tiny_model

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 1e4,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
# Every switch of the block: tied head, head width, biases, norm of heads, scaled rotary embedding, one key head a head.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", {"tie_word_embeddings": False}),
    "smollm": ("LlamaConfig", {"tie_word_embeddings": True, "rms_norm_eps": 1e-5}),
    "llama3_rope": ("LlamaConfig", {"rope_parameters": LLAMA3_ROPE, "tie_word_embeddings": True}),
    "llama_bias": ("LlamaConfig", {"attention_bias": True, "mlp_bias": True, "num_key_value_heads": 6}),
    "mistral": ("MistralConfig", {"sliding_window": None, "head_dim": 16}),
    "qwen2": ("Qwen2Config", {"tie_word_embeddings": True}),
    "qwen3": ("Qwen3Config", {"head_dim": 16, "tie_word_embeddings": True}),
}
SETTINGS = FlatSettings()
ABLATIONS: dict[str, dict[str, Any]] = {
    "all on": {},
    "separate products": {"has_merged_products": False},
    "separate ranks": {"has_joined_ranks": False},
    "one sample a pass": {"has_packing": False},
    "no shared prefix": {"has_shared_prefix": False},
    "short prefixes": {"min_prefix_tokens": 2},
    "whole logits": {"head_rows": 0},
    "few logits": {"head_rows": 3},
    "whole last layer": {"prunes_last_layer": False},
    "no kernels": {"has_kernels": False},
}


def _model(folder: Path, case: str) -> Path:
    import transformers as hf

    torch.manual_seed(0)
    name, changes = CASES[case]
    model = hf.AutoModelForCausalLM.from_config(getattr(hf, name)(**(BLOCK | changes)))
    with torch.no_grad():
        for (
            parameter
        ) in model.parameters():  # norms and biases too, and weights large enough that attention is not flat
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    return folder


def _rows(num: int = 7, seed: int = 0, vocabulary: int = 512) -> list[Row]:
    """Rows of a two-level tree of prefixes, one row twice, one learned everywhere, one far longer than a tile."""
    draw = np.random.default_rng(seed)

    def tokens(count: int) -> np.ndarray:
        return draw.integers(3, vocabulary, count)

    system, example = tokens(33), tokens(21)
    rows = []
    for i in range(num):
        parts = [system, example, tokens(5 + 3 * i)] if i % 2 else [system, tokens(9 + i)]
        ids = np.concatenate(parts).astype(np.int32)
        weights = np.zeros(len(ids), dtype=np.float32)
        weights[-4:] = [1.0, 0.5, 1.0, 2.0]
        rows.append(Row(ids, weights))
    rows.append(rows[1])
    rows.append(Row(tokens(300).astype(np.int32), np.full(300, 0.1, dtype=np.float32)))
    rows.append(Row(np.concatenate([system, tokens(2)]).astype(np.int32), np.ones(35, dtype=np.float32)))
    return rows


def _adapted(folder: Path, method: str = "lora", dropout: float = 0.0) -> LoadedModel:
    loaded = load_model(folder, pad_id=0)
    if method == "full":
        loaded.model.requires_grad_(True)
    elif method == "prompt":
        attach_soft_prompt(loaded, num_tokens=5)
    else:
        targets = ("q_proj", "v_proj", "down_proj") if method == "some" else ("all-linear",)
        attach_lora(loaded, rank=4, alpha=8.0, dropout=dropout, target_modules=targets, seed=1)
        generator = torch.Generator().manual_seed(3)
        for module in loaded.model.modules():
            if isinstance(module, LoraLinear):
                module.lora_b.data.normal_(std=0.1, generator=generator)
    loaded.model.train()
    return loaded


def _flat(loaded: LoadedModel, settings: FlatSettings = SETTINGS) -> FlatModel:
    model = flat_model(loaded, settings)
    assert model is not None
    return model


def _flat_gradients(loaded: LoadedModel, rows: Sequence[Row], settings: FlatSettings = SETTINGS) -> float:
    model = _flat(loaded, settings)
    total = 0.0
    for batch in flat_batches(rows, model, budget_tokens=250, device=loaded.device):
        loss = flat_loss(model, batch).loss
        loss.backward()
        total += float(loss.detach())
    return total


def _padded_gradients(loaded: LoadedModel, rows: Sequence[Row]) -> float:
    loss = loss_for(loaded)(loaded, build_batch(rows, 0, loaded.device)).loss
    loss.backward()
    return float(loss.detach())


def _transformers_gradients(loaded: LoadedModel, rows: Sequence[Row]) -> float:
    """The class itself, one sample at a time, all logits: nothing of ours but the adapters."""
    model: Any = loaded.model
    total = 0.0
    for row in rows:
        ids = torch.from_numpy(row.ids.astype(np.int64))
        logits = model(input_ids=ids[None]).logits[0, :-1]
        losses = torch.nn.functional.cross_entropy(logits, ids[1:], reduction="none")
        loss = (losses * torch.from_numpy(row.weights[1:])).sum()
        loss.backward()
        total += float(loss.detach())
    return total


def _worst(reference: LoadedModel, other: LoadedModel) -> float:
    """Largest relative difference of any trained tensor's gradient; both train the same ones."""
    theirs = {n: p.grad for n, p in reference.model.named_parameters() if p.requires_grad}
    ours = {n: p.grad for n, p in other.model.named_parameters() if p.requires_grad}
    assert theirs.keys() == ours.keys()
    assert theirs
    worst = 0.0
    for name, gradient in theirs.items():
        assert gradient is not None, name
        found = ours[name]
        assert found is not None, name
        worst = max(worst, float((found - gradient).norm() / gradient.norm().clamp(min=1e-3)))
    return worst


def _error(reference: LoadedModel, other: LoadedModel) -> float:
    """Relative error of the whole gradient."""
    pairs = [
        (a.grad, b.grad)
        for a, b in zip(reference.model.parameters(), other.model.parameters(), strict=True)
        if a.requires_grad
    ]
    wrong = sum(float((b - a).square().sum()) for a, b in pairs if a is not None and b is not None)
    whole = sum(float(a.square().sum()) for a, _ in pairs if a is not None)
    return float((wrong / whole) ** 0.5)


@pytest.mark.parametrize("method", ["lora", "some", "full"])
@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradients_equal_the_transformers_class(case: str, method: str, tmp_path: Path) -> None:
    folder, rows = _model(tmp_path / "base", case), _rows()
    theirs, ours = _adapted(folder, method), _adapted(folder, method)
    expected = _transformers_gradients(theirs, rows)
    assert _flat_gradients(ours, rows) == pytest.approx(expected, rel=1e-6)
    assert _worst(theirs, ours) < 1e-5


@pytest.mark.parametrize("name", ABLATIONS)
def test_every_switch_gives_the_gradient_of_the_padded_path(name: str, tmp_path: Path) -> None:
    folder, rows = _model(tmp_path / "base", "qwen3"), _rows()
    padded, ours = _adapted(folder, "some"), _adapted(folder, "some")
    expected = _padded_gradients(padded, rows)
    assert _flat_gradients(ours, rows, replace(SETTINGS, **ABLATIONS[name])) == pytest.approx(expected, rel=1e-6)
    assert _worst(padded, ours) < 1e-5


@pytest.mark.parametrize("case", ["llama", "qwen2", "qwen3"])
def test_a_soft_prompt_learns_the_same(case: str, tmp_path: Path) -> None:
    folder, rows = _model(tmp_path / "base", case), _rows()
    padded, ours = _adapted(folder, "prompt"), _adapted(folder, "prompt")
    expected = _padded_gradients(padded, rows)
    assert _flat_gradients(ours, rows) == pytest.approx(expected, rel=1e-6)
    assert _worst(padded, ours) < 1e-5


def test_a_classifier_learns_the_same(tmp_path: Path) -> None:
    folder = _model(tmp_path / "base", "qwen2")
    rows = [Row(row.ids, np.zeros(len(row.ids), dtype=np.float32), label=i % 3) for i, row in enumerate(_rows())]
    pair = []
    for _ in range(2):
        loaded = load_model(folder, num_labels=3, pad_id=0)
        attach_lora(loaded, rank=4, alpha=8.0, dropout=0.0, target_modules=("q_proj", "up_proj"), seed=1)
        pair.append(loaded)
    expected = _padded_gradients(pair[0], rows)
    assert _flat_gradients(pair[1], rows) == pytest.approx(expected, rel=1e-6)
    assert _worst(*pair) < 1e-5


@pytest.mark.parametrize("rank_path", ["same", "fp32"])
@pytest.mark.req("R261")
def test_bf16_gradients_are_no_worse_than_autocast(rank_path: str) -> None:
    """On pebble, whose weights are trained: error of the gradient against fp32."""
    rows = _rows(vocabulary=2048)
    exact, cast, ours = (_adapted(PEBBLE) for _ in range(3))
    expected = _padded_gradients(exact, rows)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = causal_loss(cast, build_batch(rows, 0, cast.device)).loss
    loss.backward()
    settings = FlatSettings(precision="bf16", rank_path=rank_path)  # type: ignore[arg-type]
    assert _flat_gradients(ours, rows, settings) == pytest.approx(expected, rel=3e-3)
    assert _error(exact, ours) <= 1.05 * _error(exact, cast)


def test_bf16_weights_that_lose_nothing_are_held_once_and_come_back(tmp_path: Path) -> None:
    loaded = _adapted(PEBBLE)
    before = {name: value.clone() for name, value in loaded.model.state_dict().items()}
    model = _flat(loaded, FlatSettings(precision="bf16"))
    assert model.copied_bytes == 0
    layer: Any = loaded.model.base_model.layers[0]
    assert layer.self_attn.q_proj.weight.dtype == torch.bfloat16
    assert layer.self_attn.q_proj.lora_a.dtype == torch.float32
    assert loaded.model.base_model.rotary_emb.inv_freq.dtype == torch.float32
    model.restore()
    after = loaded.model.state_dict()
    assert all(after[name].dtype == value.dtype and torch.equal(after[name], value) for name, value in before.items())


def test_bf16_weights_that_would_lose_digits_are_copied(tmp_path: Path) -> None:
    loaded = _adapted(_model(tmp_path / "base", "llama"))
    before = {name: value.clone() for name, value in loaded.model.state_dict().items()}
    model = _flat(loaded, FlatSettings(precision="bf16"))
    assert model.copied_bytes > 0
    assert all(torch.equal(loaded.model.state_dict()[name], value) for name, value in before.items())


def test_merged_weights_share_memory_and_are_saved_unchanged(tmp_path: Path) -> None:
    loaded = _adapted(_model(tmp_path / "base", "qwen2"), "full")
    before = {name: value.clone() for name, value in loaded.model.state_dict().items()}
    model = _flat(loaded)
    attention: Any = loaded.model.base_model.layers[1].self_attn
    assert model.layers[1].qkv.products[0].weight_OI.data_ptr() == attention.q_proj.weight.data_ptr()
    save_model(loaded, tmp_path / "saved")
    again = load_model(tmp_path / "saved").model.state_dict()
    assert all(torch.equal(again[name], value) for name, value in before.items())


@pytest.mark.parametrize("method", ["lora", "full"])
def test_updates_reach_the_loaded_model_and_the_adapter_file(method: str, tmp_path: Path) -> None:
    folder, rows = _model(tmp_path / "base", "llama"), _rows()
    padded, ours = _adapted(folder, method), _adapted(folder, method)
    model = _flat(ours)
    for loaded in (padded, ours):
        optimizer = torch.optim.AdamW([p for p in loaded.model.parameters() if p.requires_grad], lr=1e-2)
        for _ in range(3):
            optimizer.zero_grad()
            if loaded is padded:
                last = _padded_gradients(padded, rows)
            else:
                for batch in flat_batches(rows, model, budget_tokens=400, device=ours.device):
                    flat_loss(model, batch).loss.backward()
            optimizer.step()
    batches = flat_batches(rows, model, budget_tokens=400, device=ours.device)
    with torch.no_grad():
        flat = sum(float(flat_loss(model, batch).loss) for batch in batches)
        assert flat == pytest.approx(float(causal_loss(ours, build_batch(rows, 0, ours.device)).loss), rel=1e-5)
        assert flat == pytest.approx(float(causal_loss(padded, build_batch(rows, 0, ours.device)).loss), rel=1e-3)
    assert flat < last
    if method == "lora":
        save_adapter(ours, tmp_path / "adapter", base=str(folder))
        again = load_model(folder, pad_id=0)
        load_adapter(again, tmp_path / "adapter")
        loss = float(causal_loss(again, build_batch(rows, 0, again.device)).loss.detach())
        assert loss == pytest.approx(flat, rel=1e-5)


def test_dropout_switches_sharing_off_and_still_learns(tmp_path: Path) -> None:
    folder, rows = _model(tmp_path / "base", "llama"), _rows()
    ours = _adapted(folder, dropout=0.3)
    model = _flat(ours)
    assert not model.shares_prefixes
    batches = list(flat_batches(rows, model, budget_tokens=10_000, device=ours.device))
    assert sum(batch.num_tokens for batch in batches) == sum(len(row.ids) - 1 for row in rows)
    losses = []
    for seed in range(40):
        torch.manual_seed(seed)
        losses.append(sum(float(flat_loss(model, batch).loss.detach()) for batch in batches))
    padded = []
    for seed in range(40):
        torch.manual_seed(100 + seed)
        padded.append(float(causal_loss(ours, build_batch(rows, 0, ours.device)).loss.detach()))
    assert np.std(losses) > 0
    assert abs(np.mean(losses) - np.mean(padded)) < 4 * np.hypot(np.std(losses), np.std(padded)) / 40**0.5
    ours.model.eval()
    assert model.shares_prefixes


def test_right_predictions_are_counted_as_the_padded_path_does() -> None:
    loaded = _adapted(PEBBLE)
    rows = _rows(vocabulary=2048)
    model = _flat(loaded)
    with torch.no_grad():
        expected = causal_loss(loaded, build_batch(rows, 0, loaded.device)).num_right
        found = [
            flat_loss(model, b).num_right for b in flat_batches(rows, model, budget_tokens=99, device=loaded.device)
        ]
    assert sum(found) == expected


@pytest.mark.parametrize("family", ["gpt2", "gpt_neo", "bloom", "t5"])
def test_other_architectures_say_why_not(family: str, tmp_path: Path) -> None:
    loaded = load_model(tiny_model(tmp_path / "base", family))
    assert family in why_not_flat(loaded)
    assert flat_model(loaded, SETTINGS) is None


def test_a_sliding_window_is_refused_unless_no_sample_reaches_it(tmp_path: Path) -> None:
    loaded = load_model(_model(tmp_path / "base", "mistral"))
    loaded.model.config.sliding_window = 64
    assert "64 tokens" in why_not_flat(loaded)
    assert "64 tokens" in why_not_flat(loaded, max_seq_len=65)
    assert why_not_flat(loaded, max_seq_len=64) == ""


@pytest.mark.parametrize(
    ("key", "value", "word"),
    [
        ("rope_parameters", {"rope_type": "dynamic"}, "rotary"),
        ("hidden_act", "gelu", "gelu"),
        ("attention_dropout", 0.1, "dropout"),
    ],
)
def test_configs_that_compute_something_else_are_refused(key: str, value: object, word: str) -> None:
    loaded = load_model(PEBBLE)
    setattr(loaded.model.config, key, value)
    assert word in why_not_flat(loaded)


def test_an_adapter_over_a_trained_base_is_an_error(tmp_path: Path) -> None:
    loaded = _adapted(PEBBLE)
    loaded.model.requires_grad_(True)
    with pytest.raises(ConfigError, match="trained base"):
        flat_model(loaded, SETTINGS)
