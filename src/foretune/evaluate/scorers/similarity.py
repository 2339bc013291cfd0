"""Semantic similarity: the cosine of answer and target by embeddings, beside what answers to other questions reach."""

# SPDX-License-Identifier: Apache-2.0
#
# Shapes: N samples, D dimensions.
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from foretune.data.embed.vectors import Embedder
from foretune.stats.checks import FloatArray

__all__ = ["Shuffled", "semantic_similarity", "shuffled_similarity"]


class Shuffled(NamedTuple):
    """Mean similarity with the right targets and with those of other samples; `above_chance`: 1 at best."""

    mean: float
    shuffled: float

    @property
    def above_chance(self) -> float:
        """(mean - shuffled) / (1 - shuffled)."""
        return (self.mean - self.shuffled) / (1 - self.shuffled) if self.shuffled < 1 else 0.0


def semantic_similarity(predictions: Sequence[str], targets: Sequence[str], embedder: Embedder) -> FloatArray:
    """(N,) cosine of each answer with its target, -1 to 1; equal texts have 1, an answer that says nothing 0."""
    cosines = (embedder.encode(predictions) * embedder.encode(targets)).sum(axis=1).astype(np.float64)
    equal = np.array([given.strip() == wanted.strip() for given, wanted in zip(predictions, targets, strict=True)])
    return np.asarray(np.clip(np.where(equal, 1.0, cosines), -1.0, 1.0), dtype=np.float64)


def shuffled_similarity(predictions: Sequence[str], targets: Sequence[str], embedder: Embedder) -> Shuffled:
    """The mean over the samples, and the mean over all pairs of an answer with another sample's target.

    The latter in closed form: (sum of answers . sum of targets - sum of own cosines) / (N (N - 1)); 0 for one sample.
    """
    scores = semantic_similarity(predictions, targets, embedder)
    given, wanted = embedder.encode(predictions).astype(np.float64), embedder.encode(targets).astype(np.float64)
    own, n = float((given * wanted).sum()), len(scores)
    others = (float(given.sum(axis=0) @ wanted.sum(axis=0)) - own) / (n * (n - 1)) if n > 1 else 0.0
    return Shuffled(float(scores.mean()), others)
