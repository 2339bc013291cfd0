"""Personal data and secrets in the texts: e-mail, IBAN, card, IP address, phone, social security number, keys."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections import defaultdict

from foretune.audit.pii_patterns import KINDS, PiiMatch, find_pii, masked, redacted, redacted_sample
from foretune.audit.rows import row_finding, texts_of
from foretune.audit.subject import Subject
from foretune.data.samples import Sample
from foretune.records.audit import Finding

__all__ = ["PiiMatch", "find_pii", "masked", "personal_data", "redacted", "redacted_sample"]

# Precision measured by benchmarks/data_pii.py on Presidio's labelled texts (2026-11); secrets on planted keys.
CERTAINTY = {"e-mail": 1.0, "iban": 1.0, "card": 1.0, "ip": 1.0, "phone": 0.95, "ssn": 1.0, "secret": 0.95}
FIX = "replace them with made-up ones or placeholders ([EMAIL]); a model can repeat what it was trained on"
FIX_SECRET = "revoke the keys, and put [SECRET] in their place; a model can repeat what it was trained on"


def personal_data(subject: Subject) -> list[Finding]:
    """DATA060 to DATA066: one finding a kind; the evidence is masked, so that the report does not spread it."""
    rows: dict[str, dict[int, str]] = defaultdict(dict)
    for row, sample in enumerate(subject.samples):
        for match in _matches(sample):
            rows[match.kind].setdefault(row, masked(match.text))
    found: list[Finding] = []
    for name, kind in sorted(KINDS.items(), key=lambda item: item[1].number):
        is_secret = name == "secret"
        title = "texts hold keys or passwords" if is_secret else f"texts hold personal data: {name}"
        fix = FIX_SECRET if is_secret else FIX
        found += row_finding(subject, kind.number, "warning", title, rows[name], fix=fix, certainty=CERTAINTY[name])
    return found


def _matches(sample: Sample) -> list[PiiMatch]:
    return [match for text in texts_of(sample) for match in find_pii(text)]
