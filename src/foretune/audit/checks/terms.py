"""Rows that speak of what is outdated, by a list of terms that the user keeps."""

# SPDX-License-Identifier: Apache-2.0
#
# A list is a TOML file of `[[term]]` tables: text or regex, and, if wanted, use (what to write instead), since (the
# date from which it is outdated) and where ("answer", "input" or "any"). A plain text file holds one term a line,
# `old => new`.
from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, Literal

from foretune.audit.rows import row_finding
from foretune.audit.subject import Subject
from foretune.data.samples import Sample
from foretune.errors import ConfigError, NotFound
from foretune.records.audit import Finding

__all__ = ["Term", "outdated_terms", "read_terms"]

Where = Literal["answer", "input", "any"]
FIELDS = ("text", "regex", "use", "since", "where")
DATE_NAMES = ("date", "created_at", "timestamp", "updated_at", "published_at", "retrieved_at")
AROUND = 40


@dataclass(frozen=True, slots=True)
class Term:
    """One outdated term: `text` as whole words in any case, or `regex`; `use` is what to write instead.

    With `since`, rows that carry an own date from that day on may use the term: they tell of the past, or mean it.
    """

    text: str = ""
    regex: str = ""
    use: str = ""
    since: date | None = None
    where: Where = "any"

    def pattern(self) -> re.Pattern[str]:
        """The compiled pattern. Raises ConfigError where the term is empty or its regex does not compile."""
        if bool(self.text.strip()) == bool(self.regex):
            raise ConfigError(f"a term needs either text or regex, got {self}", fix='text = "old name"')
        if self.text:
            words = r"\s+".join(map(re.escape, self.text.split()))
            return re.compile(rf"(?<!\w){words}(?!\w)", re.IGNORECASE)
        try:
            return re.compile(self.regex)
        except re.error as error:
            raise ConfigError(
                f"regex {self.regex!r} does not compile: {error}", fix="write it as Python's re does"
            ) from None


def read_terms(path: Path) -> list[Term]:
    """Read a list of terms, TOML or plain text. Raises NotFound, and ConfigError for what is no term."""
    try:
        content = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise NotFound(f"{path}: {error.strerror or error}", fix="name a file that exists") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8", fix="save it as UTF-8") from None
    if path.suffix != ".toml":
        lines = [line.strip() for line in content.splitlines()]
        terms = [_of_line(line) for line in lines if line and not line.startswith("#")]
    else:
        terms = _of_toml(content, path)
    for term in terms:
        term.pattern()
    return terms


def _of_line(line: str) -> Term:
    old, _, new = (part.strip() for part in line.partition("=>"))
    return Term(text=old, use=new)


def _of_toml(content: str, path: Path) -> list[Term]:
    try:
        rows = tomllib.loads(content).get("term", [])
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}", fix='[[term]]\ntext = "old name"') from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ConfigError(f"{path}: term is no list of tables", fix='[[term]]\ntext = "old name"')
    return [_of_table(row, path) for row in rows]


def _of_table(row: dict[str, Any], path: Path) -> Term:
    unknown = [name for name in row if name not in FIELDS]
    if unknown:
        raise ConfigError(f"{path}: unknown field {unknown[0]!r} of a term", fix=f"use one of {', '.join(FIELDS)}")
    since = _as_date(row.get("since"))
    if row.get("since") is not None and since is None:
        raise ConfigError(f"{path}: since = {row['since']!r} is no date", fix="since = 2026-01-31")
    if row.get("where", "any") not in ("answer", "input", "any"):
        raise ConfigError(f"{path}: where = {row['where']!r}", fix='where = "answer", "input" or "any"')
    texts = {name: str(row.get(name, "")) for name in ("text", "regex", "use")}
    return Term(**texts, since=since, where=row.get("where", "any"))


def _as_date(value: object) -> date | None:
    """A date from what a row or a list holds: a date, ISO text, or seconds since 1970; None where it is none."""
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, date):
        return value
    if isinstance(value, str):
        try:
            return date.fromisoformat(value.strip()[:10])
        except ValueError:
            return None
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 4e9:
        return datetime.fromtimestamp(value).date()
    return None


def outdated_terms(subject: Subject, terms: Sequence[Term]) -> list[Finding]:
    """DATA056: rows that hold a term of the user's list, with what to write instead (R140). Raises ConfigError."""
    compiled = [(term, term.pattern()) for term in terms]
    rows: dict[int, str] = {}
    for row, sample in enumerate(subject.samples):
        found = [shown for term, pattern in compiled if (shown := _seen(sample, term, pattern))]
        if found:
            rows[row] = "; ".join(found)
    fix = "bring the rows up to date, or take them out: the model repeats what it was taught"
    return row_finding(subject, 56, "warning", "texts hold outdated terms", rows, fix=fix)


def _seen(sample: Sample, term: Term, pattern: re.Pattern[str]) -> str:
    if term.since is not None:
        own = next((day for name in DATE_NAMES if (day := _as_date(sample.meta.get(name)))), None)
        if own is not None and own >= term.since:
            return ""
    for text in _texts(sample, term.where):
        if match := pattern.search(text):
            around = " ".join(text[max(match.start() - AROUND, 0) : match.end() + AROUND].split())
            return f"{around} (now: {term.use})" if term.use else around
    return ""


def _texts(sample: Sample, where: Where) -> Iterable[str]:
    for message in sample.messages:
        if where == "any" or (where == "answer") == (message.role == "assistant"):
            yield message.content
    if sample.text and where != "input":
        yield sample.text
