"""Held-out data that mislead: test rows that training saw, production that looks different."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math

from foretune.diagnose.behaviour import Estimate, difference
from foretune.diagnose.evidence import Evidence, percent, strength
from foretune.diagnose.settings import later_end
from foretune.records.diagnosis import Cause, DataStep
from foretune.records.evidence import AlikeEvidence, OverlapEvidence, ShiftEvidence
from foretune.stats.intervals import wilson

__all__ = ["distribution_shift", "leakage", "leakage_needs", "shift_needs"]

MORE_STEPS = 3.0  # times the steps where rows of another kind join: half learned, they confuse


# --- leakage --------------------------------------------------------------------------------------------------------


def leakage_needs(evidence: Evidence) -> str:
    """What is missing to see leakage; "" if nothing is."""
    return evidence.no_probes("overlap")


def leakage(evidence: Evidence) -> Cause | None:
    """Held-out inputs that stand in training as they are, or a test split that lies nearer to training than validation.

    Where validation is too small to compare with: near-duplicates that score higher than the rest.
    """
    assert evidence.probes is not None and evidence.probes.overlap is not None
    limits, overlap = evidence.thresholds, evidence.probes.overlap
    if overlap.num_test == 0:
        return None
    enough = overlap.num_near / limits.least_overlap
    exact = min(overlap.num_exact / overlap.num_test / limits.exact_overlap_fraction, enough)
    near = min(wilson(overlap.num_near, overlap.num_test).low / limits.near_overlap_fraction, enough)
    is_natural = overlap.alike is not None or not _seen_is_easier(overlap)  # validation tells, where it was compared
    if overlap.num_exact < overlap.num_near and is_natural:
        near = 0.0
    statistic = max(exact, near, _nearer(overlap.alike) / limits.alike_excess)
    if statistic <= 0:
        return None
    return Cause(
        mode="leakage",
        statistic=strength(statistic),
        evidence=(_overlap_sentence(overlap), *_score_sentence(overlap), *_alike_sentences(overlap.alike)),
        explanation="Training saw rows that it is tested on. The score on the test split says how well the model "
        "remembers, and is void as a promise for new inputs.",
        fixes=(
            "Take the copies out of training: --apply writes the data without them.",
            "Keep what belongs together in one split: data.group_field = the key of customer or document.",
        ),
        patch={},
        data_steps=(DataStep(do="drop_copies", ids=_copies(overlap), why="held-out rows stand in training"),),
    )


def _nearer(alike: AlikeEvidence | None) -> float:
    """Share of test inputs like a training row, beyond that of validation inputs, lower end at 99 %.

    Smirnov's one-sided bound (1939) holds for every similarity at once, so that choosing the one that parts both splits
    best costs nothing. Where test inputs are as often alike among themselves, they are near by nature.
    """
    if alike is None:
        return 0.0
    natural = max(alike.num_alike_validation / alike.num_validation, alike.by_chance)
    bound = math.sqrt(-math.log(0.01) / 2 * (1 / alike.num_test + 1 / alike.num_validation))
    return max(0.0, alike.num_alike / alike.num_test - natural - bound)


def _copies(overlap: OverlapEvidence) -> tuple[str, ...]:
    """Ids of the training rows that test inputs are like, where that is a leak."""
    return overlap.alike.train_ids if overlap.alike is not None and _nearer(overlap.alike) > 0 else ()


def _alike_sentences(alike: AlikeEvidence | None) -> tuple[str, ...]:
    if alike is None or _nearer(alike) <= 0:
        return ()
    shares = [alike.num_alike / alike.num_test, alike.num_alike_validation / alike.num_validation]
    lines = [
        f"{percent(shares[0])} of {alike.num_test} test inputs are like a training row with the same answer, and "
        f"{percent(shares[1])} of {alike.num_validation} validation inputs."
    ]
    seen, other = alike.score_alike, alike.score_other
    if seen is not None and other is not None:
        lines.append(f"These score {seen.value:.3f}, other held-out rows {other.value:.3f} (n = {other.n}).")
    return tuple(lines)


def _seen_is_easier(overlap: OverlapEvidence) -> bool:
    if overlap.score_seen is None:
        return False
    return overlap.score_clean is None or difference(overlap.score_seen, overlap.score_clean).low > 0


def _overlap_sentence(overlap: OverlapEvidence) -> str:
    return (
        f"{overlap.num_exact} of {overlap.num_test} held-out inputs stand in training, "
        f"{overlap.num_near} with near-duplicates ({percent(overlap.num_near / overlap.num_test)})."
    )


def _score_sentence(overlap: OverlapEvidence) -> tuple[str, ...]:
    seen, clean = overlap.score_seen, overlap.score_clean
    if seen is None or clean is None:
        return ()
    return (f"The score is {seen.value:.3f} on those (n = {seen.n}) and {clean.value:.3f} on the rest ({clean.n}).",)


# --- shift ----------------------------------------------------------------------------------------------------------


def shift_needs(evidence: Evidence) -> str:
    """What is missing to see a shift; "" if nothing is."""
    missing = evidence.no_probes("shift")
    return "needs a sample of production: data.production_path" if missing == "shift was not measured" else missing


def distribution_shift(evidence: Evidence) -> Cause | None:
    """Production can be told apart from training and is answered worse; without targets, much of it lies far away."""
    assert evidence.probes is not None and evidence.probes.shift is not None
    limits, shift = evidence.thresholds, evidence.probes.shift
    area = max(0.0, shift.auc.ci_low - 0.5) / (limits.shift_auc - 0.5)
    far = shift.uncovered_fraction.ci_low / limits.uncovered_fraction if shift.mmd_p_value < 0.01 else 0.0
    lost = _loss(shift)
    statistic = min(area, far) if lost is None else min(max(area, far), _worse(evidence, shift, lost))
    places = shift.worst_places[:5]
    return Cause(
        mode="distribution_shift",
        statistic=strength(statistic),
        evidence=(
            *_apart_sentences(shift),
            *([f"Farthest from training: {'; '.join(places)}."] if places else []),
        ),
        explanation="What the model is asked in production is not what it was trained on.",
        fixes=_shift_fixes(evidence, shift),
        patch=later_end(evidence.job, MORE_STEPS) if _production_steps(evidence, shift) else {},
        data_steps=_production_steps(evidence, shift),
    )


def _loss(shift: ShiftEvidence) -> Estimate | None:
    if shift.score_production is None or shift.score_test is None:
        return None
    return difference(shift.score_test, shift.score_production)


def _worse(evidence: Evidence, shift: ShiftEvidence, lost: Estimate) -> float:
    """How much worse production is answered: by its score, or by what its targets cost where the score agrees.

    Right answers are counted one by one, so a score shows a difference late; what targets cost shows it with fewer.
    """
    limits = evidence.thresholds
    dearer = _dearer(shift)
    by_cost = 0.0 if dearer is None or lost.value <= 0 else dearer.above(limits.shift_cost)
    return max(lost.above(limits.shift_loss), by_cost)


def _dearer(shift: ShiftEvidence) -> Estimate | None:
    """What production's targets cost over those of validation, as a share of the latter."""
    production, validation = shift.nats_production, shift.nats_validation
    if production is None or validation is None or validation.value <= 0:
        return None
    more, usual = difference(production, validation), validation.value
    return Estimate(more.value / usual, more.low / usual, more.high / usual, more.n)


def _apart_sentences(shift: ShiftEvidence) -> list[str]:
    auc = shift.auc
    lines = [
        f"A classifier tells production from training with an area of {auc.value:.2f} ({auc.ci_low:.2f} to "
        f"{auc.ci_high:.2f}; 0.5 = alike), MMD p = {shift.mmd_p_value:.3g}, n = {shift.num_production}.",
        f"{percent(shift.uncovered_fraction.value)} of production lies farther from training than 95 % of held-out "
        "training inputs.",
    ]
    lost = _loss(shift)
    if lost is not None and shift.score_production is not None and shift.score_test is not None:
        lines.append(
            f"The score is {shift.score_test.value:.3f} on test and {shift.score_production.value:.3f} on production "
            f"(difference {lost.low:+.3f} to {lost.high:+.3f})."
        )
    dearer = _dearer(shift)
    if dearer is not None:
        lines.append(
            f"Production's targets cost the model {percent(dearer.value)} more than those of validation "
            f"(95 % interval {percent(dearer.low)} to {percent(dearer.high)})."
        )
    return lines


def _shift_fixes(evidence: Evidence, shift: ShiftEvidence) -> tuple[str, ...]:
    least = max(30, round(0.1 * evidence.num_train_samples))
    fixes = [f"Collect and label about {least} production inputs, those farthest from training first."]
    if _production_steps(evidence, shift):
        fixes.append(
            "Nearest to it now: half of the labelled production rows join training, the other half judges: --apply "
            "writes both."
        )
    return (*fixes, "Rebuild the test split from real requests.")


def _production_steps(evidence: Evidence, shift: ShiftEvidence) -> tuple[DataStep, ...]:
    if shift.score_production is None or not evidence.job.data.production_path:
        return ()
    return (DataStep(do="add_production", why="production looks different"),)
