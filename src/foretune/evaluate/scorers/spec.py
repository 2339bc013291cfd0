"""What a scorer is: a function per sample, or a corpus metric over sums of per-sample statistics."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from foretune.stats.bootstrap import MetricOfSums
from foretune.stats.checks import FloatArray, ScoreRange

__all__ = ["BatchScorer", "BatchedScorer", "CorpusMetric", "Kind", "RowsOf", "SampleScorer", "ScorerSpec"]

Kind = Literal["binary", "graded", "corpus"]
BatchScorer = Callable[..., FloatArray]  # (predictions, targets[, needs]) -> (n,) scores
SampleScorer = Callable[..., float]  # (prediction, target) -> float; with `needs`, that value as a third argument
RowsOf = Callable[..., FloatArray]  # (predictions, targets[, needs]) -> (n, K) statistics


@dataclass(frozen=True)
class CorpusMetric:
    """A metric of the whole test set that is no mean of scores, as a function of summed statistics.

    `rows` gives (n, K) statistics of the samples; `of_sums` maps sums of shape (B, K) to B values in 0..1;
    `sample` scores one sample alone, for finding bad answers; `signature` of targets says exactly what was computed.
    """

    rows: RowsOf
    of_sums: MetricOfSums
    sample: SampleScorer | None = None
    signature: Callable[[Sequence[str]], str] | None = None


@dataclass(frozen=True)
class BatchedScorer:
    """A scorer that sees all samples at once, because that is much cheaper: embeddings, processes."""

    scores: BatchScorer


@dataclass(frozen=True)
class ScorerSpec:
    """One entry of the table of scorers.

    kind: `binary` scores are 0 or 1, `graded` lie in `score_range` (None: not known), `corpus` has a CorpusMetric as
    `function`. `needs` names what the function takes as a third argument. `higher_is_better` None: neither.
    `is_foreign`: not ours, so that whatever it raises is the user's to mend.
    """

    name: str
    function: SampleScorer | BatchedScorer | CorpusMetric
    kind: Kind
    help: str
    higher_is_better: bool | None = True
    needs: Literal["nothing", "labels", "schema", "span", "embedder", "run_code"] = "nothing"
    score_range: ScoreRange | None = (0.0, 1.0)
    is_foreign: bool = False
