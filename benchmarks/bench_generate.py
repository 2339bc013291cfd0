"""Answers of the evaluation: flat tokens against transformers' `generate` with its best settings, same greedy answers.

CPU-seconds of one process with one thread, ways interleaved round by round, medians after a warm-up round; fp32,
batches of 32. transformers gets prompts of like length in a left-padded batch, with a dynamic and with a static cache.
Memory is the peak above the loaded model. `python benchmarks/bench_generate.py pebble/few-shot` runs chosen cells.
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ctypes
import gc
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch

from foretune.models.adapter import LoraLinear, attach_lora
from foretune.models.base import resolve_base
from foretune.models.decoder import FlatModel, FlatSettings, flat_model
from foretune.models.generate import Generator
from foretune.models.load import LoadedModel, load_model

MODELS = ("pebble", "15M")
SHAPES = ("few-shot", "extract", "chat")
BATCH, NUM_PROMPTS, ROUNDS = 32, 64, 3
Answers = list[list[int]]


class Shape(NamedTuple):
    """Prompts and how they are answered; `stop_ids` end answers early where there are any."""

    prompts: list[list[int]]
    max_new_tokens: int
    stop_ids: tuple[int, ...] = ()


def llama_15m(folder: Path) -> Path:
    """A random Llama of 15 million parameters, half of them the tied table of 32,000 tokens."""
    import transformers as hf

    torch.manual_seed(0)
    config = hf.LlamaConfig(
        vocab_size=32_000,
        hidden_size=288,
        intermediate_size=768,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
    )
    model = hf.LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(3)  # spread, so that no two logits are near
    model.save_pretrained(folder)
    return folder


def prompts_of(shape: str, vocabulary: int, num: int) -> Shape:
    """few-shot: 300 shared tokens, about 30 asked, 10 answered. extract: 250 read, 10 answered. chat: 40, up to 80."""
    rng = random.Random(7)

    def tokens(count: int) -> list[int]:
        return [rng.randrange(10, vocabulary) for _ in range(count)]

    shared = tokens(300) if shape == "few-shot" else []
    middle = {"few-shot": 30, "extract": 250, "chat": 40}[shape]
    prompts = [[*shared, *tokens(max(4, round(rng.gauss(middle, middle / 4))))] for _ in range(num)]
    return Shape(prompts, 80 if shape == "chat" else 10)


def with_stops(shape: Shape, answers: Answers) -> Shape:
    """The shape with as many stop tokens as make the mean answer about half as long as the longest."""
    counts: dict[int, int] = {}
    for answer in answers:
        for token in set(answer[8:]):
            counts[token] = counts.get(token, 0) + 1
    stop: list[int] = []
    for token in sorted(counts, key=lambda one: (counts[one], one)):
        ended = [next((i for i, one in enumerate(answer) if one in {*stop, token}), 80) for answer in answers]
        if statistics.mean(ended) < shape.max_new_tokens / 2:
            break
        stop.append(token)
    return shape._replace(stop_ids=tuple(stop))


def of_transformers(loaded: LoadedModel, shape: Shape, cache: str) -> Answers:
    """transformers' generate on left-padded batches of prompts of like length."""
    model: Any = loaded.model
    answers: Answers = [[] for _ in shape.prompts]
    order = sorted(range(len(shape.prompts)), key=lambda i: -len(shape.prompts[i]))
    for start in range(0, len(order), BATCH):
        chosen = [shape.prompts[i] for i in order[start : start + BATCH]]
        longest = max(map(len, chosen))
        ids = torch.tensor([[0] * (longest - len(one)) + one for one in chosen])
        mask = torch.tensor([[0] * (longest - len(one)) + [1] * len(one) for one in chosen])
        with torch.inference_mode():
            output = model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=shape.max_new_tokens,
                do_sample=False,
                pad_token_id=0,
                eos_token_id=list(shape.stop_ids) or None,
                cache_implementation=cache or None,
                disable_compile=True,
            )
        for i, row in zip(order[start : start + BATCH], output[:, longest:].tolist(), strict=True):
            end = next((place for place, token in enumerate(row) if token in shape.stop_ids), len(row))
            answers[i] = row[:end]
    return answers


def of_flat(model: FlatModel, shape: Shape, *, is_folded: bool = True, shares: bool = True) -> Answers:
    """Our generator; `shares` off: every prompt is read by itself."""
    with model.folded(most_bytes=2**31) if is_folded else nullcontext():
        generator = Generator(model, shape.stop_ids)
        parts = [shape.prompts] if shares else [[prompt] for prompt in shape.prompts]
        answers: Answers = []
        for part in parts:
            found = dict(generator.answers(part, max_new_tokens=shape.max_new_tokens, num_rows=BATCH))
            answers += [found[i] for i in range(len(part))]
        return answers


def peak_bytes() -> int:
    """The largest resident memory since the last `reset_peak`."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def reset_peak() -> int:
    """Forget the peak; resident memory now."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return peak_bytes()


def timed(way: Callable[[], Answers]) -> tuple[float, int, Answers]:
    """CPU-seconds, bytes above those at the beginning, answers."""
    before = reset_peak()
    began = time.process_time()
    answers = way()
    return time.process_time() - began, peak_bytes() - before, answers


def cell(loaded: LoadedModel, model: FlatModel, shape: Shape, rounds: int) -> dict[str, Any]:
    """All ways on one shape, interleaved."""
    ways: dict[str, Callable[[], Answers]] = {
        "transformers_dynamic": lambda: of_transformers(loaded, shape, ""),
        "transformers_static": lambda: of_transformers(loaded, shape, "static"),
        "flat": lambda: of_flat(model, shape),
        "flat_unfolded": lambda: of_flat(model, shape, is_folded=False),
    }
    if not any(isinstance(module, LoraLinear) for module in loaded.model.modules()):
        del ways["flat_unfolded"]
    measured: dict[str, list[tuple[float, int, Answers]]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            one = timed(way)
            if number:
                measured[name].append(one)
    seconds = {name: statistics.median(one[0] for one in runs) for name, runs in measured.items()}
    peak = {name: statistics.median(one[1] for one in runs) for name, runs in measured.items()}
    answers = {name: runs[0][2] for name, runs in measured.items()}
    best = min(("transformers_dynamic", "transformers_static"), key=seconds.__getitem__)
    same = [mine == its for mine, its in zip(answers["flat"], answers["transformers_dynamic"], strict=True)]
    return {
        "answers_per_second": {name: round(len(shape.prompts) / one, 1) for name, one in seconds.items()},
        "peak_mb": {name: round(one / 1e6, 1) for name, one in peak.items()},
        "mean_answer_tokens": round(statistics.mean(len(one) for one in answers["flat"]), 1),
        "speed_ratio": round(seconds[best] / seconds["flat"], 2),
        "memory_ratio": round(peak["flat"] / max(1, peak[best]), 2),
        "best_of_transformers": best,
        "equal_answers": round(statistics.mean(same), 3),
    }


def adapted(loaded: LoadedModel) -> LoadedModel:
    """With adapters of rank 16 on every linear layer that say something."""
    attach_lora(loaded, rank=16, alpha=32.0, dropout=0.0, target_modules=("all-linear",))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in loaded.model.modules():
            if isinstance(module, LoraLinear):
                module.lora_b.copy_(torch.randn(module.lora_b.shape, generator=generator) * 0.02)
    loaded.model.eval()
    return loaded


def cells(chosen: list[str], num: int, rounds: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every cell that is wanted: `MODEL/SHAPE`, and `MODEL+lora/chat`."""
    for name in (*MODELS, *(f"{one}+lora" for one in MODELS)):
        shapes = [one for one in SHAPES if not chosen or f"{name}/{one}" in chosen]
        if name.endswith("+lora") and not chosen:
            shapes = ["chat"]
        if not shapes:
            continue
        with tempfile.TemporaryDirectory() as folder:
            base = resolve_base("pebble") if name.startswith("pebble") else llama_15m(Path(folder))
            loaded = load_model(base)
        if name.endswith("+lora"):
            adapted(loaded)
        model = flat_model(loaded, FlatSettings())
        assert model is not None
        for one in shapes:
            shape = prompts_of(one, len(model.head_VD), num)
            if one == "chat":
                shape = with_stops(shape, of_flat(model, shape))
            yield f"{name}/{one}", cell(loaded, model, shape, rounds)


def measure(quick: bool = False, chosen: list[str] | None = None) -> dict[str, Any]:
    """Every cell, and the worst and median ratios."""
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    for name, row in cells(chosen or [], 32 if quick else NUM_PROMPTS, 1 if quick else ROUNDS):
        found[name] = row
        print(name, json.dumps(row), file=sys.stderr, flush=True)
    ratios = [row["speed_ratio"] for row in found.values()]
    memory = [row["memory_ratio"] for row in found.values()]
    return {
        "config": {"batch": BATCH, "num_prompts": NUM_PROMPTS, "rounds": ROUNDS, "precision": "fp32", "threads": 1},
        "metrics": {
            "cells": found,
            "speed_ratio_median": statistics.median(ratios),
            "speed_ratio_lowest": min(ratios),
            "memory_ratio_median": statistics.median(memory),
        },
    }


if __name__ == "__main__":
    print(json.dumps(measure(chosen=sys.argv[1:]), indent=2))
