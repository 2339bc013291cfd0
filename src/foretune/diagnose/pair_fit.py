"""How well each target fits its own input, by the other pairs alone: word alignment, copying and word frequency."""

# SPDX-License-Identifier: Apache-2.0
#
# IBM model 1 (Brown et al. 1993, "The mathematics of statistical machine translation", section 4.1) with two more
# sources of a target word: a copy from the input, and the words of all targets. Each pair is scored by what the pairs
# of the other folds taught, so that a rare word cannot vouch for itself.
from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

__all__ = ["pair_fits"]

FOLDS = 5
ROUNDS = 5
MOST_WORDS = 60  # of one text
MOST_PAIRS = 1500  # that one fold learns from
WORD = re.compile(r"\w+|[^\w\s]")

Words = list[str]
Table = dict[str, dict[str, float]]


def pair_fits(inputs: Sequence[str], targets: Sequence[str]) -> list[float]:
    """For each pair how much likelier its target's words are given its input than at large, in nats a word.

    About 0 or below: the input says nothing of the target, or something else. Needs no model and works in any language
    that parts its words; time grows with the words of inputs times those of targets.
    """
    pairs = [(_words(source), _words(target)) for source, target in zip(inputs, targets, strict=True)]
    fits = [0.0] * len(pairs)
    for fold in range(FOLDS):
        others = [pair for at, pair in enumerate(pairs) if at % FOLDS != fold]
        learned = _learned(others[:: max(1, len(others) // MOST_PAIRS)])
        for at in range(fold, len(pairs), FOLDS):
            fits[at] = learned.fit(*pairs[at])
    return fits


def _words(text: str) -> Words:
    return WORD.findall(text.casefold())[:MOST_WORDS]


class _Learned:
    """What pairs teach: how often a word is copied, translated or just said, and which word stands for which."""

    def __init__(self, frequency: Counter[str]) -> None:
        self.table: Table = {}
        self.shares = (0.4, 0.4, 0.2)  # copied, aligned, said at large
        self.frequency = frequency
        self.total = sum(frequency.values()) + len(frequency) + 1

    def at_large(self, word: str) -> float:
        """The probability of a word in any target, one added."""
        return (self.frequency[word] + 1) / self.total

    def sources(self, source: Words, word: str) -> tuple[float, float, float]:
        """The probability of a target word from each source: copied, aligned, at large."""
        num = max(len(source), 1)
        copied, aligned, large = self.shares
        by_table = sum(self.table.get(one, {}).get(word, 0.0) for one in source) / num
        return copied * source.count(word) / num, aligned * by_table, large * self.at_large(word)

    def fit(self, source: Words, target: Words) -> float:
        """Mean log ratio of a target's words given the source and at large."""
        ratios = [math.log(sum(self.sources(source, word)) / self.at_large(word)) for word in target]
        return sum(ratios) / len(ratios) if ratios else 0.0


def _learned(pairs: Sequence[tuple[Words, Words]]) -> _Learned:
    """Expectation and maximisation, from a table that is even over the words seen together."""
    found = _Learned(Counter(word for _, target in pairs for word in target))
    together: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for source, target in pairs:
        for one in set(source):
            together[one].update(set(target))
    found.table = {one: {word: 1 / len(words) for word in words} for one, words in together.items()}
    for _ in range(ROUNDS):
        _step(found, pairs)
    return found


def _step(found: _Learned, pairs: Sequence[tuple[Words, Words]]) -> None:
    counts: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    by_source = [1.0, 1.0, 1.0]
    for source, target in pairs:
        for word in target:
            parts = found.sources(source, word)
            whole = sum(parts)
            for number, part in enumerate(parts):
                by_source[number] += part / whole
            weights = [(one, found.table.get(one, {}).get(word, 0.0)) for one in source]
            all_weights = sum(weight for _, weight in weights)
            if all_weights > 0:
                for one, weight in weights:
                    counts[one][word] += parts[1] / whole * weight / all_weights
    found.table = {one: _even(words) for one, words in counts.items()}
    total = sum(by_source)
    found.shares = (by_source[0] / total, by_source[1] / total, by_source[2] / total)


def _even(counts: dict[str, float]) -> dict[str, float]:
    total = sum(counts.values())
    return {word: count / total for word, count in counts.items()} if total > 0 else {}
