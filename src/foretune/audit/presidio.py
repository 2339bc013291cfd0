"""Presidio's pattern recognisers behind one door, kept off the network; the built-in patterns need none of it."""

# SPDX-License-Identifier: Apache-2.0
#
# Presidio's e-mail recogniser asks tldextract, which fetches its list of suffixes at first use. Here the same pattern
# is checked against the list that tldextract ships, so nothing leaves the machine. Names and places need a language
# model that Presidio downloads; they are not asked for.
from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

from foretune.audit.pii_patterns import PiiMatch
from foretune.errors import MissingDependency

__all__ = ["presidio_finder"]

CLASSES = {
    "iban": "IbanRecognizer",
    "card": "CreditCardRecognizer",
    "ssn": "UsSsnRecognizer",
    "ip": "IpRecognizer",
    "phone": "PhoneRecognizer",
}
MIN_SCORE = 0.05  # Presidio's own patterns begin at 0.05 without context; the phone recogniser gives 0.4


def presidio_finder() -> Callable[[str], Iterator[PiiMatch]]:
    """A function that finds personal data as `find_pii` does, with Presidio's recognisers for the same kinds.

    Raises MissingDependency without presidio-analyzer.
    """
    try:
        analyzer = importlib.import_module("presidio_analyzer")
        recognizers = importlib.import_module("presidio_analyzer.predefined_recognizers")
        suffixes = importlib.import_module("tldextract")
    except ImportError:
        fix = 'pip install "foretune[presidio]"'
        raise MissingDependency("finding personal data with Presidio needs presidio-analyzer", fix=fix) from None
    domain = suffixes.TLDExtract(suffix_list_urls=(), cache_dir=None)
    mail = recognizers.EmailRecognizer
    mails = analyzer.PatternRecognizer(supported_entity="EMAIL_ADDRESS", patterns=mail.PATTERNS, context=mail.CONTEXT)
    others = {kind: getattr(recognizers, name)() for kind, name in CLASSES.items()}

    def find(text: str) -> Iterator[PiiMatch]:
        for match in _matches("e-mail", mails, text):
            if domain(match.text).suffix:
                yield match
        for kind, recognizer in others.items():
            yield from _matches(kind, recognizer, text)

    return find


def _matches(kind: str, recognizer: Any, text: str) -> Iterator[PiiMatch]:
    for found in recognizer.analyze(text, recognizer.supported_entities, None) or ():
        if found.score >= MIN_SCORE:
            yield PiiMatch(kind, text[found.start : found.end], found.start, found.end)
