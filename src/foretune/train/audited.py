"""What the audit before the first step looks at: the rows that training really gets, and where they come from."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from foretune.data.inputs import input_ids
from foretune.data.samples import Sample
from foretune.data.tokenizer import Tokenizer
from foretune.records.token_audit import TokenFinding, TokenSeverity

__all__ = ["Audited", "SupervisedRow", "finding", "trained_positions"]

MAX_PLACES = 20
PROBE = "A caf\u00e9 \ufb01lled \u00c5 with, \u7b2c 1\u00bd \U0001f642."  # what lossy tokenizers change


class SupervisedRow(Protocol):
    """The part of a training row that is looked at; `weights[i]` is the weight of predicting `ids[i]`."""

    @property
    def ids(self) -> np.ndarray:
        """Token ids."""

    @property
    def weights(self) -> np.ndarray:
        """Loss weights."""

    @property
    def source(self) -> np.ndarray | None:
        """What an encoder reads."""

    @property
    def weight(self) -> float:
        """What the row counts for in the loss."""


@dataclass(frozen=True)
class Audited:
    """One run before its first step.

    `kind` is the model's (causal, seq2seq, classify, regress), `samples` the training samples in their order,
    `dropped` the places of those that were left out. `embedding_rows`, `max_positions` (None = no limit) and
    `model_config` (config.json and generation_config.json) describe the base; `untrained_ids` are tokens whose frozen
    embedding was never trained.
    """

    tokenizer: Tokenizer
    kind: str
    method: str
    train_on: str
    train: Sequence[SupervisedRow]
    validation: Sequence[SupervisedRow] = ()
    samples: Sequence[Sample] = ()
    dropped: Sequence[str] = ()
    num_dropped: int = 0
    max_seq_len: int = 0
    max_positions: int | None = None
    num_virtual_tokens: int = 0
    embedding_rows: int | None = None
    packs_documents: bool = False
    untrained_ids: frozenset[int] = frozenset()
    model_config: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def aligned(self) -> Sequence[Sample] | None:
        """The sample of each training row, or None where rows and samples are not one to one."""
        if self.packs_documents:
            return None
        gone = Counter(self.dropped)
        standing = Counter(_standing(sample) for sample in self.samples if _standing(sample) in gone)
        is_certain = standing == gone
        kept = [one for one in self.samples if _standing(one) not in gone] if is_certain else self._told_by_prompt(gone)
        return kept if kept and len(kept) == len(self.train) else None

    def _told_by_prompt(self, gone: Counter[str]) -> list[Sample]:
        """The samples that have rows, where many stand at one place (a JSON file of one line): a row has its prompt."""
        kept: list[Sample] = []
        for sample in self.samples:
            row = self.train[min(len(kept), len(self.train) - 1)]
            if gone[_standing(sample)] and not self._begins_with(row, sample):
                gone[_standing(sample)] -= 1
            else:
                kept.append(sample)
        return kept

    def _begins_with(self, row: SupervisedRow, sample: Sample) -> bool:
        fed = input_ids(sample, self.tokenizer, kind=self.input_kind, max_seq_len=self.max_seq_len)
        return list(row.ids if row.source is None else row.source)[: len(fed)] == fed

    @property
    def input_kind(self) -> str:
        """The kind by which inputs are built."""
        return self.kind if self.kind in ("causal", "seq2seq") else "classify"

    @cached_property
    def is_lossless(self) -> bool:
        """Whether decoding gives back what was encoded: no lower case, no normal forms, no unknown tokens."""
        tokenizer = self.tokenizer
        return tokenizer.decode(tokenizer.encode(PROBE), skip_special=False).strip() == PROBE

    def place(self, index: int) -> str:
        """Where training row `index` comes from, as `file:line` where that is known."""
        found = self.aligned[index].place if self.aligned is not None else ""
        return found or f"row {index + 1}"

    def texts_of(self, ids: Iterable[int]) -> str:
        """Tokens as text, control tokens included."""
        return self.tokenizer.decode([int(one) for one in ids], skip_special=False)


def _standing(sample: Sample) -> str:
    return sample.place or sample.id


def trained_positions(row: SupervisedRow) -> np.ndarray:
    """Which of the row's tokens carry loss [L]; a decoder never predicts its first token."""
    chosen = np.asarray(row.weights) > 0
    if row.source is None and len(chosen):
        chosen = chosen.copy()
        chosen[0] = False
    return chosen


def finding(
    number: str,
    severity: TokenSeverity,
    title: str,
    reason: str,
    *,
    audited: Audited,
    rows: Sequence[int] = (),
    evidence: Sequence[str] = (),
    fix: str = "",
) -> TokenFinding:
    """A finding on the training rows with these indices."""
    places = tuple(audited.place(index) for index in rows[:MAX_PLACES])
    return TokenFinding(
        id=number,
        severity=severity,
        title=title,
        reason=reason,
        num_rows=len(rows),
        places=places,
        evidence=tuple(evidence),
        fix=fix,
    )
