"""Alike rows: the pairs that several checks look at, and what a difference of a few words means."""

# SPDX-License-Identifier: Apache-2.0
#
# Two inputs with different answers contradict each other unless the words that differ explain the answers. For classes
# that is measured: by naive Bayes over the words of all other rows, the words that differ must favour each input's own
# class, and the others must not speak against it. A misspelt word counts as the word that it stands for. In free text
# nothing can be measured so: there a content word in place of another, a number, a mark of arithmetic or a negation
# asks something else, and one content word more or less in a long input does not.
from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from functools import cached_property
from typing import NamedTuple
from weakref import WeakKeyDictionary

from foretune.audit.subject import Hit, Severity, Subject, finding
from foretune.data.neardup import GRAM, Pair, compared, is_long, near_duplicates
from foretune.records.audit import Finding

__all__ = ["Alike", "Difference", "alike", "flagged"]

NEAR, LOOSE = 0.7, 0.4  # Jaccard index of two short inputs that are near-copies, and from which misspelling can explain
CONTAINED, SAME_ANSWER = 0.9, 0.5
MAX_WORDS = 60  # of inputs that are compared word by word
MISSPELT_RARE, MISSPELT_RATIO = 2, 20  # a word in 2 rows, or 20 times rarer than its like, is a misspelling of it
MISSPELT_CHANGES = 0.3  # of a word's letters
SMOOTHING = 0.5
EXPLAINED = 1.0  # log odds by which the words that differ must favour each input's own class
UNLIKELY, ABSURD = -2.5, -8.0  # log odds of an input's own class from which its other words speak against it
SUSPECT = 3.0  # log odds by which an earlier row must fit its class less to be the wrong one
SAME_QUESTION = 0.7  # Jaccard index of two free-text inputs of which one has a content word more
CUT, MIN_WORDS, MANY_WORDS = 0.3, 8, 20  # share of words that a copy may lack; of classes; with numbers among them
ARITHMETIC = frozenset("+-*/=<>%^$€£")
MAX_CLASSES, CLASS_FRACTION = 500, 0.1
MAX_IDS = 1000
MAX_EQUAL = 8
WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*|\d+(?:[.,]\d+)*|[^\w\s]")
NEGATIONS = frozenset(
    "no not never none nothing without cannot don't doesn't isn't aren't won't can't n't least".split()
)
POLITE = frozenset("please kindly thanks thank you hi hello hey dear".split())
FILLERS = POLITE | frozenset(
    "a an the this that these those some of to in on at for and or so is are be am do does can could would will "
    "just now well ok okay me my i we us our your it then very really also".split()
)


class Difference(NamedTuple):
    """The words that only one of two inputs has, misspellings left out."""

    left: list[str]
    right: list[str]
    num_misspelt: int = 0

    @property
    def num_words(self) -> int:
        """How many words differ."""
        return len(self.left) + len(self.right)


class Alike:
    """Pairs of rows of a subject with alike inputs, and judgements on them; made by `alike`."""

    def __init__(self, inputs: Sequence[str], targets: Sequence[str], *, task: str) -> None:
        self.inputs = inputs
        self.targets = targets
        self.task = task
        num_classes = len(set(targets))
        few = num_classes <= min(MAX_CLASSES, CLASS_FRACTION * len(targets))
        self.has_classes = task == "classify" or (task == "chat" and few and num_classes > 1)

    @cached_property
    def loose(self) -> list[Pair]:
        """Pairs with a Jaccard index of 0.4 or more, or contained in each other."""
        found = near_duplicates(self.inputs, threshold=LOOSE, long_threshold=LOOSE, containment=CONTAINED)
        return _with_equals(found)

    @cached_property
    def near(self) -> list[Pair]:
        """Pairs whose inputs are copies but for a few words, an addition around one of them, or misspellings."""
        return [pair for pair in self.loose if self._is_near(pair)]

    @cached_property
    def words(self) -> Counter[str]:
        """In how many inputs each word stands."""
        return Counter(word for text in self.inputs for word in set(words(text)))

    def resembles(self, pair: Pair) -> bool:
        """Whether the Jaccard index alone makes the inputs near-copies: 0.7, or 0.5 where both are long."""
        texts = compared(self.inputs[pair.left]), compared(self.inputs[pair.right])
        return pair.similarity >= (0.5 if all(map(is_long, texts)) else NEAR)

    def _is_near(self, pair: Pair) -> bool:
        if self.resembles(pair) or pair.containment >= CONTAINED:
            return True
        if not self._is_short(pair):
            return False
        difference = self.difference(pair)
        if 2 * difference.num_words <= difference.num_misspelt:
            return True
        is_cut = not (difference.left and difference.right)
        num_words = self._num_words(pair)
        same = num_words >= MIN_WORDS and self.targets[pair.left] == self.targets[pair.right]
        return is_cut and (same or not self.has_classes) and difference.num_words <= CUT * num_words

    def _num_words(self, pair: Pair) -> int:
        """The words of the longer input."""
        return max(len(words(self.inputs[row])) for row in (pair.left, pair.right))

    def _is_short(self, pair: Pair) -> bool:
        return self._num_words(pair) <= MAX_WORDS

    def difference(self, pair: Pair) -> Difference:
        """The words in which the two inputs differ."""
        left, right = words(self.inputs[pair.left]), words(self.inputs[pair.right])
        only: tuple[list[str], list[str]] = [], []
        num_misspelt = 0
        for kind, a, b, c, d in SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
            if kind == "equal":
                continue
            if self._is_misspelt(left[a:b], right[c:d]):
                num_misspelt += 1
                continue
            only[0].extend(left[a:b])
            only[1].extend(right[c:d])
        return Difference(_meaning(only[0]), _meaning(only[1]), num_misspelt)

    def _is_misspelt(self, left: list[str], right: list[str]) -> bool:
        """Whether a piece of one text is a piece of the other misspelt: close, and in hardly any other row."""
        a, b = _letters(left), _letters(right)
        if a == b or not (a.isalpha() and b.isalpha()):
            return a == b
        seen = [max(self.words[word] for word in side) for side in (left, right)]
        if min(seen) > MISSPELT_RARE and min(seen) * MISSPELT_RATIO > max(seen):
            return False
        return _changes(a, b) <= max(1, MISSPELT_CHANGES * max(len(a), len(b)))

    @cached_property
    def _evidence(self) -> _Evidence:
        return _Evidence(self.inputs, self.targets)

    def is_explained(self, pair: Pair) -> bool:
        """Whether the words that differ account for the different answers of two alike inputs."""
        if self.inputs[pair.left] == self.inputs[pair.right]:
            return False
        difference = self.difference(pair)
        if not self.has_classes:
            return self._asks_another(pair, difference)
        odds = self._odds(pair, Difference(_impolite(difference.left), _impolite(difference.right)))
        worse = min(odds.left, odds.right)
        if self.resembles(pair) or not difference.num_words:
            return odds.words > EXPLAINED and worse > UNLIKELY
        return worse > (ABSURD if odds.words > EXPLAINED else UNLIKELY)

    def _asks_another(self, pair: Pair, difference: Difference) -> bool:
        """Whether the words that differ make another question of a free-text input."""
        is_cut = self._num_words(pair) >= MANY_WORDS and not (difference.left and difference.right)
        both = {*difference.left, *difference.right}
        if not is_cut and any(word in NEGATIONS or word[0].isdigit() or word in ARITHMETIC for word in both):
            return True
        content = [{word for word in side if word not in FILLERS} for side in difference[:2]]
        if not content[0] and not content[1]:
            return False
        return bool(content[0] and content[1]) or pair.similarity < SAME_QUESTION

    def same_answer(self, left: int, right: int) -> bool:
        """Whether two answers are equal or, in free text, share half of their 5-grams, or one holds the other."""
        a, b = self.targets[left], self.targets[right]
        if a == b or self.task != "chat" or not a or not b:
            return a == b
        grams = [{text[i : i + GRAM] for i in range(max(len(text) - GRAM + 1, 1))} for text in (a, b)]
        both, smaller = len(grams[0] & grams[1]), min(map(len, grams))
        is_held = both >= CONTAINED * smaller and smaller >= 5 * GRAM
        return is_held or both >= SAME_ANSWER * len(grams[0] | grams[1])

    def swaps_numbers(self, pair: Pair) -> bool:
        """Whether two short inputs are the same exercise with other numbers; of classes both must have one."""
        if not self._is_short(pair) or is_long(compared(self.inputs[pair.left])):
            return False
        difference = self.difference(pair)
        has_number = [any(word[0].isdigit() or word in ARITHMETIC for word in side) for side in difference[:2]]
        return all(has_number) if self.has_classes else any(has_number)

    def suspect(self, pair: Pair) -> int:
        """The row of the two whose answer fits its input less; the later one where that cannot be told."""
        if self.has_classes:
            odds = self._odds(pair, self.difference(pair))
            return pair.left if odds.left < odds.right - SUSPECT else pair.right
        own, other = (self._fit(pair, row) for row in (pair.left, pair.right))
        return pair.left if own < other else pair.right

    def _fit(self, pair: Pair, row: int) -> float:
        """How much of the question's rare words the answer takes up."""
        asked = set(words(self.inputs[pair.left])) & set(words(self.inputs[pair.right]))
        taken = asked & set(words(self.targets[row]))
        return sum(math.log(len(self.inputs) / self.words[word]) for word in sorted(taken))

    def _odds(self, pair: Pair, difference: Difference) -> _Odds:
        left, right = set(words(self.inputs[pair.left])), set(words(self.inputs[pair.right]))
        same = (left | right) - {*difference.left, *difference.right}
        odds = self._evidence.log_odds
        parts = (
            odds(difference.left, pair.left, pair.right),
            odds(difference.right, pair.right, pair.left),
            odds(same, pair.left, pair.right),
        )
        return _Odds(parts[0] + parts[1], parts[0] + parts[2], parts[1] - parts[2])


class _Odds(NamedTuple):
    """Log odds of each input's own class against the other's: by the words that differ, and by all words of each."""

    words: float
    left: float
    right: float


class _Evidence:
    """How often each word stands in the rows of each class."""

    def __init__(self, inputs: Sequence[str], targets: Sequence[str]) -> None:
        self.inputs = inputs
        self.targets = targets
        self.rows = Counter(targets)
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)
        for text, target in zip(inputs, targets, strict=True):
            self.counts[target].update(set(words(text)))

    def log_odds(self, present: Iterable[str], row: int, other: int) -> float:
        """Log odds of the class of `row` against that of `other`, learned without these two rows."""
        own, against = self.targets[row], self.targets[other]
        in_own, in_other = set(words(self.inputs[row])), set(words(self.inputs[other]))
        totals = self.rows[own] - 1 + 2 * SMOOTHING, self.rows[against] - 1 + 2 * SMOOTHING
        return sum(
            math.log((self.counts[own][word] - (word in in_own) + SMOOTHING) / totals[0])
            - math.log((self.counts[against][word] - (word in in_other) + SMOOTHING) / totals[1])
            for word in sorted(present)
        )


_KNOWN: WeakKeyDictionary[Subject, Alike] = WeakKeyDictionary()


def alike(subject: Subject) -> Alike:
    """The alike rows of a subject; computed once for all checks."""
    if subject not in _KNOWN:
        _KNOWN[subject] = Alike(subject.inputs, subject.targets, task=subject.task)
    return _KNOWN[subject]


def flagged(
    subject: Subject,
    number: int,
    severity: Severity,
    title: str,
    evidence: Mapping[int, str],
    *,
    fix: str,
    certainty: float = 1.0,
) -> list[Finding]:
    """A finding on rows by number, with their ids and the share of the training rows that it spoils."""
    hits = [Hit(subject.place(row), text) for row, text in evidence.items()]
    found = finding(number, severity, title, hits, fix=fix)
    effect = min(1.0, len(hits) * certainty / max(subject.split_names.count("train"), 1))
    ids = tuple(subject.samples[row].id for row in list(evidence)[:MAX_IDS])
    update = {"certainty": certainty, "effect": effect, "sample_ids": ids}
    return [one.model_copy(update=update) for one in found]


def _with_equals(pairs: list[Pair]) -> list[Pair]:
    """The pairs, and those of the rows that are equal to one of a pair, as long as these are few."""
    equal: dict[int, list[int]] = defaultdict(list)
    for pair in pairs:
        if pair.similarity == 1.0:
            equal[pair.left].append(pair.right)
    result = set(pairs)
    for pair in pairs:
        left, right = ([row, *equal[row]] if len(equal[row]) < MAX_EQUAL else [row] for row in pair[:2])
        both = {(min(a, b), max(a, b)) for a in {*left} for b in {*right} if a != b}
        result |= {Pair(a, b, pair.similarity, pair.containment) for a, b in both}
    return sorted(result)


def words(text: str) -> list[str]:
    """Words, numbers, and single marks, in order."""
    return WORD.findall(text)


def _meaning(found: list[str]) -> list[str]:
    """The words, without punctuation; marks of arithmetic stay."""
    return [word for word in found if word.isalnum() or len(word) > 1 or word in ARITHMETIC]


def _impolite(found: list[str]) -> list[str]:
    return [word for word in found if word not in POLITE]


def _letters(found: list[str]) -> str:
    return "".join(char for word in found for char in word if char.isalnum() or char in ARITHMETIC)


def _changes(left: str, right: str) -> int:
    """Letters to insert, drop or replace, or neighbours to swap, to turn one word into the other."""
    before: list[int] = []
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, start=1):
        before, last, row = row, before, [i]
        for j, b in enumerate(right, start=1):
            least = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and b == left[i - 2]:
                least = min(least, last[j - 2] + 1)
            row.append(least)
    return row[-1]
