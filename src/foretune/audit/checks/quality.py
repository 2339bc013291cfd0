"""Checks of single rows by rule: what was asked cannot be done in text, or what was answered is no answer."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from foretune.audit.row_rules import RULES, rules_hit
from foretune.audit.rows import chat_rows, row_finding
from foretune.audit.subject import Severity, Subject
from foretune.records.audit import Finding

__all__ = ["quality_rules"]

MEANT_FRACTION = 1 / 3


def quality_rules(subject: Subject) -> list[Finding]:
    """DATA085 to DATA099: one finding a rule, for free-text answers."""
    if subject.task != "chat":
        return []
    hits: dict[str, dict[int, str]] = {rule.name: {} for rule in RULES}
    for row, sample in chat_rows(subject):
        for name, seen in rules_hit(sample).items():
            hits[name][row] = seen
    findings = []
    for rule in RULES:
        rows = hits[rule.name]
        # What a third of the rows have in common is how the data is meant.
        severity: Severity = "info" if len(rows) > MEANT_FRACTION * len(subject.samples) else rule.severity
        findings += row_finding(
            subject, rule.number, severity, rule.title, rows, fix=rule.fix, certainty=rule.certainty
        )
    return findings
