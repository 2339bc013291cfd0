"""The parity gate over methods and families: what is saved is what was trained, within the stated bounds."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import foretune
from foretune.data.samples import Message, Sample
from foretune.data.tokenizer import Tokenizer
from foretune.models.adapter import attach_lora, attach_soft_prompt
from foretune.models.load import LoadedModel, load_model
from foretune.models.lora import LowRank
from foretune.models.save import save_artefact
from foretune.records.parity import ParityRecord
from foretune.train.parity_gate import BOUNDS_NATS, check_parity, parity
from tiny import tiny_model

SAMPLES = [
    Sample(id=str(i), messages=(Message("user", f"What colour is {thing}?"), Message("assistant", colour)))
    for i, (thing, colour) in enumerate((("the sky", "blue"), ("grass", "green"), ("the sun", "gold")))
]
LABELS = ("blue", "gold", "green")


def moved(loaded: LoadedModel, method: str) -> LoadedModel:
    """A model as if it had been trained: what is trainable is moved a little."""
    torch.manual_seed(4)
    if method in ("full", "pretrain"):
        loaded.model.requires_grad_(True)
    elif method == "prompt":
        attach_soft_prompt(loaded, num_tokens=4)
    else:
        attach_lora(loaded, rank=4, alpha=8.0, dropout=0.1, target_modules=("all-linear",))
    with torch.no_grad():
        for parameter in loaded.model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    return loaded


def gate(
    base: Path, run_dir: Path, method: str, *, dtype: str = "fp32", samples: list[Sample] = SAMPLES
) -> ParityRecord:
    """Train (as if), save and hold both against each other."""
    tokenizer = Tokenizer.from_folder(base)
    labels = LABELS if method == "classify" else ()
    trained = moved(load_model(base, num_labels=len(labels), pad_id=tokenizer.pad_id), method)
    artefact = save_artefact(trained, run_dir, method=method, base=str(base), labels=labels, dtype=dtype)  # type: ignore[arg-type]
    before = {name: value.clone() for name, value in trained.model.state_dict().items()}
    bf16 = dtype == "bf16" and artefact.name == "model"
    record = parity(trained, tokenizer, samples, base=base, artefact=artefact, max_seq_len=128, has_bf16_weights=bf16)
    assert all(torch.equal(before[name], value) for name, value in trained.model.state_dict().items())
    return record


@pytest.mark.parametrize(
    ("family", "method"),
    [
        ("llama", "lora"),
        ("llama", "full"),
        ("llama", "prompt"),
        ("llama", "classify"),
        ("qwen2", "pretrain"),
        ("gpt2", "lora"),
        ("t5", "lora"),
        ("t5", "full"),
    ],
)
@pytest.mark.req("R259")
def test_what_is_saved_is_what_was_trained(family: str, method: str, tmp_path: Path) -> None:
    record = gate(tiny_model(tmp_path / "base", family), tmp_path / "run", method)
    check_parity(record)
    forms = {form.form: form for form in record.forms}
    assert record.is_active and record.is_template_equal and record.are_special_ids_equal and record.is_finite
    assert forms["reloaded"].holds and forms["reloaded"].greedy_agreement == 1.0
    assert ("merged" in forms) is (method in ("lora", "classify")) is ("merged" not in record.not_checked)
    assert "int8" in forms and forms["int8"].max_kl_nats > 0
    assert record.num_prompts == 3 and record.seconds < 20
    assert ParityRecord.model_validate_json(record.model_dump_json()) == record


def test_weights_rounded_to_bf16_are_held_to_their_own_bound(tmp_path: Path) -> None:
    record = gate(tiny_model(tmp_path / "base"), tmp_path / "run", "full", dtype="bf16")
    (reloaded,) = [form for form in record.forms if form.form == "reloaded"]
    assert reloaded.bound_nats == BOUNDS_NATS["reloaded_bf16"]
    assert 0 < reloaded.max_kl_nats <= reloaded.bound_nats and record.holds


def test_random_weights_have_no_base_to_differ_from(tmp_path: Path) -> None:
    base = tiny_model(tmp_path / "base")
    tokenizer = Tokenizer.from_folder(base)
    trained = moved(load_model(base, random_init=True, seed=3, pad_id=0), "pretrain")
    artefact = save_artefact(trained, tmp_path, method="pretrain", base=str(base))
    texts = [Sample(id="t", text="the sky is blue and the sea is green")]
    record = parity(trained, tokenizer, texts, base=None, artefact=artefact)
    assert record.is_active is None and record.holds and "base" in record.not_checked


def test_a_changed_stop_token_closes_the_gate(tmp_path: Path) -> None:
    base = tiny_model(tmp_path / "base")
    tokenizer = Tokenizer.from_folder(base)
    trained = moved(load_model(base, pad_id=tokenizer.pad_id), "full")
    artefact = save_artefact(trained, tmp_path / "run", method="full", base=str(base))
    config = artefact / "tokenizer_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "eos_token": "<|pad|>"}))
    record = parity(trained, tokenizer, SAMPLES, base=base, artefact=artefact)
    assert not record.are_special_ids_equal and any("eos is" in problem for problem in record.problems)


def test_it_takes_seconds_on_pebble(tmp_path: Path) -> None:
    pebble = Path(foretune.__file__).parent / "models" / "pebble"
    tokenizer = Tokenizer.from_folder(pebble)
    trained = load_model(pebble, pad_id=tokenizer.pad_id)
    attach_lora(trained, rank=8, alpha=16.0, dropout=0.0)
    for module in trained.model.modules():
        if isinstance(module, LowRank):
            torch.nn.init.normal_(module.lora_b, std=0.02)
    artefact = save_artefact(trained, tmp_path, method="lora", base="pebble")
    record = parity(trained, tokenizer, SAMPLES, base=pebble, artefact=artefact)
    check_parity(record)
    assert all(form.holds for form in record.forms) and record.seconds < 30
