"""Checks of JSON answers: that they parse, that keys are written one way, and that rows have the same shape."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from foretune.audit.rows import chat_rows, row_finding
from foretune.audit.subject import Subject
from foretune.data.samples import Sample
from foretune.records.audit import Finding

__all__ = ["broken_json", "json_shapes", "key_styles"]

FENCED = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n?```\s*", re.DOTALL | re.IGNORECASE)
MIN_OBJECTS = 10
ALWAYS_FRACTION = 0.9  # a key or a type that more objects than this have is meant for all
CERTAINTY_SHAPE = 0.9
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
    """DATA040: answers that do not parse, where most are JSON (R111); JSON inside a code block counts as broken too."""
    parsed = {row: _fault(sample.target) for row, sample in chat_rows(subject)}
    num_whole = sum(not why for why in parsed.values())
    if num_whole < JSON_FRACTION * len(parsed) or not parsed:
        return []
    rows = {row: f"{why}: {subject.samples[row].target}" for row, why in parsed.items() if why}
    title = "answers are not valid JSON, others are"
    return row_finding(subject, 40, "warning", title, rows, fix="mend them, or take the rows out")


def _fault(text: str) -> str:
    """Why a text is no JSON object or array; "" where it is one."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        fenced = FENCED.fullmatch(text)
        return "JSON inside a code block" if fenced and not _fault(fenced[1]) else str(error)
    return "" if isinstance(value, dict | list) else "no object or array"


def key_styles(subject: Subject) -> list[Finding]:
    """DATA041: JSON answers with keys in more than one style; the commonest is proposed (R138)."""
    found = {row: _styles(sample) for row, sample in chat_rows(subject)}
    counts = Counter(style for styles in found.values() for style in styles.values())
    if len(counts) < 2:
        return []
    usual = min(counts, key=lambda style: (-counts[style], style))
    rows = {
        row: ", ".join(f"{key} ({style})" for key, style in styles.items() if style != usual)
        for row, styles in found.items()
        if any(style != usual for style in styles.values())
    }
    shown = ", ".join(f"{style} {count}" for style, count in counts.most_common())
    title = f"JSON keys are written in {len(counts)} styles ({shown})"
    fix = f"write all keys in {usual}, the commonest style"
    return row_finding(subject, 41, "warning", title, rows, fix=fix)


def json_shapes(subject: Subject) -> list[Finding]:
    """DATA042: JSON objects that lack a key which nearly all others have, or hold another type of value in it."""
    objects = {row: value for row, sample in chat_rows(subject) if isinstance(value := _json(sample.target), dict)}
    if len(objects) < MIN_OBJECTS:
        return []
    types: dict[str, Counter[str]] = defaultdict(Counter)
    for value in objects.values():
        for key, inner in value.items():
            types[key][_type(inner)] += 1
    always = [key for key, counts in types.items() if counts.total() >= ALWAYS_FRACTION * len(objects)]
    usual = {key: name for key, counts in types.items() if (name := _usual_type(counts))}
    rows = {row: "; ".join(odd) for row, value in objects.items() if (odd := list(_odd(value, always, usual)))}
    title = "JSON answers have another shape than the rest"
    fix = "give all answers the same keys and types; where a value is missing write null"
    return row_finding(subject, 42, "warning", title, rows, fix=fix, certainty=CERTAINTY_SHAPE)


def _odd(value: dict[str, Any], always: list[str], usual: dict[str, str]) -> Iterator[str]:
    yield from (f"no {key!r}" for key in always if key not in value)
    for key, inner in value.items():
        name = _type(inner)
        if name and key in usual and name != usual[key]:
            yield f"{key!r} is a {name}, usually a {usual[key]}"


def _type(value: Any) -> str:
    """Name of a JSON type; "" for null, which fits all."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "boolean"
    names = {dict: "object", list: "list", str: "text", int: "number", float: "number"}
    return names[type(value)]


def _usual_type(counts: Counter[str]) -> str:
    known = Counter({name: count for name, count in counts.items() if name})
    if known.total() < MIN_OBJECTS:
        return ""
    name, most = known.most_common(1)[0]
    return name if most >= ALWAYS_FRACTION * known.total() else ""


def _json(text: str) -> Any:
    """The value of a text that is JSON, else None."""
    try:
        return json.loads(text) if text.lstrip().startswith(("{", "[")) else None
    except (ValueError, RecursionError):
        return None


def _styles(sample: Sample) -> dict[str, str]:
    """The keys of a JSON answer whose style can be told, with the style; single words fit all styles."""
    keys = _keys(_json(sample.target))
    named = ((key, next((n for n, form in STYLES.items() if form.fullmatch(key)), "")) for key in keys)
    return {key: style for key, style in named if style}


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _keys(inner)
