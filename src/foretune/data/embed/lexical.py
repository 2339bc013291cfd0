"""Embeddings without a model: TF-IDF of words and word pieces, reduced by truncated SVD."""

# SPDX-License-Identifier: Apache-2.0
#
# Latent semantic analysis (Deerwester et al. 1990) by the randomised range finder of Halko, Martinsson and Tropp (2011,
# algorithm 4.4). Two texts are alike if they share words or beginnings of words; it knows no synonyms beyond those that
# stand together in the corpus it was fitted on.
from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from foretune.data.embed.pieces import PieceIndex
from foretune.data.embed.vectors import Vectors, unit_rows

__all__ = ["STOP_WORDS", "LexicalEmbedder", "words_of"]

WORD = re.compile(r"\w+(?:['’]\w+)?", re.UNICODE)
NUM_DIMS = 128
MAX_FIT_ROWS = 20_000  # the space is fitted on at most so many texts, evenly spaced
MAX_TERMS = 60_000
MAX_WORDS = 400  # of one text
STEM_CHARS = 5
OVERSAMPLE, POWER_STEPS = 16, 3
STOP_WORDS = frozenset(
    "a about after all also am an and any are as at be because been but by can can't could did didn't do does doesn't "
    "doing don't for from get give go got had has have he her him his how i i'd i'll i'm i've if in into is isn't it "
    "it's its just let like make may me might much my need no not now of off on once one only or other our out over "
    "please she should so some tell than thank thanks that that's the their them then there these they this those to "
    "too up us very want was wasn't we were what what's when where which while who whose why will with without won't "
    "would you you're your yours".split()
)


def words_of(text: str) -> list[str]:
    """Words in lower case, at most 400 of them."""
    return [match.group().replace("’", "'") for match in WORD.finditer(text.casefold())][:MAX_WORDS]


def _terms(text: str) -> Iterator[str]:
    """Words, word beginnings and pairs of words that say something."""
    kept = [word for word in words_of(text) if word not in STOP_WORDS] or words_of(text)
    yield from kept
    yield from (f"{word[:STEM_CHARS]}*" for word in kept)
    yield from (f"{left} {right}" for left, right in pairwise(kept))


class LexicalEmbedder:
    """TF-IDF with truncated SVD, fitted on `corpus`; the same corpus gives the same vectors."""

    def __init__(self, corpus: Sequence[str], *, num_dims: int = NUM_DIMS) -> None:
        step = max(1, math.ceil(len(corpus) / MAX_FIT_ROWS))
        counted = [Counter(_terms(text)) for text in corpus[::step]]
        frequency = Counter(term for terms in counted for term in terms)
        common = sorted((term for term, count in frequency.items() if count > 1), key=lambda t: (-frequency[t], t))
        self._columns = {term: number for number, term in enumerate(common[:MAX_TERMS])}
        self._idf = {term: math.log((1 + len(counted)) / (1 + frequency[term])) + 1 for term in self._columns}
        self._unknown = math.log(1 + len(counted)) + 1
        self._axes = _axes(self._matrix(counted), num_dims)

    @property
    def name(self) -> str:
        """What this is, with its size."""
        return f"TF-IDF + SVD ({self._axes.shape[1]} dimensions, no model)"

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Vectors of shape (N, D); a text without any word of the corpus is all zeros."""
        return unit_rows(self._matrix([Counter(_terms(text)) for text in texts]) @ self._axes)

    def nearest(self, texts: Sequence[str], reference: Sequence[str], *, leave_out_self: bool = False) -> Vectors:
        """Cosine of each text with the nearest texts of `reference`, by the pieces of their words; equal texts have 1.

        Sharper than the reduced vectors at telling texts that are unlike anything known.
        """
        return PieceIndex(reference).nearest(texts, leave_out_self=leave_out_self)

    def _matrix(self, counted: Sequence[Counter[str]]) -> Any:
        """Sparse rows: (1 + log count) x idf over the length with the words that the corpus does not know."""
        from scipy.sparse import csr_array

        indices: list[int] = []
        values: list[float] = []
        ends = [0]
        for terms in counted:
            weights = {term: (1 + math.log(num)) * self._idf.get(term, self._unknown) for term, num in terms.items()}
            length = math.sqrt(sum(weight * weight for weight in weights.values())) or 1.0
            known = [
                (self._columns[term], weight / length) for term, weight in weights.items() if term in self._columns
            ]
            indices += [column for column, _ in known]
            values += [value for _, value in known]
            ends.append(len(indices))
        shape = (len(counted), max(len(self._columns), 1))
        return csr_array((np.array(values, np.float32), np.array(indices, np.int64), np.array(ends)), shape=shape)


def _axes(matrix: Any, num_dims: int) -> Vectors:
    """The first right singular vectors as columns, shape (num_terms, D)."""
    size = min(num_dims + OVERSAMPLE, *matrix.shape)
    sketch = np.random.default_rng(0x5EED).standard_normal((matrix.shape[0], size)).astype(np.float32)
    basis = np.linalg.qr(matrix.T @ sketch)[0]
    for _ in range(POWER_STEPS):
        basis = np.linalg.qr(matrix.T @ (matrix @ basis))[0]
    inner = matrix @ basis
    vectors = np.linalg.eigh(inner.T @ inner)[1][:, ::-1][:, :num_dims]
    result: Vectors = (basis @ vectors).astype(np.float32)
    return result
