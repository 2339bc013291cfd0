"""Scores of answers that are numbers: how far off, how near as a share of the targets' range, and whether they rank."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from foretune.data.targets import number_of
from foretune.errors import ScoreError
from foretune.evaluate.scorers.spec import CorpusMetric
from foretune.stats.checks import FloatArray

__all__ = ["SPEARMAN", "Span", "absolute_error", "number_closeness", "number_match"]


class Span(NamedTuple):
    """Smallest and largest target of the samples that are scored."""

    low: float
    high: float

    @classmethod
    def of(cls, targets: Sequence[str]) -> Span:
        """The span of targets. Raises ScoreError where one is no number."""
        numbers = [_target_number(target) for target in targets]
        return cls(min(numbers), max(numbers))


TOLERANCE = 0.01  # of the target's size


def number_match(prediction: str, target: str) -> float:
    """1 where the answer is a number within 1 % of the target's; a target of 0 only by 0 itself."""
    wanted, said = _target_number(target), number_of(prediction)
    return float(said is not None and abs(said - wanted) <= TOLERANCE * abs(wanted) * (1 + 1e-9))


def absolute_error(prediction: str, target: str, span: Span) -> float:
    """|answer - target|; an answer that is no number counts as the target's farthest end of the span."""
    wanted, said = _target_number(target), number_of(prediction)
    return max(wanted - span.low, span.high - wanted) if said is None else abs(said - wanted)


def number_closeness(prediction: str, target: str, span: Span) -> float:
    """1 - error as a share of the span, at least 0; 0 for an answer that is no number."""
    if number_of(prediction) is None:
        return 0.0
    width = span.high - span.low
    error = absolute_error(prediction, target, span)
    return max(0.0, 1 - error / width) if width else float(error == 0)


def rank_rows(predictions: Sequence[str], targets: Sequence[str]) -> FloatArray:
    """(n, 6): 1, x, y, xx, yy, xy of the ranks, ties averaged; an answer that is no number has the middle rank."""
    from scipy.stats import rankdata

    said = np.array([np.nan if (value := number_of(text)) is None else value for text in predictions])
    x = np.full(len(said), (len(said) + 1) / 2)
    known = ~np.isnan(said)
    # ranks among the numbers alone, spread over the whole, so that a missing one moves no other
    x[known] = rankdata(said[known]) * (len(said) + 1) / (known.sum() + 1)
    y = rankdata([_target_number(target) for target in targets])
    return np.stack([np.ones(len(x)), x, y, x * x, y * y, x * y], axis=1)


def spearman_of_sums(sums: FloatArray) -> FloatArray:
    """(B, 6) sums to B rank correlations, those below 0 as 0. Ranks are those of the whole split in every resample."""
    n, x, y, xx, yy, xy = sums.T
    covariance = xy - x * y / n
    spread = np.sqrt(np.maximum((xx - x * x / n) * (yy - y * y / n), 0.0))
    return np.asarray(np.clip(covariance / np.where(spread > 1e-12, spread, np.inf), 0.0, 1.0), dtype=np.float64)


SPEARMAN = CorpusMetric(rank_rows, spearman_of_sums)


def _target_number(target: str) -> float:
    number = number_of(target)
    if number is None:
        raise ScoreError(f"the target {target!r} is no number", fix="mend the sample's target")
    return number
