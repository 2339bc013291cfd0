"""What noise costs: systems on the noisy twin of the test split, each held against itself on the clean one."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from foretune.data.noisy import paired, read_noisy
from foretune.evaluate.case import Case, HeldOut
from foretune.evaluate.metrics import Scoring
from foretune.evaluate.scorers.table import ScoreTable, compare_scores
from foretune.evaluate.systems import System
from foretune.records.evaluation import NoisyScore

__all__ = ["PREFIX", "Twins", "noisy_scores", "noisy_twins"]

PREFIX = "noisy_"  # before the name of a system, in the journal


class Twins(NamedTuple):
    """The test samples that have a noisy twin, by their places in the test split, and these twins."""

    places: list[int]
    held_out: HeldOut


def noisy_twins(case: Case, test: HeldOut) -> Twins | None:
    """The noisy twins that collecting left in the run folder; None where none were asked for or none fits."""
    twins = read_noisy(case.run_dir)
    places = {id(sample): place for place, sample in enumerate(test.samples)}
    pairs = paired(test.samples, twins)
    if twins and not pairs:
        case.warnings.append("the noisy test split is of other data than the test split: it is not scored")
    if not pairs:
        return None
    pairs.sort(key=lambda pair: places[id(pair[0])])
    return Twins([places[id(sample)] for sample, _ in pairs], HeldOut(test.look, [twin for _, twin in pairs]))


def noisy_scores(
    case: Case, scoring: Scoring, clean: Mapping[str, System], noisy: Mapping[str, System], twins: Twins
) -> tuple[NoisyScore, ...]:
    """The primary metric of each system on both twins, with the paired difference, noisy minus clean."""
    return tuple(_score(case, scoring, name, clean[name], system, twins) for name, system in noisy.items())


def _score(case: Case, scoring: Scoring, name: str, clean: System, noisy: System, twins: Twins) -> NoisyScore:
    targets = twins.held_out.targets
    before: ScoreTable = scoring.score([clean.predictions[place] for place in twins.places], targets)
    after: ScoreTable = scoring.score(noisy.predictions, targets)
    margin = case.job.evaluate.advanced.margin
    groups, look = twins.held_out.groups, twins.held_out.look
    apart = compare_scores(scoring.primary, before, after, groups=groups, look=look, margin=margin)
    return NoisyScore(
        system=name,
        metric=scoring.primary,
        clean=before.metrics[scoring.primary].value,
        noisy=after.metrics[scoring.primary].value,
        n=len(targets),
        ci_low=apart.ci_low,
        ci_high=apart.ci_high,
        p_value=apart.p_value,
    )
