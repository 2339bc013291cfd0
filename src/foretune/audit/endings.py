"""Tells answers that were cut off from whole ones, by a small model that learns from the data's own endings."""

# SPDX-License-Identifier: Apache-2.0
#
# Nothing has to be labelled: whole endings are the answers as they are, cut endings are the same answers cut at a
# random character. A logistic regression on a dozen traits of the last line tells them apart; the few answers that
# really were cut off stand out among the whole ones. A cut that falls on the end of a sentence leaves no trace.
from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from foretune.audit.boundaries import Boundaries

__all__ = ["MIN_TEXTS", "CutOffs", "cut_offs"]

MIN_TEXTS = 50  # fewer teach nothing
MAX_TEXTS = 6_000  # enough to learn from; more only cost time
FAR = 400  # characters of the end that are looked at
MIN_CHARS = 3
FEW = 2  # suspects counted beside those found, so that two or three are not judged by chance
CLEAR = 0.1  # open ends beside the suspects, for each of these, where whole texts end in punctuation
# Where less than a third of the open ends are cut, odd whole ones look alike: of the 22 named in Alpaca 52k as it is 5
# are cut in mid-sentence (one reading, no panel); with 1 % cut on purpose 84 % of those named were. This is in between.
RARE_SHARE, RARE_CERTAINTY = 0.33, 0.5
ENOUGH, HALF = 20, 0.5  # suspects that should lie above a limit, were all of them cut, for it to tell anything
LEAST_CERTAINTY, MOST_CERTAINTY = 0.5, 0.95
# Of texts that stop short where few are cut: 5 of 29 of Alpaca 52k (8 more are letters without a name), 2026-11, by one
# reading and no panel.
SHORT_CERTAINTY = 0.17
PRECISION = 0.9  # wanted of the texts named, by their own estimate
LIMITS = np.arange(0.0, 6.1, 0.25)  # log odds from which a text is named; the least that gives that precision
RARE_END = -1.2  # log odds of a word to end an answer, against standing inside
RIDGE, NUM_ROUNDS = 1e-2, 25
WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
CLOSED = tuple(".!?…。！？")
QUOTES = "\"'”’)]}*_`>|~"
PUNCTUATED = re.compile(r"[.!?…。！？][\"'”’)\]*_`]*$")
CODE = re.compile(r"[{}<>=;]|\w\(|\\|_\w|^\s{2,}\S")
MARKER = re.compile(r"\s*(?:[-*•–]|\(?\d{1,3}[.):]|[A-Za-z][.)])\s")

Vector = NDArray[np.float64]


class CutOffs(NamedTuple):
    """Which texts look cut off; `certainty` is the estimated share of them that truly is."""

    rows: list[int]
    certainty: float


class _Words:
    """How often each word ends an answer, and how often it stands inside."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.inside: Counter[str] = Counter()
        self.last: Counter[str] = Counter()
        for text in texts:
            words = WORD.findall(text.lower())
            self.inside.update(words[:-1])
            if words and text[-1:].isalnum():
                self.last[words[-1]] += 1
        self.num_inside = max(self.inside.total(), 1)
        self.num_last = max(self.last.total(), 1)

    def final_odds(self, word: str, *, is_own: bool) -> float:
        """Log odds that a word ends an answer; `is_own` takes the answer's own ending out of the count."""
        last = self.last[word] - is_own
        rate = (max(last, 0) + 0.5) / (self.num_last + 1), (self.inside[word] + 0.5) / (self.num_inside + 1)
        return float(np.clip(np.log(rate[0] / rate[1]), -4, 4))


def _traits(text: str, words: _Words, boundaries: Boundaries, *, is_own: bool) -> list[float]:
    """What the end of a text is like; `text` has no white space at its end."""
    return [*_line_traits(text, words, is_own=is_own), *boundaries.traits(text)]


def _line_traits(text: str, words: _Words, *, is_own: bool) -> list[float]:
    tail = text[-FAR:]
    line = tail.rsplit("\n", 1)[-1]
    above = [other for other in tail.split("\n")[:-1] if other.strip()]
    found = WORD.findall(line.lower())
    word = found[-1] if found and line[-1].isalpha() else ""
    sentence = re.split(r"[.!?…。！？]\s", line)[-1]
    is_punctuated = bool(PUNCTUATED.search(tail))
    above_ends = sum(bool(PUNCTUATED.search(other)) for other in above) / len(above) if above else 0.5
    is_item = bool(MARKER.match(line))
    usual = float(np.median([len(other) for other in above])) if above else 0.0
    is_short = len(line) < usual / 2
    return [
        1.0,
        float(is_punctuated),
        float(text[-1] in QUOTES and not is_punctuated),
        float(text[-1] in ",;:-–—(/&+=$"),
        float(text[-1].isdigit()),
        float(bool(word)),
        words.final_odds(word, is_own=is_own) if word else 0.0,
        float(bool(word) and words.inside[word] + words.last[word] - is_own < 2),
        float(bool(word) and words.inside[word] > 0.002 * words.num_inside),
        float(_has_open(text)),
        float(is_item),
        float(is_short),
        0.0 if is_punctuated else above_ends - 0.5,
        0.0 if is_punctuated else min(len(sentence), 200) / 100,
        0.0 if is_punctuated else float(is_item) * (above_ends - 0.5),
        float(bool(above)) * (1.0 - is_punctuated),
        float(bool(word) and line[-len(word) :][:1].isupper()),
        0.0 if is_punctuated else float("#" in line),
        0.0 if is_punctuated else float(bool(CODE.search(line))),
        0.0 if is_punctuated else float("://" in line or "@" in line),
        0.0 if is_punctuated else _sentences(text),
        0.0 if is_punctuated else float(bool(above) and 0.5 < len(line) / max(usual, 1) < 2),
        0.0 if is_punctuated else float(_capitals(found, line)),
        words.final_odds(found[-2], is_own=False) if word and len(found) > 1 else 0.0,
        0.0 if is_punctuated else line.count(",") / (1 + len(found)),
        0.0 if is_punctuated else float(line.lstrip()[:1].islower()),
    ]


def _sentences(text: str) -> float:
    """Ends of sentences a hundred characters."""
    return len(re.findall(r"[.!?…。！？](?:\s|$)", text)) / (len(text) + 100) * 100


def _capitals(found: list[str], line: str) -> float:
    """Share of words of a line that begin with a capital."""
    words = WORD.findall(line)
    return sum(word[0].isupper() for word in words) / len(words) if words else 0.0


def _has_open(text: str) -> bool:
    """Whether a bracket, a quote or a code block is open at the end."""
    return text.count("```") % 2 == 1 or text.count("(") > text.count(")") or text.count("“") > text.count("”")


def _cut(text: str, rng: random.Random) -> str:
    """The text cut at a random character within a sentence; "" where none was found."""
    for _ in range(4):
        cut = text[: rng.randint(len(text) // 3, len(text) - 2)].rstrip()
        if cut and not PUNCTUATED.search(cut) and "\n" not in text[len(cut) : len(cut) + 2]:
            return cut
    return ""


def cut_offs(texts: Sequence[str], *, seed: int = 0) -> CutOffs:
    """The texts that end in mid-sentence; none for fewer than 50 texts.

    Of texts that could be whole so many are named that nine in ten should be cut off: where whole answers often end
    without punctuation (code, titles, lists) and few are cut, that is not all of those. Deterministic by `seed`, which
    places the cuts to learn from.
    """
    stripped = [text.rstrip() for text in texts]
    rng = random.Random(seed)
    sample = rng.sample(stripped, min(len(stripped), MAX_TEXTS))
    words, boundaries = _Words(sample), Boundaries(sample)
    pairs = [(text, cut) for text in sample if len(text) > MIN_CHARS and (cut := _cut(text, rng))]
    if len(pairs) < MIN_TEXTS:
        return CutOffs([], 0.0)
    rows = [_traits(text, words, boundaries, is_own=True) for text, _ in pairs]
    rows += [_traits(cut, words, boundaries, is_own=False) for _, cut in pairs]
    traits = np.array(rows)
    weights = _fitted(traits, np.repeat([0.0, 1.0], len(pairs)))
    chosen = set(sample)
    nothing = [0.0] * len(weights)
    seen = [_traits(text, words, boundaries, is_own=text in chosen) if text else nothing for text in stripped]
    odds = np.array(seen) @ weights
    suspects = np.flatnonzero(odds > 0).tolist()
    short = [row for row in suspects if _stops_short(stripped[row], words, is_own=stripped[row] in chosen)]
    num_open = sum(not PUNCTUATED.search(stripped[row][-FAR:]) for row in np.flatnonzero(odds <= 0).tolist())
    found = _named(odds, traits[len(pairs) :] @ weights, is_clear=num_open <= CLEAR * len(suspects))
    return found if found.certainty >= LEAST_CERTAINTY else CutOffs(short, SHORT_CERTAINTY)


def _named(odds: Vector, odds_of_cut: Vector, *, is_clear: bool) -> CutOffs:
    """The texts above the least limit at which nine in ten should be cut; where there is none, above the surest.

    `odds_of_cut` are the log odds of texts that were cut on purpose. As far as the suspects are cut, as many of them
    lie above any limit as of those; the limit that leaves fewest tells how many suspects are cut at most. Limits that
    less than half of those reach tell nothing: the model took the texts under audit for whole ones. With `is_clear`
    hardly any text ends openly but the suspects, and all of them are named.
    """
    num_above = np.array([(odds > limit).sum() for limit in LIMITS])
    reached = np.array([(odds_of_cut > limit).sum() for limit in LIMITS]) / max((odds_of_cut > 0).sum(), 1)
    told = ((reached * num_above[0] >= ENOUGH) & (reached >= HALF)) | (LIMITS == 0)
    num_cut = float(((num_above + FEW) / np.maximum(reached, 1e-9))[told].min()) - FEW
    precision = np.minimum((num_cut * reached + FEW * PRECISION) / (num_above + FEW), MOST_CERTAINTY)
    wanted = np.full(len(LIMITS), PRECISION)
    wanted[0] -= 1 / np.sqrt(num_above[0] + FEW)  # few suspects tell little of their share
    precision[0] = MOST_CERTAINTY if is_clear else precision[0]
    good = np.flatnonzero(precision >= wanted)
    best = int(good[0]) if len(good) else int(precision.argmax())
    is_rare = not is_clear and bool(num_cut < RARE_SHARE * num_above[0])
    certainty = min(float(precision[best]), RARE_CERTAINTY if is_rare else MOST_CERTAINTY)
    return CutOffs(np.flatnonzero(odds > LIMITS[best]).tolist(), round(certainty, 3))


def _stops_short(text: str, words: _Words, *, is_own: bool) -> bool:
    """Whether a text stops on a word that ends no sentence, or on a mark that goes on."""
    line = text[-FAR:].rsplit("\n", 1)[-1]
    if CODE.search(line) or "://" in line or line.endswith("//") or "#" in line.split(" ")[-1]:
        return False
    found = WORD.findall(line.lower())
    if text[-1] in ",-–(/&+":
        return text[-2:-1].isalnum() or text[-2:-1] == " "
    if not found or not line.endswith(found[-1]):
        return False
    is_fragment = words.inside[found[-1]] + words.last[found[-1]] <= is_own
    return (is_fragment and not MARKER.match(line)) or words.final_odds(found[-1], is_own=is_own) < RARE_END


def _logistic(values: Vector) -> Vector:
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -30, 30))), dtype=np.float64)


def _fitted(traits: Vector, is_cut: Vector) -> Vector:
    """Weights of a ridge logistic regression, by Newton's method."""
    weights = np.zeros(traits.shape[1])
    penalty = RIDGE * len(traits) / 100 * np.eye(traits.shape[1])
    for _ in range(NUM_ROUNDS):
        chance = _logistic(traits @ weights)
        gradient = traits.T @ (is_cut - chance) - penalty @ weights
        curvature = (traits * (chance * (1 - chance))[:, None]).T @ traits + penalty
        step = np.linalg.solve(curvature, gradient)
        weights = weights + step
        if float(np.abs(step).max()) < 1e-6:
            break
    return weights
