"""Checks of single conversations: order of roles, empty turns, answers that are too short or cut off."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from itertools import pairwise
from statistics import median

from foretune.audit.endings import MIN_TEXTS, CutOffs, cut_offs
from foretune.audit.rows import chat_rows, row_finding
from foretune.audit.subject import Severity, Subject
from foretune.data.samples import Sample
from foretune.records.audit import Finding

__all__ = ["cut_off_answers", "empty_answers", "empty_inputs", "role_order", "short_answers"]

ENDINGS = tuple(".!?。！？…:;\"'”’)]}>`*|_~")
LONG_ANSWER = 60  # characters; shorter answers may end as they like
USUAL_ENDING_FRACTION = 0.8
RARE_FRACTION = 0.05  # what more rows than this have in common is how the data is, no fault
SHORT_FRACTION, SHORT_CHARS, USUAL_CHARS = 0.1, 15, 50
CERTAINTY_SHORT, CERTAINTY_RULE, WORTH_A_WARNING = 0.5, 0.9, 0.6


def role_order(subject: Subject) -> list[Finding]:
    """DATA001: after the system message, user and assistant should take turns, the user first (R109, R110)."""
    rows = {row: " ".join(roles) for row, sample in chat_rows(subject) if (roles := _bad_order(sample))}
    title = "user and assistant do not take turns"
    return row_finding(
        subject, 1, "warning", title, rows, fix="join messages of the same role, and begin with the user"
    )


def _bad_order(sample: Sample) -> list[str]:
    """The roles, if they are out of order; calls of tools and what those return belong to the answer they lead to."""
    roles = [message.role for message in sample.messages if message.role != "tool" and not message.tool_calls]
    turns = roles[1:] if roles[:1] == ["system"] else roles
    is_good = turns[:1] == ["user"] and all(left != right for left, right in pairwise(turns)) and "system" not in turns
    return [] if is_good else roles


def empty_inputs(subject: Subject) -> list[Finding]:
    """DATA002: a user message without text."""
    fix = "write the input, or take the rows out"
    return row_finding(subject, 2, "warning", "user messages are empty", _empty(subject, "user"), fix=fix)


def empty_answers(subject: Subject) -> list[Finding]:
    """DATA003: an answer without text teaches the model to say nothing."""
    fix = "write the answers, or take the rows out"
    return row_finding(subject, 3, "error", "answers are empty", _empty(subject, "assistant"), fix=fix)


def _empty(subject: Subject, role: str) -> dict[int, str]:
    """Rows with messages of this role that hold nothing to read, with the numbers of those messages."""
    rows: dict[int, str] = {}
    for row, sample in chat_rows(subject):
        places = [
            n
            for n, m in enumerate(sample.messages, start=1)
            if m.role == role and not m.tool_calls and not m.content.strip(BLANK)
        ]
        if places:
            rows[row] = f"message {', '.join(map(str, places))}"
    return rows


# White space, and what looks like none: blanks without width, byte order marks, soft hyphens.
BLANK = (
    " \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\u00a0\u1680\u2028\u2029\u202f\u205f\u3000\u200b\u200c\u200d\u2060\ufeff\u00ad"
    + "".join(map(chr, range(0x2000, 0x200B)))
)


def short_answers(subject: Subject) -> list[Finding]:
    """DATA004: answers under a tenth of the usual length, where answers are usually sentences."""
    chats = dict(chat_rows(subject))
    if subject.task != "chat" or not chats:
        return []
    usual = median(len(sample.target) for sample in chats.values())
    if usual < USUAL_CHARS:
        return []
    limit = min(SHORT_FRACTION * usual, SHORT_CHARS)
    short = {row: sample for row, sample in chats.items() if len(sample.target.strip()) < limit}
    if len(short) > RARE_FRACTION * len(chats):
        return []
    rows = {row: f"{sample.input_text} -> {sample.target!r}" for row, sample in short.items()}
    title = f"answers are far shorter than usual (under {limit:.0f} characters, half have {usual:.0f} or more)"
    fix = "look at these rows: are the answers whole?"
    return row_finding(subject, 4, "info", title, rows, fix=fix, certainty=CERTAINTY_SHORT)


def cut_off_answers(subject: Subject) -> list[Finding]:
    """DATA005: answers that stop in mid-sentence, where whole ones do not; the certainty is estimated from the data."""
    long = {row: s.target for row, s in chat_rows(subject) if len(s.target) >= LONG_ANSWER}
    if subject.task != "chat" or not long:
        return []
    numbers = list(long)
    found = cut_offs(list(long.values())) if len(long) >= MIN_TEXTS else _by_rule(list(long.values()))
    rows = {numbers[i]: f"... {long[numbers[i]][-60:]!r}" for i in found.rows}
    fix = "look at these rows: were they cut off? Complete them, or take them out: the model learns to stop there"
    title = "answers stop in mid-sentence"
    severity: Severity = "warning" if found.certainty >= WORTH_A_WARNING else "info"
    return row_finding(subject, 5, severity, title, rows, fix=fix, certainty=round(found.certainty, 2))


def _by_rule(texts: list[str]) -> CutOffs:
    """For few answers: those without punctuation at the end, where four of five have it."""
    found = [row for row, text in enumerate(texts) if not text.rstrip().endswith(ENDINGS)]
    is_rare = len(found) <= (1 - USUAL_ENDING_FRACTION) * len(texts)
    return CutOffs(found if is_rare else [], CERTAINTY_RULE)
