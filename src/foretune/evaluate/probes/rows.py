"""The rows that training really saw, as it wrote them down, and which of its samples repeat or contradict others."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from foretune.data.samples import Message, Sample
from foretune.evaluate.probes.scope import NoEvidence, Scope
from foretune.records.evidence import RowEvidence

__all__ = ["plain_input", "plain_text", "row_evidence"]


def row_evidence(scope: Scope) -> RowEvidence:
    """Tokens and ends as training counted them, repeats as the samples show them."""
    seen, repeats = scope.token_audit, _repeats(scope.own)
    if seen.ended_fraction is None or seen.truncated_fraction is None:
        raise NoEvidence("training did not count how its rows end")
    return RowEvidence(
        num_rows=seen.num_rows,
        supervised_fraction=seen.loss_fraction,
        ended_fraction=seen.ended_fraction,
        truncated_fraction=seen.truncated_fraction,
        prompt_supervised_fraction=seen.prompt_loss_fraction or 0.0,
        duplicate_fraction=repeats.duplicates,
        largest_duplicate_fraction=repeats.largest,
        conflicting_fraction=repeats.conflicting,
        num_distinct=repeats.num_distinct,
    )


class _Repeats(NamedTuple):
    """Shares of the samples, and how many are distinct."""

    duplicates: float
    largest: float
    conflicting: float
    num_distinct: int


def _repeats(samples: Sequence[Sample]) -> _Repeats:
    pairs = [(plain_input(sample.prompt) or plain_text(sample.text), plain_text(sample.target)) for sample in samples]
    counts, targets = Counter(pairs), defaultdict[str, set[str]](set)
    for asked, target in pairs:
        targets[asked].add(target)
    total = max(1, len(pairs))
    conflicting = sum(len(targets[asked]) > 1 for asked, _ in pairs) / total
    duplicates, largest = (len(pairs) - len(counts)) / total, max(counts.values(), default=0) / total
    return _Repeats(duplicates, largest, conflicting, len(counts))


def plain_text(text: str) -> str:
    """A text without regard to case and white space."""
    return " ".join(text.casefold().split())


def plain_input(messages: Sequence[Message]) -> str:
    """What was said before the answer, system message left out, without regard to case and white space."""
    return plain_text("\n".join(message.content for message in messages if message.role != "system"))
