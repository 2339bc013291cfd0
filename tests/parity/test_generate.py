"""Batched greedy answers of the engine equal transformers' generate on one prompt at a time, and plain argmax."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from foretune.engine.engine import Engine, load_engine
from foretune.models.adapter import attach_soft_prompt
from tiny import FAMILIES, tiny_model

PROMPT_LENGTHS = (3, 41, 7, 19, 1, 28, 12)
NEW_TOKENS = 12


def varied(family: str, folder: Path) -> Engine:
    """A tiny random model whose weights are spread enough that its answers vary and no two logits are near."""
    engine = load_engine(tiny_model(folder, family))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in engine.loaded.model.parameters():
            if parameter.dim() > 1:
                spread = 0.1 if len(parameter) >= 256 else 0.3  # tables of tokens and positions, and all else
                parameter.copy_(spread * torch.randn(parameter.shape, generator=generator))
    return engine


def prompts() -> list[list[int]]:
    generator = torch.Generator().manual_seed(2)
    return [torch.randint(10, 2000, (length,), generator=generator).tolist() for length in PROMPT_LENGTHS]


def alone(engine: Engine, prompt: list[int], stop: tuple[int, ...] = ()) -> list[int]:
    """transformers' own greedy answer to one unpadded prompt."""
    model: Any = engine.loaded.model
    with torch.inference_mode():
        output = model.generate(
            input_ids=torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=NEW_TOKENS,
            do_sample=False,
            eos_token_id=list(stop) or None,
            pad_token_id=0,
        )[0].tolist()
    new: list[int] = output[1 if engine.loaded.kind == "seq2seq" else len(prompt) :]
    return new[:-1] if new and new[-1] in stop else new


def common_token(answers: list[list[int]]) -> int:
    """A token that ends some of the answers early if it is a stop token."""
    inner = [token for answer in answers for token in answer[2:-2]]
    return max(sorted(set(inner)), key=lambda token: sum(token in answer for answer in answers))


@pytest.mark.parametrize("family", FAMILIES)
def test_batched_answers_equal_single_ones(family: str, tmp_path: Path) -> None:
    engine = varied(family, tmp_path)
    assert engine.loaded.model.dtype == torch.float32
    free = [alone(engine, prompt) for prompt in prompts()]
    assert len({tuple(answer) for answer in free}) == len(free)
    stop = (common_token(free),)
    engine.tokenizer.stop_ids = stop
    expected = [alone(engine, prompt, stop) for prompt in prompts()]
    assert len({len(answer) for answer in expected}) > 1
    for batch_size in (1, 3, 32):
        assert engine.generate(prompts(), max_new_tokens=NEW_TOKENS, batch_size=batch_size) == expected


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_answers_are_the_argmax_token_by_token(family: str, tmp_path: Path) -> None:
    engine = varied(family, tmp_path)
    engine.tokenizer.stop_ids = ()
    model: Any = engine.loaded.model
    expected = []
    for prompt in prompts():
        ids = list(prompt)
        with torch.inference_mode():
            for _ in range(NEW_TOKENS):
                ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        expected.append(ids[len(prompt) :])
    assert engine.generate(prompts(), max_new_tokens=NEW_TOKENS, batch_size=4) == expected


def test_soft_prompts_stand_next_to_the_text_in_a_batch(tmp_path: Path) -> None:
    engine = varied("llama", tmp_path)
    engine.tokenizer.stop_ids = ()
    without = engine.generate(prompts(), max_new_tokens=NEW_TOKENS)
    attach_soft_prompt(engine.loaded, num_tokens=5, seed=0)
    engine.loaded.model.eval()
    model: Any = engine.loaded.model
    embed = model.get_input_embeddings()
    expected = []
    for prompt in prompts():
        with torch.inference_mode():
            rows = torch.cat([model.soft_prompt.embedding, embed(torch.tensor(prompt))])[None]
            for _ in range(NEW_TOKENS):
                best = model(inputs_embeds=rows).logits[0, -1].argmax()
                rows = torch.cat([rows, embed(best)[None, None]], dim=1)
                expected.append(int(best))
    answers = engine.generate(prompts(), max_new_tokens=NEW_TOKENS, batch_size=4)
    assert [token for answer in answers for token in answer] == expected
    assert answers != without
