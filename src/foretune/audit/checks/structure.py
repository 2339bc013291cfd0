"""Checks of JSON answers: that they parse, and that their keys are written one way."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from foretune.audit.subject import Hit, Subject, finding, place_of
from foretune.data.samples import Sample
from foretune.records.audit import Finding

__all__ = ["broken_json", "key_styles"]

JSON_FRACTION = 0.5  # from this share of parsing answers on, answers are meant to be JSON
STYLES = {
    "snake_case": re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)+"),
    "camelCase": re.compile(r"[a-z][a-z0-9]*([A-Z][a-z0-9]*)+"),
    "PascalCase": re.compile(r"([A-Z][a-z0-9]+){2,}"),
    "kebab-case": re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)+"),
    "Spaced words": re.compile(r"\w+( \w+)+"),
    "UPPER_CASE": re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+"),
}


def broken_json(subject: Subject) -> list[Finding]:
    """DATA040: answers that do not parse, where most are JSON (R111)."""
    parsed = [(sample, *_parsed(sample.target)) for sample in subject.chats]
    num_whole = sum(is_whole for _, is_whole, _ in parsed)
    if num_whole < JSON_FRACTION * len(parsed) or not parsed:
        return []
    hits = [Hit(place_of(sample), f"{why}: {sample.target}") for sample, is_whole, why in parsed if not is_whole]
    return finding(40, "warning", "answers are not valid JSON, others are", hits, fix="mend them, or take the rows out")


def _parsed(text: str) -> tuple[bool, str]:
    """Whether a text is a JSON object or array, and why not."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        return False, str(error)
    return isinstance(value, dict | list), "no object or array"


def key_styles(subject: Subject) -> list[Finding]:
    """DATA041: JSON answers with keys in more than one style; the commonest is proposed (R138)."""
    found = [(sample, _styles(sample)) for sample in subject.chats]
    counts = Counter(style for _, styles in found for style in styles.values())
    if len(counts) < 2:
        return []
    usual = min(counts, key=lambda style: (-counts[style], style))
    hits = [
        Hit(place_of(sample), ", ".join(f"{key} ({style})" for key, style in styles.items() if style != usual))
        for sample, styles in found
        if any(style != usual for style in styles.values())
    ]
    shown = ", ".join(f"{style} {count}" for style, count in counts.most_common())
    title = f"JSON keys are written in {len(counts)} styles ({shown})"
    return finding(41, "warning", title, hits, fix=f"write all keys in {usual}, the commonest style")


def _styles(sample: Sample) -> dict[str, str]:
    """The keys of a JSON answer whose style can be told, with the style; single words fit all styles."""
    try:
        value = json.loads(sample.target) if sample.target.lstrip().startswith(("{", "[")) else None
    except (ValueError, RecursionError):
        return {}
    named = ((key, next((n for n, form in STYLES.items() if form.fullmatch(key)), "")) for key in _keys(value))
    return {key: style for key, style in named if style}


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _keys(inner)
