"""Questions that people ask, with short answers, sources and dates; figures are computed when they are printed."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import difflib
import functools
import re
import tomllib
from pathlib import Path
from typing import NamedTuple

from foretune.config import Strict
from foretune.errors import NotFound

__all__ = ["Answered", "Entry", "answered", "find_entry", "read_faq"]

FAQ_FILE = Path(__file__).with_name("faq.toml")
PLACEHOLDER = re.compile(r"\{(\w+)\}")
WORD = re.compile(r"[a-z0-9]+(?:[-'][a-z0-9]+)*")
ID_POINTS, NAMED_POINTS, QUESTION_POINTS, ANSWER_POINTS = 6.0, 5.0, 2.0, 0.25
LEAST_POINTS = 2.0
# Words that say nothing of the topic.
COMMON = frozenset(
    "a an and are be can do does for how i if in is it long my of on or the to use what will with you".split()
)


class Entry(Strict):
    """One question; `requirements` are the acceptance rows that it answers."""

    id: str
    question: str
    words: tuple[str, ...]
    answer: str
    command: str
    sources: tuple[str, ...]
    date: str
    requirements: tuple[str, ...]


class Answered(NamedTuple):
    """An entry with its answer in full; `figures` are the values that were computed now."""

    entry: Entry
    text: str
    figures: dict[str, str]


@functools.cache
def read_faq() -> tuple[Entry, ...]:
    """The bundled questions, in the order of the file."""
    tree = tomllib.loads(FAQ_FILE.read_text(encoding="utf-8"))
    return tuple(Entry(**row) for row in tree["entry"])


def find_entry(asked: str) -> Entry:
    """The question whose id or words are asked for. Raises NotFound with the closest topics."""
    plain = asked.strip().lower()
    exact = next((entry for entry in read_faq() if entry.id == plain), None)
    if exact is not None:
        return exact
    scores = {entry.id: _points(entry, plain) for entry in read_faq()}
    best = max(read_faq(), key=lambda entry: scores[entry.id])
    if scores[best.id] >= LEAST_POINTS:
        return best
    close = difflib.get_close_matches(plain, _topics(), n=1, cutoff=0.6)
    hint = f"; did you mean `{_topics()[close[0]]}`?" if close else ""
    names = ", ".join(entry.id for entry in read_faq())
    raise NotFound(
        f"no answer to {asked!r}{hint}", fix=f"foretune faq {_topics()[close[0]]}" if close else f"topics: {names}"
    )


def answered(entry: Entry) -> Answered:
    """The answer with its figures computed now."""
    names = dict.fromkeys(PLACEHOLDER.findall(entry.answer))
    if not names:
        return Answered(entry, entry.answer.strip("\n"), {})
    from foretune.plan.faq_figures import FIGURES, guarded

    figures = {name: guarded(FIGURES[name]) for name in names}
    return Answered(entry, PLACEHOLDER.sub(lambda found: figures[found.group(1)], entry.answer).strip("\n"), figures)


def _topics() -> dict[str, str]:
    """Every single word that a topic is known by, with its id."""
    found: dict[str, str] = {}
    for entry in read_faq():
        for word in (entry.id, *entry.words):
            found.setdefault(word, entry.id)
    return found


def _points(entry: Entry, asked: str) -> float:
    """How well an entry answers: its id, its own words, its question, then its answer."""
    words = [word for word in WORD.findall(asked) if word not in COMMON]
    named = [word for word in entry.words if _holds(asked, word)]
    points = ID_POINTS * (entry.id in words) + NAMED_POINTS * len(named)
    question, text = set(WORD.findall(entry.question.lower())), set(WORD.findall(entry.answer.lower()))
    return points + sum(QUESTION_POINTS * (word in question) + ANSWER_POINTS * (word in text) for word in words)


def _holds(text: str, word: str) -> bool:
    """Whether a word or phrase stands in the text, its usual endings allowed."""
    return re.search(rf"(?<![a-z0-9]){re.escape(word)}(s|ed|ing)?(?![a-z0-9])", text) is not None
