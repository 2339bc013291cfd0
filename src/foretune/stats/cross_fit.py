"""Verdicts on cross-fitted scores: every sample scored once, by a model that did not learn from it."""

# SPDX-License-Identifier: Apache-2.0
#
# Errors of the folds' models are not independent, since their training samples overlap. Simulated with a learner (60 to
# 500 samples, nominal 5 %): the test over samples alone finds 5.0 to 7.6 % false differences, that over folds alone 5.0
# to 6.5 %, the corrected resampled t (Nadeau and Bengio 2003) 1.0 to 2.0 %. Both tests together: 2.1 to 3.6 % with 5
# folds, 3.2 to 3.8 % with 10.
from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from foretune.errors import ScoreError
from foretune.stats.checks import ScoreRange, checked_scores, group_codes
from foretune.stats.paired import MARGIN, PairedResult, compare_paired, paired_result, paired_test
from foretune.stats.paired_tests import IdenticalDifferences, MeanDifference, PairedTest
from foretune.stats.power import Spread

__all__ = ["BothTests", "compare_cross_fitted"]

FEWEST_FOLDS = 3


@dataclass(frozen=True)
class BothTests:
    """A difference is found where two tests find it: the larger p, the wider interval."""

    by_samples: PairedTest
    by_folds: PairedTest

    @property
    def value(self) -> float:
        """Mean difference over samples."""
        return self.by_samples.value

    @property
    def p_value(self) -> float:
        """The larger one."""
        return max(self.by_samples.p_value, self.by_folds.p_value)

    @property
    def method(self) -> str:
        """Both."""
        return f"{self.by_samples.method}, and t over {self.by_folds.num_units} folds"

    @property
    def spread(self) -> Spread:
        """That of the samples."""
        return self.by_samples.spread

    @property
    def num_units(self) -> int:
        """Samples, or groups."""
        return self.by_samples.num_units

    @property
    def min_units(self) -> int:
        """As for the test over samples."""
        return self.by_samples.min_units

    def interval(self, alpha: float) -> tuple[float, float]:
        """What neither test rejects."""
        ends = (self.by_samples.interval(alpha), self.by_folds.interval(alpha))
        return min(low for low, _ in ends), max(high for _, high in ends)


def compare_cross_fitted(
    baseline_scores: ArrayLike,
    candidate_scores: ArrayLike,
    folds: Sequence[Hashable],
    kind: Literal["binary", "graded"] = "binary",
    groups: Sequence[Hashable] | None = None,
    alpha: float = 0.05,
    *,
    margin: float = MARGIN,
    score_range: ScoreRange | None = (0.0, 1.0),
) -> PairedResult:
    """Compare two systems on samples of K folds, each scored by the candidate that was trained on the other folds.

    The claim is about training on (K-1)/K of the samples. It takes the paired test over samples (or groups) and t(K-1)
    over the folds' differences. Raises ScoreError under 3 folds, and as `compare_paired`.
    """
    plain = compare_paired(
        baseline_scores, candidate_scores, kind, groups, alpha, margin=margin, score_range=score_range
    )
    differences = checked_scores(candidate_scores, "candidate") - checked_scores(baseline_scores, "baseline")
    codes = group_codes(folds, differences.size)
    if int(codes.max()) + 1 < FEWEST_FOLDS:
        raise ScoreError(f"{int(codes.max()) + 1} folds, expected at least {FEWEST_FOLDS}", fix="cross_fit = 10")
    by_samples = paired_test(differences, group_codes(groups, differences.size), kind, plain.span)
    sums, sizes = np.bincount(codes, weights=differences).astype(np.float64), np.bincount(codes).astype(np.float64)
    by_folds: PairedTest = MeanDifference(sums, sizes)
    if np.ptp(sums / sizes) <= 1e-12:  # the folds say nothing of their own spread
        by_folds = IdenticalDifferences(plain.value, sums.size, differences.size, plain.span)
    return paired_result(BothTests(by_samples, by_folds), differences.size, plain.span, alpha, 1, margin)
