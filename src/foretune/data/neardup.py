"""Near-duplicate texts: MinHash over character 5-grams, candidates by banding, every pair checked exactly."""

# SPDX-License-Identifier: Apache-2.0
#
# Broder, "On the resemblance and containment of documents" (1997). Texts are lower-cased and their white space is
# joined. 5-grams that stand in more than 5 % of the texts (and in at least 20) are left out: they are the instruction
# that every prompt repeats, and would make all rows of a template look alike. Equal texts are always a pair.
from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["GRAM", "Pair", "cluster_roots", "near_duplicates", "normalised"]

GRAM = 5
NUM_BANDS, BAND_ROWS = 32, 4
NUM_HASHES = NUM_BANDS * BAND_ROWS
COMMON_FRACTION, COMMON_COUNT = 0.05, 20
MAX_CHARS = 20_000  # of one text; near-duplicates that differ only behind this are pairs as well
CHUNK_CHARS = 2_000_000
COUNT_BITS = 22
PACK = 1 << 31  # two row numbers are packed into one integer in this base
LONG_GRAMS = 150
CROWD = 40  # texts in one band bucket that are all compared with each other; in larger ones each with the first few
LEADERS = 4
MARGIN = 0.15  # how far below the threshold an estimate may lie before the exact check is skipped
WHITE = re.compile(r"\s+")

U32 = npt.NDArray[np.uint32]
I64 = npt.NDArray[np.int64]


class Pair(NamedTuple):
    """Two alike texts by index, `left` < `right`; similarity is the Jaccard index of their 5-grams, in [0, 1]."""

    left: int
    right: int
    similarity: float


def normalised(text: str) -> str:
    """The text as it is compared: lower case, white space joined to single blanks."""
    return WHITE.sub(" ", text).strip().casefold()


def near_duplicates(texts: Sequence[str], *, threshold: float = 0.7, long_threshold: float = 0.5) -> list[Pair]:
    """Pairs of texts whose 5-grams have a Jaccard index of at least `threshold`, sorted.

    Where both texts have 150 5-grams or more, `long_threshold` holds: chance never makes long texts that alike.
    Equal texts are linked to the first of their kind only, and so are crowds of alike texts to a few leaders: joining
    the pairs gives the right clusters, but not every pair inside a large cluster is listed. Empty texts are never
    pairs. Deterministic.
    """
    first: dict[str, int] = {}
    pairs = []
    for index, text in enumerate(map(normalised, texts)):
        leader = first.setdefault(text, index)
        if leader != index and text:
            pairs.append(Pair(leader, index, 1.0))
    unique = [(text, index) for text, index in first.items() if text]
    grams = _gram_sets([text for text, _ in unique])
    for left, right, similarity in _alike(grams, threshold, min(threshold, long_threshold)):
        a, b = sorted((unique[left][1], unique[right][1]))
        pairs.append(Pair(a, b, similarity))
    return sorted(pairs)


def cluster_roots(num: int, links: Iterable[tuple[int, int]]) -> list[int]:
    """For each of `num` items the smallest item that it is linked to, directly or through others (union-find)."""
    roots = list(range(num))

    def find(item: int) -> int:
        while roots[item] != item:
            roots[item] = roots[roots[item]]
            item = roots[item]
        return item

    for left, right in links:
        a, b = find(left), find(right)
        roots[max(a, b)] = min(a, b)
    return [find(item) for item in range(num)]


class _Grams(NamedTuple):
    """5-gram hashes of all texts in one array, distinct within a text; text i has [starts[i], starts[i + 1])."""

    hashes: U32
    starts: I64


def _gram_sets(texts: Sequence[str]) -> _Grams:
    if not texts:
        return _Grams(np.empty(0, np.uint32), np.zeros(1, np.int64))
    parts, sizes = [], []
    for chunk in _chunks(texts):
        keys = _gram_keys(chunk)
        parts.append((keys & np.uint64(0xFFFFFFFF)).astype(np.uint32))
        sizes.append(np.bincount((keys >> np.uint64(32)).astype(np.int64), minlength=len(chunk)))
    hashes, counts = np.concatenate(parts), np.concatenate(sizes)
    rare = _rare(hashes, len(texts))
    owner = np.repeat(np.arange(len(texts)), counts)
    kept = np.bincount(owner[rare], minlength=len(texts))
    return _Grams(hashes[rare], np.concatenate([[0], np.cumsum(kept)]).astype(np.int64))


def _chunks(texts: Sequence[str]) -> Iterable[list[str]]:
    chunk: list[str] = []
    size = 0
    for text in texts:
        chunk.append(text[:MAX_CHARS])
        size += len(chunk[-1])
        if size >= CHUNK_CHARS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _gram_keys(texts: Sequence[str]) -> npt.NDArray[np.uint64]:
    """Distinct (text number << 32 | hash of a 5-gram), sorted. A text shorter than 5 is padded with blanks."""
    padded = [text.ljust(GRAM) for text in texts]
    codes = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    num_windows = len(codes) - GRAM + 1
    hashes = np.zeros(num_windows, np.uint64)
    for offset in range(GRAM):
        hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + codes[offset : offset + num_windows]
    hashes ^= hashes >> np.uint64(31)
    hashes *= np.uint64(0xBF58476D1CE4E5B9)
    hashes >>= np.uint64(32)
    lengths = np.array([len(text) for text in padded])
    ends = np.cumsum(lengths)
    owner = np.repeat(np.arange(len(padded)), lengths)[:num_windows]
    inside = np.arange(num_windows) + GRAM <= ends[owner]
    return _distinct((owner[inside].astype(np.uint64) << np.uint64(32)) | hashes[inside])


def _distinct(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The distinct values, sorted; faster than numpy's own for millions of integers."""
    ordered = np.sort(values)
    return ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])] if len(ordered) else ordered


def _rare(hashes: U32, num_texts: int) -> npt.NDArray[np.bool_]:
    """Which hashes stand in few enough texts, counted in a table of 4 M cells."""
    limit = max(COMMON_COUNT, COMMON_FRACTION * num_texts)
    cells = hashes >> np.uint32(32 - COUNT_BITS)
    counts = np.bincount(cells, minlength=1 << COUNT_BITS)
    rare: npt.NDArray[np.bool_] = counts[cells] <= limit
    return rare


def _signatures(grams: _Grams, filled: I64) -> U32:
    """MinHash signatures (num_texts, 128) of the texts that have any 5-gram left."""
    random = np.random.default_rng(0x5EED)
    factors = random.integers(0, 1 << 32, NUM_HASHES, dtype=np.uint32) | np.uint32(1)
    shifts = random.integers(0, 1 << 32, NUM_HASHES, dtype=np.uint32)
    result = np.empty((len(filled), NUM_HASHES), np.uint32)
    starts = grams.starts[:-1][filled]
    for number in range(NUM_HASHES):
        mixed = grams.hashes * factors[number] + shifts[number]
        mixed ^= mixed >> np.uint32(15)
        result[:, number] = np.minimum.reduceat(mixed * np.uint32(0x2C1B3C6D), starts)
    return result


def _alike(grams: _Grams, threshold: float, long_threshold: float) -> list[tuple[int, int, float]]:
    filled = np.flatnonzero(np.diff(grams.starts))
    if len(filled) < 2:
        return []
    signatures = _signatures(grams, filled)
    candidates = _candidates(signatures)
    if not len(candidates):
        return []
    agreement = _agreement(signatures, candidates)
    sizes = np.diff(grams.starts)[filled][candidates].min(axis=1)
    needed = np.where(sizes >= LONG_GRAMS, long_threshold, threshold)
    kept = agreement >= needed - MARGIN
    found = []
    for (left, right), least in zip(filled[candidates[kept]].tolist(), needed[kept].tolist(), strict=True):
        similarity = _jaccard(grams, left, right)
        if similarity >= least:
            found.append((left, right, similarity))
    return found


def _candidates(signatures: U32) -> I64:
    """Pairs of rows that agree in all hashes of at least one band; shape (num_pairs, 2), distinct."""
    num = len(signatures)
    keys = []
    for band in range(NUM_BANDS):
        rows = signatures[:, band * BAND_ROWS : (band + 1) * BAND_ROWS].astype(np.uint64)
        key = np.zeros(num, np.uint64)
        for column in range(BAND_ROWS):
            key = key * np.uint64(0x9E3779B97F4A7C15) + rows[:, column]
        keys.append(_bucket_pairs(key))
    packed = _distinct(np.concatenate(keys))
    return np.stack([packed // PACK, packed % PACK], axis=1)


def _bucket_pairs(key: npt.NDArray[np.uint64]) -> I64:
    """Packed pairs of rows with equal keys."""
    order = np.argsort(key, kind="stable")
    edges = np.concatenate([[0], np.flatnonzero(np.diff(key[order])) + 1, [len(key)]])
    shared = np.flatnonzero(np.diff(edges) > 1)
    pairs: list[Any] = []
    for start, end in zip(edges[shared].tolist(), edges[shared + 1].tolist(), strict=True):
        bucket = order[start:end]
        leaders = bucket if len(bucket) <= CROWD else bucket[:LEADERS]
        pairs += [leader * PACK + bucket[number + 1 :] for number, leader in enumerate(leaders)]
    return np.concatenate(pairs).astype(np.int64) if pairs else np.empty(0, np.int64)


def _agreement(signatures: U32, pairs: I64) -> npt.NDArray[np.float64]:
    """The share of equal hashes of each pair: estimates the Jaccard index with a standard error of at most 0.044."""
    result = np.empty(len(pairs))
    for start in range(0, len(pairs), 50_000):
        part = pairs[start : start + 50_000]
        result[start : start + len(part)] = (signatures[part[:, 0]] == signatures[part[:, 1]]).mean(axis=1)
    return result


def _jaccard(grams: _Grams, left: int, right: int) -> float:
    a = grams.hashes[grams.starts[left] : grams.starts[left + 1]]
    b = grams.hashes[grams.starts[right] : grams.starts[right + 1]]
    both = int(np.isin(a, b, assume_unique=True, kind="sort").sum())
    return both / (len(a) + len(b) - both)
