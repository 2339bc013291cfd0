"""How alike short inputs are, word by word: rare words weigh more, so that one other word hides no copy."""

# SPDX-License-Identifier: Apache-2.0
#
# Character n-grams (`neardup`) need a few dozen characters; of an input of three to six words one other word leaves
# too few. Here a text is its set of words, each with the weight of its rarity among the training inputs (Sparck Jones,
# "A statistical interpretation of term specificity", 1972), and two texts are as alike as the weight that they share.
from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

__all__ = ["Asked", "Likeness", "words"]

NO_SPACES = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff"  # scripts that put no space between words: a sign is a word
WORD = re.compile(rf"[{NO_SPACES}]|[^\W{NO_SPACES}]+")
COMMON_ROWS = 2000  # a word in more inputs finds no candidates; it counts all the same once one is found
SAME_TARGET = 0.5  # share of their words that the answers of two alike questions have in common


class Asked(NamedTuple):
    """A question with its expected answer."""

    text: str
    target: str


@lru_cache(maxsize=50_000)
def words(text: str) -> frozenset[str]:
    """The different words of a text, whatever their case and order."""
    return frozenset(WORD.findall(text.casefold()))


class Likeness:
    """Training rows by their words, to be asked which of them a held-out row is like.

    How rare a word is shows in the rows and in `held_out` together: one that every held-out row adds tells none apart.
    """

    def __init__(self, rows: Sequence[Asked], held_out: Sequence[Asked] = ()) -> None:
        self.rows = rows
        self._rows_of: dict[str, list[int]] = defaultdict(list)
        for place, row in enumerate(rows):
            for word in words(row.text):
                if len(self._rows_of[word]) <= COMMON_ROWS:
                    self._rows_of[word].append(place)
        own = {words(row.text) for row in rows}
        texts = own | {words(row.text) for row in held_out}  # copies do not make a word common
        self.num_distinct, self._num_texts = len(own), len(texts)
        self._counts = Counter(word for text in texts for word in text)

    def nearest(self, asked: Asked) -> float:
        """The highest similarity of a training row with the same answer, 0..1."""
        return max((similarity for _, similarity in self._alike(asked)), default=0.0)

    def at_least(self, asked: Asked, similarity: float) -> list[int]:
        """Places of the training rows with the same answer that are at least so alike."""
        return [place for place, found in self._alike(asked) if found >= similarity]

    def between(self, left: Asked, right: Asked) -> float:
        """The similarity of two questions with the same answer, 0 where the answers differ."""
        return self._similarity(words(left.text), words(right.text)) if _same(left, right) else 0.0

    def _alike(self, asked: Asked) -> Iterator[tuple[int, float]]:
        own = words(asked.text)
        seeking = [word for word in own if len(self._rows_of.get(word, ())) <= COMMON_ROWS]
        for place in sorted({place for word in seeking for place in self._rows_of.get(word, ())}):
            if _same(asked, self.rows[place]):
                yield place, self._similarity(own, words(self.rows[place].text))

    def _similarity(self, left: frozenset[str], right: frozenset[str]) -> float:
        """The Jaccard index of two sets of words by weight."""
        if left == right:
            return 1.0
        whole = sum(map(self._weight, left | right))
        return sum(map(self._weight, left & right)) / whole if whole > 0 else 1.0

    def _weight(self, word: str) -> float:
        """The logarithm of how rare the word is; 0 where every text has it."""
        return max(0.0, math.log((self._num_texts + 1) / (self._counts[word] + 0.5)))


def _same(left: Asked, right: Asked) -> bool:
    """Whether two answers say the same: equal, or half of their words in common."""
    if left.target == right.target:
        return True
    first, second = words(left.target), words(right.target)
    return len(first & second) >= SAME_TARGET * len(first | second) if first and second else first == second
