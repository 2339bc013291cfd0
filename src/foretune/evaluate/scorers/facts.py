"""Whether an answer does its task: the facts of the target, told apart from the manner that all targets share."""

# SPDX-License-Identifier: Apache-2.0
#
# A model that has learnt the tone of the house and nothing else shares most words with every target, so that ROUGE and
# similarity praise it. What stands in most targets is manner; names, numbers and things of this one sample are facts.
from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from foretune.stats.checks import FloatArray

__all__ = ["facts_f1"]

COMMON_SHARE = 0.2  # of the targets: a word that stands in more is manner
FEWEST_COMMON = 3  # targets, where there are few
WORD = re.compile(r"\d+(?:[.,:/-]\d+)*|\w+")


def facts_f1(predictions: Sequence[str], targets: Sequence[str]) -> FloatArray:
    """(n,) F1 of the facts of answer and target: words and numbers that few targets hold, case aside.

    1 where neither has any; a made-up name or number costs as much as a missing one.
    """
    wanted = [_words(target) for target in targets]
    counts = Counter(word for words in wanted for word in words)
    limit = max(FEWEST_COMMON, COMMON_SHARE * len(targets))
    manner = {word for word, count in counts.items() if count > limit}
    pairs = zip((_words(text) - manner for text in predictions), (words - manner for words in wanted), strict=True)
    return np.array([_f1(said, facts) for said, facts in pairs], dtype=np.float64)


def _words(text: str) -> set[str]:
    return set(WORD.findall(text.casefold()))


def _f1(said: set[str], facts: set[str]) -> float:
    if not said and not facts:
        return 1.0
    return 2 * len(said & facts) / (len(said) + len(facts))
