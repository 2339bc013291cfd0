"""How the rows of a run begin and end what they learn: shares of rows that diagnosis reads once the run is over."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from foretune.data.samples import Sample
from foretune.errors import DataError
from foretune.train.audited import Audited
from foretune.train.row_checks import LANGUAGE_KINDS, stop_is_trained
from foretune.train.text_checks import is_learned_whole, prompt_learned

__all__ = ["RowFacts", "row_facts"]

MAX_READ_ROWS = 500  # rows that are read back into text


class RowFacts(NamedTuple):
    """Shares of the rows, None where that does not apply: learned tokens that end the answer, targets that were cut,
    prompts that carry loss.
    """

    ended: float | None = None
    truncated: float | None = None
    prompt_loss: float | None = None


def row_facts(audited: Audited) -> RowFacts:
    """The facts of rows that learn answers; of raw text there are none."""
    samples = audited.aligned
    if audited.kind not in LANGUAGE_KINDS:
        return RowFacts(1.0, 0.0)  # a head has nothing to end or to cut
    if audited.method == "pretrain" or samples is None:
        return RowFacts()
    rows = [index for index, sample in enumerate(samples) if _ends_with_answer(sample)]
    if not rows:
        return RowFacts()
    stops = audited.tokenizer.stop_ids
    ended = sum(stop_is_trained(audited.train[index], stops) for index in rows) / len(rows)
    read = [rows[at] for at in np.linspace(0, len(rows) - 1, min(MAX_READ_ROWS, len(rows))).round().astype(int)]
    cut = sum(not is_learned_whole(audited, index, samples[index].messages[-1]) for index in read) / len(read)
    return RowFacts(ended, cut, _prompt_share(audited, read, samples) if audited.kind == "causal" else None)


def _prompt_share(audited: Audited, rows: Sequence[int], samples: Sequence[Sample]) -> float | None:
    """Of the rows that can be read: a template may refuse the part of a conversation that stands before an answer."""
    found = []
    for index in rows:
        try:
            found.append(bool(prompt_learned(audited, index, samples[index])))
        except DataError:
            continue
    return sum(found) / len(found) if found else None


def _ends_with_answer(sample: Sample) -> bool:
    return bool(sample.messages) and sample.messages[-1].role == "assistant" and sample.messages[-1].learn
