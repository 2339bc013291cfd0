"""Checks that answers are written one way: dates, times, numbers, units, outer blanks, ends, labels."""

# SPDX-License-Identifier: Apache-2.0
#
# A form is blamed only where the data have made up their mind: at least 10 rows show the topic and 80 % of them one
# form. Below that there is no usual form, and the mix itself is noted, without rows.
from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from foretune.audit.forms import Form, dates, ending, marked_numbers, numbers, times, units, unmarked
from foretune.audit.rows import chat_rows, row_finding
from foretune.audit.subject import Hit, Severity, Subject, finding
from foretune.records.audit import Finding

__all__ = [
    "answer_ends",
    "date_forms",
    "label_spellings",
    "number_forms",
    "outer_blanks",
    "unit_forms",
    "usual_forms",
]

MIN_ROWS = 10
USUAL_FRACTION = 0.8
MIXED_FRACTION = 0.05  # of the rows of a topic: less than this in every other form is no mix worth a line
# Measured with faults planted in 1 to 10 % of alike answers: precision 1.00, rounded down. In free text, where few
# answers show the topic, another form may be what the question asked for; nobody has judged such rows, so 0.5 stands
# for "read".
CERTAINTY, CERTAINTY_FREE = 0.95, 0.5
ALIKE_FRACTION = 0.2  # answers are alike if this share of them shows the topic
MIN_LABEL_SHARE = 20  # rows a label on average, for a column of free text to be one of labels
MAX_LABELS = 500
TYPO_RATIO = 10  # a label this many times rarer than one that differs by a letter is a typing error
MIN_TYPO_CHARS = 5


class _Usual(NamedTuple):
    """What a data set does about one topic."""

    topic: str
    usual: str  # "" where no form has the majority
    counts: Counter[str]
    odd: dict[int, str]  # rows in another form, with the text


def usual_forms(rows: Iterable[tuple[int, Iterable[Form]]], *, keep_agreed: bool = False) -> list[_Usual]:
    """For each topic the usual form and the rows that differ; topics in few rows are left out.

    So are topics in one form, but with `keep_agreed`.
    """
    seen: dict[str, dict[str, dict[int, str]]] = defaultdict(lambda: defaultdict(dict))
    for row, forms in rows:
        for form in forms:
            seen[form.topic][form.form].setdefault(row, form.text)
    found = [_usual(topic, forms) for topic, forms in seen.items()]
    return [one for one in found if one.odd or (keep_agreed and one.usual)]


def _usual(topic: str, forms: dict[str, dict[int, str]]) -> _Usual:
    counts = Counter({form: len(rows) for form, rows in forms.items()})
    total = len(set().union(*forms.values()))
    usual, most = min(counts.items(), key=lambda item: (-item[1], item[0]))
    if total < MIN_ROWS:
        return _Usual(topic, "", counts, {})
    odd = {row: text for form, rows in forms.items() if form != usual for row, text in rows.items()}
    return _Usual(topic, usual if most >= USUAL_FRACTION * total else "", counts, dict(sorted(odd.items())))


def _forms_finding(subject: Subject, number: int, name: str, found: list[_Usual]) -> list[Finding]:
    """One finding on the rows in an unusual form; where nothing is usual, an info on the mix."""
    odd: dict[int, str] = {}
    for one in found:
        for row, text in one.odd.items() if one.usual else ():
            odd.setdefault(row, f"{text} (usual: {one.usual})")
    usual = [one for one in found if one.usual]
    shown = "; ".join(f"{one.topic}: {_shares(one.counts)}" for one in (usual or found)[:4])
    if usual:
        title = f"{name} are written in an unusual form ({shown})"
        fix = "write them all in the usual form: " + ", ".join(f"{one.topic} {one.usual}" for one in usual[:4])
        is_alike = max(sum(one.counts.values()) for one in usual) >= ALIKE_FRACTION * len(subject.samples)
        severity: Severity = "warning" if is_alike else "info"
        certainty = CERTAINTY if is_alike else CERTAINTY_FREE
        return row_finding(subject, number, severity, title, odd, fix=fix, certainty=certainty)
    mixed = [one for one in found if len(one.odd) > MIXED_FRACTION * sum(one.counts.values())]
    if not mixed:
        return []
    fix = "fine where the inputs ask for it; else decide on one form, the model learns the mix"
    hits = [Hit(one.topic, _shares(one.counts)) for one in mixed]
    return finding(number, "info", f"{name} have no usual form ({shown})", hits, fix=fix)


def _shares(counts: Counter[str]) -> str:
    return ", ".join(f"{form} {count:,}" for form, count in counts.most_common(5))


def _answers(subject: Subject, forms: Callable[[str], Iterator[Form]], *, keep_agreed: bool = False) -> list[_Usual]:
    rows = ((row, forms(sample.target)) for row, sample in chat_rows(subject) if DIGIT.search(sample.target))
    return usual_forms(rows, keep_agreed=keep_agreed)


DIGIT = re.compile(r"\d")


def _dates_and_times(text: str) -> Iterator[Form]:
    yield from dates(text)
    yield from times(text)


def date_forms(subject: Subject) -> list[Finding]:
    """DATA043: dates and times of day in answers in a form that the rest of the data does not use."""
    found = [_decided(one) for one in _answers(subject, _dates_and_times)]
    return _forms_finding(subject, 43, "dates or times", [one for one in found if one.odd])


def _decided(found: _Usual) -> _Usual:
    """Days and months below 13 can be either: 03/04/2024 counts as the form that others with this mark have."""
    unsure = {form for form in found.counts if "?" in form}
    if not unsure or not found.usual:
        return _redecided(found) if unsure else found
    same = {form for form in unsure if _shape(form) == _shape(found.usual)}
    odd = {row: text for row, text in found.odd.items() if not any(_matches(text, form) for form in same)}
    return found._replace(odd=odd)


def _redecided(found: _Usual) -> _Usual:
    """The usual form once the undecided ones are counted with the commonest form of their shape."""
    merged: Counter[str] = Counter()
    for form, count in found.counts.items():
        alike = [other for other in found.counts if _shape(other) == _shape(form) and "?" not in other]
        merged[max(alike, key=lambda other: found.counts[other], default=form)] += count
    usual, most = merged.most_common(1)[0]
    if most < USUAL_FRACTION * merged.total():
        return found._replace(counts=merged)
    odd = {row: text for row, text in found.odd.items() if not _matches(text, usual)}
    return found._replace(usual=usual, counts=merged, odd=odd)


def _shape(form: str) -> str:
    return re.sub(r"DD|MM|\?\?", "00", form)


def _matches(text: str, form: str) -> bool:
    """Whether the date in this text can be read in this form."""
    return any(_fits(one.form, form) for one in dates(text))


def _fits(form: str, usual: str) -> bool:
    return form == usual or ("?" in form + usual and _shape(form) == _shape(usual))


def number_forms(subject: Subject) -> list[Finding]:
    """DATA045: numbers in answers whose thousands or decimals are marked in another way than usual.

    Numbers behind a sign (`$`, `=`, `####`) are held against each other where they have a usual form.
    """
    marked = [one for one in _answers(subject, marked_numbers, keep_agreed=True) if one.usual]
    topics = {one.topic for one in marked}
    others = _answers(subject, lambda text: numbers(unmarked(text, topics)))
    return _forms_finding(subject, 45, "numbers", [one for one in (*others, *marked) if one.odd])


def unit_forms(subject: Subject) -> list[Finding]:
    """DATA046: units in answers spelled, spaced or measured in another way than usual."""
    return _forms_finding(subject, 46, "units", _answers(subject, units))


def outer_blanks(subject: Subject) -> list[Finding]:
    """DATA047: answers that begin or end with white space."""
    texts = {row: sample.target for row, sample in chat_rows(subject) if sample.target.strip()}
    odd = {row: f"{text[:20]!r} ... {text[-20:]!r}" for row, text in texts.items() if text != text.strip()}
    severity: Severity = "info" if len(odd) > USUAL_FRACTION * len(texts) else "warning"
    title = f"{len(odd):,} of {len(texts):,} answers begin or end with white space"
    fix = "strip them; the model learns blanks as part of the answer"
    return row_finding(subject, 47, severity, title, odd, fix=fix)


def answer_ends(subject: Subject) -> list[Finding]:
    """DATA048: one-line answers that lack the full stop which answers of their length have, or the other way round."""
    if subject.task != "chat":
        return []
    forms = ((row, _end_forms(sample.target)) for row, sample in chat_rows(subject))
    found = [one for one in usual_forms(forms) if one.usual]
    odd = {row: f"{text[-60:]!r} (usual: {one.usual})" for one in found for row, text in one.odd.items()}
    title = "answers end otherwise than usual (" + "; ".join(f"{o.topic}: {_shares(o.counts)}" for o in found) + ")"
    fix = "end all answers of a kind alike: the model learns the mix"
    return row_finding(subject, 48, "info", title, dict(sorted(odd.items())), fix=fix, certainty=CERTAINTY_FREE)


def _end_forms(text: str) -> Iterator[Form]:
    form = ending(text)
    if form:
        num_words = len(text.split())
        size = "of one to three words" if num_words <= 3 else "of four to ten words" if num_words <= 10 else "longer"
        yield Form(f"answers {size}", form, text)


def label_spellings(subject: Subject) -> list[Finding]:
    """DATA049: classes that differ from a commoner one in case, blanks, punctuation or one letter only."""
    labels = {row: sample.target for row, sample in chat_rows(subject)}
    counts = Counter(labels.values())
    is_column = len(counts) <= MAX_LABELS and len(labels) >= MIN_LABEL_SHARE * len(counts)
    if subject.task != "classify" and not is_column:
        return []
    usual = _usual_spellings(counts)
    odd = {row: f"{label!r} (usual: {usual[label]!r})" for row, label in labels.items() if label in usual}
    title = f"{len(usual)} spellings of classes differ from the usual one"
    fix = "write each class one way: " + ", ".join(f"{a!r} as {b!r}" for a, b in list(usual.items())[:4])
    return row_finding(subject, 49, "warning", title, odd, fix=fix, certainty=CERTAINTY)


def _usual_spellings(counts: Counter[str]) -> dict[str, str]:
    """Unusual spelling -> the usual one."""
    groups: dict[str, list[str]] = defaultdict(list)
    for label in counts:
        groups[_bare(label)].append(label)
    usual = {bare: max(sorted(labels), key=lambda label: counts[label]) for bare, labels in groups.items()}
    totals = {bare: sum(counts[label] for label in labels) for bare, labels in groups.items()}
    found = {label: usual[bare] for bare, labels in groups.items() for label in labels if label != usual[bare]}
    for bare in groups:
        better = _corrected(bare, totals)
        if better:
            found |= dict.fromkeys(groups[bare], usual[better])
    return found


def _bare(label: str) -> str:
    """A label without case, blanks and punctuation; one that is all punctuation stays."""
    return re.sub(r"[\W_]+", "", label.casefold()) or label


def _corrected(label: str, totals: dict[str, int]) -> str:
    """The far commoner label that differs by one letter (or two neighbours swapped); "" where there is none."""
    if len(label) < MIN_TYPO_CHARS:
        return ""
    close = [
        other
        for other, total in totals.items()
        if total >= TYPO_RATIO * totals[label] and abs(len(other) - len(label)) <= 1 and _is_typo(label, other)
    ]
    return max(close, key=lambda other: totals[other], default="")


def _is_typo(left: str, right: str) -> bool:
    """Whether one letter put in, left out or replaced, or two neighbours swapped, makes one the other; no digit."""
    if left == right or len(left) < len(right):
        left, right = right, left
    start = next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), len(right))
    ends = {left[start + 1 :] == right[start:], left[start + 1 :] == right[start + 1 :]}
    is_swap = left[start : start + 2] == right[start : start + 2][::-1] and left[start + 2 :] == right[start + 2 :]
    letters = left[start : start + 1] + right[start : start + 1]
    return (True in ends or is_swap) and left != right and not any(char.isdigit() for char in letters)
