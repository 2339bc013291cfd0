"""The same targets behind prompts written as in training, as served, by the tokenizer's own template, and plain."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from foretune.data.samples import Message
from foretune.data.tokenizer import Tokenizer
from foretune.errors import DataError
from foretune.evaluate.probes.references import Reference, references
from foretune.evaluate.probes.scope import NoEvidence, Scope
from foretune.records.evidence import TemplateLoss

__all__ = ["template_losses", "written_sha256"]

ROWS, QUICK_ROWS = 64, 32
WayName = Literal["training", "serving", "tokenizer", "plain"]
ASKED = Message("user", "Is it?")
ANSWERED = Message("assistant", "Yes.")


def template_losses(scope: Scope) -> tuple[TemplateLoss, ...]:
    """Mean loss of the targets under each way of writing the prompt that differs from the others, and can be had."""
    if scope.kind != "causal" or scope.is_text:
        raise NoEvidence("no chat template is part of what this model reads")
    samples = (scope.split("validation") or scope.split("train"))[: QUICK_ROWS if scope.quick else ROWS]
    known: dict[str, tuple[float, int]] = {}
    found = []
    for name, tokenizer in _ways(scope):
        try:
            digest = written_sha256(tokenizer)
            if digest not in known:
                rows = references(samples, tokenizer, kind="causal", max_len=scope.max_len)
                known[digest] = _mean_nats(scope, rows), len(rows)
        except DataError:  # a template that refuses these conversations is no way of asking
            continue
        nats, n = known[digest]
        if n:
            found.append(TemplateLoss(name=name, template_sha256=digest, nats=nats, n=n))
    return tuple(found)


def _mean_nats(scope: Scope, rows: Sequence[Reference]) -> float:
    asked = [row.asked() for row in rows]
    values = scope.losses(asked, "fine_tuned") if asked else []
    per_row = [float(nats[: len(row.places)].mean()) for row, nats in zip(rows, values, strict=True)]
    return float(np.mean(per_row)) if per_row else float("nan")


def _ways(scope: Scope) -> Iterator[tuple[WayName, Tokenizer]]:
    """The ways of writing a prompt: what training wrote down, what serving uses, the base's own template, the plain."""
    served, training = scope.tokenizer, scope.training_tokenizer
    if training is not None:
        yield "training", training
    yield "serving", served
    own = Tokenizer.from_folder(scope.case.models.base_folder)
    if own.has_chat_template:
        yield "tokenizer", own
    yield "plain", served.with_template(None)


def written_sha256(tokenizer: Tokenizer) -> str:
    """Hex digest of what a template makes of a fixed conversation: templates that write the same have the same."""
    head = (Message("system", "Be brief."),)
    try:
        text = tokenizer.render((*head, ASKED, ANSWERED, ASKED), add_generation_prompt=True)
    except DataError:  # some templates take no system message
        text = tokenizer.render((ASKED, ANSWERED, ASKED), add_generation_prompt=True)
    return hashlib.sha256(text.encode()).hexdigest()
