"""The same targets behind prompts written as in training, as served, by the tokenizer's own template, and plain."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from foretune.data.samples import Message
from foretune.data.tokenise import prompt_ids
from foretune.data.tokenizer import Tokenizer
from foretune.engine.losses import Asked
from foretune.errors import DataError
from foretune.evaluate.probes.references import behind, references
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
    known: dict[str, tuple[float, int]] = {}
    found = []
    for name, tokenizer in _ways(scope):
        try:
            digest = written_sha256(tokenizer)
            if digest not in known:
                known[digest] = _mean_nats(scope, _asked(scope, tokenizer))
        except DataError:  # a template that refuses these conversations is no way of asking
            continue
        nats, n = known[digest]
        if n:
            found.append(TemplateLoss(name=name, template_sha256=digest, nats=nats, n=n))
    return tuple(found)


def _asked(scope: Scope, tokenizer: Tokenizer) -> list[Asked]:
    """The targets as a template writes them; one that writes answers unlike its own question serves all the same.

    Then they stand as training wrote them behind the prompt that the template asks with.
    """
    most = QUICK_ROWS if scope.quick else ROWS
    samples = (scope.split("validation") or scope.split("train"))[:most]
    try:
        rows = references(samples, tokenizer, kind="causal", max_len=scope.max_len)
    except DataError:
        known = (scope.references("validation") or scope.references("train"))[:most]
        asked = [behind(prompt_ids(row.sample, tokenizer), row) for row in known]
        return [one for one in asked if scope.max_len is None or len(one.ids) <= scope.max_len]
    return [Asked(row.ids, row.places) for row in rows]


def _mean_nats(scope: Scope, asked: Sequence[Asked]) -> tuple[float, int]:
    """The mean over samples of the nats per target token, and the number of samples."""
    values = scope.losses(asked, "fine_tuned") if asked else []
    return (float(np.mean([nats.mean() for nats in values])) if values else float("nan")), len(values)


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
