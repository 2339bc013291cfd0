"""Checks of languages: which there are, whether they were declared, and answers in another than the question."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from foretune.audit.rows import row_finding
from foretune.audit.subject import Hit, Subject, finding
from foretune.data.languages import family_of, language_of
from foretune.errors import ConfigError
from foretune.records.audit import Finding

__all__ = [
    "RowLanguages",
    "declared_languages",
    "language_mix",
    "language_shares",
    "row_languages",
]

USUAL_FRACTION = 0.8
MIN_DECIDED = 20  # rows whose language can be told; with fewer nothing is said of shares
SHARE_FACTOR = 2.0  # a share half or twice the declared one deviates
MIN_GAP = 0.02
CERTAINTY_ROW, CERTAINTY_PAIR = 0.9, 0.5
ASKED = re.compile(
    r"(?i)translat|übersetz|tradu|tłumacz|翻译|翻訳|перевед|перекла|in (?:the )?\w+ language|"
    r"\b(?:english|french|spanish|german|italian|portuguese|dutch|latin|swedish|polish|turkish|hindi|chinese|japanese|indonesian)\b"
)
MIN_BYTES = 30  # a shorter text is not judged alone


class RowLanguages(NamedTuple):
    """Language of input and answer of one row as ISO 639-1 codes, "" where it cannot be told."""

    question: str
    answer: str


def row_languages(subject: Subject) -> list[RowLanguages]:
    """The languages of every row; raw text has its language as answer."""
    return [
        RowLanguages("", language_of(sample.text, is_sure=True))
        if sample.is_text
        else RowLanguages(language_of(sample.input_text, is_sure=True), language_of(sample.target, is_sure=True))
        for sample in subject.samples
    ]


def language_shares(rows: Iterable[RowLanguages]) -> tuple[dict[str, float], dict[str, float]]:
    """Share of each language family among inputs and among answers whose language can be told, largest first."""
    pairs = list(rows)
    return _shares([row.question for row in pairs]), _shares([row.answer for row in pairs])


def _shares(languages: Iterable[str]) -> dict[str, float]:
    counts = Counter(family_of(language) for language in languages if language)
    total = max(counts.total(), 1)
    return {name: count / total for name, count in counts.most_common()}


def language_mix(subject: Subject) -> list[Finding]:
    """DATA054 and DATA059: rows in another language than four of five, and answers in another than the question."""
    rows = row_languages(subject)
    return [*_foreign_rows(subject, rows), *_other_answers(subject, rows)]


def _foreign_rows(subject: Subject, rows: list[RowLanguages]) -> list[Finding]:
    main = [row.answer or row.question for row in rows]
    shares = _shares(main)
    if len(shares) < 2 or sum(map(bool, main)) < MIN_DECIDED:
        return []
    shown = ", ".join(f"{name} {share:.1%}" for name, share in list(shares.items())[:5])
    usual, most = next(iter(shares.items()))
    if most < USUAL_FRACTION:
        fix = "declare the languages that production has: foretune then compares the shares"
        return finding(54, "info", f"the data have several languages ({shown})", [Hit("all", shown)], fix=fix)
    odd = {n: _shown(subject, n) for n, row in enumerate(rows) if _is_foreign(subject, n, row, usual)}
    fix = "fine if they are meant (translation); else take them out"
    title = f"rows are in another language than the rest ({shown})"
    return row_finding(subject, 54, "info", title, odd, fix=fix, certainty=CERTAINTY_ROW)


def _other_answers(subject: Subject, rows: list[RowLanguages]) -> list[Finding]:
    """DATA059: fine for translation, so rows that speak of it or of a language are left out."""
    odd = {
        n: f"{row.question} -> {row.answer}: {_shown(subject, n)}"
        for n, row in enumerate(rows)
        if row.question and row.answer and _differs(subject, n, row)
    }
    fix = "fine for translation; else answer in the language of the question"
    title = "answers are in another language than the question"
    return row_finding(subject, 59, "info", title, odd, fix=fix, certainty=CERTAINTY_PAIR)


def _is_foreign(subject: Subject, row: int, found: RowLanguages, usual: str) -> bool:
    sample = subject.samples[row]
    texts = (sample.input_text, found.question), (sample.target or sample.text, found.answer)
    return any(language and family_of(language) != usual and _is_long(text) for text, language in texts)


def _is_long(text: str) -> bool:
    """Whether a text is long enough to be judged alone; scripts of many letters say more in a character."""
    return len(text.encode("utf-8", "replace")) >= MIN_BYTES


def _shown(subject: Subject, row: int) -> str:
    sample = subject.samples[row]
    return f"{sample.input_text[:70]} -> {sample.target[:70]}" if sample.target else sample.text[:140]


def _differs(subject: Subject, row: int, found: RowLanguages) -> bool:
    sample = subject.samples[row]
    is_long = _is_long(sample.target) and _is_long(sample.input_text)
    if family_of(found.question) == family_of(found.answer) or not is_long:
        return False
    return not ASKED.search(" ".join(message.content for message in sample.prompt))


def declared_languages(subject: Subject, declared: Mapping[str, float] | Iterable[str]) -> list[Finding]:
    """DATA055: declared languages that training lacks, or has in a share far from the declared one (R161, R162).

    `declared` names ISO 639-1 codes, with the share of production where it is known ({"en": 0.7, "de": 0.3}). Raises
    ConfigError for a share that is no fraction.
    """
    wanted = _wanted(declared)
    train = Subject(
        {"train": subject.splits.get("train", subject.samples)}, task=subject.task, tokenizer=None, max_seq_len=0
    )
    main = [row.answer or row.question for row in row_languages(train)]
    if not wanted or sum(map(bool, main)) < MIN_DECIDED:
        return []
    shares = _shares(main)
    hits = [Hit(name, text) for name, text in _gaps(wanted, shares)]
    extra = [name for name, share in shares.items() if name not in wanted and share >= MIN_GAP]
    hits += [Hit(name, f"{name}: {shares[name]:.1%} of the training rows, not declared") for name in extra]
    missing = [name for name in wanted if not shares.get(name)]
    title = "training languages are not those of production"
    if missing:
        title += f": no rows in {', '.join(missing)}; training on other languages makes the model worse in these"
    fix = "add rows in these languages in the share that production has, or train a model for each language"
    return finding(55, "warning", title, hits, fix=fix)


def _wanted(declared: Mapping[str, float] | Iterable[str]) -> dict[str, float]:
    """Declared families with their shares; 0 where no share is known."""
    pairs = declared.items() if isinstance(declared, Mapping) else ((name, 0.0) for name in declared)
    wanted: Counter[str] = Counter()
    for name, share in pairs:
        if not 0 <= share <= 1:
            raise ConfigError(f"share of language {name!r} is {share}, expected 0 to 1", fix="write 0.3 for 30 %")
        wanted[family_of(name)] += share  # type: ignore[assignment]
    return dict(wanted)


def _gaps(wanted: Mapping[str, float], shares: Mapping[str, float]) -> Iterable[tuple[str, str]]:
    for name, share in wanted.items():
        got = shares.get(name, 0.0)
        is_far = abs(got - share) >= MIN_GAP and not share / SHARE_FACTOR < got < share * SHARE_FACTOR
        if not got:
            yield name, f"{name}: declared{f' {share:.0%}' if share else ''}, no training rows"
        elif share and is_far:
            yield name, f"{name}: {share:.0%} of production, {got:.1%} of the training rows"
