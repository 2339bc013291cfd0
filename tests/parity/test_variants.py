"""rsLoRA, DoRA and prefix tuning against PEFT: files, logits, gradients; packed weights by bitsandbytes' rule."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from foretune.data.tokenizer import Tokenizer
from foretune.engine.engine import Engine, load_engine
from foretune.models.adapter import attach_lora, attach_prefix, load_adapter, merge_lora, save_adapter
from foretune.models.load import LoadedModel, load_model, num_parameters
from foretune.models.lora import LowRank
from foretune.models.provenance import AdapterNotes, write_notes
from foretune.models.quantise import QuantisedLinear, nf4_values, plain_weight
from foretune.models.virtual import num_virtual_tokens, prompted_inputs
from tiny import FAMILIES, tiny_model

IDS = torch.tensor([[1, 7, 9, 200, 31, 2], [4, 8, 15, 16, 23, 42]])
DECODERS = [family for family in FAMILIES if family != "t5"]


def _peft(model: torch.nn.Module, adapter: Path, *, trainable: bool = False) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from peft import PeftModel

        return PeftModel.from_pretrained(model, adapter, is_trainable=trainable).eval()


def _logits(model: Any, kind: str = "causal") -> torch.Tensor:
    decoder = {"decoder_input_ids": IDS[:, :3]} if kind == "seq2seq" else {}
    logits: torch.Tensor = model(input_ids=IDS, **decoder).logits
    return logits


def _shaken(loaded: LoadedModel) -> LoadedModel:
    """Adapters away from where they begin."""
    generator = torch.Generator().manual_seed(3)
    for module in loaded.model.modules():
        if isinstance(module, LowRank):
            torch.nn.init.normal_(module.lora_b, std=0.2, generator=generator)
            if hasattr(module, "magnitude"):
                with torch.no_grad():
                    module.magnitude.mul_(1 + 0.3 * torch.rand(module.magnitude.shape, generator=generator))
    loaded.model.eval()
    return loaded


@pytest.mark.parametrize(
    ("family", "variant"), [*((family, "dora") for family in FAMILIES), ("llama", "rslora"), ("gpt2", "rslora")]
)
@pytest.mark.req("R187")
def test_variants_are_those_of_peft(family: str, variant: Any, tmp_path: Path) -> None:
    base = tiny_model(tmp_path / "base", family)
    ours = load_model(base)
    attach_lora(ours, rank=4, alpha=8.0, dropout=0.1, target_modules=("all-linear",), variant=variant)
    plain = _logits(load_model(base).model, ours.kind)
    assert torch.allclose(_logits(ours.model, ours.kind), plain, atol=1e-5)  # B = 0 changes nothing
    _shaken(ours)
    save_adapter(ours, tmp_path / "adapter", base=str(base))
    theirs = _peft(load_model(base).model, tmp_path / "adapter", trainable=True)
    mine, expected = _logits(ours.model, ours.kind), _logits(theirs, ours.kind)
    assert torch.allclose(mine, expected, atol=1e-5) and (plain - expected).abs().max() > 1e-3
    mine.square().sum().backward()
    expected.square().sum().backward()
    norms = [
        torch.stack([p.grad.norm() for _, p in model.named_parameters() if p.grad is not None]).norm()
        for model in (ours.model, theirs)
    ]
    assert float(norms[0]) == pytest.approx(float(norms[1]), rel=1e-5)
    again = load_model(base)
    load_adapter(again, tmp_path / "adapter")
    assert torch.equal(_logits(again.model.eval(), ours.kind), mine)
    merge_lora(again)
    assert torch.allclose(_logits(again.model, ours.kind), mine, atol=1e-5)


@pytest.mark.parametrize("family", DECODERS)
@pytest.mark.req("R196")
def test_prefix_is_that_of_peft_and_begins_as_real_tokens(family: str, tmp_path: Path) -> None:
    base = tiny_model(tmp_path / "base", family)
    ours = load_model(base)
    prefix = attach_prefix(ours, num_tokens=3, seed=2)
    assert num_virtual_tokens(ours.model) == 3 and num_parameters(ours.model, trainable=True) == prefix.states.numel()
    random = torch.randint(0, 2048, (3,), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        read = load_model(base).model(input_ids=torch.cat([random.expand(2, -1), IDS], dim=1)).logits[:, 3:]
        mine = ours.model(**prompted_inputs(ours.model, IDS)).logits
    assert torch.allclose(mine, read, atol=1e-5)
    with torch.no_grad():
        prefix.states.add_(0.3 * torch.randn(prefix.states.shape, generator=torch.Generator().manual_seed(5)))
        mine = ours.model(**prompted_inputs(ours.model, IDS)).logits
        save_adapter(ours, tmp_path / "adapter", base=str(base))
        theirs = _peft(load_model(base).model, tmp_path / "adapter")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = theirs(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits
    assert torch.allclose(mine, expected, atol=1e-5) and (mine - read).abs().max() > 1e-3


@pytest.mark.parametrize("family", ["llama", "gpt2", "bloom"])
def test_prompts_of_unlike_lengths_are_answered_behind_a_prefix_as_alone(family: str, tmp_path: Path) -> None:
    base = tiny_model(tmp_path / "base", family)
    loaded = load_model(base)
    prefix = attach_prefix(loaded, num_tokens=4)
    with torch.no_grad():
        prefix.states.mul_(2.0)
    save_adapter(loaded, tmp_path / "adapter", base=str(base))
    engine = load_engine(base, tmp_path / "adapter")
    prompts = [[5, 6, 7, 8, 9, 10, 11], [12, 13], [14, 15, 16]]
    together = engine.generate(prompts, max_new_tokens=6)
    assert together == [engine.generate([prompt], max_new_tokens=6)[0] for prompt in prompts]
    assert engine.generate(prompts, max_new_tokens=6) == together  # the prefix is not used up
    assert _greedy(engine, prompts[1], len(together[1])) == together[1]
    assert engine.max_len == 256 - 4 or family == "bloom"


def _greedy(engine: Engine, prompt: list[int], count: int) -> list[int]:
    """Token by token through the training form."""
    ids = list(prompt)
    for _ in range(count):
        with torch.no_grad():
            logits = engine.loaded.model(**prompted_inputs(engine.loaded.model, torch.tensor([ids]))).logits
        ids.append(int(logits[0, -1].argmax()))
    return ids[len(prompt) :]


# bitsandbytes 0.50.2, get_4bit_type("nf4"), 2026-11-21
NF4 = (-1.0, -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.09105, 0.0, 0.0795803, 0.1609302, 0.2461123,
       0.3379152, 0.4407098, 0.562617, 0.7229568, 1.0)  # fmt: skip


@pytest.mark.req("R202")
def test_four_bit_values_are_those_of_bitsandbytes() -> None:
    assert torch.allclose(nf4_values(), torch.tensor(NF4), atol=1e-6)


@pytest.mark.parametrize(("bits", "worst"), [("8bit", 0.005), ("4bit", 0.2)])
@pytest.mark.req("R202")
def test_a_packed_layer_is_near_the_plain_one_and_its_input_gradient_is_exact(bits: Any, worst: float) -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(48, 33)  # no multiple of a block
    packed = QuantisedLinear(layer, bits)
    error = (plain_weight(packed) - layer.weight.detach()).abs().max() / layer.weight.detach().abs().max()
    assert 0 < float(error) < worst
    x = torch.randn(2, 5, 48, requires_grad=True)
    y = packed(x)
    assert torch.allclose(y, torch.nn.functional.linear(x, plain_weight(packed), layer.bias), atol=1e-6)
    y.square().sum().backward()
    assert x.grad is not None
    assert torch.allclose(x.grad, (2 * y.detach()) @ plain_weight(packed), atol=1e-4)
    assert packed.weight.numel() == (48 * 33 if bits == "8bit" else 32 * -(-48 * 33 // 64))


@pytest.mark.parametrize(
    ("family", "bits"), [("llama", "8bit"), ("llama", "4bit"), ("gpt2", "4bit"), ("bloom", "8bit"), ("t5", "4bit")]
)
@pytest.mark.req("R202", "R203")
def test_every_family_trains_adapters_on_a_packed_base(family: str, bits: Any, tmp_path: Path) -> None:
    base = tiny_model(tmp_path / "base", family)
    loaded = load_model(base, quantise=bits)
    plain = load_model(base)
    assert num_parameters(loaded.model) == num_parameters(plain.model)
    assert num_parameters(loaded.model, trainable=True) == 0
    attach_lora(loaded, rank=4, alpha=8.0, dropout=0.0, target_modules=("all-linear",), variant="dora")
    near, exact = _logits(loaded.model, loaded.kind), _logits(plain.model, plain.kind)
    assert 0 < float((near - exact).detach().norm() / exact.detach().norm()) < (0.05 if bits == "8bit" else 0.5)
    _shaken(loaded)
    _logits(loaded.model, loaded.kind).square().sum().backward()
    grads = [p.grad for p in loaded.model.parameters() if p.requires_grad]
    assert grads and all(grad is not None and bool(torch.isfinite(grad).all()) for grad in grads)
    save_adapter(loaded, tmp_path / "adapter", base=str(base))
    write_notes(tmp_path / "adapter", AdapterNotes(quantise_base=bits))
    if family != "t5":
        engine = load_engine(base, tmp_path / "adapter")
        assert torch.equal(_logits(engine.loaded.model), _logits(loaded.model))  # the packed base is used again
        assert Tokenizer.from_folder(base).vocab_size <= 2048
    assert _peft(load_model(base).model, tmp_path / "adapter") is not None  # PEFT reads it over the plain base
