"""Rows beside their nearest neighbours: answers unlike those to like inputs, losses above those of like rows."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from foretune.audit.features import Matrix, text_features
from foretune.errors import DataError

__all__ = ["Neighbours", "disagreement", "nearest", "unexpected_loss"]

F64 = npt.NDArray[np.float64]
BLOCK_ROWS = 500
NUM_NEIGHBOURS = 10
MAX_ROWS = 30_000  # compared with each other; more take minutes


class Neighbours(NamedTuple):
    """The nearest other rows of each row (rows, k), the nearest first, and their cosine similarities."""

    rows: npt.NDArray[np.int64]
    similarities: F64


def nearest(features: Matrix, k: int = NUM_NEIGHBOURS) -> Neighbours:
    """The `k` nearest other rows by cosine of rows of length 1; exact. Raises DataError beyond 30,000 rows."""
    num = features.shape[0]
    if num > MAX_ROWS:
        raise DataError(
            f"{num:,} rows, neighbours are found among at most {MAX_ROWS:,}", fix="take a sample of the rows"
        )
    k = min(k, num - 1)
    rows, similarities = np.zeros((num, max(k, 0)), np.int64), np.zeros((num, max(k, 0)))
    transposed = features.T.tocsr()
    for start in range(0, num if k > 0 else 0, BLOCK_ROWS):
        block = (features[start : start + BLOCK_ROWS] @ transposed).toarray()
        inside = np.arange(len(block))
        block[inside, start + inside] = -1
        best = np.argpartition(-block, k - 1, axis=1)[:, :k]
        values = np.take_along_axis(block, best, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        rows[start : start + len(block)] = np.take_along_axis(best, order, axis=1)
        similarities[start : start + len(block)] = np.take_along_axis(values, order, axis=1)
    return Neighbours(rows, similarities)


def disagreement(inputs: Sequence[str], answers: Sequence[str], *, k: int = NUM_NEIGHBOURS) -> F64:
    """For each row how unlike its answer is to the answers of like inputs, in [0, 1]; 0 where no input is alike.

    The cosine distance of the answers, weighted by the squared similarity of the inputs. A ranking to read, not a
    verdict: open questions have many right answers.
    """
    near = nearest(text_features(inputs), k)
    said = text_features(answers)
    if not near.rows.size:
        return np.zeros(len(inputs))
    own = np.repeat(np.arange(len(inputs)), near.rows.shape[1])
    alike = np.asarray(said[own].multiply(said[near.rows.ravel()]).sum(axis=1)).reshape(near.rows.shape)
    weights = np.maximum(near.similarities, 0) ** 2
    # The weight 1 of doubt keeps rows without like neighbours at 0.
    result: F64 = (weights * (1 - np.clip(alike, 0, 1))).sum(axis=1) / (1 + weights.sum(axis=1))
    return result


def unexpected_loss(texts: Sequence[str], losses: Sequence[float], *, k: int = NUM_NEIGHBOURS) -> F64:
    """How far the loss of each row (nats per token, held out or early in training) lies above its neighbours' median.

    The highest are the rows to read first. Raises DataError where a loss is missing or not finite.
    """
    values = np.asarray(losses, np.float64)
    if len(values) != len(texts):
        raise DataError(f"{len(values)} losses for {len(texts)} rows", fix="give one loss for each row")
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values))[0])
        raise DataError(f"the loss of row {row} is {values[row]}", fix="leave out rows without a finite loss")
    near = nearest(text_features(texts), k)
    if not near.rows.size:
        return np.zeros(len(texts))
    result: F64 = values - np.median(values[near.rows], axis=1)
    return result
