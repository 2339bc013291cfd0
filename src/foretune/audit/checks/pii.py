"""Personal data that a few patterns can find: e-mail, payment card, IBAN, phone, IP address."""

# SPDX-License-Identifier: Apache-2.0
#
# Cards must pass Luhn's check (ISO/IEC 7812-1), IBANs the mod-97 check (ISO 13616), IP addresses must be public, phone
# numbers need a sign that they are one: a country code, brackets, or a word such as "call" before them. Names and
# postal addresses need a model and are not looked for.
from __future__ import annotations

import ipaddress
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import NamedTuple

from foretune.audit.subject import Hit, Subject, finding, place_of
from foretune.records.audit import Finding

__all__ = ["PiiMatch", "find_pii", "masked", "personal_data"]

RESERVED = re.compile(r"(?i)@(?:[\w-]+\.)*(?:example\.(?:com|org|net)|[\w-]+\.(?:test|example|invalid|localhost))$")
PHONE_WORDS = re.compile(
    r"(?i)\b(?:phone|tel|telephone|mobile|cell|call|fax|dial|whatsapp|sms|reach)\b.{0,25}$", re.DOTALL
)
PHONE_FORM = re.compile(r"(?:\+|\(\d{2}|\d{3}[-.]\d{3}[-.]\d{4}$)")
# 13 to 19 digits in one piece, in groups of four, or 4-6-5 (American Express); the first digit names the network. Two
# networks have numbers of their own: JCB (15 digits) and Maestro (12).
CARD = re.compile(
    r"(?<![\w.,-])(?:[2-6]\d{12,18}|(?:1800|2131)\d{11}|(?:5018|5020|5038|6304|6759|676[1-3])\d{8}"
    r"|[2-6]\d{3}([ -])\d{4}\1\d{4}\1\d{1,7}|3\d{3}([ -])\d{6}\2\d{5})(?![\d-])"
)
MIN_PHONE_DIGITS, MAX_PHONE_DIGITS = 8, 15


class PiiMatch(NamedTuple):
    """One piece of personal data: its kind, its text, and where it begins and ends."""

    kind: str
    text: str
    start: int
    end: int


def _is_mail(match: re.Match[str]) -> bool:
    return not RESERVED.search(match.group())


def _passes_luhn(match: re.Match[str]) -> bool:
    digits = [int(char) for char in match.group() if char.isdigit()]
    if len(set(digits)) == 1:
        return False
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _passes_mod_97(match: re.Match[str]) -> bool:
    text = match.group().replace(" ", "")
    if not 15 <= len(text) <= 34:
        return False
    return int("".join(str(int(char, 36)) for char in text[4:] + text[:4])) % 97 == 1


def _is_public_ip(match: re.Match[str]) -> bool:
    try:
        return ipaddress.ip_address(match.group()).is_global
    except ValueError:
        return False


def _is_phone(match: re.Match[str]) -> bool:
    num_digits = sum(char.isdigit() for char in match.group())
    if not MIN_PHONE_DIGITS <= num_digits <= MAX_PHONE_DIGITS:
        return False
    return bool(PHONE_FORM.match(match.group()) or PHONE_WORDS.search(match.string[: match.start()][-60:]))


KINDS: tuple[tuple[str, re.Pattern[str], Callable[[re.Match[str]], bool]], ...] = (
    (
        "e-mail",
        re.compile(r"\b[\w.+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){0,4}\.[A-Za-z]{2,24}\b"),
        _is_mail,
    ),
    ("iban", re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b"), _passes_mod_97),
    ("card", CARD, _passes_luhn),
    (
        "ip",
        re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])|(?<![\w:])(?:[0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4}"),
        _is_public_ip,
    ),
    (
        "phone",
        re.compile(r"(?<![\w.+])(?:\+\d{1,3}[ .-]?)?(?:\(\d{1,5}\)[ .-]?)?\d{1,5}(?:[ ./-]?\d{2,5}){1,5}(?![\w])"),
        _is_phone,
    ),
)


def find_pii(text: str) -> Iterator[PiiMatch]:
    """Personal data in a text, in the order of kinds; a stretch that one kind claims is not given to the next."""
    taken: list[tuple[int, int]] = []
    for kind, pattern, is_real in KINDS:
        for match in pattern.finditer(text):
            is_free = all(match.end() <= start or end <= match.start() for start, end in taken)
            if is_free and is_real(match):
                taken.append(match.span())
                yield PiiMatch(kind, match.group(), *match.span())


def masked(text: str) -> str:
    """The text with all but its first and last two characters, and its punctuation, as stars."""
    inner = re.sub(r"\w", "*", text[2:-2])
    return f"{text[:2]}{inner}{text[-2:]}" if len(text) > 6 else "*" * len(text)


def personal_data(subject: Subject) -> list[Finding]:
    """DATA060 to DATA064: one finding a kind; the evidence is masked."""
    hits: dict[str, list[Hit]] = defaultdict(list)
    for sample in subject.samples:
        texts = [sample.text, *(message.content for message in sample.messages)]
        matches = [match for text in texts if text for match in find_pii(text)]
        for kind in dict.fromkeys(match.kind for match in matches):
            shown = next(match.text for match in matches if match.kind == kind)
            hits[kind].append(Hit(place_of(sample), masked(shown)))
    fix = "replace them with made-up ones; a model can repeat what it was trained on"
    found: list[Finding] = []
    for number, (kind, _, _) in enumerate(KINDS, start=60):
        found += finding(number, "warning", f"texts hold personal data: {kind}", hits[kind], fix=fix)
    return found
