"""Targets that are numbers: read from text, every one that is none named, and standardised for training."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import fmean, pstdev
from typing import NamedTuple

from foretune.data.faults import fault_error, short
from foretune.data.samples import Sample
from foretune.data.tokenise import sample_fault
from foretune.errors import DataError

__all__ = ["UNSCALED", "Scale", "number_of", "scale_of", "shown_number", "target_numbers"]


class Scale(NamedTuple):
    """Mean and standard deviation of the training targets, in their own unit."""

    mean: float = 0.0
    deviation: float = 1.0

    def standardised(self, number: float) -> float:
        """In standard deviations from the mean."""
        return (number - self.mean) / self.deviation

    def restored(self, value: float) -> float:
        """The inverse of `standardised`."""
        return value * self.deviation + self.mean


UNSCALED = Scale()


def number_of(text: str) -> float | None:
    """The finite number that a text is, white space aside (`3`, `-0.5`, `1e-3`); None where it is none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def shown_number(value: float) -> str:
    """A number as an answer: six significant digits."""
    return f"{value:.6g}"


def target_numbers(samples: Sequence[Sample]) -> list[float]:
    """The targets as numbers. Raises DataError naming every row whose target is no number."""
    numbers = [number_of(sample.target) for sample in samples]
    faults = [
        sample_fault(sample, f"the target {short(sample.target)} is no number", "write it as digits, such as 3.5")
        for sample, number in zip(samples, numbers, strict=True)
        if number is None
    ]
    if faults:
        raise fault_error(faults, "the targets")
    return [number for number in numbers if number is not None]


def scale_of(numbers: Iterable[float]) -> Scale:
    """The scale of training targets. Raises DataError where they are all the same."""
    known = list(numbers)
    deviation = pstdev(known) if known else 0.0
    if not deviation:
        raise DataError(
            f"all {len(known)} training targets are the same number, there is nothing to learn",
            fix="check data.target_field",
        )
    return Scale(fmean(known), deviation)
