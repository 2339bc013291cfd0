"""Checks of the text itself: damaged encoding, left-over HTML, control tokens of the tokenizer."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from collections.abc import Iterator

from foretune.audit.subject import Hit, Severity, Subject, finding, place_of
from foretune.data.samples import Sample
from foretune.records.audit import Finding

__all__ = ["control_tokens", "damaged_encoding", "html_remains"]

# UTF-8 read as Windows-1252 (Ã©, â€™, Â°), the replacement character, and control characters that no text needs.
DAMAGE = re.compile(
    "\u00c3[\u0080-\u00bf\u20ac\u0192\u2026\u2030\u0160\u0152\u2018-\u201d\u2022\u2013\u2014\u0161\u0153\u0178]"
    "|\u00e2\u20ac[\u0080-\u00bf\u2122\u0153\u02dc\u201c\u201d\u00a6]"
    "|\u00c2[\u00a0-\u00bf]|\ufffd|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"
)
HTML = re.compile(
    r"</?(?:p|div|br|span|a|li|ul|ol|table|t[dhr]|b|i|u|strong|em|h[1-6]|img|script|font|center)(?:\s[^<>]{0,300})?/?>"
    r"|&(?:amp|lt|gt|quot|apos|nbsp|#\d{2,5}|#x[0-9a-f]{2,4});",
    re.IGNORECASE,
)
MEANT_FRACTION = 0.3  # a data set in which HTML is this common is about HTML
AROUND = 30


def _texts(sample: Sample) -> Iterator[str]:
    yield from (message.content for message in sample.messages)
    if sample.text:
        yield sample.text


def _hits(subject: Subject, pattern: re.Pattern[str]) -> list[Hit]:
    """The first match in each row, with what stands around it."""
    hits = []
    for sample in subject.samples:
        match = next((found for text in _texts(sample) if (found := pattern.search(text))), None)
        if match is not None:
            around = match.string[max(match.start() - AROUND, 0) : match.end() + AROUND]
            hits.append(Hit(place_of(sample), repr(around)))
    return hits


def damaged_encoding(subject: Subject) -> list[Finding]:
    """DATA050: text that was decoded with the wrong encoding, or holds control characters."""
    fix = "read the source as UTF-8 again; ftfy mends what is left"
    return finding(50, "warning", "texts have encoding damage", _hits(subject, DAMAGE), fix=fix)


def html_remains(subject: Subject) -> list[Finding]:
    """DATA051: HTML tags or entities in the text."""
    hits = _hits(subject, HTML)
    is_meant = len(hits) > MEANT_FRACTION * len(subject.samples)
    severity: Severity = "info" if is_meant else "warning"
    fix = "fine if the task is about HTML" if is_meant else "strip tags and unescape entities, if they are not meant"
    return finding(51, severity, "texts hold HTML tags or entities", hits, fix=fix)


def control_tokens(subject: Subject) -> list[Finding]:
    """DATA052: text that the tokenizer reads as a control token (`<|im_end|>` inside a message)."""
    texts = subject.tokenizer.special_texts if subject.tokenizer is not None else ()
    if not texts:
        return []
    pattern = re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True))))
    fix = "take them out of the text: inside a message they end the turn or begin another"
    return finding(52, "warning", "texts hold control tokens of the model", _hits(subject, pattern), fix=fix)
