"""Validation rows read whole, by the measure of training's own validation: what it never saw shows as a difference."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np

from foretune.config.job import PREFERENCE_METHODS
from foretune.data.tokenise import tokenise_all
from foretune.engine.losses import Asked
from foretune.evaluate.probes.scope import NoEvidence, Scope

__all__ = ["whole_validation_nats"]


def whole_validation_nats(scope: Scope) -> dict[str, float]:
    """Mean nats of every token that should carry loss, over whole validation rows written as training wrote them.

    Also without the tokens that end an answer: what training says where it learned no end. Raises NoEvidence where
    training's validation measures something else, or there is none.
    """
    job = scope.case.job
    if scope.kind != "causal" or job.train.method in PREFERENCE_METHODS:
        raise NoEvidence(f"the validation loss of method {job.train.method} is none of a decoder's targets")
    tokenizer = scope.training_tokenizer or scope.tokenizer
    whole = tokenise_all(scope.split("validation"), tokenizer, train_on=job.train.advanced.train_on).samples
    rows = [Asked(row.ids, [at for at, learned in enumerate(row.loss_mask) if learned]) for row in whole]
    rows = [row for row in rows if row.places and (scope.max_len is None or len(row.ids) <= scope.max_len)]
    if not rows:
        raise NoEvidence("there are no validation samples that fit into the model")
    stops = set(tokenizer.stop_ids)
    is_end = np.array([row.ids[at] in stops for row in rows for at in row.places])
    nats = np.concatenate(scope.losses(rows, "fine_tuned"))
    found = {"whole_validation_nats": float(nats.mean())}
    if not is_end.all():
        found["unended_validation_nats"] = float(nats[~is_end].mean())
    return found
