"""Clusters of texts: k-means on their vectors, joined where alike, and named by the words that tell them apart."""

# SPDX-License-Identifier: Apache-2.0
#
# Spherical k-means (Dhillon and Modha 2001) with seeding by distance (Arthur and Vassilvitskii 2007); best of a few
# starts.
from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from foretune.data.embed.lexical import STOP_WORDS, words_of
from foretune.data.embed.vectors import Vectors, unit_rows

__all__ = ["Labels", "cluster_name", "clusters", "joined"]

NUM_STARTS, MAX_ROUNDS = 3, 30
NAME_TERMS = 3
MIN_NAMED = 0.12  # share of the texts of a cluster that hold a term of its name

Labels = npt.NDArray[np.int64]


def clusters(vectors: Vectors, num_clusters: int, *, seed: int = 0) -> tuple[Labels, Vectors]:
    """The cluster of each row, and the centres, shape (K, D); K may be less where rows are equal."""
    rng = np.random.default_rng(seed)
    best: tuple[float, Labels, Vectors] | None = None
    for _ in range(NUM_STARTS):
        centres = _seeded(vectors, num_clusters, rng)
        labels, centres, fit = _refined(vectors, centres)
        if best is None or fit > best[0] + 1e-6:
            best = (fit, labels, centres)
    assert best is not None
    used, labels = np.unique(best[1], return_inverse=True)
    return labels.astype(np.int64), best[2][used]


def _seeded(vectors: Vectors, num: int, rng: np.random.Generator) -> Vectors:
    chosen = [int(rng.integers(len(vectors)))]
    distance = 1.0 - vectors @ vectors[chosen[0]]
    while len(chosen) < min(num, len(vectors)):
        weights = np.maximum(distance, 0.0).astype(np.float64)
        if weights.sum() < 1e-6:
            break
        chosen.append(int(rng.choice(len(vectors), p=weights / weights.sum())))
        distance = np.minimum(distance, 1.0 - vectors @ vectors[chosen[-1]])
    return vectors[chosen]


def _refined(vectors: Vectors, centres: Vectors) -> tuple[Labels, Vectors, float]:
    labels = np.full(len(vectors), -1, np.int64)
    similarity = np.empty((0, 0), np.float32)
    for _ in range(MAX_ROUNDS):
        similarity = vectors @ centres.T
        new = similarity.argmax(axis=1)
        if np.array_equal(new, labels):
            break
        labels = new
        sums = np.zeros_like(centres)
        np.add.at(sums, labels, vectors)
        moved = unit_rows(sums)
        centres = np.where(np.linalg.norm(moved, axis=1, keepdims=True) > 0, moved, centres)
    return labels, centres, float(similarity.max(axis=1).mean())


def joined(vectors: Vectors, labels: Labels, centre: Vectors, *, least_cosine: float) -> Labels:
    """Clusters joined while the two most alike point the same way, seen from `centre`; labels count from 0.

    `centre` is the mean of everything, so unrelated topics have a cosine near 0 and two halves of one topic near 1.
    """
    means = {int(number): (vectors[labels == number] - centre).sum(axis=0) for number in np.unique(labels)}
    result = labels.copy()
    while len(means) > 1:
        ids = sorted(means)
        matrix = unit_rows(np.stack([means[number] for number in ids]))
        similarity = matrix @ matrix.T
        np.fill_diagonal(similarity, -2.0)
        first, second = divmod(int(similarity.argmax()), len(ids))
        if similarity[first, second] < least_cosine:
            break
        kept, gone = sorted((ids[first], ids[second]))
        means[kept] = means[kept] + means.pop(gone)
        result[result == gone] = kept
    return np.unique(result, return_inverse=True)[1].astype(np.int64)


def cluster_name(texts: Sequence[str], others: Sequence[str], *, num_terms: int = NAME_TERMS) -> str:
    """Words and word pairs that many of `texts` and few of `others` hold, such as "exchange rate, currency, euro"."""
    inside, outside = _term_counts(texts), _term_counts(others)
    scores = {
        term: _keenness(count, len(texts), outside.get(term, 0), len(others))
        for term, count in inside.items()
        if count >= max(2, MIN_NAMED * len(texts)) or (len(texts) < 4 and count)
    }
    chosen: list[str] = []
    for term in sorted(scores, key=lambda t: (-round(scores[t], 6), -len(t.split()), t)):
        if len(chosen) < num_terms and scores[term] > 0 and not any(_same(term, other) for other in chosen):
            chosen.append(term)
    return ", ".join(chosen) or "mixed"


def _term_counts(texts: Sequence[str]) -> Counter[str]:
    """In how many texts each word and pair of words stands."""
    counts: Counter[str] = Counter()
    for text in texts:
        words = words_of(text)
        told = {word for word in words if word not in STOP_WORDS and len(word) > 1}
        pairs = {f"{a} {b}" for a, b in pairwise(words) if a in told and b in told}
        counts.update(told | pairs)
    return counts


def _keenness(count: int, num: int, outside: int, num_outside: int) -> float:
    """Share of the texts that hold the term, times how much more often than elsewhere (log ratio)."""
    share, other = count / num, (outside + 0.5) / (num_outside + 1)
    return float(share * np.log(share / other))


def _same(term: str, other: str) -> bool:
    """Whether two terms of a name say the same: one holds a word of the other, or they begin alike."""
    return any(a[:5] == b[:5] for a in term.split() for b in other.split())
