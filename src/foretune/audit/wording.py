"""How answers word things: word n-grams within sentences, and each word with whether it is denied."""

# SPDX-License-Identifier: Apache-2.0
#
# "not a family-friendly place" and "a family-friendly place" share every word that says what they are about. So each
# word also counts once more, marked as denied (behind "not", "no", "non", "without" in the same clause, at most four
# words on) or as affirmed. The scope rule is that of NegEx (Chapman et al. 2001), with English words; in other
# languages every word is affirmed, which says nothing and so is never a cue.
from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["TOKEN", "grams_of", "shown"]

TOKEN = re.compile(r"@\w+|[£$€]?\d+(?:\.\d+)?|\w+")
PIECE = re.compile(rf"[,:()]|{TOKEN.pattern}")
SENTENCE_END = re.compile(r"[.!?;]\s")
CONTRACTED, NOT_ONLY = re.compile(r"n['’]t\b"), re.compile(r"\bnot (?:only|just)\b")
NEGATORS = frozenset("not no non none never nor neither without cannot".split())
CLAUSE_ENDS = frozenset(", : ( ) and but yet although though while however with it they".split())
SCOPE_WORDS = 4
MAX_GRAM = 4
AFFIRMED, DENIED = "+", "!"


def grams_of(answer: str) -> set[str]:
    """The n-grams (1 to 4 words) of a case-folded answer, and its words marked `+` (affirmed) or `!` (denied)."""
    found: set[str] = set()
    for sentence in SENTENCE_END.split(NOT_ONLY.sub(" ", CONTRACTED.sub(" not", answer))):
        marked = list(_marked(sentence))
        words = [word[1:] for word in marked]
        found.update(marked)
        found.update(" ".join(words[i : i + n]) for n in range(1, MAX_GRAM + 1) for i in range(len(words) - n + 1))
    return found


def _marked(sentence: str) -> Iterator[str]:
    num_left = 0
    for word in PIECE.findall(sentence):
        if word in CLAUSE_ENDS:
            num_left = 0
        if not word[-1].isalnum():
            continue
        yield (DENIED if num_left > 0 else AFFIRMED) + word
        num_left = SCOPE_WORDS if word in NEGATORS else num_left - 1


def shown(gram: str) -> str:
    """An n-gram as a person reads it."""
    return f"not ... {gram[1:]}" if gram.startswith(DENIED) else gram.removeprefix(AFFIRMED)
