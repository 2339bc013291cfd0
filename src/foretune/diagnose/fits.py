"""How many targets fit their input no better than another's: read from the tails of what pairings with others cost."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from foretune.diagnose.behaviour import Estimate, difference
from foretune.diagnose.evidence import MOST, Evidence
from foretune.records.evidence import FitEvidence, Score
from foretune.stats.intervals import wilson

__all__ = ["Noise", "excess_over_validation", "misfits_by_heart", "unlike", "word_fit", "wrong_targets"]

NARROW, MIDDLE, WIDE, WIDEST = 0.25, 0.5, 0.7, 0.9  # of the pairings with inputs of others, the dearest
CLEAN = 0.2  # of what a tail would hold of targets that fit no better than another's: fewer are right but hard ones
FAR_LESS = 0.5  # confused pairings of validation, of those of training


class Noise(NamedTuple):
    """The share of the targets that fit their own input no better than another's, with its 95 % interval.

    It is read from the dearest `level` of the pairings with inputs of others, over `n` targets.
    """

    rate: float
    low: float
    high: float
    level: float
    n: int


def wrong_targets(evidence: Evidence) -> Noise | None:
    """The share of wrong targets, by the tail that hard but right ones do not reach; None where it was not measured.

    Where the model tells nearly every target from those of others, right targets are far from the tail and a wide one
    counts more rows. Where it learned the task in part, right targets that it does not know reach into the wide tails,
    but are seldom as dear as the dearest.
    """
    train, validation = _splits(evidence)
    if train is None:
        return None
    is_hard = any(_is_confused(fit, evidence) for fit in (train, validation) if fit is not None)
    level = NARROW if is_hard else WIDE
    found = _noise([train], level)
    if validation is None:
        return found
    # Validation targets are not learned by heart, but what the model learned by heart in training it fails on there:
    # they count as far as training targets are odd at all.
    return max(found, _noise([train, validation], level, most=_rate(train, WIDEST)))


def excess_over_validation(evidence: Evidence) -> Estimate | None:
    """How much more of training's targets than of validation's fit badly, at a tail that the latter hardly reach.

    Where only training has wrong targets, those of validation show how dear right ones are. None where no tail is free
    of them; of the tails the one that says most.
    """
    train, validation = _splits(evidence)
    if train is None or validation is None:
        return None
    levels = [level for level in (NARROW, MIDDLE, WIDE, WIDEST) if _rate(validation, level) <= CLEAN]
    found = [(difference(_share(train, level), _share(validation, level)), level) for level in levels]
    scaled = [Estimate(one.value / level, one.low / level, one.high / level, one.n) for one, level in found]
    return max(scaled, key=lambda one: one.low, default=None)


def unlike(evidence: Evidence) -> float:
    """The share of targets that fit no better than another's, of the split where it is larger; MOST where unknown."""
    fits = [fit for fit in _splits(evidence) if fit is not None]
    return max((_rate(fit, NARROW) for fit in fits), default=MOST)


def misfits_by_heart(evidence: Evidence) -> bool:
    """Whether validation's inputs tell their targets far better than training's do: then training's are at fault.

    How many of them fit says little then: those that do may have been learned by heart.
    """
    train, validation = _splits(evidence)
    if train is None or validation is None:
        return False
    return validation.cheaper_fraction < FAR_LESS * train.cheaper_fraction


class WordFit(NamedTuple):
    """What the words alone say of the training pairs, without a model.

    `confusion`: how often another's input tells a target better than the median one is told by its own, 0.5 where they
    are unrelated. `noise`: the share of targets that fit their own input no better than another's. `is_clear`: whether
    nearly every target is told, so that the share is as good as counted.
    """

    confusion: float
    noise: float
    is_clear: bool


def word_fit(evidence: Evidence) -> WordFit | None:
    """The words' view, where they say anything; None where it was not measured or the words do not show a relation.

    That they show none proves nothing: sums are related to their numbers.
    """
    fit = evidence.probes.word_fit if evidence.probes is not None else None
    limits = evidence.thresholds
    if fit is None or fit.cheaper_fraction > limits.word_confusion:
        return None
    is_clear = fit.cheaper_fraction <= limits.word_clear
    return WordFit(fit.cheaper_fraction, _rate(fit, WIDE if is_clear else NARROW), is_clear)


def _splits(evidence: Evidence) -> tuple[FitEvidence | None, FitEvidence | None]:
    fits = {fit.split: fit for fit in evidence.probes.fits} if evidence.probes is not None else {}
    return fits.get("train"), fits.get("validation")


def _is_confused(fit: FitEvidence, evidence: Evidence) -> bool:
    return fit.cheaper_fraction > evidence.thresholds.confused_fraction


def _rate(fit: FitEvidence, level: float, most: float = math.inf) -> float:
    """What a tail says of the share of wrong targets."""
    tail = min(fit.tails, key=lambda tail: abs(tail.level - level))
    return min(most, tail.targets_fraction / max(tail.pairings_fraction, 1 / fit.num_pairings))


def _noise(fits: Sequence[FitEvidence], level: float, most: float = math.inf) -> Noise:
    """The rate over splits, at most `most` for those behind the first; the interval is Wilson's of the rows counted."""
    n = sum(fit.n for fit in fits)
    rate = sum(fit.n * _rate(fit, level, most if place else math.inf) for place, fit in enumerate(fits)) / n
    seen = wilson(min(n, round(rate * level * n)), n)
    return Noise(min(1.0, rate), seen.low / level, min(1.0, seen.high / level), level, n)


def _share(fit: FitEvidence, level: float) -> Score:
    """The share of the targets in a tail, with its interval."""
    tail = min(fit.tails, key=lambda tail: abs(tail.level - level))
    seen = wilson(round(tail.targets_fraction * fit.n), fit.n)
    return Score(value=seen.value, ci_low=seen.low, ci_high=seen.high, n=seen.n)
