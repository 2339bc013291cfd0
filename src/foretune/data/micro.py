"""Global batches and micro-batches: which samples an update sees, and how they are cut into padded rectangles.

The plan and the training loop call the same functions, so that the plan counts the very batches that will run. No
torch.
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

__all__ = ["epoch_order", "global_batch", "micro_batches", "padded_tokens"]


def epoch_order(num_samples: int, *, seed: int, epoch: int) -> np.ndarray:
    """The order of the samples in one epoch: a permutation that depends on the seed and the epoch alone."""
    return np.random.default_rng((seed, epoch)).permutation(num_samples)


def global_batch(step: int, num_samples: int, global_batch_size: int, *, seed: int) -> np.ndarray:
    """Indices of the samples of optimizer step `step` (from 0); the last batch of an epoch may be smaller."""
    steps_per_epoch = -(-num_samples // global_batch_size)
    epoch, within = divmod(step, steps_per_epoch)
    order = epoch_order(num_samples, seed=seed, epoch=epoch)
    return order[within * global_batch_size : (within + 1) * global_batch_size]


def micro_batches(
    indices: Sequence[int] | np.ndarray, lengths: Sequence[int] | np.ndarray, *, budget_tokens: int
) -> Iterator[list[int]]:
    """Cut one global batch into micro-batches of like lengths, longest first.

    A micro-batch is padded to its longest row; rows x longest stays within `budget_tokens` (one row may exceed it), so
    that memory is bounded by the worst case while short samples share a pass. The gradient does not depend on the cut,
    because the loss is normalised by the whole global batch.
    """
    ordered = sorted((int(i) for i in indices), key=lambda i: (-lengths[i], i))
    rows: list[int] = []
    for index in ordered:
        if rows and (len(rows) + 1) * lengths[rows[0]] > budget_tokens:
            yield rows
            rows = []
        rows.append(index)
    if rows:
        yield rows


def padded_tokens(rows: Sequence[int], lengths: Sequence[int] | np.ndarray) -> int:
    """Positions that a micro-batch occupies, padding included."""
    return len(rows) * int(max(lengths[i] for i in rows))
