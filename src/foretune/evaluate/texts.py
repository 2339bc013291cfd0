"""Raw text: how well base and fine-tuned model predict held-out documents, in bits per byte and as perplexity."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from foretune.data.inputs import plain_text
from foretune.evaluate.case import Case, HeldOut, Which
from foretune.evaluate.comparison import Comparison, Judgement, judge, unjudged
from foretune.evaluate.metrics import BITS_PER_BYTE, PERPLEXITY
from foretune.evaluate.skills import losses_of_texts
from foretune.evaluate.systems import BASE_ZERO_SHOT, FINE_TUNED
from foretune.records.evaluation import Answer, MetricValue, SystemResult
from foretune.stats.checks import FloatArray
from foretune.stats.intervals import bca_interval, t_mean
from foretune.stats.paired import compare_paired

__all__ = ["compare_texts"]

SAVED = " Differences are bits saved per byte of text: baseline minus candidate, so that more is better."
SYSTEMS: dict[str, Which] = {BASE_ZERO_SHOT: "base", FINE_TUNED: "fine_tuned"}


def compare_texts(case: Case, test: HeldOut) -> Comparison:
    """Base and fine-tuned model on every test document that has at least one token to predict."""
    texts = [plain_text(sample) for sample in test.samples]
    measured = {name: _measured(case, name, which, texts) for name, which in SYSTEMS.items()}
    bits = {name: value["bits"] for name, value in measured.items()}
    kept = [row for row in range(len(texts)) if all(scores[row] > 0 for scores in bits.values())]
    if len(kept) < len(texts):
        case.warnings.append(f"{len(texts) - len(kept)} test documents are too short to predict anything in them")
    scores = {name: [values[row] for row in kept] for name, values in bits.items()}
    results = tuple(_result(name, scores[name], measured[name], kept) for name in SYSTEMS)
    answers = [
        Answer(
            sample_id=test.samples[row].id,
            system=name,
            place=test.samples[row].place,
            messages=(),
            prediction="",
            expected=texts[row],
            scores={BITS_PER_BYTE: bits[name][row]},
        )
        for name in SYSTEMS
        for row in kept
    ]
    return Comparison(results, BASE_ZERO_SHOT, _judgement(case, scores, kept, test), answers, [])


def _measured(case: Case, name: str, which: Which, texts: Sequence[str]) -> dict[str, Any]:
    def measure() -> dict[str, Any]:
        began = time.monotonic()
        losses = losses_of_texts(case.models.chat(which).engine, texts)
        return {
            "bits": [loss.bits_per_byte for loss in losses],
            "nats": [loss.nats for loss in losses],
            "tokens": [loss.num_tokens for loss in losses],
            "seconds": time.monotonic() - began,
        }

    value: dict[str, Any] = case.journal.once(name, measure)
    return value


def _result(name: str, scores: Sequence[float], measured: Mapping[str, Any], kept: Sequence[int]) -> SystemResult:
    metrics = {BITS_PER_BYTE: MetricValue(value=0.0, ci_low=0.0, ci_high=0.0, n=0, method="no samples")}
    if scores:
        value, low, high, n, method = t_mean(scores, score_range=None)
        metrics = {BITS_PER_BYTE: MetricValue(value=value, ci_low=low, ci_high=high, n=n, method=method)}
        metrics[PERPLEXITY] = _perplexity(
            [measured["nats"][row] for row in kept], [measured["tokens"][row] for row in kept]
        )
    prompt = "each document by itself, predicted token by token"
    return SystemResult(name=name, prompt=prompt, metrics=metrics, seconds=measured["seconds"])


def _perplexity(nats: Sequence[float], tokens: Sequence[int]) -> MetricValue:
    """exp(nats / tokens) over all documents, by the tokens of this model: two tokenizers cannot be compared by it."""
    rows = np.array([nats, tokens], dtype=np.float64).T

    def of_sums(sums_BK: FloatArray) -> FloatArray:
        return np.asarray(np.exp(sums_BK[:, 0] / np.maximum(sums_BK[:, 1], 1)), dtype=np.float64)

    found = bca_interval(rows, of_sums, score_range=(1.0, math.inf))
    high = found.high if math.isfinite(found.high) else found.value
    return MetricValue(value=found.value, ci_low=found.low, ci_high=high, n=found.n, method=found.method)


def _judgement(case: Case, scores: dict[str, list[float]], kept: Sequence[int], test: HeldOut) -> Judgement:
    if not kept:
        return unjudged()
    groups = test.groups
    margin = case.job.evaluate.advanced.margin
    result = compare_paired(
        [-value for value in scores[BASE_ZERO_SHOT]],
        [-value for value in scores[FINE_TUNED]],
        "graded",
        None if groups is None else [groups[row] for row in kept],
        look=test.look,
        margin=margin,
        score_range=None,
    )
    judgement = judge(result, margin)
    return judgement._replace(verdict=judgement.verdict._replace(reason=judgement.verdict.reason + SAVED))
