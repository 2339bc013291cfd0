"""The form that targets share, and whether a text has it: keys of JSON, a label, a number, a frame of words."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Form", "form_of"]

MOST_TARGETS = 0.9  # share of the targets from which they count as having a form in common
NEARLY_ALL = 0.95  # share in which a key or word must stand to be part of it
MOST_LABELS, LABEL_ROWS = 50, 4  # distinct targets, and rows of each on average, for a set of labels
FRAME_WORDS = 0.8  # share of the common words that a text must have
MAX_FRAME = 12  # words at the beginning and at the end
SHORTEST, LONGEST = 0.5, 2.0  # of the 2nd and 98th percentile of the targets' number of words


@dataclass(frozen=True)
class Form:
    """A test of form; `name` says which: json, label, number or frame."""

    name: str
    fits: Callable[[str], bool]

    def share(self, texts: Sequence[str]) -> float:
        """The share of texts that have the form; 0 of none."""
        return sum(map(self.fits, texts)) / max(1, len(texts))


def form_of(targets: Sequence[str]) -> Form:
    """The narrowest form that nine tenths of the targets have. Raises ValueError for no targets."""
    texts = [target.strip() for target in targets if target.strip()]
    if not texts:
        raise ValueError("no targets to tell a form from")
    return _json_form(texts) or _label_form(texts) or _number_form(texts) or _frame_form(texts)


def _parsed(text: str) -> Any:
    """What a JSON text holds, None where it is none; a bare number or word does not count."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict | list) else None


def _json_form(texts: Sequence[str]) -> Form | None:
    values = [value for text in texts if (value := _parsed(text)) is not None]
    if len(values) < MOST_TARGETS * len(texts):
        return None
    objects = [value for value in values if isinstance(value, dict)]
    if len(objects) < MOST_TARGETS * len(values):
        return Form("json", lambda text: isinstance(_parsed(text.strip()), list))
    counts, kinds = Counter(key for value in objects for key in value), defaultdict[str, set[str]](set)
    for value in objects:
        for key, item in value.items():
            kinds[key].add(_kind(item))
    needed = {key for key, count in counts.items() if count >= NEARLY_ALL * len(objects)}

    def fits(text: str) -> bool:
        value = _parsed(text.strip())
        if not isinstance(value, dict) or not needed <= value.keys() <= kinds.keys():
            return False
        return all(_kind(item) in kinds[key] for key, item in value.items())

    return Form("json", fits)


def _kind(value: Any) -> str:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return "number" if is_number else type(value).__name__


def _label_form(texts: Sequence[str]) -> Form | None:
    labels = {text.casefold() for text in texts}
    if len(labels) > min(MOST_LABELS, len(texts) / LABEL_ROWS):
        return None
    return Form("label", lambda text: text.strip().casefold() in labels)


def _is_number(text: str) -> bool:
    try:
        float(text.strip().replace(",", "").removeprefix("$").removesuffix("%"))
    except ValueError:
        return False
    return True


def _number_form(texts: Sequence[str]) -> Form | None:
    return Form("number", _is_number) if sum(map(_is_number, texts)) >= MOST_TARGETS * len(texts) else None


def _frame_form(texts: Sequence[str]) -> Form:
    """Words that stand in (nearly) all targets, those at both ends in their order, lines, and a usual length."""
    rows = [text.split() for text in texts]
    head, tail = _common(rows), _common([row[::-1] for row in rows])
    counts = Counter(word for row in rows for word in set(row))
    frame = {word for word, count in counts.items() if count >= NEARLY_ALL * len(rows)}
    low, high = np.quantile([len(row) for row in rows], [0.02, 0.98])
    has_lines = sum("\n" in text for text in texts) >= MOST_TARGETS * len(texts)
    is_line = sum("\n" in text for text in texts) <= (1 - MOST_TARGETS) * len(texts)

    def fits(text: str) -> bool:
        words = text.split()
        if not SHORTEST * low <= len(words) <= LONGEST * high + 1:
            return False
        if words[: len(head)] != head or words[::-1][: len(tail)] != tail:
            return False
        if len(frame & set(words)) < FRAME_WORDS * len(frame):
            return False
        return not ((has_lines and "\n" not in text.strip()) or (is_line and "\n" in text.strip()))

    return Form("frame", fits)


def _common(rows: Sequence[Sequence[str]]) -> list[str]:
    """The words that nine tenths of the rows begin with."""
    found: list[str] = []
    while len(found) < MAX_FRAME:
        at = len(found)
        counts = Counter(row[at] for row in rows if len(row) > at and list(row[:at]) == found)
        word, count = counts.most_common(1)[0] if counts else ("", 0)
        if count < MOST_TARGETS * len(rows):
            break
        found.append(word)
    return found
