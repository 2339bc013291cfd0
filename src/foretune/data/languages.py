"""Tells the language of a text by script, function words and letters; light, offline, for 40 languages."""

# SPDX-License-Identifier: Apache-2.0
#
# The lists in languages.json are the commonest function words of each language, written for foretune. Relatives (Danish
# and Norwegian, Czech and Slovak, Croatian and Serbian, Indonesian and Malay) are told apart badly by anyone on a
# sentence, so findings speak of families. Code, numbers and names alone have no language: "".
from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from typing import NamedTuple

__all__ = ["FAMILIES", "LANGUAGES", "family_of", "language_of"]

SCRIPTS: tuple[tuple[str, str, str], ...] = (
    # (script, range, language where it has but one here)
    ("kana", "\u3040-\u30ff", "ja"),
    ("hangul", "\uac00-\ud7af\u1100-\u11ff", "ko"),
    ("han", "\u4e00-\u9fff\u3400-\u4dbf", "zh"),
    ("greek", "\u0370-\u03ff\u1f00-\u1fff", "el"),
    ("hebrew", "\u0590-\u05ff", "he"),
    ("thai", "\u0e00-\u0e7f", "th"),
    ("bengali", "\u0980-\u09ff", "bn"),
    ("tamil", "\u0b80-\u0bff", "ta"),
    ("telugu", "\u0c00-\u0c7f", "te"),
    ("georgian", "\u10a0-\u10ff", "ka"),
    ("armenian", "\u0530-\u058f", "hy"),
    ("cyrillic", "\u0400-\u04ff", ""),
    ("arabic", "\u0600-\u06ff", ""),
    ("devanagari", "\u0900-\u097f", ""),
)
CYRILLIC, ARABIC, DEVANAGARI = ("ru", "uk", "bg", "sr"), ("ar", "fa", "ur"), ("hi", "mr", "ne")
SHARED = {"cyrillic": CYRILLIC, "arabic": ARABIC, "devanagari": DEVANAGARI}
LANGUAGES = tuple(
    "ar bg bn ca cs da de el en es et fa fi fr he hi hr hu hy id it ja ka ko lt lv mr ne nl no pl pt ro ru sk sl sr sv "
    "ta te th tr uk ur vi zh".split()
)
# Near relatives, which a sentence does not tell apart surely; declared names outside of LANGUAGES join here too.
FAMILIES: dict[str, str] = {
    "da": "da/no", "no": "da/no", "nb": "da/no", "nn": "da/no", "cs": "cs/sk", "sk": "cs/sk", "id": "id/ms",
    "ms": "id/ms", "hr": "hr/sr", "sr": "hr/sr", "bs": "hr/sr", "sl": "hr/sr", "hi": "hi/mr/ne", "mr": "hi/mr/ne",
    "ne": "hi/mr/ne", "af": "nl", "gl": "pt",
}  # fmt: skip

_SCRIPT = re.compile("|".join(f"(?P<{name}>[{chars}])" for name, chars, _ in SCRIPTS))
_ONLY = {name: language for name, _, language in SCRIPTS}  # "" where several share the script
_MARKS = (
    "\u064b-\u0652\u0900-\u0903\u093a-\u094f\u0951-\u0957\u0962\u0963"  # vowel signs, which re takes for no letters
)
_TOKEN = re.compile(rf"[^\W\d_](?:[^\W\d_]|[{_MARKS}]|['’](?=\w))*")
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`]*`|https?://\S+|<[^<>]{1,80}>|\w*[_\\{}=;]\w*", re.DOTALL)
MAX_CHARS = 400  # enough to tell; longer texts cost time
LETTER_WEIGHT = 1.0
ENDING_WEIGHT, SHORT_FACTOR = 0.5, 0.3  # of a word's
MAX_REPEATS = 3  # of one word or letter that count
MIN_SCORE, MIN_MARGIN = 0.9, 1.1
SURE_SCORE, SURE_MARGIN, SURE_SIGNS = 2.0, 1.4, 3
DEFAULTS = {"arabic": "ar", "devanagari": "hi"}


class _Lists(NamedTuple):
    """By script: word, ending or letter -> language -> weight. A sign of n languages weighs less for each of them."""

    words: dict[str, dict[str, dict[str, float]]]
    endings: dict[str, dict[str, dict[str, float]]]
    letters: dict[str, dict[str, dict[str, float]]]


@cache
def _lists() -> _Lists:
    """The lists of `languages.json`; read at first use."""
    raw = json.loads(resources.files("foretune.data").joinpath("languages.json").read_text(encoding="utf-8"))
    words, endings = ({name: text.split() for name, text in raw[kind].items()} for kind in ("words", "endings"))
    other = {language for languages in SHARED.values() for language in languages}
    scripts = {"latin": tuple(language for language in words if language not in other), **SHARED}
    return _Lists(
        {name: _weighted(words, who, 1.0, 0.7) for name, who in scripts.items()},
        {name: _weighted(endings, who, ENDING_WEIGHT, 1.0) for name, who in scripts.items()},
        {name: _weighted(raw["letters"], who, LETTER_WEIGHT, 1.0) for name, who in scripts.items()},
    )


def _weighted(
    lists: Mapping[str, Iterable[str]], languages: Iterable[str], weight: float, power: float
) -> dict[str, dict[str, float]]:
    owners: dict[str, set[str]] = defaultdict(set)
    for language in languages:
        for sign in lists.get(language, ()):
            owners[sign].add(language)
    return {sign: dict.fromkeys(who, weight * _factor(sign) / len(who) ** power) for sign, who in owners.items()}


def _factor(sign: str) -> float:
    """Single ASCII letters are variables, initials and marks of lists as well as words."""
    return SHORT_FACTOR if len(sign) == 1 and sign.isascii() else 1.0


def family_of(language: str) -> str:
    """The family a finding speaks of: the language itself, or the near relatives it is confused with."""
    name = language.lower().split("-")[0].split("_")[0]
    return FAMILIES.get(name, name)


def language_of(text: str, *, is_sure: bool = False) -> str:
    """The language of a text as an ISO 639-1 code, "" where it cannot be told (code, numbers, names, a word or two).

    Only the first 400 characters outside of code are read. With `is_sure` three different signs and a wide margin are
    asked for: what is then named can be held against a row.
    """
    head = text[: 2 * MAX_CHARS]
    if any(char in head for char in "`<=_{;") or "://" in head:
        head = _CODE.sub(" ", head)
    head = head[:MAX_CHARS]
    script = "latin" if head.isascii() else _script(head)
    if _ONLY.get(script):
        return _ONLY[script]
    return _best(_signs(head.lower(), script), DEFAULTS.get(script, ""), is_sure=is_sure)


def _script(text: str) -> str:
    """The script with most letters; some kana make Han Japanese, and other scripts weigh more than Latin names."""
    counts = Counter(match.lastgroup or "" for match in _SCRIPT.finditer(text))
    if not counts:
        return "latin"
    if counts["kana"] * 10 >= counts["han"] > 0:
        counts["kana"] += counts["han"]
    name, most = counts.most_common(1)[0]
    num_latin = sum(char.isalpha() and char < "\u0250" for char in text)
    weight = 3 if name in ("han", "kana", "hangul") else 1
    return name if most * weight * 1.5 >= num_latin else "latin"


def _signs(text: str, script: str) -> dict[str, dict[str, float]]:
    """Language -> the words, endings and letters of the text that speak for it, with their weight."""
    signs: dict[str, dict[str, float]] = defaultdict(dict)
    words, endings, letters = (lists[script] for lists in _lists())
    tokens = _TOKEN.findall(text)
    for token, count in Counter(tokens).items():
        found = words.get(token)
        if found is None and len(token) > 5:
            found = endings.get(token[-4:]) or endings.get(token[-3:]) or endings.get(token[-5:])
        for language, weight in (found or {}).items():
            signs[language][token] = weight * min(count, MAX_REPEATS)
    if not text.isascii():
        for char, count in Counter(text).items():
            for language, weight in letters.get(char, {}).items():
                signs[language][char] = weight * min(count, MAX_REPEATS)
    return signs


def _best(signs: Mapping[str, Mapping[str, float]], default: str, *, is_sure: bool) -> str:
    """The language ahead of those of other families, if by a margin; else `default`."""
    scores = {language: sum(found.values()) for language, found in signs.items()}
    ranked = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    least, margin = (SURE_SCORE, SURE_MARGIN) if is_sure else (MIN_SCORE, MIN_MARGIN)
    if not ranked or ranked[0][1] < least or (is_sure and len(signs[ranked[0][0]]) < SURE_SIGNS):
        return default
    family = family_of(ranked[0][0])
    rival = next((score for language, score in ranked if family_of(language) != family), 0.0)
    return ranked[0][0] if ranked[0][1] >= margin * rival else default
