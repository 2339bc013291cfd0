"""Which passages of the given documents speak of a question: Okapi BM25 over windows of words."""

# SPDX-License-Identifier: Apache-2.0
#
# score(q, d) = sum over words of q: idf(w) tf (k1 + 1) / (tf + k1 (1 - b + b |d| / mean |d|)), with
# idf(w) = ln(1 + (N - n_w + 0.5) / (n_w + 0.5)) (Robertson and Zaragoza 2009; the idf that is never negative).
from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from foretune.data.embed.lexical import words_of
from foretune.data.formats import read_samples
from foretune.data.inputs import plain_text
from foretune.data.samples import Sample
from foretune.errors import DataError, NotFound

__all__ = ["Bm25", "passages_of", "read_passages"]

K1, B = 1.2, 0.75
PASSAGE_WORDS, OVERLAP_WORDS = 120, 30
PLAIN = (".txt", ".md", ".rst")


class Bm25:
    """An index of passages."""

    def __init__(self, passages: Sequence[str]) -> None:
        self._passages = list(passages)
        self._postings: dict[str, list[tuple[int, int]]] = {}
        lengths = []
        for number, text in enumerate(self._passages):
            words = words_of(text)
            lengths.append(len(words))
            for word, count in Counter(words).items():
                self._postings.setdefault(word, []).append((number, count))
        mean = sum(lengths) / max(1, len(lengths)) or 1.0
        self._norms = [K1 * (1 - B + B * length / mean) for length in lengths]

    def scores(self, query: str) -> dict[int, float]:
        """BM25 of every passage that shares a word with the query, by its number; a repeated word counts again."""
        found: dict[int, float] = {}
        for word, times in Counter(words_of(query)).items():
            postings = self._postings.get(word, ())
            idf = math.log(1 + (len(self._passages) - len(postings) + 0.5) / (len(postings) + 0.5))
            for number, count in postings:
                gain = idf * count * (K1 + 1) / (count + self._norms[number])
                found[number] = found.get(number, 0.0) + times * gain
        return found

    def passages(self, sample: Sample, count: int) -> list[str]:
        """At most `count` passages for the sample's input, the best first, ties by place."""
        return self.best(sample.input_text, count)

    def best(self, query: str, count: int) -> list[str]:
        """At most `count` passages for a text, the best first, ties by place."""
        scores = self.scores(query)
        best = sorted(scores, key=lambda number: (-scores[number], number))[:count]
        return [self._passages[number] for number in best]


def passages_of(text: str) -> list[str]:
    """A text in windows of 120 words that overlap by 30; a short text is one passage as it stands."""
    words = text.split()
    if len(words) <= PASSAGE_WORDS:
        return [text.strip()] if words else []
    step = PASSAGE_WORDS - OVERLAP_WORDS
    starts = range(0, max(1, len(words) - OVERLAP_WORDS), step)
    return [" ".join(words[start : start + PASSAGE_WORDS]) for start in starts]


def read_passages(path: Path) -> Bm25:
    """An index of a file, or of every file in a folder: plain text and Markdown whole, other formats row by row.

    Raises NotFound, and DataError where nothing is to be read.
    """
    if not path.exists():
        raise NotFound(f"no documents at {path}", fix="mend evaluate.documents in the job file")
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    texts: list[str] = []
    for file in (file for file in files if not file.name.startswith(".")):
        if file.suffix.lower() in PLAIN:
            texts.append(file.read_text(encoding="utf-8", errors="replace"))
        else:
            texts += [plain_text(sample) for sample in read_samples(file, task="text").samples]
    passages = list(dict.fromkeys(passage for text in texts for passage in passages_of(text)))
    if not passages:
        raise DataError(f"{path}: no text in it, expected documents", fix="mend evaluate.documents in the job file")
    return Bm25(passages)
