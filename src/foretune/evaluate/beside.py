"""Systems that do not decide, against the fine-tuned model: endpoints with Holm's correction, quantised by gates."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from foretune.evaluate.case import Case, HeldOut
from foretune.evaluate.hosted import HOSTED
from foretune.evaluate.metrics import Scoring
from foretune.evaluate.quantised import GATES, quantised_gate, quantised_name
from foretune.evaluate.scorers.similarity import semantic_similarity, shuffled_similarity
from foretune.evaluate.scorers.table import compare_scores
from foretune.evaluate.systems import BASE_RETRIEVAL, System
from foretune.records.evaluation import Delta, QuantisedGate, SideClaim, Similarity, SystemGap
from foretune.stats.intervals import t_mean
from foretune.stats.multiplicity import holm
from foretune.stats.paired import PairedResult
from foretune.stats.verdict import verdict

__all__ = ["Beside", "beside", "similarity_of"]

ALPHA = 0.05
MOST_LACKING = 0.05  # of the samples that may be missing before a claim is withheld


class Beside(NamedTuple):
    """What is shown beside the verdict."""

    claims: tuple[SideClaim, ...] = ()
    gates: tuple[QuantisedGate, ...] = ()
    gaps: tuple[SystemGap, ...] = ()


def beside(
    case: Case, scoring: Scoring, tuned: System, systems: Sequence[System], baseline: str, test: HeldOut
) -> Beside:
    """Claims against endpoints and retrieval that are not the baseline, gates of quantised variants, and the gaps.

    Each on the samples that both answered; a system without a single answer is a gap and nothing else.
    """
    gates = {quantised_name(bits): bits for bits in GATES}
    rivals = [system for system in systems if _is_rival(system, baseline) and system.answered]
    packed = [system for system in systems if system.name in gates]
    return Beside(
        _claims(case, scoring, tuned, rivals, test),
        tuple(_gate(case, scoring, tuned, system, gates[system.name], test) for system in packed),
        tuple(SystemGap(system=system.name, reason=system.gap) for system in systems if not system.answered),
    )


def similarity_of(scoring: Scoring, predictions: Sequence[str], targets: Sequence[str]) -> Similarity | None:
    """The mean similarity of answers and targets with its interval, and what chance would give; None without any."""
    if scoring.embedder is None or not targets:
        return None
    mean = t_mean(semantic_similarity(predictions, targets, scoring.embedder), score_range=(-1.0, 1.0))
    found = shuffled_similarity(predictions, targets, scoring.embedder)
    return Similarity(
        embedder=scoring.embedder.name,
        mean=found.mean,
        ci_low=mean.low,
        ci_high=mean.high,
        shuffled=found.shuffled,
        above_chance=found.above_chance,
    )


def _is_rival(system: System, baseline: str) -> bool:
    is_other = system.name.startswith(HOSTED) or system.name == BASE_RETRIEVAL
    return is_other and system.name != baseline


def _claims(
    case: Case, scoring: Scoring, tuned: System, rivals: Sequence[System], test: HeldOut
) -> tuple[SideClaim, ...]:
    results = [_compared(case, scoring, system, tuned, system.answered, test) for system in rivals]
    adjusted = holm([result.p_value for result in results]) if results else []
    return tuple(
        _claim(case, scoring, system, result, p_adjusted, len(test.samples))
        for system, result, p_adjusted in zip(rivals, results, adjusted, strict=True)
    )


def _claim(
    case: Case, scoring: Scoring, system: System, result: PairedResult, p_adjusted: float, num_samples: int
) -> SideClaim:
    said = verdict(result, case.job.evaluate.advanced.margin).value
    has_gaps = result.n < (1 - MOST_LACKING) * num_samples
    is_proven = said not in ("better", "worse") or p_adjusted < ALPHA
    return SideClaim(
        system=system.name,
        metric=scoring.primary,
        n=result.n,
        delta=_delta(result),
        p_adjusted=p_adjusted,
        verdict=said if is_proven and not has_gaps else "inconclusive",
    )


def _gate(case: Case, scoring: Scoring, tuned: System, packed: System, bits: str, test: HeldOut) -> QuantisedGate:
    rows = list(range(len(test.samples)))
    whole, less = (scoring.score(system.predictions, test.targets) for system in (tuned, packed))
    result = _compared(case, scoring, tuned, packed, rows, test)
    return quantised_gate(bits, whole.metrics[scoring.primary].value, less.metrics[scoring.primary].value, result)


def _compared(
    case: Case, scoring: Scoring, baseline: System, candidate: System, rows: Sequence[int], test: HeldOut
) -> PairedResult:
    """Candidate against baseline on the samples of `rows` alone."""
    targets = [test.targets[row] for row in rows]
    tables = [scoring.score([system.predictions[row] for row in rows], targets) for system in (baseline, candidate)]
    groups = test.groups
    return compare_scores(
        scoring.primary,
        *tables,
        groups=None if groups is None else [groups[row] for row in rows],
        look=test.look,
        margin=case.job.evaluate.advanced.margin,
    )


def _delta(result: PairedResult) -> Delta:
    return Delta(
        value=result.value, ci_low=result.ci_low, ci_high=result.ci_high, p_value=result.p_value, method=result.method
    )
