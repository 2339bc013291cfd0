"""Texts as sparse TF-IDF rows of words, word pairs and character n-grams; numpy and scipy only."""

# SPDX-License-Identifier: Apache-2.0
#
# Character n-grams make short texts with typos alike; in long texts words say as much at a tenth of the cost, so that
# they are left out there. Weights: (1 + ln count) x idf, each kind of feature scaled to length 1, then joined.
from __future__ import annotations

import re
from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

__all__ = ["Matrix", "join", "text_features"]

Matrix = Any  # scipy.sparse.csr_matrix of float32, which has no type of its own here
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

WORD = re.compile(r"\w+|[^\w\s]")
CHAR_SIZES = (3, 4, 5)
SHORT_CHARS = 300  # characters; where half the texts are shorter, character n-grams are used
MAX_CHARS = 10_000  # of one text
MAX_FEATURES = 200_000  # of one kind, the commonest
FACTOR = np.uint64(0x9E3779B97F4A7C15)


def text_features(texts: Sequence[str], *, characters: bool | None = None, min_rows: int = 2) -> Matrix:
    """One row of TF-IDF features of length 1 for each text; a text without features is a row of zeros.

    `characters` says whether character n-grams are used; None: where half the texts have under 300 characters.
    Features of fewer than `min_rows` texts are dropped.
    """
    lowered = [text[:MAX_CHARS].casefold() for text in texts]
    if characters is None:
        characters = bool(lowered) and median(map(len, lowered)) < SHORT_CHARS
    parts = [_weighted(*_word_grams(lowered), len(lowered), min_rows)]
    if characters:
        parts.append(_weighted(*_char_grams(lowered), len(lowered), min_rows))
    return join(parts)


def join(parts: Sequence[Matrix]) -> Matrix:
    """Feature matrices of the same rows side by side, rows scaled to length 1."""
    return _unit_rows(sparse.hstack(parts, format="csr", dtype=np.float32))


def _word_grams(texts: Sequence[str]) -> tuple[I64, U64]:
    """Row and key of every word and every pair of neighbouring words."""
    numbers: dict[str, int] = {}
    words = [[numbers.setdefault(word, len(numbers)) for word in WORD.findall(text)] for text in texts]
    lengths = np.array([len(row) for row in words], np.int64)
    ids = np.fromiter((number for row in words for number in row), np.uint64, int(lengths.sum())) + np.uint64(1)
    rows = np.repeat(np.arange(len(texts)), lengths)
    same_row = rows[1:] == rows[:-1]
    pairs = ids[:-1][same_row] * FACTOR + ids[1:][same_row]
    return np.concatenate([rows, rows[1:][same_row]]), np.concatenate([ids, pairs])


def _char_grams(texts: Sequence[str]) -> tuple[I64, U64]:
    """Row and key of every character n-gram, with a blank before and behind the text."""
    padded = [f" {text} " for text in texts]
    codes = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    rows = np.repeat(np.arange(len(padded)), [len(text) for text in padded])
    found_rows, found_keys = [], []
    for size in CHAR_SIZES:
        num = max(len(codes) - size + 1, 0)
        keys = np.full(num, size, np.uint64)
        for offset in range(size):
            keys = (keys + codes[offset : offset + num]) * FACTOR
            keys ^= keys >> np.uint64(29)
        inside = rows[:num] == rows[size - 1 : size - 1 + num]
        found_rows.append(rows[:num][inside])
        found_keys.append(keys[inside])
    return np.concatenate(found_rows), np.concatenate(found_keys)


def _weighted(rows: I64, keys: U64, num_rows: int, min_rows: int) -> Matrix:
    """TF-IDF of features given as row and key."""
    _, columns = np.unique(keys, return_inverse=True)
    shape = (num_rows, int(columns.max()) + 1 if len(columns) else 0)
    counts = sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=shape)
    num_with = np.bincount(counts.indices, minlength=shape[1])
    kept = np.flatnonzero((num_with >= min_rows) & (num_with < max(num_rows, 2)))
    if len(kept) > MAX_FEATURES:
        kept = np.sort(kept[np.argsort(-num_with[kept], kind="stable")[:MAX_FEATURES]])
    counts = counts[:, kept]
    idf = np.log((1 + num_rows) / (1 + num_with[kept])).astype(np.float32) + np.float32(1)
    counts.data = (1 + np.log(counts.data)) * idf[counts.indices]
    return _unit_rows(counts)


def _unit_rows(matrix: Matrix) -> Matrix:
    lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    scale = np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    scaled = matrix.tocsr(copy=True)
    scaled.data *= np.repeat(scale, np.diff(scaled.indptr)).astype(np.float32)
    return scaled
