"""The score on rows that training never saw: of validation, and of the test split where that does not leak."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math

from foretune.diagnose.evidence import Evidence
from foretune.diagnose.held_out import leakage, leakage_needs
from foretune.records.evidence import Score

__all__ = ["held_out_score"]

LEAKING = 0.5  # of the statistic of leakage: from here on the test split is not believed


def held_out_score(evidence: Evidence) -> Score:
    """The primary metric of the fine-tuned model on validation and test together, else on validation.

    Both are drawn alike, so that they differ by chance alone. Needs `probes.validation_score`.
    """
    assert evidence.probes is not None and evidence.probes.validation_score is not None
    validation, test = evidence.probes.validation_score, _test_score(evidence)
    if test is None:
        return validation
    n = validation.n + test.n
    parts = [(one.n / n, one) for one in (validation, test)]
    value = sum(share * one.value for share, one in parts)
    below = math.hypot(*(share * (one.value - one.ci_low) for share, one in parts))
    above = math.hypot(*(share * (one.ci_high - one.value) for share, one in parts))
    return Score(value=value, ci_low=value - below, ci_high=value + above, n=n)


def _test_score(evidence: Evidence) -> Score | None:
    """What evaluation measured on the same metric; None where there is none, or training saw test rows."""
    evaluation, probes = evidence.evaluation, evidence.probes
    if evaluation is None or probes is None or evaluation.primary_metric != probes.primary_metric:
        return None
    found = None if leakage_needs(evidence) else leakage(evidence)
    if found is not None and found.statistic >= LEAKING:
        return None
    metric = evaluation.system(evaluation.candidate).metrics[probes.primary_metric]
    return Score(value=metric.value, ci_low=metric.ci_low, ci_high=metric.ci_high, n=metric.n)
