"""Sentences of answers that state facts, the most checkable first: a queue for people who verify them."""

# SPDX-License-Identifier: Apache-2.0
#
# A model repeats what it was taught, true or not. No rule knows what is true; a rule can tell which sentences somebody
# can look up: those with years, amounts, names, superlatives and words of record, and no opinion, offer or question.
from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from foretune.data.samples import Sample

__all__ = ["Claim", "claims", "claims_of"]

SENTENCE = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9])|\n+")
CODE = re.compile(r"```.*?(?:```|\Z)|`[^`]*`", re.DOTALL)
MARKS = (  # what makes a sentence checkable, with its weight
    ("year", 2.0, re.compile(r"\b(?:1[0-9]{3}|20[0-9]{2})\b|\b\d+(?:st|nd|rd|th) century\b")),
    ("amount", 1.5, re.compile(r"[$€£]\s?\d|\b\d[\d.,]*\s?(?:%|percent|million|billion|km|kg|miles|metres|meters|°)")),
    ("number", 0.7, re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?![\w.)])")),
    ("name", 1.0, re.compile(r"(?<=[a-z,;] )[A-Z][a-z]+(?: (?:of |the |de )?[A-Z][a-z]+)*")),
    (
        "record",
        1.0,
        re.compile(
            r"(?i)\b(?:born|died|founded|invented|discovered|located|capital|population|consists? of|caused? by|"
            r"written by|known as|according to|studies show|research shows|is defined as|elected|established|"
            r"contains?|orbits?|boiling|melting|named after)\b"
        ),
    ),
    ("superlative", 0.8, re.compile(r"(?i)\b(?:largest|smallest|highest|longest|oldest|fastest|the first|the most)\b")),
)
NOT_FACTS = re.compile(
    r"(?i)^(?:\W*(?:i|we|you|please|let|try|click|thank|sorry|hello|hi|dear|sure|yes|no|once upon)\b)|\?\s*$|"
    r"\b(?:i think|in my opinion|perhaps|maybe|imagine|should|could you|would you|your)\b"
)
MIN_WORDS, MAX_CHARS = 5, 400
MIN_SCORE = 2.0


class Claim(NamedTuple):
    """One sentence to verify: `why` names what makes it checkable, `score` orders the queue."""

    sample_id: str
    place: str
    text: str
    why: tuple[str, ...]
    score: float
    question: str


def claims_of(sample: Sample) -> list[Claim]:
    """The sentences of a sample's answer (or text) that state facts, in their order."""
    text = CODE.sub(" ", sample.target or sample.text)
    found = []
    for sentence in SENTENCE.split(text):
        plain = " ".join(sentence.split()).lstrip("-*#> ")
        if len(plain.split()) < MIN_WORDS or len(plain) > MAX_CHARS or NOT_FACTS.search(plain):
            continue
        marks = [(name, weight) for name, weight, pattern in MARKS if pattern.search(plain)]
        score = sum(weight for _, weight in marks)
        if score >= MIN_SCORE:
            why = tuple(name for name, _ in marks)
            found.append(Claim(sample.id, sample.place, plain, why, round(score, 2), sample.input_text))
    return found


def claims(samples: Iterable[Sample], *, most: int = 0) -> list[Claim]:
    """The claims of all samples, the most checkable first, each wording once; at most `most` of them (0 = all)."""
    ranked = sorted((claim for sample in samples for claim in claims_of(sample)), key=lambda claim: -claim.score)
    unique = _once(ranked)
    return unique[:most] if most else unique


def _once(ranked: Sequence[Claim]) -> list[Claim]:
    seen: set[str] = set()
    kept = []
    for claim in ranked:
        if claim.text not in seen:
            seen.add(claim.text)
            kept.append(claim)
    return kept
