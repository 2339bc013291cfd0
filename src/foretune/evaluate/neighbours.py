"""Which training texts are most like a text: TF-IDF over character n-grams, hashed into a fixed number of columns."""

# SPDX-License-Identifier: Apache-2.0
#
# Shapes: N texts, D columns.
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["Neighbours"]

Float32Array = NDArray[np.float32]
COLUMNS = 4096
SIZES = (3, 5)  # bytes of an n-gram
PRIME = 1_000_003


class Neighbours:
    """An index of texts, answering with the places of those most like a query."""

    def __init__(self, texts: Sequence[str]) -> None:
        counts_ND = np.stack([_counts(text) for text in texts]) if texts else np.zeros((0, COLUMNS), dtype=np.float32)
        frequency_D = (counts_ND > 0).sum(axis=0)
        self._weights_D = np.log((1 + len(texts)) / (1 + frequency_D)).astype(np.float32) + np.float32(1)
        self._rows_ND = _unit_rows(np.log1p(counts_ND) * self._weights_D)

    def nearest(self, text: str, count: int) -> list[int]:
        """Places of the `count` most similar texts by cosine, the most similar first; ties by place."""
        query_D = _unit_rows((np.log1p(_counts(text)) * self._weights_D)[None, :])[0]
        order = np.argsort(-(self._rows_ND @ query_D), kind="stable")
        return [int(place) for place in order[:count]]

    def spread(self, count: int) -> list[int]:
        """Places of `count` texts that cover the rest: the most typical first, then always the one farthest from all.

        Greedy k-center by cosine distance (Gonzalez 1985), which is at most twice as far from covering as the best.
        """
        num = len(self._rows_ND)
        if not num or count < 1:
            return []
        first = int(np.argmax(self._rows_ND @ self._rows_ND.mean(axis=0)))
        chosen = [first]
        nearest_N = self._rows_ND @ self._rows_ND[first]
        nearest_N[first] = np.inf
        while len(chosen) < min(count, num):
            farthest = int(np.argmin(nearest_N))
            chosen.append(farthest)
            nearest_N = np.maximum(nearest_N, self._rows_ND @ self._rows_ND[farthest])
            nearest_N[farthest] = np.inf
        return chosen


def _counts(text: str) -> Float32Array:
    """(D,) how often each hashed n-gram of bytes occurs, case aside."""
    codes = np.frombuffer(f" {text.casefold()} ".encode("utf-8", "surrogatepass"), dtype=np.uint8).astype(np.uint64)
    total = np.zeros(COLUMNS, dtype=np.float32)
    for size in SIZES:
        if len(codes) < size:
            continue
        hashed = np.full(len(codes) - size + 1, size, dtype=np.uint64)
        for offset in range(size):
            hashed = hashed * np.uint64(PRIME) + codes[offset : len(codes) - size + 1 + offset]
        hashed ^= hashed >> np.uint64(29)
        total += np.bincount((hashed % np.uint64(COLUMNS)).astype(np.intp), minlength=COLUMNS).astype(np.float32)
    return total


def _unit_rows(rows_ND: Float32Array) -> Float32Array:
    lengths_N = np.linalg.norm(rows_ND, axis=1, keepdims=True)
    unit: Float32Array = rows_ND / np.maximum(lengths_N, 1e-12)
    return unit
