"""Our adapters against PEFT's: files, logits, merge, for every family."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch

from foretune.errors import ConfigError
from foretune.models.adapter import (
    LoraLinear,
    attach_lora,
    attach_soft_prompt,
    load_adapter,
    merge_lora,
    save_adapter,
)
from foretune.models.load import LoadedModel, load_model, num_parameters
from tiny import FAMILIES, tiny_model


def _peft_model(model: torch.nn.Module, adapter: Path) -> torch.nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from peft import PeftModel

        return PeftModel.from_pretrained(model, adapter).eval()


def _trained(folder: Path, targets: tuple[str, ...], num_labels: int = 0) -> LoadedModel:
    """A model with an adapter whose B is not zero."""
    loaded = load_model(folder, num_labels=num_labels, pad_id=0)
    attach_lora(loaded, rank=4, alpha=8.0, dropout=0.1, target_modules=targets, seed=1)
    for module in loaded.model.modules():
        if isinstance(module, LoraLinear):
            torch.nn.init.normal_(module.lora_b, std=0.2)
    loaded.model.eval()
    return loaded


def _logits(model: torch.nn.Module, kind: str) -> torch.Tensor:
    ids = torch.tensor([[1, 7, 9, 200, 31, 2]])
    with torch.no_grad():
        if kind == "seq2seq":
            return model(input_ids=ids, decoder_input_ids=ids[:, :3]).logits
        return model(input_ids=ids).logits


@pytest.mark.parametrize("targets", [(), ("all-linear",)])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.req("R166", "R167", "R175", "R187", "R245", "R246")
def test_peft_loads_our_adapter_and_gives_the_same_logits(
    family: str, targets: tuple[str, ...], tmp_path: Path
) -> None:
    base = tiny_model(tmp_path / "base", family)
    ours = _trained(base, targets)
    save_adapter(ours, tmp_path / "adapter", base=str(base))
    theirs = _peft_model(load_model(base).model, tmp_path / "adapter")
    expected = _logits(theirs, ours.kind)
    assert torch.allclose(_logits(ours.model, ours.kind), expected, atol=1e-5)
    plain = _logits(load_model(base).model, ours.kind)
    assert (plain - expected).abs().max() > 1e-3  # the adapter does something


@pytest.mark.parametrize("family", FAMILIES)
def test_merged_and_reloaded_equal_the_adapter(family: str, tmp_path: Path) -> None:
    base = tiny_model(tmp_path / "base", family)
    ours = _trained(base, ("all-linear",))
    expected = _logits(ours.model, ours.kind)
    save_adapter(ours, tmp_path / "adapter", base=str(base))
    again = load_model(base)
    load_adapter(again, tmp_path / "adapter")
    again.model.eval()
    assert torch.equal(_logits(again.model, again.kind), expected)
    merge_lora(again)
    assert not any(isinstance(module, LoraLinear) for module in again.model.modules())
    assert torch.allclose(_logits(again.model, again.kind), expected, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.req("R168")
def test_classification_adapter_with_head_loads_in_peft(family: str, tmp_path: Path) -> None:
    import transformers as hf

    base = tiny_model(tmp_path / "base", family)
    ours = _trained(base, (), num_labels=3)
    save_adapter(ours, tmp_path / "adapter", base=str(base))
    plain = hf.AutoModelForSequenceClassification.from_pretrained(base, num_labels=3, pad_token_id=0)
    theirs = _peft_model(plain, tmp_path / "adapter")
    assert torch.allclose(_logits(ours.model, "classify"), _logits(theirs, "classify"), atol=1e-5)


@pytest.mark.req("R196")
def test_soft_prompt_loads_in_peft(tmp_path: Path) -> None:
    from foretune.models.virtual import prompted_inputs

    base = tiny_model(tmp_path / "base")
    ours = load_model(base)
    attach_soft_prompt(ours, num_tokens=5, seed=3)
    assert num_parameters(ours.model, trainable=True) == 5 * 32
    save_adapter(ours, tmp_path / "adapter", base=str(base))
    theirs = _peft_model(load_model(base).model, tmp_path / "adapter")
    ids = torch.tensor([[1, 7, 9, 200, 31, 2]])
    with torch.no_grad():
        mine = ours.model(**prompted_inputs(ours.model, ids)).logits
        expected = theirs(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    assert torch.allclose(mine[:, -6:], expected[:, -6:], atol=1e-5)


def test_targets_that_match_nothing_are_named(tmp_path: Path) -> None:
    loaded = load_model(tiny_model(tmp_path / "base"))
    with pytest.raises(ConfigError, match=r"q_prj.*q_proj") as caught:
        attach_lora(loaded, rank=4, alpha=8, dropout=0, target_modules=("q_prj",))
    assert 'target_modules = ["q_proj"]' in caught.value.fix


def test_rank_beyond_the_layer_is_refused(tmp_path: Path) -> None:
    loaded = load_model(tiny_model(tmp_path / "base"))
    with pytest.raises(ConfigError, match="rank 64 is larger than"):
        attach_lora(loaded, rank=64, alpha=8, dropout=0)


def test_adapter_of_another_base_is_refused(tmp_path: Path) -> None:
    save_adapter(_trained(tiny_model(tmp_path / "one"), ()), tmp_path / "adapter", base="one")
    other = load_model(tiny_model(tmp_path / "two", "mistral"))
    other.model.config.hidden_size = 32
    import transformers as hf

    wide = hf.AutoModelForCausalLM.from_config(
        hf.LlamaConfig(
            vocab_size=2048, hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4
        )
    )
    other.model = wide
    with pytest.raises(ConfigError, match=r"shape|differ"):
        load_adapter(other, tmp_path / "adapter")
