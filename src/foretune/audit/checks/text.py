"""Checks of the text itself: damaged encoding, hidden characters, left-over HTML, control tokens of the tokenizer."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
import unicodedata

from foretune.audit.mend import CONTROL, mended, visible
from foretune.audit.rows import row_finding, texts_of
from foretune.audit.subject import Severity, Subject
from foretune.data.samples import Sample
from foretune.records.audit import Finding

__all__ = ["control_tokens", "damaged_encoding", "hidden_characters", "html_remains"]

HTML = re.compile(
    r"</?(?:p|div|br|span|a|li|ul|ol|table|t[dhr]|b|i|u|strong|em|h[1-6]|img|script|font|center)(?:\s[^<>=]{0,80}=[^<>]{0,300})?\s?/?>"
    r"|&(?:amp|lt|gt|quot|apos|nbsp|#\d{2,5}|#x[0-9a-f]{2,4});",
    re.IGNORECASE,
)
ABOUT_HTML = re.compile(
    r"(?i)\b(?:x?html\d?|xml|css|markup|tags?|web ?(?:page|site)s?|javascript|js|jsx|php|browser|escape[sd]?"
    r"|entit(?:y|ies)|hyperlinks?|front-?end|svg|dom|scrap(?:e|er|ing)|rss|django|flask|react|template|code|header|button|regex)\b|```"
)
MEANT_FRACTION = 0.3  # a data set in which HTML is this common is about HTML
AROUND = 30
CERTAINTY_ENCODING = 0.95  # planted in 1 to 10 % of the rows, tests/unit/audit/test_text.py
CERTAINTY_HTML = 0.9


def _first(sample: Sample, pattern: re.Pattern[str]) -> str:
    """The first match in a row with what stands around it; "" where there is none."""
    for text in texts_of(sample):
        if match := pattern.search(text):
            return repr(text[max(match.start() - AROUND, 0) : match.end() + AROUND])
    return ""


def _change(before: str, after: str) -> str:
    """What was and what it would be, around the first place where the two differ."""
    start = next((i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), len(after))
    left = max(start - AROUND, 0)
    return f"{before[left : start + AROUND]!r} -> {after[left : start + AROUND]!r}"


def damaged_encoding(subject: Subject) -> list[Finding]:
    """DATA050: text decoded with the wrong encoding (the mended text is shown), or with control characters."""
    rows: dict[int, str] = {}
    for row, sample in enumerate(subject.samples):
        changed = next((text for text in texts_of(sample) if mended(text) != text), None)
        shown = _change(changed, mended(changed)) if changed is not None else _first(sample, CONTROL)
        if shown:
            rows[row] = shown
    fix = "read the source as UTF-8 again, or let foretune data clean mend what can be mended"
    return row_finding(
        subject, 50, "warning", "texts have encoding damage", rows, fix=fix, certainty=CERTAINTY_ENCODING
    )


def hidden_characters(subject: Subject) -> list[Finding]:
    """DATA053: characters without width, bidirectional overrides and tags: nobody sees them, the tokenizer does."""
    rows: dict[int, str] = {}
    for row, sample in enumerate(subject.samples):
        text = next((text for text in texts_of(sample) if not text.isascii() and visible(text) != text), None)
        if text is not None:
            rows[row] = _hidden(text)
    fix = "take them out (foretune data clean does): they split words into tokens that the model never meets"
    return row_finding(subject, 53, "warning", "texts hold characters that nobody sees", rows, fix=fix)


def _hidden(text: str) -> str:
    """The first hidden character by name, and the text around it."""
    kept = visible(text)
    start = next((i for i, (a, b) in enumerate(zip(text, kept, strict=False)) if a != b), len(kept))
    name = unicodedata.name(text[start], f"U+{ord(text[start]):04X}").lower()
    return f"{name} in {text[max(start - AROUND, 0) : start + AROUND]!a}"


def html_remains(subject: Subject) -> list[Finding]:
    """DATA051: HTML tags or entities in rows that do not speak of markup or code."""
    rows: dict[int, str] = {}
    for row, sample in enumerate(subject.samples):
        shown = _first(sample, HTML)
        if shown and not any(ABOUT_HTML.search(HTML.sub(" ", text)) for text in texts_of(sample)):
            rows[row] = shown
    is_meant = len(rows) > MEANT_FRACTION * len(subject.samples)
    severity: Severity = "info" if is_meant else "warning"
    fix = "fine if the task is about HTML" if is_meant else "strip tags and unescape entities, if they are not meant"
    title = "texts hold HTML tags or entities"
    return row_finding(subject, 51, severity, title, rows, fix=fix, certainty=CERTAINTY_HTML)


def control_tokens(subject: Subject) -> list[Finding]:
    """DATA052: text that the tokenizer reads as a control token (`<|im_end|>` inside a message)."""
    texts = subject.tokenizer.special_texts if subject.tokenizer is not None else ()
    if not texts:
        return []
    pattern = re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True))))
    rows = {row: shown for row, sample in enumerate(subject.samples) if (shown := _first(sample, pattern))}
    fix = "take them out of the text: inside a message they end the turn or begin another"
    return row_finding(subject, 52, "warning", "texts hold control tokens of the model", rows, fix=fix)
