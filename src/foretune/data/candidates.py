"""Pairs of texts worth measuring: those that share rare 12-grams, and short ones that share a MinHash band."""

# SPDX-License-Identifier: Apache-2.0
#
# 12-grams are thinned by winnowing (Schleimer, Wilkerson, Aiken: "Winnowing: local algorithms for document
# fingerprinting", 2003): the smallest hash of every 8 neighbours is kept, so that a common stretch of 19 characters is
# never missed, and at most about 48 a text. Texts of fewer than 150 5-grams also get 32 bands of 4 MinHash values
# (Broder, "On the resemblance and containment of documents", 1997), which need no common stretch. Both become sorted
# integers, key << bits | text; equal keys are a group. All pairs of small groups are candidates; the members of large
# ones are joined to a few leaders. The memory is bounded: at most about 0.7 KB a text, whatever its length, and the
# pairs, of which there is a limit.
from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from foretune.data.shingles import GRAM, I64, LONG_GRAM, U64, Block, blocks, distinct, runs

__all__ = ["SHORT_GRAMS", "Sketches", "candidates", "sketch"]

SHORT_GRAMS = 150
WINDOW = 8
MAX_PRINTS = 48
NUM_BANDS, BAND_ROWS = 32, 4
NUM_HASHES = NUM_BANDS * BAND_ROWS
CROWD = 40  # texts in one group that are all compared with each other; in larger ones each with the first few
LEADERS = 4
MAX_PAIRS_A_TEXT, MIN_PAIRS = 10, 10_000_000
PART_BITS = 4
NUM_PARTS = 1 << PART_BITS
SHARED_FRACTION = 0.1  # of the rare 12-grams of the text that has fewer: below this no pair is worth measuring
MARGIN = 0.15  # how far below the threshold an estimate may lie

Integer = TypeVar("Integer", np.uint64, np.int64)
U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]


class Sketches(NamedTuple):
    """What stands for the texts: winnowed 12-grams of all; numbers, signatures and band keys of the short ones."""

    num_texts: int
    prints: list[U64]  # hash << bits | text, in 16 parts by the hash; not sorted within a part
    short: I64
    signatures: U8  # (num_short, 128): the lowest byte of each MinHash
    bands: U32  # (32, num_short)

    @property
    def bits(self) -> int:
        """Bits of a text's number in `prints`."""
        return max(self.num_texts, 2).bit_length()


def sketch(texts: Iterable[str], num_texts: int, template: U64) -> Sketches:
    """Sketch texts that are already as they are compared, block by block; empty ones get nothing."""
    bits = max(num_texts, 2).bit_length()
    prints: list[list[U64]] = [[] for _ in range(NUM_PARTS)]
    short, signatures, bands = [], [], []
    for block in blocks(texts):
        covered = block.covered(template)
        values = _prints(block, covered, bits)
        edges = np.searchsorted(values, np.arange(1, NUM_PARTS, dtype=np.uint64) << np.uint64(64 - PART_BITS))
        for part, piece in zip(prints, np.split(values, edges), strict=True):
            part.append(piece)
        numbers, hashes = _minhashes(block, covered)
        short.append(numbers + block.first)
        signatures.append(hashes.astype(np.uint8))
        bands.append(_band_keys(hashes))
    if not short:
        hashes = np.empty((0, NUM_HASHES), np.uint32)
        return Sketches(num_texts, [], np.empty(0, np.int64), hashes.astype(np.uint8), _band_keys(hashes))
    merged = [_merged(part) for part in prints]
    return Sketches(num_texts, merged, np.concatenate(short), np.concatenate(signatures), np.concatenate(bands, axis=1))


def _merged(pieces: list[npt.NDArray[Integer]]) -> npt.NDArray[Integer]:
    """The pieces as one array; the list is emptied, so that never two copies of all are held."""
    result = np.concatenate(pieces)
    pieces.clear()
    return result


def _prints(block: Block, covered: npt.NDArray[np.bool_], bits: int) -> U64:
    hashes = block.long_grams()
    hashes[covered] = 0
    hashes -= np.uint64(1)  # void places become the largest value
    valid = block.room >= LONG_GRAM
    valid &= ~covered
    low = np.append(hashes, np.full(WINDOW - 1, np.iinfo(np.uint64).max, np.uint64))
    for step in (1, 2, 4):
        low = np.minimum(low[:-step], low[step:])
    chosen = valid.copy()
    chosen[1:] &= (low[1:] != low[:-1]) | ~valid[:-1]
    values, owner = low[chosen] * np.uint64(0xD6E8FEB86659FD93), block.owner[chosen]
    counts = np.bincount(owner, minlength=block.num_texts)
    share = np.minimum(1.0, MAX_PRINTS / np.maximum(counts, 1))[owner]
    kept = (values >> np.uint64(32)).astype(np.float64) < share * 2.0**32
    numbers = (owner[kept] + block.first).astype(np.uint64)
    return distinct(((values[kept] >> np.uint64(bits)) << np.uint64(bits)) | numbers)


def _minhashes(block: Block, covered: npt.NDArray[np.bool_]) -> tuple[I64, U32]:
    """Numbers within the block, and 128 MinHash values, of the texts that have 1 to 149 5-grams outside templates."""
    inside = block.room >= GRAM
    inside &= ~covered
    counts = np.bincount(block.owner[inside], minlength=block.num_texts)
    is_short = (counts > 0) & (counts < SHORT_GRAMS)
    inside &= is_short[block.owner]
    numbers = np.flatnonzero(is_short)
    result = np.empty((len(numbers), NUM_HASHES), np.uint32)
    if not len(numbers):
        return numbers, result
    hashes = block.fives[inside].astype(np.uint32)
    starts = np.concatenate([[0], np.cumsum(counts[numbers])[:-1]])
    random = np.random.default_rng(0x5EED)
    factors = random.integers(0, 1 << 32, NUM_HASHES, dtype=np.uint32) | np.uint32(1)
    shifts = random.integers(0, 1 << 32, NUM_HASHES, dtype=np.uint32)
    mixed = np.empty_like(hashes)
    for number in range(NUM_HASHES):
        np.multiply(hashes, factors[number], out=mixed)
        mixed ^= shifts[number]
        result[:, number] = np.minimum.reduceat(mixed, starts)
    return numbers, (result ^ (result >> np.uint32(15))) * np.uint32(0x2C1B3C6D) >> np.uint32(5)


def _band_keys(values: U32) -> U32:
    keys = np.zeros((NUM_BANDS, len(values)), np.uint32)
    for row in range(BAND_ROWS):
        keys = (keys ^ (keys >> np.uint32(15))) * np.uint32(0x9E3779B1) + values[:, row::BAND_ROWS].T
    return keys


def candidates(sketches: Sketches, least: float) -> I64:
    """Pairs (num_pairs, 2) of text numbers, left < right, sorted; `least` is the Jaccard index that matters."""
    packed = distinct(np.concatenate([_sharing(sketches), _banded(sketches, least)]))
    return np.stack([packed // sketches.num_texts, packed % sketches.num_texts], axis=1)


def _sharing(sketches: Sketches) -> I64:
    """Packed pairs of texts that share enough of their rare 12-grams."""
    num = sketches.num_texts
    sizes = [np.bincount(np.minimum(_grouped(part, sketches.bits).sizes, CROWD + 1)) for part in sketches.prints]
    limit = _crowd(sizes, max(MIN_PAIRS, MAX_PAIRS_A_TEXT * num))
    total, rare = np.zeros(num, np.int64), np.zeros(num, np.int64)
    for part in sketches.prints:
        groups = _grouped(part, sketches.bits)
        total += np.bincount(groups.members, minlength=num)
        rare += np.bincount(groups.members[np.repeat(groups.sizes <= limit, groups.sizes)], minlength=num)
    small, large = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for part in sketches.prints:
        groups = _grouped(part, sketches.bits)
        small.append(_all_pairs(groups, limit, num))
        large.append(_leader_pairs(groups, limit, num, 2 * rare < total))
    return np.concatenate([_counted(_merged(small), rare, num), _counted(_merged(large), total, num)])


def _counted(packed: I64, sizes: I64, num: int) -> I64:
    """The distinct pairs that occur often enough for the smaller of their texts."""
    packed.sort()
    starts, counts = runs(packed)
    pairs = packed[starts]
    smaller = np.minimum(sizes[pairs // num], sizes[pairs % num])
    return pairs[counts >= SHARED_FRACTION * smaller]


class _Groups(NamedTuple):
    members: I64
    starts: I64
    sizes: I64


def _grouped(packed: U64, bits: int) -> _Groups:
    """The groups of equal keys in `key << bits | member`; sorts the array in place."""
    packed.sort()
    found = runs(packed >> np.uint64(bits))
    members = packed & np.uint64((1 << bits) - 1)
    return _Groups(members.astype(np.int64), found.starts, found.sizes)


def _crowd(counts: Iterable[npt.NDArray[np.int64]], max_pairs: int) -> int:
    """The largest group of which all pairs are taken: 40, or less where that would be too many pairs.

    `counts` are the numbers of groups by size, all beyond 40 as 41.
    """
    orders = np.arange(CROWD + 1)
    by_size = np.zeros(CROWD + 2, np.int64)
    for part in counts:
        by_size[: len(part)] += part
    num_pairs = np.cumsum(by_size[: CROWD + 1] * orders * (orders - 1) // 2)
    return int(np.searchsorted(num_pairs, max_pairs, side="right")) - 1


def _all_pairs(groups: _Groups, limit: int, num: int) -> I64:
    """Packed pairs within the groups of 2 to `limit` members."""
    chosen = (groups.sizes > 1) & (groups.sizes <= limit)
    starts, sizes = groups.starts[chosen], groups.sizes[chosen]
    parts = [np.empty(0, np.int64)]
    for left in range(limit):
        for right in range(left + 1, limit):
            at = starts[sizes > right]
            if not len(at):
                break
            parts.append(groups.members[at + left] * num + groups.members[at + right])
    return np.concatenate(parts)


def _leader_pairs(groups: _Groups, limit: int, num: int, crowded: npt.NDArray[np.bool_]) -> I64:
    """Packed pairs of the first few members of each larger group with its other members, where both are crowded."""
    inside = np.repeat(groups.sizes > limit, groups.sizes)
    members = groups.members[inside]
    keys = np.repeat(np.arange(len(groups.sizes)), groups.sizes)[inside]
    kept = crowded[members]
    members, keys = members[kept], keys[kept]
    starts, sizes = runs(keys)
    parts = [np.empty(0, np.int64)]
    for leader in range(LEADERS):
        has = sizes > leader
        first = np.repeat(members[np.minimum(starts + leader, len(members) - 1)], sizes)
        rank = np.arange(len(members)) - np.repeat(starts, sizes)
        good = np.repeat(has, sizes) & (rank > leader)
        parts.append(first[good] * num + members[good])
    return np.concatenate(parts)


def _banded(sketches: Sketches, least: float) -> I64:
    """Packed pairs of short texts that agree in a band and seem alike enough."""
    num = len(sketches.short)
    found = [np.empty(0, np.int64)]
    everyone = np.ones(num, np.bool_)
    max_pairs = max(MIN_PAIRS, MAX_PAIRS_A_TEXT * num) // NUM_BANDS
    for keys in sketches.bands:
        groups = _grouped((keys.astype(np.uint64) << np.uint64(32)) | np.arange(num, dtype=np.uint64), 32)
        limit = _crowd([np.bincount(np.minimum(groups.sizes, CROWD + 1))], max_pairs)
        found += [_all_pairs(groups, limit, num), _leader_pairs(groups, limit, num, everyone)]
    pairs = distinct(np.concatenate(found))
    left, right = pairs // max(num, 1), pairs % max(num, 1)
    kept = _agreement(sketches.signatures, left, right) >= least - MARGIN
    result: I64 = sketches.short[left[kept]] * sketches.num_texts + sketches.short[right[kept]]
    return result


def _agreement(signatures: U8, left: I64, right: I64) -> npt.NDArray[np.float64]:
    """The share of equal hashes of each pair: estimates the Jaccard index with a standard error of at most 0.044."""
    result = np.empty(len(left))
    for start in range(0, len(left), 50_000):
        part = slice(start, start + 50_000)
        result[part] = (signatures[left[part]] == signatures[right[part]]).mean(axis=1)
    return result
