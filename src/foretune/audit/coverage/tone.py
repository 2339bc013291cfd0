"""How long and how formal texts are: a few surface marks, compared between training and production."""

# SPDX-License-Identifier: Apache-2.0
#
# Marks of casual writing (no capital at the start, no stop at the end, slang, contractions, emoji, "!!") and of formal
# writing (salutations, closings, set phrases) are counted; the score is no judgement of one text, but its distribution
# over hundreds tells tickets from chat messages. English marks; in other languages only case, stops and emoji speak.
from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from foretune.stats.drift import ks_shift

__all__ = ["Compared", "compare_formality", "compare_lengths", "formality", "num_words"]

SLANG = re.compile(
    r"\b(?:u|ur|r|pls|plz|thx|ty|lol|omg|btw|idk|tbh|asap|gonna|wanna|gotta|kinda|cuz|bc|cant|dont|wont|im|ive|ya|yeah|"
    r"yep|nope|hey|hiya|yo|sup|dude|guys|wtf|ugh|hmm|ok|okay)\b",
    re.IGNORECASE,
)
CONTRACTION = re.compile(r"\b\w+['’](?:s|t|re|ve|ll|d|m)\b", re.IGNORECASE)
FORMAL = re.compile(
    r"\b(?:dear|sincerely|regards|respectfully|furthermore|therefore|hereby|regarding|pursuant|kindly|i would like to|"
    r"we would like to|could you please|would you please|please find|please advise|i am writing|to whom it may concern|"
    r"i look forward|thank you for your|at your earliest convenience|with reference to|in accordance)\b",
    re.IGNORECASE,
)
EMPHASIS = re.compile(r"[!?]{2,}|\.{3}|…|[\U0001f300-\U0001faff\u2600-\u27bf]|[:;]-?[)(DP]")
STOPS = ".!?…。！？\"')"
NUM_BINS = 20
LENGTH_RATIO = 1.5  # of medians, either way
FORMALITY_STEP = 0.1  # of means
CERTAIN = 0.01
MIN_ROWS = 20


class Compared(NamedTuple):
    """One feature on both sides. `distance` is the Kolmogorov-Smirnov statistic; histograms share `edges`."""

    train_median: float
    production_median: float
    train_mean: float
    production_mean: float
    distance: float
    p_value: float
    mismatch: Literal["", "longer", "shorter", "more formal", "more casual"]
    edges: tuple[float, ...]
    train_histogram: tuple[int, ...]
    production_histogram: tuple[int, ...]


def num_words(text: str) -> int:
    """Words of a text; a script without blanks counts about one word for two letters."""
    words = text.split()
    dense = sum(char > "\u2e7f" for char in text)
    return max(len(words), dense // 2)


def formality(text: str) -> float:
    """How formal a text is, 0 (chat) to 1 (letter); 0.5 where nothing speaks. An empty text is 0.5."""
    plain = text.strip()
    if not plain:
        return 0.5
    letters = [char for char in plain if char.isalpha()]
    score = 0.0
    if letters and letters[0].lower() != letters[0].upper():
        score += 0.1 if letters[0].isupper() else -0.15
        score += 0.0 if any(char.isupper() for char in letters) else -0.1
    score += 0.1 if plain[-1] in STOPS else -0.1
    score += min(0.3, 0.15 * len(FORMAL.findall(plain)))
    score -= min(0.3, 0.1 * len(SLANG.findall(plain)))
    score -= min(0.1, 0.05 * len(CONTRACTION.findall(plain)))
    score -= min(0.2, 0.1 * len(EMPHASIS.findall(plain)))
    return float(np.clip(0.5 + score, 0.0, 1.0))


def compare_lengths(train: Sequence[str], production: Sequence[str]) -> Compared:
    """Words a text on both sides; a mismatch where the medians differ by half or more and chance does not explain it.

    `mismatch` says what production is: longer or shorter.
    """
    first, second = ([float(num_words(text)) for text in texts] for texts in (train, production))
    compared = _compared(first, second)
    ratio = (compared.production_median + 1) / (compared.train_median + 1)
    if compared.p_value > CERTAIN or 1 / LENGTH_RATIO < ratio < LENGTH_RATIO:
        return compared
    return compared._replace(mismatch="longer" if ratio > 1 else "shorter")


def compare_formality(train: Sequence[str], production: Sequence[str]) -> Compared:
    """Formality on both sides; a mismatch where the means differ by 0.1 or more and chance does not explain it."""
    compared = _compared([formality(text) for text in train], [formality(text) for text in production])
    step = compared.production_mean - compared.train_mean
    if compared.p_value > CERTAIN or abs(step) < FORMALITY_STEP:
        return compared
    return compared._replace(mismatch="more formal" if step > 0 else "more casual")


def _compared(train: Sequence[float], production: Sequence[float]) -> Compared:
    if min(len(train), len(production)) == 0:
        return Compared(0.0, 0.0, 0.0, 0.0, 0.0, 1.0, "", (), (), ())
    first, second = np.asarray(train), np.asarray(production)
    shift = ks_shift(first, second)
    largest = float(np.quantile(np.concatenate([first, second]), 0.99))
    edges = np.linspace(0.0, max(largest, 1.0), NUM_BINS + 1)
    bins = [np.histogram(np.minimum(side, edges[-1]), edges)[0] for side in (first, second)]
    p_value = shift.p_value if min(len(first), len(second)) >= MIN_ROWS else 1.0
    return Compared(
        float(np.median(first)),
        float(np.median(second)),
        float(first.mean()),
        float(second.mean()),
        shift.statistic,
        p_value,
        "",
        tuple(round(float(edge), 3) for edge in edges),
        tuple(bins[0].tolist()),
        tuple(bins[1].tolist()),
    )
