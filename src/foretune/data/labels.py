"""The classes of a labelled data set."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

from foretune.data.samples import Sample
from foretune.errors import DataError

__all__ = ["labels_of"]


def labels_of(samples: Sequence[Sample]) -> tuple[str, ...]:
    """The classes of the data: its distinct targets, sorted. Raises DataError where there are fewer than two."""
    labels = tuple(sorted({sample.target for sample in samples}))
    if len(labels) < 2:
        shown = f"only {labels[0]!r}" if labels else "none"
        raise DataError(
            f"classification needs at least 2 classes, got {shown} in {len(samples)} rows",
            fix='check data.target_field, or set data.task = "chat"',
        )
    return labels
