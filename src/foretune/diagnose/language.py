"""Language loss: general skills that fell in one language, usually one that training hardly showed."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math
from statistics import NormalDist

from foretune.diagnose.evidence import Evidence, percent, strength
from foretune.diagnose.settings import earlier_end, lower_rate
from foretune.records.diagnosis import Cause
from foretune.records.evidence import EvidenceRecord, LanguageEvidence

__all__ = ["language_loss", "language_needs"]

ALPHA = 0.01  # one of many modes that every run is checked for
LEAST_TASKS = 20  # general tasks in a language that are right or wrong
ROUNDING = 1e-3  # of scores in records
LEAST_TEXTS = 8  # texts in a language, whose losses say more each


def language_needs(evidence: Evidence) -> str:
    """What is missing to compare languages; "" if nothing is."""
    missing = evidence.no_probes("languages")
    if missing or evidence.probes is None:
        return missing
    scored = _measured(evidence.probes)
    if scored:
        return ""
    return f"no language has scores of {LEAST_TASKS} tasks or {LEAST_TEXTS} texts or more before and after"


def _measured(probes: EvidenceRecord) -> list[LanguageEvidence]:
    return [
        one
        for one in probes.languages
        if one.base_score is not None and one.tuned_score is not None and one.n >= _least(one)
    ]


def _least(one: LanguageEvidence) -> int:
    """Fewer are enough of what is measured by degrees, if it was compared pair by pair: its p-value allows for `n`."""
    return LEAST_TEXTS if one.p_value is not None and not _is_of_rates(one) else LEAST_TASKS


def _is_of_rates(one: LanguageEvidence) -> bool:
    """Whether both scores can be shares of `n` tasks; those of texts are not."""
    counts = [one.n * (score or 0.0) for score in (one.base_score, one.tuned_score)]
    return all(abs(count - round(count)) < ROUNDING * one.n for count in counts)


def language_loss(evidence: Evidence) -> Cause | None:
    """Languages that training neglects and whose general skills fell, Bonferroni over all of them, worst first.

    Where the language of training falls too, that is forgetting.
    """
    assert evidence.probes is not None
    limits = evidence.thresholds
    measured = _measured(evidence.probes)
    neglected = [one for one in measured if one.train_fraction < limits.language_fraction * (one.asked_fraction or 0.2)]
    fallen = sorted((one for one in neglected if _p_value(one) * len(measured) < ALPHA), key=_fall, reverse=True)
    if not fallen or _fall(fallen[0]) <= 0:
        return None
    lost = [one for one in fallen if _fall(one) >= limits.language_fall] or fallen[:1]
    patch = {**lower_rate(evidence.job, 3), **earlier_end(evidence.job, 0.5)}
    names = ", ".join(one.language for one in lost)
    return Cause(
        mode="language_loss",
        statistic=strength(_fall(fallen[0]) / limits.language_fall),
        evidence=tuple(map(_sentence, lost)),
        explanation=f"General skills in {names} fell while the model learned a task in other languages.",
        fixes=(
            f"Mix general examples in {names} into training, 10-20 % of it: data.mix_path.",
            f"Lower the learning rate: train.learning_rate = {patch['train.learning_rate']:g}, and train less.",
        ),
        patch=patch,
    )


def _fall(one: LanguageEvidence) -> float:
    return (one.base_score or 0.0) - (one.tuned_score or 0.0)


def _p_value(one: LanguageEvidence) -> float:
    """The paired test's p-value, else that of two independent shares of `n`, which is larger."""
    if one.p_value is not None:
        return one.p_value
    both = ((one.base_score or 0.0) + (one.tuned_score or 0.0)) / 2
    error = math.sqrt(max(2 * both * (1 - both), 1e-9) / max(one.n, 1))
    return 2 * NormalDist().cdf(-abs(_fall(one)) / error)


def _sentence(one: LanguageEvidence) -> str:
    return (
        f"{one.language}: general skills {percent(one.base_score or 0.0)} before, {percent(one.tuned_score or 0.0)} "
        f"after (n = {one.n}); {percent(one.train_fraction)} of training, {percent(one.asked_fraction)} of what is "
        "asked."
    )
