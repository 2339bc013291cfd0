"""Multinomial logistic regression on sparse rows (L-BFGS, float32), and its probabilities for held-out rows."""

# SPDX-License-Identifier: Apache-2.0
#
# L-BFGS: Nocedal and Wright, "Numerical Optimization" (2006), algorithm 7.4; backtracking instead of a Wolfe search,
# and pairs without curvature are skipped. Stopped after a few steps on purpose: that fits wrong labels less.
from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from foretune.audit.features import Matrix

__all__ = ["fit", "held_out_probabilities", "probabilities"]

F32 = npt.NDArray[np.float32]
MAX_STEPS = 20
HISTORY = 5
HALVINGS = 12
PENALTY = 1 / 30  # of the squared weights, halved
NUM_FOLDS = 5


def probabilities(features: Matrix, weights_DK: F32) -> F32:
    """Class probabilities (rows, classes)."""
    logits: F32 = np.asarray(features @ weights_DK)
    logits -= logits.max(axis=1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=1, keepdims=True)
    return logits


def fit(features: Matrix, targets_NK: F32, row_weights: F32 | None = None, *, penalty: float = PENALTY) -> F32:
    """Weights (features, classes) for rows that belong to each class with a given probability."""
    weights_N = np.ones(features.shape[0], np.float32) if row_weights is None else row_weights
    transposed = features.T.tocsr()

    def loss(weights_DK: F32) -> tuple[float, F32]:
        proba = probabilities(features, weights_DK)
        chosen = np.log(np.maximum(proba, 1e-30))
        value = -float(weights_N @ (chosen * targets_NK).sum(axis=1))
        value += penalty / 2 * float(np.vdot(weights_DK, weights_DK))
        gradient: F32 = transposed @ ((proba - targets_NK) * weights_N[:, None])
        gradient += np.float32(penalty) * weights_DK
        return value, gradient

    return _minimum(loss, np.zeros((features.shape[1], targets_NK.shape[1]), np.float32))


def _minimum(loss: Callable[[F32], tuple[float, F32]], point: F32) -> F32:
    """L-BFGS from a point; at most 20 steps."""
    pairs: deque[tuple[F32, F32, float]] = deque(maxlen=HISTORY)
    value, gradient = loss(point)
    for _ in range(MAX_STEPS):
        direction = _direction(gradient, pairs)
        slope = float(np.vdot(direction, gradient))
        if slope >= 0:
            break
        step = 1.0 if pairs else 1 / max(float(np.linalg.norm(gradient)), 1e-12) ** 0.5
        for _ in range(HALVINGS):
            new = point + np.float32(step) * direction
            new_value, new_gradient = loss(new)
            if new_value <= value + 1e-4 * step * slope:
                break
            step /= 2
        else:
            break
        moved, turned = new - point, new_gradient - gradient
        curvature = float(np.vdot(moved, turned))
        if curvature > 1e-10 * float(np.vdot(turned, turned)):
            pairs.append((moved, turned, curvature))
        is_flat = value - new_value < 1e-5 * abs(value)
        point, value, gradient = new, new_value, new_gradient
        if is_flat:
            break
    return point


def _direction(gradient: F32, pairs: deque[tuple[F32, F32, float]]) -> F32:
    """The two-loop recursion: minus the inverse Hessian, as far as it is known, times the gradient."""
    result = -gradient
    factors = []
    for moved, turned, curvature in reversed(pairs):
        factor = np.float32(np.vdot(moved, result) / curvature)
        result -= factor * turned
        factors.append(factor)
    if pairs:
        _, turned, curvature = pairs[-1]
        result *= np.float32(curvature / np.vdot(turned, turned))
    for (moved, turned, curvature), factor in zip(pairs, reversed(factors), strict=True):
        result += (factor - np.float32(np.vdot(turned, result) / curvature)) * moved
    return result


def held_out_probabilities(
    features: Matrix, labels: npt.NDArray[np.int64], num_classes: int, row_weights: F32 | None = None, *, seed: int = 0
) -> F32:
    """Class probabilities of each row by a model that did not see it (5 folds, each with its share of every class)."""
    folds = _folds(labels, seed)
    one_hot = np.eye(num_classes, dtype=np.float32)[labels]
    result = np.zeros((len(labels), num_classes), np.float32)
    for fold in range(NUM_FOLDS):
        inside, outside = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        if not len(inside) or not len(outside):
            continue
        row_share = None if row_weights is None else row_weights[outside]
        result[inside] = probabilities(features[inside], fit(features[outside], one_hot[outside], row_share))
    return result


def _folds(labels: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.int64]:
    """A fold for each row: rows of a class, shuffled, are dealt to the folds in turn."""
    order = np.random.default_rng(seed).permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    folds = np.empty(len(labels), np.int64)
    folds[by_class] = np.arange(len(labels)) % NUM_FOLDS
    return folds
