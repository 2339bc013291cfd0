"""What share of the failures facts mend, what share a stated format, and what is left: behaviour."""

# SPDX-License-Identifier: Apache-2.0
#
# Every change of a prompt mends some failures by chance. A remedy's share is therefore what it mends beyond a placebo:
# if a share c is mended by chance and a share m is mended by remedy or chance, the remedy alone mends (m - c) / (1 - c)
# (Abbott 1925). What the remedies break of the right answers is not counted here: only failures are asked again.
from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from foretune.errors import ScoreError
from foretune.records.failures import FailureKind, Share
from foretune.stats.checks import FloatArray
from foretune.stats.intervals import wilson

__all__ = ["Asked", "KindShares", "kind_shares", "kinds_of", "left_to_context"]

MENDED = 0.5  # of what a failed sample loses, for the remedy to name its kind


class Asked(NamedTuple):
    """Scores of the failed samples, 0 to 1: as first answered, read leniently, and asked again in each way.

    None for a way that was not tried.
    """

    scores: ArrayLike
    lenient: ArrayLike
    with_format: ArrayLike | None = None
    with_context: ArrayLike | None = None
    with_placebo: ArrayLike | None = None


class KindShares(NamedTuple):
    """Shares of the lost score; None where the remedy was not tried."""

    format: Share | None
    knowledge: Share | None
    behaviour: Share | None
    placebo: Share | None


def kind_shares(asked: Asked) -> KindShares:
    """The shares of the three kinds, which add up to 1; format goes first, as the cheapest remedy.

    Raises ScoreError where the lists differ in length. No failures: every share is None.
    """
    scores = np.asarray(asked.scores, dtype=np.float64)
    lost = 1 - scores
    if not lost.sum() > 0:
        return KindShares(None, None, None, None)
    lenient = _mended(asked.lenient, scores)
    placebo = None if asked.with_placebo is None else _mended(asked.with_placebo, scores)
    chance = 0.0 if placebo is None else _share_of(placebo, lost)
    read = _share_of(lenient, lost)
    layout = lenient if asked.with_format is None else np.maximum(lenient, _mended(asked.with_format, scores))
    asked_better = _beyond(_share_of(layout - lenient, lost - lenient), chance)
    format_share = read + (1 - read) * asked_better
    knowledge = None
    if asked.with_context is not None:
        left = lost - layout
        facts = np.maximum(0.0, _mended(asked.with_context, scores) - layout)
        by_chance = 0.0 if placebo is None else _share_of(np.maximum(0.0, placebo - layout), left)
        knowledge = (1 - format_share) * _beyond(_share_of(facts, left), by_chance)
    count = len(scores)
    return KindShares(
        _interval(format_share, count),
        None if knowledge is None else _interval(knowledge, count),
        _interval(1 - format_share - (knowledge or 0.0), count),
        None if placebo is None else _interval(chance, count),
    )


def left_to_context(scores: ArrayLike, with_context: ArrayLike, with_placebo: ArrayLike) -> Share:
    """The share of all samples that a model loses and the right facts mend, beyond what a placebo mends.

    For a trained model: what it lacks may be hidden in the base, which fails for other reasons too. Scores of all
    samples, or of the failed ones; samples that were right count as not mended.
    """
    before = np.asarray(scores, dtype=np.float64)
    lost = 1 - before
    facts, chance = _mended(with_context, before), _mended(with_placebo, before)
    share = _beyond(_share_of(facts, lost), _share_of(chance, lost)) * float(lost.mean()) if lost.sum() > 0 else 0.0
    return _interval(share, len(before))


def kinds_of(asked: Asked) -> list[FailureKind]:
    """The kind of each failed sample: the cheapest remedy that mends half of what it loses, else behaviour."""
    scores = np.asarray(asked.scores, dtype=np.float64)
    enough = MENDED * (1 - scores)
    layout = _mended(asked.lenient, scores)
    if asked.with_format is not None:
        layout = np.maximum(layout, _mended(asked.with_format, scores))
    facts = np.zeros_like(scores) if asked.with_context is None else _mended(asked.with_context, scores)
    named: list[FailureKind] = []
    for row in range(len(scores)):
        is_format, is_fact = layout[row] >= enough[row], facts[row] >= enough[row]
        named.append("format" if is_format else "knowledge" if is_fact else "behaviour")
    return named


def _mended(again: ArrayLike, scores: FloatArray) -> FloatArray:
    """How much better each sample is than at first, never below 0."""
    found = np.asarray(again, dtype=np.float64)
    if found.shape != scores.shape:
        raise ScoreError(f"{found.size} answers for {scores.size} failures, expected one each")
    return np.asarray(np.maximum(0.0, found - scores), dtype=np.float64)


def _share_of(part: FloatArray, whole: FloatArray) -> float:
    total = float(whole.sum())
    return float(part.sum()) / total if total > 0 else 0.0


def _beyond(mended: float, chance: float) -> float:
    """The share that the remedy alone mends."""
    return max(0.0, (mended - chance) / (1 - chance)) if chance < 1 else 0.0


def _interval(share: float, count: int) -> Share:
    value = min(1.0, max(0.0, share))
    rough = wilson(round(value * count), count)
    return Share(value=value, ci_low=min(value, rough.low), ci_high=max(value, rough.high))
