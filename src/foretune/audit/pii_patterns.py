"""Patterns of personal data and secrets, the checks that a match must pass, and redaction with placeholders."""

# SPDX-License-Identifier: Apache-2.0
#
# Cards must pass Luhn's check (ISO/IEC 7812-1), IBANs the length of their country and the mod-97 check (ISO 13616), IP
# addresses must be public, US social security numbers in an issued range (no 000, 666 or 9xx area), phone numbers need
# the form of one or a word such as "call" beside them. Secrets are known by the prefixes that their makers publish, or
# by a name such as `password =` before a string of high entropy. Names and postal addresses need a model and are not
# looked for. Nothing here opens the network.
from __future__ import annotations

import ipaddress
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

from foretune.data.samples import Sample

__all__ = ["KINDS", "PiiMatch", "Redaction", "find_pii", "masked", "redacted", "redacted_sample"]

Match = re.Match[str]


class PiiMatch(NamedTuple):
    """One piece of personal data: its kind, its text, and where it begins and ends."""

    kind: str
    text: str
    start: int
    end: int


class Redaction(NamedTuple):
    """A text with placeholders, and how many of each kind were put in."""

    text: str
    counts: dict[str, int]


class Kind(NamedTuple):
    """A kind of personal data: number of its finding, placeholder, pattern, and what a match must pass."""

    number: int
    placeholder: str
    pattern: re.Pattern[str]
    is_real: Callable[[Match], bool]


RESERVED = re.compile(r"(?i)@(?:[\w-]+\.)*(?:example\.(?:com|org|net)|[\w-]+\.(?:test|example|invalid|localhost))$")
MAIL = re.compile(
    r"(?<![\w.+-])\w[\w.+'-]{0,63}@[^\W_](?:[\w-]{0,62}\.){1,5}[^\W\d_]{2,24}(?![\w-])",
)
# 13 to 19 digits in one piece, in groups of four, or 4-6-5 (American Express); the first digit names the network. Two
# networks have numbers of their own: JCB (15 digits) and Maestro (12). Beside the word "card" any 12 to 19 digits do.
CARD = re.compile(
    r"(?<![\w.,-])(?:\d{12,19}|[2-6]\d{3}([ -])\d{4}\1\d{4}\1\d{1,7}|3\d{3}([ -])\d{6}\2\d{5})(?![\w-]|[.,]\d)"
)
KNOWN_CARD = re.compile(r"[2-6]\d{12,18}|(?:1800|2131)\d{11}|(?:5018|5020|5038|6304|6759|676[1-3])\d{8}")
CARD_WORDS = re.compile(r"(?i)\b(?:card|cards|cc|visa|mastercard|maestro|amex)\b")
IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?: ?[A-Za-z0-9]{4}){2,7}(?: ?[A-Za-z0-9]{1,3})?(?![A-Za-z0-9])")
# Length by country, SWIFT's IBAN registry; from memory, not re-read.
IBAN_LENGTHS = {
    name: int(length)
    for length, names in {
        "15": "NO", "16": "BE", "18": "DK FO FI GL NL SD", "19": "MK SI", "20": "AT BA EE KZ XK LT LU",
        "21": "CR HR LV LI CH", "22": "BH BG GE DE IE ME RS GB VA", "23": "TL GI IQ IL OM SO AE",
        "24": "AD CZ MD PK RO SA SK ES SE TN VG", "25": "LY PT ST", "26": "IS TR", "27": "BI DJ FR GR IT MC MR SM",
        "28": "AL AZ BY CY DO GT HU LB NI PL SV", "29": "BR EG PS QA UA", "30": "JO KW MU", "31": "MT SC", "32": "LC",
        "33": "RU",
    }.items()
    for name in names.split()
}  # fmt: skip
IP = re.compile(
    r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?!\.?\d)|(?<![\w:])(?:[0-9a-fA-F]{1,4}:){2,7}(?::?[0-9a-fA-F]{1,4}){1,6}(?![\w:])"
)
SSN = re.compile(r"(?<![\w.+-])(\d{3})([- .]?)(\d{2})\2(\d{4})(?![\w-]|\.\d)")
SSN_WORDS = re.compile(r"(?i)\b(?:ssn|social security|tax(?:payer)? id)")
SAMPLE_SSNS = ("078051120", "219099999", "123456789", "987654321", "111111111")  # printed in advertisements and forms
PHONE = re.compile(
    r"(?<![\w.,+$€£¥#%=*/(-])(?:\+ ?|00)?\(?\d(?:[\d()./-]| (?=[\d(])){5,24}\d"
    r"(?:(?:x| ext\.? ?)\d{2,5})?(?![\w%]|[.,]\d)"
)
PHONE_BEFORE = re.compile(
    r"(?i)\b(?:(?:tele|cell)?phone|tel|telefono|telefon|téléphone|telephone|mobile|cell|call(?:ed|ing|s)?|fax|dial(?:l?ed|l?ing)?|"
    r"whatsapp|sms|text(?:ed)? (?:me|us|him|her)|reach(?:ed)?|desk|hotline|helpline|landline|handy|"
    r"messages? (?:to|on|from)|answering at|contact (?:me|us|him|her|them|number)|ring(?:ing)? (?:me|us)|registered)"
    r"\b[^\n\d]{0,30}$"
)
PHONE_AFTER = re.compile(r"(?i)[ (-]{0,3}(?:office|fax|mobile|phone|tel|cell|home|desk|work)\b")
NOT_PHONE = re.compile(
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}|\d+\.\d+|\d{4}[-/ ]\d{4}|\d+/\d+|\d{5}-\d{4}"
)
NATIONAL = re.compile(r"(?:1[-. ])?\(?[2-9]\d{2}\)?[-. ]?[2-9]\d{2}[-.]\d{4}(?:x.*| ext.*)?")  # North America: 3-3-4
MIN_PHONE_DIGITS, MAX_PHONE_DIGITS = 7, 15
SAMPLE_PHONES = ("1234567890", "11234567890", "0123456789", "12345678", "123456789", "1234567")

# Prefixes as their makers publish them; what follows is the documented length, or at least 16 characters.
SECRET = re.compile(
    r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}\b"  # Amazon Web Services
    r"|\bgh[pousr]_[A-Za-z0-9]{36,251}\b|\bgithub_pat_[A-Za-z0-9_]{22,255}\b|\bglpat-[\w-]{20,}"
    r"|\bsk-(?:proj-|svcacct-|ant-(?:api\d\d-)?|or-v1-)?[A-Za-z0-9_-]{20,}\b"  # OpenAI, Anthropic, OpenRouter
    r"|\b[sr]k_(?:live|test)_[A-Za-z0-9]{16,}\b|\bwhsec_[A-Za-z0-9]{24,}\b"  # Stripe
    r"|\bxox[abeoprs]-[A-Za-z0-9-]{10,}|\bxapp-\d-[A-Za-z0-9-]{20,}|\bhooks\.slack\.com/services/T\w+/B\w+/\w{16,}"
    r"|\bAIza[\w-]{35}(?![\w-])|\bya29\.[\w-]{20,}|\bGOCSPX-[\w-]{20,}"  # Google
    r"|\bhf_[A-Za-z]{30,40}\b|\bnpm_[A-Za-z0-9]{36}\b|\bpypi-AgE[\w-]{50,}|\bSG\.[\w-]{16,32}\.[\w-]{16,64}"
    r"|\bdop_v1_[0-9a-f]{64}\b|\bshp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}\b|\b\d{8,10}:AA[\w-]{33}(?![\w-])"
    r"|\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"  # JSON web token
    r"|-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----"
    r"(?:[\s\S]{1,8000}?-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----)?"
    r"|\b[a-z][a-z0-9+]{2,15}://[^\s:/@'\"<>]{1,64}:[^\s:/@'\"<>]{3,128}@[\w.-]+"  # password inside a URL
)
SECRET_HINT = re.compile(
    r"AKIA|ASIA|ABIA|ACCA|gh[pousr]_|github_pat_|glpat-|sk-|[sr]k_(?:live|test)_|whsec_|xox[abeoprs]-|xapp-|hooks\.slack"
    r"|AIza|ya29\.|GOCSPX-|hf_|npm_|pypi-A|SG\.|dop_v1_|shp(?:at|ca|pa|ss)_|:AA|eyJ|-----BEGIN|://[^\s/:@]+:[^\s/:@]+@"
)
NAMED_SECRET = re.compile(
    r"(?i)(?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|access[_-]?key|auth[_-]?key|client[_-]?secret)"
    r"[\"']?\s{0,3}(?:[:=]|=>|:=)\s{0,3}[\"']?(?P<value>[A-Za-z0-9+/_.~!@#$%^&*-]{12,200})"
)
NAMED_HINT = re.compile(r"(?i)passw|passphrase|secret|token|api[_-]?key|access[_-]?key|auth[_-]?key")
DUMMY = re.compile(
    r"(?i)example|sample|dummy|placeholder|changeme|your[_-]?|xxxx|\*{4}|<|\.\.\.|0000000|1234567|abcdefg"
)
MIN_ENTROPY_BITS = 3.0  # a character; English words have about 2.5 in strings of this length, random keys 3.5 and more


def _is_mail(match: Match) -> bool:
    return not RESERVED.search(match.group()) and ".." not in match.group()


def _digits(text: str) -> str:
    return "".join(char for char in text if char.isdigit())


def _is_card(match: Match) -> bool:
    digits = _digits(match.group())
    if len(set(digits)) == 1 or not _passes_luhn(digits):
        return False
    is_known = match.group(1) or match.group(2) or KNOWN_CARD.fullmatch(digits)
    return bool(is_known or CARD_WORDS.search(match.string, max(match.start() - 60, 0), match.start()))


def _passes_luhn(digits: str) -> bool:
    doubled = sum(sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (sum(map(int, digits[-1::-2])) + doubled) % 10 == 0


def _is_iban(match: Match) -> bool:
    text = match.group().replace(" ", "").upper()
    if len(text) != IBAN_LENGTHS.get(text[:2]):
        return False
    return int("".join(str(int(char, 36)) for char in text[4:] + text[:4])) % 97 == 1


def _is_public_ip(match: Match) -> bool:
    if ":" in match.group() and match.group().count(":") < 7 and "::" not in match.group():
        return False
    try:
        return ipaddress.ip_address(match.group()).is_global
    except ValueError:
        return False


def _is_ssn(match: Match) -> bool:
    area, separator, group, serial = match.groups()
    if area in ("000", "666") or area[0] == "9" or group == "00" or serial == "0000":
        return False
    if area + group + serial in SAMPLE_SSNS:
        return False
    return separator == "-" or bool(SSN_WORDS.search(match.string, max(match.start() - 50, 0), match.start()))


def _is_phone(match: Match) -> bool:
    text = match.group()
    digits = _digits(re.split("x| ext", text)[0])
    if not MIN_PHONE_DIGITS <= len(digits) <= MAX_PHONE_DIGITS or NOT_PHONE.fullmatch(text) or digits in SAMPLE_PHONES:
        return False
    if len(set(digits)) == 1 or text.count("(") != text.count(")"):
        return False
    if NATIONAL.fullmatch(text) or (text[0] == "+" and len(digits) > MIN_PHONE_DIGITS):
        return True
    if text.count(" ") > len(digits) / 2:
        return False
    has_word = PHONE_BEFORE.search(match.string[max(match.start() - 60, 0) : match.start()])
    return bool(has_word or PHONE_AFTER.match(match.string, match.end()))


def _is_secret(match: Match) -> bool:
    return not DUMMY.search(match.group())


def _is_named_secret(match: Match) -> bool:
    value = match["value"]
    kinds = sum(bool(re.search(form, value)) for form in ("[a-z]", "[A-Z]", r"\d", r"[^\w.]"))
    return (
        kinds >= 2 and bool(re.search(r"\d", value)) and entropy_bits(value) >= MIN_ENTROPY_BITS and _is_secret(match)
    )


def entropy_bits(text: str) -> float:
    """Shannon entropy of the characters of a text, in bits a character."""
    return -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values())


KINDS: dict[str, Kind] = {
    "secret": Kind(66, "[SECRET]", SECRET, _is_secret),
    "e-mail": Kind(60, "[EMAIL]", MAIL, _is_mail),
    "iban": Kind(61, "[IBAN]", IBAN, _is_iban),
    "card": Kind(62, "[CARD]", CARD, _is_card),
    "ssn": Kind(65, "[SSN]", SSN, _is_ssn),
    "ip": Kind(63, "[IP]", IP, _is_public_ip),
    "phone": Kind(64, "[PHONE]", PHONE, _is_phone),
}
NAMED = Kind(66, "[SECRET]", NAMED_SECRET, _is_named_secret)
NUMBERS = re.compile(r"\d[\d ().+/-]{5}")  # what any of card, IBAN, SSN and phone must hold
DOTTED = re.compile(r"\d\.\d{1,3}\.\d{1,3}\.\d|[0-9a-f]:[0-9a-f:]*:[0-9a-f]", re.IGNORECASE)


def _candidates(text: str) -> Iterator[tuple[str, Kind]]:
    """The kinds that a text can hold at all, by a look that costs little."""
    if SECRET_HINT.search(text):
        yield "secret", KINDS["secret"]
    if NAMED_HINT.search(text):
        yield "secret", NAMED
    if "@" in text:
        yield "e-mail", KINDS["e-mail"]
    if NUMBERS.search(text):
        yield from ((name, KINDS[name]) for name in ("iban", "card", "ssn"))
    if DOTTED.search(text):
        yield "ip", KINDS["ip"]
    if NUMBERS.search(text):
        yield "phone", KINDS["phone"]


def find_pii(text: str) -> Iterator[PiiMatch]:
    """Personal data in a text, in the order of kinds; a stretch that one kind claims is not given to the next."""
    taken: list[tuple[int, int]] = []
    for name, kind in _candidates(text):
        for match in kind.pattern.finditer(text):
            start, end = match.span("value") if kind is NAMED else match.span()
            if all(end <= left or right <= start for left, right in taken) and kind.is_real(match):
                taken.append((start, end))
                yield PiiMatch(name, text[start:end], start, end)


def redacted(text: str) -> Redaction:
    """The text with `[EMAIL]`, `[CARD]` and so on in place of personal data; redacting twice changes nothing more."""
    counts: Counter[str] = Counter()
    parts, end = [], 0
    for match in sorted(find_pii(text), key=lambda found: found.start):
        parts += [text[end : match.start], KINDS[match.kind].placeholder]
        end = match.end
        counts[match.kind] += 1
    return Redaction("".join([*parts, text[end:]]), dict(counts))


def redacted_sample(sample: Sample) -> tuple[Sample, dict[str, int]]:
    """A sample with placeholders in text and messages, and the counts by kind; untouched samples come back as given."""
    found = [redacted(text) for text in (sample.text, *(message.content for message in sample.messages))]
    counts = sum((Counter(one.counts) for one in found), Counter[str]())
    if not counts:
        return sample, {}
    pairs = zip(sample.messages, found[1:], strict=True)
    messages = tuple(replace(message, content=one.text) for message, one in pairs)
    return replace(sample, text=found[0].text, messages=messages), dict(counts)


def masked(text: str) -> str:
    """The text with all but its first and last two characters, and its punctuation, as stars."""
    inner = re.sub(r"\w", "*", text[2:-2])
    return f"{text[:2]}{inner}{text[-2:]}" if len(text) > 6 else "*" * len(text)
