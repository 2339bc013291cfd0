"""How far texts lie from known ones without a model: cosine of the pieces of their words, to the nearest three."""

# SPDX-License-Identifier: Apache-2.0
#
# Pieces are character 2-, 3- and 4-grams inside words (a word with a blank on either side), weighed (1 + ln count) x
# idf. Pieces that no known text has count in the length of a text, so that unknown words make it strange; misspelt and
# inflected ones do so little. The mean over three neighbours asks for a region of known texts, not for one lucky hit:
# measured in benchmarks/data_coverage.py, the alarm comes in 0.94 of the batches with 5 %
# off-topic rows in 100; with the nearest text by words and word pairs in 0.64.
from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from foretune.data.embed.vectors import Vectors

__all__ = ["PieceIndex"]

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

SIZES = (2, 3, 4)
NUM_NEAREST = 3
MAX_CHARS = 600  # of one text: its beginning
MAX_KNOWN = 10_000  # known texts that are compared with; more are thinned evenly
BLOCK = 512
BLANK = 32
NOT_WORD = re.compile(r"[\W_]+")
FACTOR = np.uint64(0x9E3779B97F4A7C15)


class PieceIndex:
    """Known texts, ready to be compared with."""

    def __init__(self, known: Sequence[str]) -> None:
        step = max(1, -(-len(known) // MAX_KNOWN))
        self._places = np.arange(0, len(known), step)
        self._copies = Counter(known)
        texts = [known[place] for place in self._places.tolist()]
        rows, keys = _pieces(texts)
        self._keys = np.unique(keys)
        pairs = np.unique(np.stack([np.searchsorted(self._keys, keys).astype(np.int64), rows]), axis=1)
        num_with = np.bincount(pairs[0], minlength=len(self._keys))
        self._idf = np.append(np.log((1 + len(texts)) / (1 + num_with)) + 1, np.log(1 + len(texts)) + 1)
        self._columns = self._matrix(rows, keys, len(texts)).T.tocsr()

    def nearest(self, texts: Sequence[str], *, leave_out_self: bool = False) -> Vectors:
        """Mean cosine of each text with its three nearest known texts, shape (N,); 1 where it is itself known.

        `leave_out_self` is for `texts` that are the known ones: text i is then not compared with itself.
        """
        matrix = self._matrix(*_pieces(texts), len(texts))
        num = min(NUM_NEAREST, max(len(self._places) - leave_out_self, 0))
        result = np.zeros(len(texts), np.float32)
        for start in range(0, len(texts) if num else 0, BLOCK):
            block = (matrix[start : start + BLOCK] @ self._columns).toarray()
            if leave_out_self:
                block[self._places == np.arange(start, start + len(block))[:, None]] = -1.0
            result[start : start + len(block)] = -np.partition(-block, num - 1, axis=1)[:, :num].mean(axis=1)
        result[[self._copies[text] > leave_out_self for text in texts]] = 1.0
        return result

    def _matrix(self, rows: I64, keys: U64, num_texts: int) -> Any:
        """Sparse rows of known pieces; unknown ones are in the last column while lengths are taken, then left out."""
        from scipy.sparse import csr_array

        pairs, counts = _counted(rows, keys)
        columns = np.minimum(np.searchsorted(self._keys, pairs["key"]), max(len(self._keys) - 1, 0))
        is_known = self._keys[columns] == pairs["key"] if len(self._keys) else np.zeros(len(pairs), bool)
        weights = (1 + np.log(counts)) * self._idf[np.where(is_known, columns, len(self._keys))]
        lengths = np.sqrt(np.bincount(pairs["row"], weights * weights, minlength=num_texts))
        values = (weights / lengths[pairs["row"]])[is_known].astype(np.float32)
        places = (pairs["row"][is_known], columns[is_known])
        return csr_array((values, places), shape=(num_texts, max(len(self._keys), 1)))


def _counted(rows: I64, keys: U64) -> tuple[Any, I64]:
    """Different (row, key) pairs as a structured array, and how often each stands there."""
    both = np.empty(len(rows), [("row", np.int64), ("key", np.uint64)])
    both["row"], both["key"] = rows, keys
    order = np.lexsort((keys, rows))
    both = both[order]
    is_first = np.ones(len(both), bool)
    is_first[1:] = both[1:] != both[:-1]
    starts = np.flatnonzero(is_first)
    return both[starts], np.diff(np.append(starts, len(both)))


def _pieces(texts: Sequence[str]) -> tuple[I64, U64]:
    """Row and key of every piece."""
    padded = [f" {NOT_WORD.sub(' ', text[:MAX_CHARS].casefold()).strip()} " for text in texts]
    codes = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    text_of = np.repeat(np.arange(len(padded)), [len(text) for text in padded])
    is_blank = codes == BLANK
    found_rows, found_keys = [np.zeros(0, np.int64)], [np.zeros(0, np.uint64)]
    for size in SIZES:
        num = max(len(codes) - size + 1, 0)
        keys = np.full(num, size, np.uint64)
        for offset in range(size):
            keys = (keys + codes[offset : offset + num]) * FACTOR
            keys ^= keys >> np.uint64(29)
        inside = text_of[:num] == text_of[size - 1 : size - 1 + num]
        for offset in range(1, size - 1):
            inside &= ~is_blank[offset : offset + num]
        found_rows.append(text_of[:num][inside])
        found_keys.append(keys[inside])
    return np.concatenate(found_rows), np.concatenate(found_keys)
