"""Structured inputs as slots: `key[value]` lists, JSON objects, and `key: value` lines or tables."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["slots_of"]

BRACKETS = re.compile(r"\s*([\w .-]{1,40}?)\s*\[([^\[\]]*)\]\s*(?:,|;|\||$)")
LINE = re.compile(r"\|?\s*([\w .-]{1,40}?)\s*(?::|=|\t|\|)\s*([^|\n]*?)\s*\|?$")
RULER = re.compile(r"[\s|:+-]+")
MIN_SLOTS = 2
ABSENT = {"", "none", "null", "n/a", "-"}


def slots_of(text: str) -> Mapping[str, str]:
    """The slots of a structured text with their values, in its own spelling; {} for any other text.

    Nested JSON is flattened to dotted keys; lists become one value. Slots without a value are left out.
    """
    pairs = list(_json_pairs(text) or _bracket_pairs(text) or _line_pairs(text))
    slots = {key.strip(): value.strip() for key, value in pairs if value.strip().casefold() not in ABSENT}
    return slots if len(pairs) >= MIN_SLOTS else {}


def _json_pairs(text: str) -> list[tuple[str, str]]:
    start = text.find("{")
    if start < 0 or not text.rstrip().endswith("}"):
        return []
    try:
        value = json.loads(text[start:])
    except (ValueError, RecursionError):
        return []
    return list(_flat(value, ""))


def _flat(value: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flat(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        yield key, ", ".join(str(item) for item in value if not isinstance(item, dict | list))
    else:
        yield key, "" if value is None else str(value)


def _bracket_pairs(text: str) -> list[tuple[str, str]]:
    """`name[Blue Spice], area[riverside]`, perhaps behind an instruction that ends in a colon or a line break."""
    last = re.split(r":\s|\n", text.strip())[-1]
    found, end = [], 0
    while match := BRACKETS.match(last, end):
        found.append((match[1], match[2]))
        end = match.end()
    return found if end == len(last) else []


def _line_pairs(text: str) -> list[tuple[str, str]]:
    """Lines of a key and a value, at least three quarters of the lines behind the first."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not RULER.fullmatch(line)]
    found = [(match[1], match[2]) for line in lines if (match := LINE.fullmatch(line))]
    return found if len(found) >= max(MIN_SLOTS, 0.75 * (len(lines) - 1)) else []
