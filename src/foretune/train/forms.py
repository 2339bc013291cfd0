"""One model in several forms on the same tokens: their next-token distributions, and how far they are apart."""

# SPDX-License-Identifier: Apache-2.0
#
# Shapes: P positions, V vocabulary (classes for a classifier).
from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from foretune.data.inputs import input_ids
from foretune.data.samples import Sample
from foretune.data.tokenizer import Tokenizer
from foretune.models.load import LoadedModel
from foretune.models.lora import adapters_off
from foretune.models.virtual import prompted_inputs

__all__ = ["Distance", "Probe", "answered", "distance", "logits_of", "probes"]

MAX_PROMPT_TOKENS = 192
MAX_ANSWER_TOKENS = 16
TIE = 1e-3  # two tokens whose logits are nearer than this are both right


class Probe(NamedTuple):
    """One input with the trained model's greedy answer; a classifier has no answer."""

    prompt: list[int]
    answer: list[int]


class Distance(NamedTuple):
    """How far a form is from the trained model, over all positions of all probes."""

    max_kl: float
    mean_kl: float
    agreement: float
    max_logit_change: float
    num_positions: int


def probes(samples: Sequence[Sample], tokenizer: Tokenizer, kind: str, *, max_seq_len: int, count: int) -> list[Probe]:
    """Inputs of up to `count` samples, evenly spread, each cut to its last 192 tokens; raw text: its first 64."""
    step = max(1, len(samples) // count)
    return [Probe(_prompt(one, tokenizer, kind, max_seq_len), []) for one in samples[::step][:count]]


def _prompt(sample: Sample, tokenizer: Tokenizer, kind: str, max_seq_len: int) -> list[int]:
    if sample.is_text and kind == "causal":
        begin = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
        return [*begin, *tokenizer.encode(sample.text)][:64] or [tokenizer.pad_id]
    read = kind if kind in ("causal", "seq2seq") else "classify"
    ids = input_ids(sample, tokenizer, kind=read, max_seq_len=max_seq_len or MAX_PROMPT_TOKENS)
    return ids[-MAX_PROMPT_TOKENS:] or [tokenizer.pad_id]


def answered(loaded: LoadedModel, asked: Sequence[Probe], stop_ids: Sequence[int]) -> list[Probe]:
    """The probes with greedy answers of at most 16 tokens, the stop token included."""
    if loaded.kind not in ("causal", "seq2seq"):
        return list(asked)
    return [Probe(one.prompt, _greedy(loaded, one.prompt, frozenset(stop_ids))) for one in asked]


def _greedy(loaded: LoadedModel, prompt: list[int], stop_ids: frozenset[int]) -> list[int]:
    answer: list[int] = []
    room = MAX_ANSWER_TOKENS if loaded.max_len is None else min(MAX_ANSWER_TOKENS, loaded.max_len - len(prompt) - 1)
    for _ in range(max(0, room)):
        answer.append(int(logits_of(loaded, Probe(prompt, answer))[-1].argmax()))
        if answer[-1] in stop_ids:
            break
    return answer


@torch.no_grad()
def logits_of(loaded: LoadedModel, probe: Probe, *, is_base: bool = False) -> Tensor:
    """Logits [P, V] in fp32 on the CPU: behind every token of prompt and answer (seq2seq: of the answer).

    `is_base` leaves adapters and virtual tokens out. A classifier gives one position, the scores of its classes.
    """
    model: Any = loaded.model
    model.eval()
    with adapters_off(model) if is_base else nullcontext():
        logits = _forward(loaded, model, probe, is_base)
    return logits.float().cpu()


def _forward(loaded: LoadedModel, model: Any, probe: Probe, is_base: bool) -> Tensor:
    prompt = torch.tensor([probe.prompt], device=loaded.device)
    if loaded.kind == "seq2seq":
        start = [model.config.decoder_start_token_id, *probe.answer]
        decoder = torch.tensor([start], device=loaded.device)
        whole: Tensor = model(input_ids=prompt, decoder_input_ids=decoder, use_cache=False).logits[0]
        return whole
    if loaded.kind != "causal":
        scores: Tensor = model(input_ids=prompt, attention_mask=torch.ones_like(prompt)).logits
        return scores
    ids = torch.tensor([[*probe.prompt, *probe.answer]], device=loaded.device)
    inputs = {"input_ids": ids} if is_base else prompted_inputs(model, ids)
    logits: Tensor = model(**inputs, use_cache=False).logits[0, -ids.shape[1] :]
    return logits


def distance(trained: Sequence[Tensor], other: Sequence[Tensor], asked: Sequence[Probe]) -> Distance:
    """KL (nats, in fp64) of trained against other at every position, and agreement where answers are chosen.

    A single output (regression) has no distribution: its absolute change stands in for the KL. Agreement at every
    position of the trained model's own greedy answer means that the other form gives the same answer.
    """
    kls = torch.cat([_divergence(mine, its) for mine, its in zip(trained, other, strict=True)])
    same = torch.cat([_agrees(mine, its, one) for mine, its, one in zip(trained, other, asked, strict=True)])
    change = max(float((mine - its).abs().max()) for mine, its in zip(trained, other, strict=True))
    return Distance(float(kls.max()), float(kls.mean()), float(same.float().mean()), change, len(kls))


def _divergence(mine_PV: Tensor, its_PV: Tensor) -> Tensor:
    if mine_PV.shape[1] == 1:
        return (mine_PV - its_PV).abs()[:, 0].double()
    mine, its = (functional.log_softmax(one.double(), dim=-1) for one in (mine_PV, its_PV))
    return (mine.exp() * (mine - its)).sum(-1).clamp(min=0)


def _agrees(mine_PV: Tensor, its_PV: Tensor, probe: Probe) -> Tensor:
    """Whether both choose the same at the positions before each token of the answer; ties count as the same."""
    count = max(1, len(probe.answer))
    if mine_PV.shape[0] > count:
        mine_PV, its_PV = mine_PV[-count - 1 : -1], its_PV[-count - 1 : -1]
    best = mine_PV.max(-1).values
    chosen = mine_PV.gather(-1, its_PV.argmax(-1, keepdim=True))[:, 0]
    return best - chosen <= TIE
