"""Where words stop: how often a word, alone or behind another, stands before a mark or a line's end, or is a stump."""

# SPDX-License-Identifier: Apache-2.0
#
# "... and the population of" stops at a word that sentences go on behind; "... a compu" at letters that begin longer
# words and are none themselves. Both are counted in the texts under audit, their own last words left out.
from __future__ import annotations

import bisect
import math
import re
from collections import Counter
from collections.abc import Sequence

__all__ = ["NUM_TRAITS", "Boundaries"]

WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
FOLLOWED = re.compile(rf"({WORD.pattern})([^\w\s]|\s*\n|\s|$)")
STOPS = frozenset('.,;:!?)"')
FAR = 400  # characters of the end that are looked at
NUM_TRAITS = 8
WEIGHT, PAIR_WEIGHT = 3.0, 2.0  # rows that the usual rate counts for a word, and a word's rate for a pair of words


class Boundaries:
    """Counts of the words of some texts, and of those before a boundary."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.words: Counter[str] = Counter()
        self.stops: Counter[str] = Counter()
        for text in texts:
            self._count(text.lower())
        singles = [word for word in self.words if " " not in word]
        total = sum(self.words[word] for word in singles)
        self.rate = sum(self.stops[word] for word in singles) / max(total, 1)
        self.vocabulary = sorted(singles)
        self.cumulative = [0]
        for word in self.vocabulary:
            self.cumulative.append(self.cumulative[-1] + self.words[word])

    def _count(self, text: str) -> None:
        found = FOLLOWED.findall(text)
        before = ""
        for place, (word, behind) in enumerate(found):
            is_stop = behind[:1] in STOPS or "\n" in behind
            if place == len(found) - 1 and not is_stop:
                return
            for key in (word, f"{before} {word}") if before else (word,):
                self.words[key] += 1
                self.stops[key] += is_stop
            before = "" if is_stop else word

    def _num_longer(self, stump: str) -> int:
        """How often words stand there that begin with these letters and go on."""
        first = bisect.bisect_right(self.vocabulary, stump)
        last = bisect.bisect_left(self.vocabulary, stump + "\U0010ffff")
        return self.cumulative[last] - self.cumulative[first]

    def traits(self, text: str) -> list[float]:
        """What the last word tells, `NUM_TRAITS` numbers; zeros where the text ends on no word."""
        line = text[-FAR:].rsplit("\n", 1)[-1].lower()
        found = list(WORD.finditer(line))
        if not found or found[-1].end() != len(line):
            return [0.0] * NUM_TRAITS
        word = found[-1][0]
        before = found[-2] if len(found) > 1 and line[found[-2].end() : found[-1].start()] == " " else None
        num, stops = self.words[word], self.stops[word]
        alone = _log_odds(stops, num, self.rate, WEIGHT)
        pair = f"{before[0]} {word}" if before else ""
        rate = (stops + WEIGHT * self.rate) / (num + WEIGHT)
        both = _log_odds(self.stops[pair], self.words[pair], rate, PAIR_WEIGHT) if before else alone
        known, longer = math.log1p(num), math.log1p(self._num_longer(word))
        is_new = num == 0
        return [1.0, alone, both, known, longer, float(longer > known + 1), float(is_new), float(is_new and longer > 0)]


def _log_odds(stops: int, num: int, rate: float, weight: float) -> float:
    """Smoothed log odds of a boundary."""
    return math.log((stops + weight * rate + 0.1) / (num - stops + weight * (1 - rate) + 0.1))
