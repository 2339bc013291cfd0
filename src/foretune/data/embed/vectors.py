"""What an embedder is, and the small vector arithmetic that all of them share."""

# SPDX-License-Identifier: Apache-2.0
#
# Shapes: N texts, D dimensions, K clusters. Vectors are float32 rows of length 1, so a dot product is a cosine; the
# vector of a text that says nothing to the embedder is all zeros.
from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["Embedder", "Vectors", "nearest_similarity", "projected", "unit_rows"]

Vectors = npt.NDArray[np.float32]
BLOCK = 1024  # rows compared at once


class Embedder(Protocol):
    """Turns texts into vectors of length 1; `name` says which model it is, for every report that rests on it."""

    @property
    def name(self) -> str:
        """The model or method, as a person would name it."""
        ...

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Vectors of shape (N, D), float32, rows of length 1 (or 0 for a text with nothing in it)."""
        ...


def unit_rows(vectors: npt.NDArray[np.floating]) -> Vectors:
    """Rows scaled to length 1; rows of zeros, and rows that are not finite, become zeros."""
    rows = np.nan_to_num(np.asarray(vectors, np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    result: Vectors = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 1e-12)
    return result


def nearest_similarity(vectors: Vectors, reference: Vectors, *, leave_out_self: bool = False) -> Vectors:
    """Cosine of each row with its nearest row of `reference`, shape (N,).

    `leave_out_self` is for `vectors` that are the reference itself: row i is then not compared with row i.
    """
    best = np.full(len(vectors), -1.0, np.float32)
    for start in range(0, len(vectors), BLOCK):
        block = vectors[start : start + BLOCK] @ reference.T
        if leave_out_self:
            block[np.arange(len(block)), np.arange(start, start + len(block))] = -1.0
        best[start : start + BLOCK] = block.max(axis=1, initial=-1.0)
    return best


def projected(vectors: Vectors, num_dims: int = 2) -> Vectors:
    """Coordinates on the first principal components, shape (N, num_dims); signs are fixed, so a map stays as it is."""
    centred = vectors - vectors.mean(axis=0, keepdims=True) if len(vectors) else vectors
    covariance = centred.T.astype(np.float64) @ centred
    axes = np.linalg.eigh(covariance)[1][:, ::-1][:, :num_dims]
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])]
    coordinates = centred @ (axes * np.where(largest < 0, -1.0, 1.0)).astype(np.float32)
    missing = num_dims - coordinates.shape[1]
    result: Vectors = np.pad(coordinates, ((0, 0), (0, max(missing, 0)))).astype(np.float32)
    return result
