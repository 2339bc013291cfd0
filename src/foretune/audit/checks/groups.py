"""How often groups of people, and harsh words, are named in inputs and in answers: a distribution, never a verdict."""

# SPDX-License-Identifier: Apache-2.0
#
# The lists are short on purpose and English: they show which perspectives predominate, not whether a row is fair. A
# word counts once a row and side. Words of other meanings ("black" the colour, "straight" ahead) stand only in phrases.
# Harsh words are insults and words of contempt; slurs are not listed.
from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from foretune.audit.rows import row_finding
from foretune.audit.subject import Hit, Severity, Subject, finding
from foretune.data.samples import Sample
from foretune.records.audit import Finding

__all__ = ["TERM_GROUPS", "GroupCount", "group_counts", "group_shares", "harsh_words"]

TERM_GROUPS: dict[str, dict[str, str]] = {
    "gender": {
        "female": "she her hers herself woman women girl girls mother mothers mom daughter sister wife aunt "
        "grandmother queen princess actress waitress businesswoman chairwoman lady ladies female females "
        "mrs ms",
        "male": "he him his himself man men boy boys father fathers dad son brother husband uncle grandfather "
        "king prince actor waiter businessman chairman gentleman gentlemen male males mr",
        "neutral": "they them their themselves person people parent sibling spouse partner child children nonbinary",
    },
    "age": {
        "young": "young youth teenager teenagers teen teens adolescent adolescents kid kids toddler baby "
        "young_people millennial millennials",
        "old": "old_man old_woman old_people elderly senior_citizen senior_citizens seniors retiree retirees "
        "pensioner pensioners older_adults aged_person",
    },
    "religion": {
        "christian": "christian christians christianity church bible jesus catholic catholics protestant pastor",
        "muslim": "muslim muslims islam islamic quran koran mosque imam",
        "jewish": "jewish jew jews judaism torah synagogue rabbi",
        "hindu": "hindu hindus hinduism temple",
        "buddhist": "buddhist buddhists buddhism buddha",
        "none": "atheist atheists atheism agnostic agnostics secular",
    },
    "region": {
        "africa": "africa african africans nigeria nigerian kenya kenyan egypt egyptian ethiopia ghana",
        "asia": "asia asian asians china chinese japan japanese india indian korea korean vietnam indonesia pakistan",
        "europe": "europe european europeans germany german france french britain british england english italy "
        "italian spain spanish",
        "north america": "america american americans usa canada canadian united_states u.s.",
        "latin america": "mexico mexican brazil brazilian argentina latino latina hispanic colombia chile peru "
        "latin_america",
        "middle east": "arab arabs arabic iran iranian iraq israel israeli turkey turkish saudi middle_east",
        "oceania": "australia_australian new_zealand",
    },
    "ethnicity": {
        "black": "black_people black_person black_man black_woman black_men black_women african_american "
        "african_americans",
        "white": "white_people white_person white_man white_woman white_men white_women caucasian caucasians",
        "asian": "asian_people asian_american asian_americans asian_man asian_woman",
        "hispanic": "hispanic hispanics latino latinos latina latinas",
        "indigenous": "indigenous native_american native_americans aboriginal",
    },
    "orientation": {
        "straight": "heterosexual straight_man straight_woman straight_people straight_couple",
        "queer": "gay lesbian bisexual homosexual transgender queer lgbt lgbtq lgbtq+ same-sex",
    },
    "disability": {
        "named": "disabled disability disabilities blind_person blind_people deaf wheelchair autistic autism "
        "mental_illness",
    },
    "wealth": {
        "rich": "wealthy rich_people millionaire millionaires billionaire billionaires upper_class",
        "poor": "poor_people poverty homeless low-income working_class unemployed",
    },
}
HARSH = frozenset(
    "stupid idiot idiots idiotic moron morons moronic dumb loser losers pathetic worthless disgusting filthy scum "
    "hateful despise inferior subhuman savages vermin damn crap bastard retarded lunatic psycho coward liar".split()
)
SKEW = 3.0  # one group named this many times as often as another of the same axis
MIN_NAMED = 50  # rows; below, ratios say little
MAX_SHOWN = 4
WORD = re.compile(r"[a-z][a-z'+.-]*[a-z+]|[a-z]")


class GroupCount(NamedTuple):
    """Rows that name a group in their inputs, and in their answers."""

    inputs: int
    answers: int


def _lookup() -> tuple[dict[str, list[tuple[str, str]]], re.Pattern[str]]:
    """Single words to their groups, and one pattern of the phrases."""
    words: dict[str, list[tuple[str, str]]] = {}
    for axis, groups in TERM_GROUPS.items():
        for group, text in groups.items():
            for term in _terms(text):
                words.setdefault(term, []).append((axis, group))
    phrases = sorted((term for term in words if " " in term), key=len, reverse=True)
    return words, re.compile(r"\b(?:" + "|".join(map(re.escape, phrases)) + r")\b")


def _terms(text: str) -> list[str]:
    """The terms of a list; an underscore is a blank inside of a phrase."""
    return [term.replace("_", " ") for term in text.split()]


_WORDS, _PHRASES = _lookup()
_FIRST = {phrase.split()[0] for phrase in _WORDS if " " in phrase}


def _named(text: str) -> set[tuple[str, str]]:
    """The groups that a text names."""
    lower = text.lower()
    tokens = set(WORD.findall(lower))
    found = {group for token in tokens & _WORDS.keys() for group in _WORDS[token]}
    if tokens & _FIRST:
        found |= {group for match in _PHRASES.finditer(lower) for group in _WORDS[match.group()]}
    return found


def _sides(sample: Sample) -> tuple[str, str]:
    """What the user says, and what the model is taught to say."""
    users = " ".join(message.content for message in sample.messages if message.role != "assistant")
    answers = " ".join(message.content for message in sample.messages if message.role == "assistant")
    return users, answers or sample.text


def group_counts(samples: Iterable[Sample]) -> dict[str, dict[str, GroupCount]]:
    """For each axis and group the rows that name it in inputs and in answers (R141, R145)."""
    counts: tuple[Counter[tuple[str, str]], ...] = (Counter(), Counter())
    for sample in samples:
        for counter, text in zip(counts, _sides(sample), strict=True):
            counter.update(_named(text))
    return {
        axis: {group: GroupCount(counts[0][axis, group], counts[1][axis, group]) for group in groups}
        for axis, groups in TERM_GROUPS.items()
    }


def group_shares(subject: Subject) -> list[Finding]:
    """DATA057: groups that are named far more often than others of their kind, in inputs or in answers; a report."""
    counts = group_counts(subject.samples)
    hits = [Hit(axis, _shown(axis, groups)) for axis, groups in counts.items() if _is_skewed(groups)]
    title = f"some groups are named {SKEW:.0f} times as often as others ({', '.join(hit.place for hit in hits)})"
    fix = "compare with those whom the model will serve; add rows where a group is missing. A count is no verdict"
    return finding(57, "info", title, hits, fix=fix)


def _is_skewed(groups: Mapping[str, GroupCount]) -> bool:
    for side in (0, 1):
        numbers = [count[side] for count in groups.values()]
        if len(numbers) > 1 and sum(numbers) >= MIN_NAMED and max(numbers) >= SKEW * max(min(numbers), 1):
            return True
    return False


def _shown(axis: str, groups: Mapping[str, GroupCount]) -> str:
    parts = (f"{group} {count.inputs:,}/{count.answers:,}" for group, count in groups.items())
    return f"{axis}, rows with input/answer naming it: {', '.join(parts)}"


def harsh_words(subject: Subject) -> list[Finding]:
    """DATA058: answers with insulting or contemptuous words, to be read; with the share of inputs and answers."""
    rows: dict[int, str] = {}
    num_inputs = 0
    for row, sample in enumerate(subject.samples):
        asked, answered = (set(WORD.findall(text.lower())) & HARSH for text in _sides(sample))
        num_inputs += bool(asked)
        if answered:
            rows[row] = f"{', '.join(sorted(answered))}: {sample.target or sample.text}"
    severity: Severity = "info"
    title = f"answers hold harsh words ({len(rows):,} rows; inputs: {num_inputs:,})"
    fix = "read them: quoting is fine, insulting the user is not"
    return row_finding(subject, 58, severity, title, rows, fix=fix, certainty=0.2)
