"""Near-duplicate texts: how alike two texts are by their character 5-grams, and all pairs that are."""

# SPDX-License-Identifier: Apache-2.0
#
# Broder, "On the resemblance and containment of documents" (1997): the Jaccard index finds reworded copies, the
# containment finds copies within something (a prefix, a wrapper around the prompt) and truncated ones. Stretches of 20
# characters that stand in more than 5 % of the texts (and in at least 20) are left out: they are the instruction that
# every prompt repeats, and would make all rows of a template look alike. Every candidate is measured exactly.
from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np

from foretune.data.candidates import SHORT_GRAMS, candidates, sketch
from foretune.data.shingles import (
    GRAM,
    I64,
    MAX_CHARS,
    U64,
    Grams,
    compared,
    gram_sets,
    normalised,
    runs,
    template_grams,
)

__all__ = ["GRAM", "Pair", "cluster_roots", "compared", "is_long", "near_duplicates", "normalised"]

SAMPLE_TEXTS = 4000  # texts that templates are sought in
LONG_GRAMS = SHORT_GRAMS
MIN_CONTAINED = 30  # 5-grams of a text that can be contained in another; chance contains shorter ones
PART_CHARS = 4_000_000  # of the texts measured at a time
KEPT_CHARS = 50_000_000


class Pair(NamedTuple):
    """Two alike texts by index, `left` < `right`.

    `similarity` is the Jaccard index of their 5-grams, `containment` the share of the smaller set that is in the other;
    both in [0, 1].
    """

    left: int
    right: int
    similarity: float
    containment: float = 1.0


def is_long(text: str) -> bool:
    """Whether a text (as it is compared) is so long that chance never makes it half like another one."""
    return len(text) >= LONG_GRAMS + GRAM


def near_duplicates(
    texts: Sequence[str], *, threshold: float = 0.7, long_threshold: float = 0.5, containment: float = 0.0
) -> list[Pair]:
    """Pairs of texts whose 5-grams have a Jaccard index of at least `threshold`, sorted.

    Where both texts have 150 5-grams or more, `long_threshold` holds: chance never makes long texts that alike. With
    `containment` > 0 also pairs where that share of the smaller text (30 5-grams or more) stands in the other. Case,
    white space and punctuation do not count. Texts that are equal so are linked to the first of their kind only, and
    members of crowds to a few leaders: joining the pairs gives the right clusters, but not every pair inside a large
    cluster is listed. Empty texts are never pairs. Deterministic. `texts` is read three times, in blocks, and may be
    a view of a file: besides it, about 1.3 KB a text is needed (measured on a million of 400 characters).
    """
    view = _Compared(texts)
    firsts, equal = _equal_texts(view.digests)
    rows = [Pair(left, right, 1.0) for left, right in equal.tolist()]
    template = _template(view, firsts)
    least = min(threshold, long_threshold)
    found = firsts[candidates(sketch(view.pick(firsts), len(firsts), template), least)]
    limits = _Limits(threshold, least, containment or 2.0)
    rows += [pair for part in _parts(texts, found) for pair in _measured(view, part, template, limits)]
    return sorted(rows)


class _Limits(NamedTuple):
    """From what on texts are alike: the Jaccard index, the same of long texts, the containment."""

    short: float
    long: float
    contained: float


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


class _Compared:
    """The texts as they are compared: the first 50 M characters are kept, the others made when they are asked for."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        self.kept: list[str] = []
        self.digests = np.fromiter(self._digests(), np.uint64, len(texts))

    def _digests(self) -> Iterator[int]:
        """64 bits of BLAKE2b of each text; 0 for the empty one."""
        room = KEPT_CHARS
        for text in self.texts:
            plain = compared(text)
            if room > 0:
                self.kept.append(plain)
                room -= len(plain)
            data = plain.encode("utf-8", "surrogatepass")
            yield int.from_bytes(blake2b(data, digest_size=8).digest()) if data else 0

    def pick(self, numbers: I64) -> Iterator[str]:
        kept = self.kept
        return (kept[at] if at < len(kept) else compared(self.texts[at]) for at in numbers.tolist())


def _equal_texts(digests: U64) -> tuple[I64, I64]:
    """The first text of each kind in order, and links (first, later) of the others; empty texts are in neither."""
    order = np.argsort(digests, kind="stable")
    order = order[np.searchsorted(digests[order], 1) :]
    starts, sizes = runs(digests[order])
    firsts = order[starts]
    links = np.stack([np.repeat(firsts, sizes), order], axis=1)
    return np.sort(firsts), links[links[:, 0] != links[:, 1]]


def _template(view: _Compared, firsts: I64) -> U64:
    """The 20-grams of templates, sought in the texts with the smallest digests, wherever they stand."""
    chosen = np.sort(firsts[np.argsort(view.digests[firsts], kind="stable")[:SAMPLE_TEXTS]])
    return template_grams(view.pick(chosen), len(chosen))


def _parts(texts: Sequence[str], pairs: I64) -> Iterator[I64]:
    """The pairs in parts whose texts fit into memory."""
    if not len(pairs):
        return
    lengths = np.array([len(texts[number]) for number in pairs.ravel().tolist()]).reshape(-1, 2)
    filled = np.cumsum(np.minimum(lengths, MAX_CHARS).sum(axis=1)) // PART_CHARS
    yield from np.split(pairs, np.flatnonzero(np.diff(filled)) + 1)


def _measured(view: _Compared, pairs: I64, template: U64, limits: _Limits) -> list[Pair]:
    """The pairs that are alike enough."""
    numbers, places = np.unique(pairs, return_inverse=True)
    grams = gram_sets(view.pick(numbers), template)
    left, right = places.reshape(-1, 2).T
    both = _shared(grams, left, right)
    sizes = grams.sizes
    smaller = np.minimum(sizes[left], sizes[right])
    jaccard = both / np.maximum(sizes[left] + sizes[right] - both, 1)
    contained = both / np.maximum(smaller, 1)
    needed = np.where(smaller >= LONG_GRAMS, limits.long, limits.short)
    kept = (jaccard >= needed) | ((contained >= limits.contained) & (smaller >= MIN_CONTAINED))
    rows = zip(*pairs[kept].T.tolist(), jaccard[kept].tolist(), contained[kept].tolist(), strict=True)
    return [Pair(a, b, similarity, share) for a, b, similarity, share in rows]


def _shared(grams: Grams, left: I64, right: I64) -> I64:
    """How many 5-grams each pair of texts has in common."""
    hashes, starts = grams
    pieces = []
    for side in (left, right):
        sizes = starts[side + 1] - starts[side]
        pair = np.repeat(np.arange(len(side)), sizes)
        within = np.arange(len(pair)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        pieces.append((pair.astype(np.uint64) << np.uint64(32)) | hashes[np.repeat(starts[side], sizes) + within])
    keys = np.sort(np.concatenate(pieces))
    twice = keys[1:][keys[1:] == keys[:-1]] >> np.uint64(32)
    return np.bincount(twice.astype(np.int64), minlength=len(left))
