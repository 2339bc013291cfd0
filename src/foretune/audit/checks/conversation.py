"""Checks of single conversations: order of roles, empty turns, answers that are too short or cut off."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from itertools import pairwise
from statistics import median

from foretune.audit.subject import Hit, Subject, finding, place_of
from foretune.data.samples import Sample
from foretune.records.audit import Finding

__all__ = ["cut_off_answers", "empty_answers", "empty_inputs", "role_order", "short_answers"]

ENDINGS = tuple(".!?。！？…:;\"'”’)]}>`*|_~")
LONG_ANSWER = 200  # characters; shorter answers may end as they like
USUAL_ENDING_FRACTION = 0.8
RARE_FRACTION = 0.05  # what more rows than this have in common is how the data is, no fault
SHORT_FRACTION, SHORT_CHARS, USUAL_CHARS = 0.1, 15, 50


def role_order(subject: Subject) -> list[Finding]:
    """DATA001: after the system message, user and assistant should take turns, the user first."""
    hits = [Hit(place_of(sample), " ".join(roles)) for sample in subject.chats if (roles := _bad_order(sample))]
    title = "user and assistant do not take turns"
    return finding(1, "warning", title, hits, fix="join messages of the same role, and begin with the user")


def _bad_order(sample: Sample) -> list[str]:
    """The roles, if they are out of order."""
    roles = [message.role for message in sample.messages]
    turns = roles[1:] if roles[:1] == ["system"] else roles
    is_good = turns[:1] == ["user"] and all(left != right for left, right in pairwise(turns)) and "system" not in turns
    return [] if is_good else roles


def empty_inputs(subject: Subject) -> list[Finding]:
    """DATA002: a user message without text."""
    hits = [
        Hit(place_of(sample), f"message {number}")
        for sample in subject.chats
        for number, message in enumerate(sample.messages, start=1)
        if message.role == "user" and not message.content.strip()
    ]
    return finding(2, "warning", "user messages are empty", hits, fix="write the input, or take the rows out")


def empty_answers(subject: Subject) -> list[Finding]:
    """DATA003: an answer without text teaches the model to say nothing."""
    hits = [
        Hit(place_of(sample), f"message {number}")
        for sample in subject.chats
        for number, message in enumerate(sample.messages, start=1)
        if message.role == "assistant" and not message.content.strip()
    ]
    return finding(3, "error", "answers are empty", hits, fix="write the answers, or take the rows out")


def short_answers(subject: Subject) -> list[Finding]:
    """DATA004: answers under a tenth of the usual length, where answers are usually sentences."""
    if subject.task != "chat" or not subject.chats:
        return []
    usual = median(len(sample.target) for sample in subject.chats)
    if usual < USUAL_CHARS:
        return []
    limit = min(SHORT_FRACTION * usual, SHORT_CHARS)
    short = [sample for sample in subject.chats if len(sample.target.strip()) < limit]
    if len(short) > RARE_FRACTION * len(subject.chats):
        return []
    hits = [Hit(place_of(sample), f"{sample.input_text} -> {sample.target!r}") for sample in short]
    title = f"answers are far shorter than usual (under {limit:.0f} characters, half have {usual:.0f} or more)"
    return finding(4, "info", title, hits, fix="look at these rows: are the answers whole?")


def cut_off_answers(subject: Subject) -> list[Finding]:
    """DATA005: long answers that stop in mid-sentence, where long answers otherwise end in punctuation."""
    long = [s for s in subject.chats if subject.task == "chat" and len(s.target) >= LONG_ANSWER]
    open_ended = [sample for sample in long if not sample.target.rstrip().endswith(ENDINGS)]
    if len(open_ended) > (1 - USUAL_ENDING_FRACTION) * len(long):
        return []
    hits = [Hit(place_of(sample), f"... {sample.target[-60:]!r}") for sample in open_ended]
    return finding(
        5, "info", "long answers end without punctuation", hits, fix="look at these rows: were they cut off?"
    )
