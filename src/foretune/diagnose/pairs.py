"""Faults of the pairs of input and target: copies that dominate, noisy labels, targets of other inputs."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from statistics import fmean

from foretune.config.derive import suggest_epochs
from foretune.diagnose.behaviour import (
    Estimate,
    floor_nats,
    gain,
    information,
    losses_of,
    repeated_fraction,
    unlikeness,
)
from foretune.diagnose.evidence import MOST, Evidence, percent, strength
from foretune.diagnose.fits import (
    Noise,
    WordFit,
    excess_over_validation,
    misfits_by_heart,
    unlike,
    word_fit,
    wrong_targets,
)
from foretune.records.diagnosis import Cause, DataStep

__all__ = [
    "duplicates",
    "duplicates_needs",
    "label_noise",
    "noise_needs",
    "unrelated_needs",
    "unrelated_targets",
]

MOST_LISTED = 20_000  # rows in a patch
DOUBTFUL = ("DATA080", "DATA082")  # findings of the audit: wrong labels, answers that contradict their input


# --- copies ---------------------------------------------------------------------------------------------------------


def duplicates_needs(evidence: Evidence) -> str:
    """What is missing to count copies; "" if nothing is."""
    if evidence.without_settings:
        return evidence.no_probes("losses")
    return evidence.no_probes("rows")


def duplicates(evidence: Evidence) -> Cause | None:
    """Samples that repeat others make up most of the training, or one of them a large part."""
    assert evidence.probes is not None
    limits, rows = evidence.thresholds, evidence.rows
    if rows is None:
        repeated = repeated_fraction(losses_of(evidence.probes, "train"))
        largest, distinct = 0.0, 0
        told = f"{percent(repeated)} of the probed training samples have the very losses of another one."
    else:
        repeated, largest, distinct = rows.duplicate_fraction, rows.largest_duplicate_fraction, rows.num_distinct
        told = (
            f"{percent(repeated)} of the training samples repeat an earlier one; {distinct:,} are distinct, and the "
            f"most frequent makes up {percent(largest, 1)}."
        )
    statistic = max(repeated / limits.duplicate_fraction, largest / limits.largest_duplicate_fraction)
    if statistic <= 0:
        return None
    num = distinct or round(evidence.num_train_samples * (1 - repeated))
    epochs = float(max(evidence.job.train.epochs, suggest_epochs(num)))
    patch = {"train.epochs": epochs} if epochs > evidence.job.train.epochs else {}
    return Cause(
        mode="duplicates",
        statistic=strength(statistic),
        evidence=(told,),
        explanation="The model sees the same few samples over and over in one pass, so it learns them by heart and "
        "little of the rest.",
        fixes=(
            "Keep one of each: --apply writes the data without copies.",
            f"About {num:,} different samples are left; gather more where that is little.",
        ),
        patch=patch,
        data_steps=(DataStep(do="drop_equal", why="copies dominate training"),),
    )


# --- targets of other inputs ----------------------------------------------------------------------------------------


def unrelated_needs(evidence: Evidence) -> str:
    """What is missing to hold targets against other inputs; "" if nothing is."""
    missing = evidence.no_probes("losses")
    if missing or evidence.probes is None:
        return missing
    known = information(losses_of(evidence.probes, "train"))
    return "" if known is not None else "too few training targets were read after other samples' inputs"


def unrelated_targets(evidence: Evidence) -> Cause | None:
    """Training targets that are no likelier after their own input than after another sample's."""
    assert evidence.probes is not None
    limits = evidence.thresholds
    train = losses_of(evidence.probes, "train")
    known, learned = information(train), gain(train)
    if known is None or learned is None:
        return None
    left = fmean(loss.tuned_nats for loss in train)
    words = word_fit(evidence)
    statistic = min(
        known.below(limits.information),
        left / limits.unrelated_nats,
        learned.above(limits.learned),
        MOST if misfits_by_heart(evidence) else unlike(evidence) / limits.unrelated_fraction,
        MOST if words is None else words.confusion,
    )
    return Cause(
        mode="unrelated_targets",
        statistic=strength(statistic),
        evidence=(
            f"Training took {percent(learned.value)} of the loss on training targets, but a target is only "
            f"{percent(known.value, 1)} likelier after its own input than after another sample's "
            f"(95 % interval {percent(known.low, 1)} to {percent(known.high, 1)}, n = {known.n}).",
            f"{left:.3f} nats a token are left that no input explains.",
        ),
        explanation="The targets do not belong to their inputs: the model learned what answers look like, and there "
        "was nothing else to learn. Rows of two files or columns were probably joined in different order.",
        fixes=(
            "Join inputs and targets again by a key, never by their order; foretune data show a few rows.",
            "If that is how the data are, the input does not hold the answer: bring it into the prompt by retrieval.",
        ),
        patch={},
    )


# --- noisy labels ---------------------------------------------------------------------------------------------------


def noise_needs(evidence: Evidence) -> str:
    """What is missing to judge labels; "" if nothing is."""
    return unrelated_needs(evidence) or evidence.no_probes("fits")


def label_noise(evidence: Evidence) -> Cause | None:
    """A part of the training targets is unexplained by its input although most of the others are learned."""
    limits, rows, noise = evidence.thresholds, evidence.rows, wrong_targets(evidence)
    if noise is None:
        return None
    excess, words = excess_over_validation(evidence), word_fit(evidence)
    found, share = (
        max(noise.rate / limits.noisy_fraction, excess.above(limits.noise_excess) if excess else 0.0),
        noise.rate,
    )
    if words is not None:
        told = words.noise / limits.noisy_fraction
        found, share = (told, words.noise) if words.is_clear else (min(found, told), share)
    statistic = min(found, (1 - share) / (1 - limits.most_noisy_fraction))
    conflicts = rows.conflicting_fraction if rows is not None else 0.0
    flagged = _listed(evidence)
    step = DataStep(do="drop_odd", ids=flagged, why="target contradicts the others")
    return Cause(
        mode="label_noise",
        statistic=strength(max(statistic, conflicts / limits.conflicting_fraction)),
        evidence=(
            _noise_sentence(noise),
            *_word_sentence(words),
            *_excess_sentence(excess),
            *_conflict_sentence(conflicts),
            *_score_sentence(evidence),
        ),
        explanation="A part of the targets contradicts what the other targets teach: wrong labels, or a task on which "
        "people do not agree.",
        fixes=(
            f"Have people read the {len(flagged)} listed rows: foretune rate. What they reject is noise, what they "
            "disagree on is ambiguous.",
            "Drop or relabel them: --apply writes the data without rows whose target does not belong to its input, by "
            "their words, or where these tell too little by the model's losses.",
        ),
        patch={},
        data_steps=(step,) if flagged or (words is not None and words.is_clear) else (),
    )


def _listed(evidence: Evidence) -> tuple[str, ...]:
    """The rows that were probed and found odd, and those whose label the audit of the data holds to be wrong."""
    assert evidence.probes is not None
    train = losses_of(evidence.probes, "train")
    others = [loss.given_others for loss in train if loss.given_others is not None]
    floor, usual, limit = floor_nats(train), fmean(others), evidence.thresholds.odd_cost
    odd = [loss for loss in train if unlikeness(loss, loss.given_others or usual, floor) > limit]
    findings = evidence.audit.findings if evidence.audit is not None else ()
    doubtful = [name for finding in findings if finding.id in DOUBTFUL for name in finding.sample_ids]
    return tuple(dict.fromkeys([*(loss.sample_id for loss in odd), *doubtful]))[:MOST_LISTED]


def _noise_sentence(noise: Noise) -> str:
    return (
        f"About {percent(noise.rate)} of the targets (95 % interval {percent(noise.low)} to {percent(noise.high)}, "
        f"n = {noise.n}) fit their own input no better than another sample's: read from the dearest "
        f"{percent(noise.level)} of such pairings."
    )


def _word_sentence(words: WordFit | None) -> tuple[str, ...]:
    return (f"By their words alone, without a model, it is {percent(words.noise)}.",) if words is not None else ()


def _excess_sentence(excess: Estimate | None) -> tuple[str, ...]:
    if excess is None or excess.low <= 0:
        return ()
    return (
        f"Training has {percent(excess.value)} more of these than validation (95 % interval {percent(excess.low)} to "
        f"{percent(excess.high)}), whose targets fit.",
    )


def _conflict_sentence(fraction: float) -> tuple[str, ...]:
    if not fraction:
        return ()
    return (f"{percent(fraction, 1)} of the samples have an input that has another target elsewhere.",)


def _score_sentence(evidence: Evidence) -> tuple[str, ...]:
    probes = evidence.probes
    if probes is None or probes.train_score is None or probes.validation_score is None:
        return ()
    train, validation = probes.train_score.value, probes.validation_score.value
    return (f"{probes.primary_metric} is {train:.3f} on training samples and {validation:.3f} on validation.",)
