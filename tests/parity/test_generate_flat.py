"""Answers of the flat-token generator equal transformers' generate, in fp32, whatever is shared, folded or refilled."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from foretune.data.tokenizer import Tokenizer
from foretune.engine.engine import Engine, load_engine
from foretune.engine.flat import why_not_flat_answers
from foretune.models.adapter import LoraLinear, attach_lora, attach_prefix, attach_soft_prompt, load_adapter
from foretune.models.decoder import FlatSettings, flat_model
from foretune.models.generate import Generator, Wave, waves
from foretune.models.load import LoadedModel, load_model
from foretune.models.save import save_artefact
from foretune.models.virtual import prompted_inputs
from tiny import BLOCK, PEBBLE, tiny_model

NEW_TOKENS = 9
SCALED_ROPE = {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", {"tie_word_embeddings": False}),
    "smollm": ("LlamaConfig", {"tie_word_embeddings": True, "rms_norm_eps": 1e-5}),
    "scaled_rope": ("LlamaConfig", {"rope_parameters": SCALED_ROPE, "tie_word_embeddings": True}),
    "llama_bias": ("LlamaConfig", {"attention_bias": True, "mlp_bias": True, "num_key_value_heads": 6}),
    "mistral": ("MistralConfig", {"sliding_window": None, "head_dim": 16}),
    "qwen2": ("Qwen2Config", {"tie_word_embeddings": True}),
    "qwen3": ("Qwen3Config", {"head_dim": 16, "tie_word_embeddings": True}),
}


def model_of(case: str, folder: Path) -> LoadedModel:
    """A random model whose answers vary; pebble itself under its own name."""
    import transformers as hf

    if case == "pebble":
        return load_model(PEBBLE)
    torch.manual_seed(0)
    name, changes = CASES[case]
    model = hf.AutoModelForCausalLM.from_config(getattr(hf, name)(**(BLOCK | changes)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * (0.2 if parameter.dim() > 1 else 0.05))
    model.save_pretrained(folder)
    return load_model(folder)


def adapted(loaded: LoadedModel) -> LoadedModel:
    """With adapters that change what the model says."""
    attach_lora(loaded, rank=4, alpha=8.0, dropout=0.1, target_modules=("q_proj", "v_proj", "o_proj", "down_proj"))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for module in loaded.model.modules():
            if isinstance(module, LoraLinear):
                module.lora_b.copy_(torch.randn(module.lora_b.shape, generator=generator) * 0.1)
    loaded.model.eval()
    return loaded


def prompts(vocabulary: int = 512) -> list[list[int]]:
    """Two groups that share a prefix, one of them with a deeper one; prompts of one token and longer than a tile."""
    generator = torch.Generator().manual_seed(2)

    def tokens(count: int) -> list[int]:
        return torch.randint(10, vocabulary, (count,), generator=generator).tolist()

    system, other, deep = tokens(40), tokens(25), tokens(30)
    groups = [[*system, *tokens(3 + 2 * i)] for i in range(4)] + [[*system, *deep, *tokens(4 + i)] for i in range(4)]
    return [*groups, *([*other, *tokens(6)] for _ in range(4)), tokens(1), tokens(200), system, [*system, *deep]]


def expected(loaded: LoadedModel, asked: list[list[int]], stop: tuple[int, ...], **changes: Any) -> list[list[int]]:
    """transformers' own greedy answers, one unpadded prompt at a time, stop token left out."""
    answers = []
    model: Any = loaded.model
    for prompt in asked:
        ids = torch.tensor([prompt])
        with torch.inference_mode():
            output = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=NEW_TOKENS,
                do_sample=False,
                eos_token_id=list(stop) or None,
                pad_token_id=0,
                **changes,
            )
        new = output[0, len(prompt) :].tolist()
        answers.append(new[:-1] if new[-1] in stop else new)
    return answers


class Recorder(Generator):
    """Keeps the logits behind every token, by the tokens before it: only for rows one at a time."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.logits: list[Tensor] = []

    def _read(self, *arguments: Any) -> Tensor:
        self.logits.append(super()._read(*arguments)[-1])
        return self.logits[-1][None]

    def _step(self, *arguments: Any) -> Tensor:
        self.logits.append(super()._step(*arguments)[-1])
        return self.logits[-1][None]


@pytest.mark.parametrize("has_adapter", [False, True])
@pytest.mark.parametrize("case", [*CASES, "pebble"])
def test_answers_equal_those_of_transformers(case: str, has_adapter: bool, tmp_path: Path) -> None:
    loaded = model_of(case, tmp_path)
    if has_adapter:
        adapted(loaded)
    asked = prompts()
    free = expected(loaded, asked, ())
    stop = (free[0][2], free[5][4])
    right = expected(loaded, asked, stop)
    assert len({len(answer) for answer in right}) > 1
    assert why_not_flat_answers(loaded, 300) == ""
    model = flat_model(loaded, FlatSettings())
    assert model is not None
    for num_rows, is_folded in ((1, False), (3, True), (32, False)):
        with model.folded(most_bytes=10**9) if is_folded else nullcontext():
            found = dict(Generator(model, stop).answers(asked, max_new_tokens=NEW_TOKENS, num_rows=num_rows))
        assert [found[i] for i in range(len(asked))] == right, (num_rows, is_folded)
    again = dict(Generator(model, ()).answers(asked, max_new_tokens=NEW_TOKENS, num_rows=5))
    assert [again[i] for i in range(len(asked))] == free


@pytest.mark.parametrize("case", [*CASES, "pebble"])
def test_logits_are_those_of_transformers(case: str, tmp_path: Path) -> None:
    loaded = adapted(model_of(case, tmp_path))
    pair = [prompts()[4], prompts()[7]]  # share a prefix of 70 tokens, which is read first
    model = flat_model(loaded, FlatSettings())
    assert model is not None
    for is_folded in (False, True):
        recorder = Recorder(model, ())
        with model.folded(most_bytes=10**9) if is_folded else nullcontext():
            found = dict(recorder.answers(pair, max_new_tokens=NEW_TOKENS, num_rows=1))
        assert len(recorder.logits) == 1 + 2 * NEW_TOKENS
        order = sorted(range(2), key=lambda i: -len(pair[i]))
        for turn, number in enumerate(order):
            ids = [*pair[number], *found[number][:-1]]
            with torch.inference_mode():
                right: Tensor = loaded.model(torch.tensor([ids])).logits[0, -NEW_TOKENS:]
            mine = torch.stack(recorder.logits[1 + turn * NEW_TOKENS :][:NEW_TOKENS])
            assert float((mine - right).abs().max()) <= 1e-5 * float(right.abs().max())


@pytest.mark.parametrize("kind", ["prefix", "prompt"])
def test_virtual_tokens_stand_before_every_prompt(kind: str, tmp_path: Path) -> None:
    engine = load_engine(tiny_model(tmp_path, "qwen2"))
    engine.tokenizer.stop_ids = ()
    asked = prompts()
    without = engine.generate(asked, max_new_tokens=4)
    attach = attach_prefix if kind == "prefix" else attach_soft_prompt
    virtual: Any = attach(engine.loaded, num_tokens=18, seed=0)
    with torch.no_grad():
        for parameter in virtual.parameters():
            parameter.mul_(3)
    answers = engine.generate(asked, max_new_tokens=4, batch_size=4)
    assert answers != without and not engine.said
    for prompt, answer in zip(asked, answers, strict=True):
        ids = list(prompt)
        for token in answer:
            with torch.inference_mode():
                logits: Tensor = engine.loaded.model(**prompted_inputs(engine.loaded.model, torch.tensor([ids]))).logits
            assert int(logits[0, -1].argmax()) == token
            ids.append(token)


def test_a_repetition_penalty_of_the_model_holds(tmp_path: Path) -> None:
    loaded = model_of("qwen2", tmp_path)
    model = flat_model(loaded, FlatSettings())
    assert model is not None
    asked = prompts()
    right = expected(loaded, asked, (), repetition_penalty=1.3)
    found = dict(Generator(model, (), penalty=1.3).answers(asked, max_new_tokens=NEW_TOKENS, num_rows=3))
    assert [found[i] for i in range(len(asked))] == right != expected(loaded, asked, ())


def test_the_engine_takes_what_the_model_has_become(tmp_path: Path) -> None:
    base = tiny_model(tmp_path / "base")
    engine = load_engine(base)
    engine.tokenizer.stop_ids = ()
    plain = engine.generate(prompts(), max_new_tokens=6)
    adapted(engine.loaded)
    tuned = engine.generate(prompts(), max_new_tokens=6)
    assert tuned != plain
    save_artefact(engine.loaded, tmp_path, method="lora", base=str(base))
    other = load_engine(base)
    load_adapter(other.loaded, tmp_path / "adapter")
    other.tokenizer.stop_ids = ()
    assert other.generate(prompts(), max_new_tokens=6) == tuned
    with torch.no_grad():
        for module in engine.loaded.model.modules():
            if isinstance(module, LoraLinear):
                module.lora_b.zero_()
    assert engine.generate(prompts(), max_new_tokens=6) == plain


@pytest.mark.parametrize("kind", ["classify", "regress"])
def test_heads_say_what_they_say_of_one_input(kind: str, tmp_path: Path) -> None:
    model_of("qwen3", tmp_path)
    loaded = adapted(load_model(tmp_path, num_labels=3 if kind == "classify" else 1, pad_id=0))
    with torch.no_grad():
        loaded.model.score.weight.copy_(torch.randn(loaded.model.score.weight.shape))
    engine = Engine(loaded, Tokenizer.from_folder(PEBBLE), ("a", "b", "c"))
    found = engine._outputs(prompts(), 4)
    assert not engine.said
    scale = max(float(mine.abs().max()) for mine in found)
    for prompt, mine in zip(prompts(), found, strict=True):
        with torch.inference_mode():
            right: Tensor = loaded.model(input_ids=torch.tensor([prompt])).logits[0]
        assert float((mine - right).abs().max()) <= 1e-5 * scale
    assert len({*engine.classify(prompts())} if kind == "classify" else {*engine.regress(prompts())}) > 1


def test_what_changes_answers_otherwise_is_left_to_transformers(tmp_path: Path) -> None:
    engine = load_engine(tiny_model(tmp_path))
    config: Any = engine.loaded.model.generation_config
    config.no_repeat_ngram_size = 2
    assert "no_repeat_ngram_size" in why_not_flat_answers(engine.loaded, 20)
    (answer,) = engine.generate([[11, 12, 13]], max_new_tokens=8)
    assert len(set(pairwise(answer))) == len(answer) - 1 and "ngram" in engine.said[0]


def test_waves_share_what_fills_a_batch() -> None:
    system, deep, other = list(range(100, 130)), list(range(200, 220)), list(range(300, 340))
    asked = (
        [[*system, i] for i in range(3)] + [[*system, *deep, i] for i in range(3)] + [[*other, 5, i] for i in (1, 2)]
    )
    assert waves(asked, 3) == [Wave(50, [3, 4, 5]), Wave(30, [0, 1, 2]), Wave(41, [6, 7])]
    assert waves(asked, 4) == [Wave(30, [0, 1, 2, 3, 4, 5]), Wave(41, [6, 7])]
    assert waves(asked, 32) == [Wave(0, list(range(8)))]
    assert waves([[1, 2, 3]], 4) == [Wave(0, [0])] and waves([], 4) == []
    twin = list(range(40))
    assert waves([twin, [*twin, 7]], 2) == [Wave(39, [0, 1])]
