"""Shingles: a text as it is compared, and the hashes of its character 5-, 12- and 20-grams, computed in blocks."""

# SPDX-License-Identifier: Apache-2.0
#
# A block of texts is one array of characters. A gram stands at its first character and is void where it would run into
# the next text. 5-grams measure how alike two texts are; 12-grams find the pairs worth measuring; a 20-gram that stands
# in a large share of the texts is a template's, and what it covers is left out of both.
from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = [
    "GRAM",
    "LONG_GRAM",
    "Block",
    "Grams",
    "blocks",
    "compared",
    "distinct",
    "gram_sets",
    "normalised",
    "runs",
    "template_grams",
]

GRAM, LONG_GRAM, TEMPLATE_GRAM = 5, 12, 20
MAX_CHARS = 20_000  # of one text; near-duplicates that differ only behind this are pairs as well
BLOCK_CHARS = 200_000  # the arrays of a block stay in the processor's cache
COMMON_FRACTION, COMMON_COUNT = 0.05, 20
MIX = tuple(np.uint64(number) for number in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
HALF = np.uint64(32)

Bools = npt.NDArray[np.bool_]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]


def normalised(text: str) -> str:
    """The text but for case and white space: lower case, white space joined to single blanks."""
    return " ".join(text.split()).casefold()


def compared(text: str) -> str:
    """The text as near-duplicates are compared: normalised, and without punctuation where anything else is left."""
    plain = normalised(text[:MAX_CHARS].translate(_punctuation()))
    return plain or normalised(text[:MAX_CHARS])


@cache
def _punctuation() -> dict[int, None]:
    """Marks and symbols of all scripts, but not the underscore, which is part of names."""
    codes = (code for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code))[0] in "PS")
    return {code: None for code in codes if chr(code) != "_"}


class Block(NamedTuple):
    """Some texts as one array of hashes: `owner` is the text of each place, `first` the number of the first text."""

    first: int
    num_texts: int
    owner: I64
    room: I64  # characters from each place to the end of its text
    fours: U64
    fives: U64

    def long_grams(self) -> U64:
        """Hashes of the 12-grams, 0 where there is none."""
        eights = self.fours[:-8] * MIX[1] + self.fours[4:-4]
        return self._placed(_mixed(eights * MIX[0] + self.fours[8:]), LONG_GRAM)

    def template_grams(self) -> U64:
        """Hashes of the 20-grams, 0 where there is none."""
        eights = self.fours[:-4] * MIX[1] + self.fours[4:]
        sixteens = eights[:-8] * MIX[2] + eights[8:]
        return self._placed(_mixed(sixteens[:-4] * MIX[0] + self.fours[16:]), TEMPLATE_GRAM)

    def _placed(self, hashes: U64, length: int) -> U64:
        result = np.zeros(len(self.owner), np.uint64)
        num = min(len(hashes), len(result))
        result[:num] = hashes[:num]
        result[self.room < length] = 0
        return result

    def covered(self, template: U64) -> Bools:
        """The places within a stretch of text that a template repeats."""
        if not len(template):
            return np.zeros(len(self.owner), np.bool_)
        hits = np.flatnonzero(np.isin(self.template_grams(), template))
        change = np.zeros(len(self.owner) + 1, np.int32)
        np.add.at(change, hits, 1)
        np.add.at(change, hits + TEMPLATE_GRAM, -1)
        return np.cumsum(change[:-1]) > 0


def blocks(texts: Iterable[str]) -> Iterator[Block]:
    """The texts, already as they are compared, in blocks of about 200,000 characters."""
    part: list[str] = []
    first = size = 0
    for text in texts:
        part.append(text)
        size += len(text)
        if size >= BLOCK_CHARS:
            yield _block(part, first)
            first, size, part = first + len(part), 0, []
    if part:
        yield _block(part, first)


def _block(texts: Sequence[str], first: int) -> Block:
    padded = [text.ljust(GRAM) for text in texts]
    lengths = np.fromiter(map(len, padded), np.int64, len(padded))
    tail = " " * TEMPLATE_GRAM
    codes = np.frombuffer("".join([*padded, tail]).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    twos = codes[:-1] * MIX[0] + codes[1:]
    fours = twos[:-2] * MIX[1] + twos[2:]
    fives = _mixed(fours[:-1] * MIX[2] + codes[4:]) >> HALF
    ends = np.cumsum(lengths)
    owner = np.repeat(np.arange(len(padded)), lengths)
    room = ends[owner] - np.arange(len(owner))
    return Block(first, len(padded), owner, room, fours, fives[: len(owner)])


def _mixed(hashes: U64) -> U64:
    hashes ^= hashes >> np.uint64(29)
    hashes *= MIX[1]
    hashes ^= hashes >> HALF
    return hashes


def template_grams(texts: Iterable[str], num_texts: int) -> U64:
    """20-grams in more than 5 % of the `num_texts` texts and in at least 20, sorted: what a template repeats."""
    parts, room = [], 0
    for block in blocks(texts):
        grams = block.template_grams()
        inside = grams != 0
        order = np.lexsort((block.owner[inside], grams[inside]))
        values, owners = grams[inside][order], block.owner[inside][order]
        parts.append(values[(np.diff(values, prepend=0) != 0) | (np.diff(owners, prepend=-1) != 0)])
        room += len(parts[-1])
    if not room:
        return np.empty(0, np.uint64)
    values = np.sort(np.concatenate(parts))
    starts, sizes = runs(values)
    return values[starts[sizes > max(COMMON_COUNT, COMMON_FRACTION * num_texts)]]


class Grams(NamedTuple):
    """Distinct 5-gram hashes of some texts in one sorted array each; text i has [starts[i], starts[i + 1])."""

    hashes: U64
    starts: I64

    @property
    def sizes(self) -> I64:
        """How many distinct 5-grams each text has."""
        return np.diff(self.starts)


def gram_sets(texts: Iterable[str], template: U64) -> Grams:
    """The distinct 5-grams of texts, less what a template repeats. A text shorter than 5 is padded with blanks."""
    parts, sizes = [], []
    for block in blocks(texts):
        keys = distinct(gram_keys(block, block.covered(template)))
        parts.append(keys & np.uint64(0xFFFFFFFF))
        sizes.append(np.bincount((keys >> HALF).astype(np.int64), minlength=block.num_texts))
    if not parts:
        return Grams(np.empty(0, np.uint64), np.zeros(1, np.int64))
    return Grams(np.concatenate(parts), np.concatenate([[0], np.cumsum(np.concatenate(sizes))]).astype(np.int64))


def gram_keys(block: Block, covered: Bools) -> U64:
    """Text number within the block << 32 | hash, for each 5-gram outside of templates, in the order of the text."""
    inside = block.room >= GRAM
    inside &= ~covered
    return (block.owner[inside].astype(np.uint64) << HALF) | block.fives[inside]


def distinct(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The distinct values, sorted; faster than numpy's own for millions of integers."""
    ordered = np.sort(values)
    return ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])] if len(ordered) else ordered


class Runs(NamedTuple):
    """Where the runs of equal values of a sorted array start, and how long they are."""

    starts: I64
    sizes: I64


def runs(values: npt.NDArray[Any]) -> Runs:
    """The runs of equal values of a sorted array."""
    if not len(values):
        return Runs(np.empty(0, np.int64), np.empty(0, np.int64))
    starts = np.concatenate([[0], np.flatnonzero(values[1:] != values[:-1]) + 1]).astype(np.int64)
    return Runs(starts, np.diff(starts, append=len(values)))
