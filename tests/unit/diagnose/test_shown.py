"""The diagnosis as a terminal of 80 columns shows it."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from types import ModuleType

from rich.console import Console

from foretune.cli.show import diagnosis_shown
from foretune.diagnose.diagnose import judge
from unit.diagnose import planted


def test_causes_stand_in_80_columns_with_what_they_follow_from(s: ModuleType) -> None:
    evidence = s.evidence_of(s.curves_of(s.HEALTHY["converged"], 3), s.evaluation_of(verdict="not_better"))
    record = judge(replace(evidence, probes=planted.FAULTS["unrelated_targets"](0)))
    console = Console(width=80, record=True, file=None, force_terminal=False)
    with console.capture() as capture:
        for line in diagnosis_shown(record):
            console.print(line)
    text = capture.get()
    assert max(map(len, text.splitlines())) <= 80
    assert text.startswith("1. unrelated targets (strength ")
    assert "follows from unrelated targets" in " ".join(text.split())
    assert "not checked: forgetting (general skills were not measured" in " ".join(text.split())


def test_nothing_found_says_what_was_checked(s: ModuleType) -> None:
    evidence = s.evidence_of(s.curves_of(s.HEALTHY["converged"], 3))
    shown = [str(line) for line in diagnosis_shown(judge(evidence))]
    assert "nothing found" in shown[0] and "overfitting" in shown[1]
    unchecked = next(line for line in shown if "the model was not probed" in line)
    assert "label noise" in unchecked and "leakage" in unchecked  # one line for all that lack the same
