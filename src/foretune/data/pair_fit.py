"""How well each target fits its own input, by the other pairs alone: word alignment, copying and word frequency."""

# SPDX-License-Identifier: Apache-2.0
#
# IBM model 1 (Brown et al. 1993, "The mathematics of statistical machine translation", section 4.1) with two more
# sources of a target word: a copy from the input, and the words of all targets. Each pair is scored by what the pairs
# of the other folds taught, so that a rare word cannot vouch for itself.
from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Sequence
from random import Random
from statistics import fmean, median
from typing import NamedTuple

__all__ = ["OTHERS", "PairCosts", "own_inputs", "pair_costs", "pair_fits"]

FOLDS = 5
OTHERS = 4  # inputs of other rows that a target is held against
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
    return [-cost for cost in pair_costs(inputs, targets).own]


class PairCosts(NamedTuple):
    """What each target costs after its own input and after the inputs of `others` of its rows, nats a word."""

    own: list[float]
    others: list[list[float]]


def pair_costs(inputs: Sequence[str], targets: Sequence[str], *, num_others: int = 0, seed: int = 0) -> PairCosts:
    """What each target costs beside what its words cost at large, by what the pairs of the other folds taught."""
    pairs = [(_words(source), _words(target)) for source, target in zip(inputs, targets, strict=True)]
    rng = Random(seed)
    found = PairCosts([0.0] * len(pairs), [[] for _ in pairs])
    for fold in range(FOLDS):
        rest = [pair for at, pair in enumerate(pairs) if at % FOLDS != fold]
        learned = _learned(rest[:: max(1, len(rest) // MOST_PAIRS)])
        for at in range(fold, len(pairs), FOLDS):
            target = pairs[at][1]
            found.own[at] = -learned.fit(*pairs[at])
            chosen = rng.sample(range(len(pairs) - 1), min(num_others, len(pairs) - 1))
            found.others[at] += [-learned.fit(pairs[one + (one >= at)][0], target) for one in chosen]
    return found


def own_inputs(inputs: Sequence[str], targets: Sequence[str], *, most_confused: float) -> list[bool] | None:
    """Whether each target fits its own input better than nine of ten pairings with inputs of others fit.

    None where more than the share `most_confused` of these fits better than the median target: the words then tell too
    little to judge single rows.
    """
    costs = pair_costs(inputs, targets, num_others=OTHERS)
    if min(map(len, costs.others), default=0) < 2:
        return None
    misfits = [own - fmean(row) for own, row in zip(costs.own, costs.others, strict=True)]
    pairings = sorted(cost - (sum(row) - cost) / (len(row) - 1) for row in costs.others for cost in row)
    if bisect_left(pairings, median(misfits)) > most_confused * len(pairings):
        return None
    limit = pairings[len(pairings) // 10]
    return [misfit < limit for misfit in misfits]


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
