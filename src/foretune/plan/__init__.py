"""Plan: what training will take in parameters, memory, time and money, and afterwards what it took; without torch."""
# SPDX-License-Identifier: Apache-2.0

from foretune.plan.ledger import LedgerEntry, append_ledger, read_ledger
from foretune.plan.lengths import Lengths
from foretune.plan.plan import plan
from foretune.plan.reconcile import ledger_entries, outcome_sentence, reconcile

__all__ = [
    "LedgerEntry",
    "Lengths",
    "append_ledger",
    "ledger_entries",
    "outcome_sentence",
    "plan",
    "read_ledger",
    "reconcile",
]
