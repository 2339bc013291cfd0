"""How targets fit their own inputs, beside how they fit those of other samples: what tells noise among them."""

# SPDX-License-Identifier: Apache-2.0
#
# A target that is wrong at random costs after its own input what targets cost after the inputs of others. Where a share
# of the targets is of that kind, they make up that share of the dearest targets at any level, as in a mixture of which
# one part is known (Blanchard, Lee and Scott 2010, "Semi-supervised novelty detection", section 4).
from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import numpy as np

from foretune.data.pair_fit import OTHERS, pair_costs
from foretune.data.split import input_key
from foretune.data.subset import ordered_by_seed
from foretune.evaluate.probes.losses import SPLITS, Losses
from foretune.evaluate.probes.scope import NoEvidence, Scope, SplitName
from foretune.records.evidence import FitEvidence, TailShare

__all__ = ["LEVELS", "fit_evidence", "fit_of", "word_fit_evidence"]

LEVELS = (0.1, 0.25, 0.5, 0.7, 0.9)  # the dearest of the pairings with inputs of others
LEAST_TARGETS = 12
MOST_WORD_ROWS = 500


def fit_evidence(losses: Losses) -> tuple[FitEvidence, ...]:
    """Training and validation targets, each split that is large enough. Raises NoEvidence where none is."""
    found = []
    for name in SPLITS:
        paired = losses.paired[name].values()
        if len(paired) >= LEAST_TARGETS:
            found.append(fit_of(name, [one.own for one in paired], [one.others for one in paired]))
    if not found:
        raise NoEvidence(f"fewer than {LEAST_TARGETS} targets could be read after other samples' inputs")
    return tuple(found)


def word_fit_evidence(scope: Scope) -> FitEvidence:
    """Training targets by what the words of other pairs say of them, without any model. Raises NoEvidence.

    A relation that shows here is in the data, whether or not the model has learned it.
    """
    rows = ordered_by_seed([sample for sample in scope.own if sample.target.strip()], scope.case.job.seed)
    rows = rows[:MOST_WORD_ROWS]
    if scope.is_text or len(rows) < LEAST_TARGETS:
        raise NoEvidence(f"fewer than {LEAST_TARGETS} training samples have an input and a target")
    costs = pair_costs([input_key(row) for row in rows], [row.target for row in rows], num_others=OTHERS)
    return fit_of("train", costs.own, costs.others)


def fit_of(split: SplitName, own: Sequence[float], others: Sequence[Sequence[float]]) -> FitEvidence:
    """Of each target's nats a token after its own input, and after two or more others (any number for each target).

    Every target is measured from its own mean after the inputs of others: some targets are dear after any input. A
    pairing with another input is measured from the mean of the rest of them, so that it is not compared with itself.
    """
    middles = [fmean(row) for row in others]
    misfits = np.array([value - middle for value, middle in zip(own, middles, strict=True)])
    pairings = np.array([value - fmean(_without(row, at)) for row in others for at, value in enumerate(row)])
    tails = [_tail(misfits, pairings, level) for level in LEVELS]
    cheaper = float((pairings < np.median(misfits)).mean())
    return FitEvidence(
        split=split, n=len(misfits), num_pairings=len(pairings), cheaper_fraction=cheaper, tails=tuple(tails)
    )


def _without(values: Sequence[float], at: int) -> list[float]:
    return [*values[:at], *values[at + 1 :]]


def _tail(misfits: np.ndarray, pairings: np.ndarray, level: float) -> TailShare:
    limit = np.quantile(pairings, 1 - level)
    return TailShare(
        level=level,
        pairings_fraction=float((pairings >= limit).mean()),
        targets_fraction=float((misfits >= limit).mean()),
    )
