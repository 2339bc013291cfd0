"""Recomputes the mean, median or sum of numbers listed in a task, and says whether the answer has it."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from collections.abc import Sequence
from statistics import fmean, median
from typing import Protocol

__all__ = ["is_wrong_statistic"]

NUMBER = re.compile(r"(?<![\w.])-?\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\w)|(?<![\w.])-?\d+(?:\.\d+)?")
PURE_LIST = re.compile(r"[\[\](){}\s\d.,;&-]*(?:and[\s\d.]*)?")
IN_TASK = re.compile(
    r"[:\[{(]?\s*((?:-?\d+(?:\.\d+)?(?:,\s*and\s+|,\s*|\s+and\s+|;\s*)){2,}-?\d+(?:\.\d+)?)[\]})]?\s*[.?]?$"
)
WANTED = {
    "median": re.compile(r"\bmedian\b", re.IGNORECASE),
    "mean": re.compile(r"\b(?:average|mean)\b", re.IGNORECASE),
    "sum": re.compile(r"\bsum\b", re.IGNORECASE),
}
OTHER = re.compile(
    r"\b(?:geometric|harmonic|weighted|squares?|squared|cubes?|moving|deviation|variance|absolute|even|odd|digits|first|last"
    r"|algorithm|function|program|code|script|series|sequence|two largest|greatest|maximum|compare|why|explain)\b",
    re.IGNORECASE,
)
CODE = re.compile(r"\b(?:def|return|function|import|print|SELECT)\b|[{};]|\w\(")
TOLERANCE = 0.006  # relative, or half a unit of the last digit written


class _Task(Protocol):
    @property
    def instruction(self) -> str: ...
    @property
    def context(self) -> str: ...
    @property
    def answer(self) -> str: ...


def is_wrong_statistic(task: _Task) -> bool:
    """Whether a task asks for one mean, median or sum of numbers it lists, and the answer does not hold its value.

    False where it cannot be told: several statistics, anything but a plain list, no number in the answer.
    """
    wanted = [name for name, form in WANTED.items() if form.search(task.instruction)]
    if len(wanted) != 1 or OTHER.search(task.instruction) or CODE.search(task.answer):
        return False
    numbers = _listed(task)
    given = [float(text.replace(",", "")) for text in NUMBER.findall(task.answer)]
    if len(numbers) < 2 or not given:
        return False
    right = {"median": median(numbers), "mean": fmean(numbers), "sum": sum(numbers)}[wanted[0]]
    return not any(_is_rounded(value, right) for value in given)


def _listed(task: _Task) -> Sequence[float]:
    text = task.context
    if not text:
        found = IN_TASK.search(task.instruction.strip())
        text = found[1] if found else ""
    if not PURE_LIST.fullmatch(text):
        return []
    return [float(number.replace(",", "")) for number in NUMBER.findall(text.replace(",", ", "))]


def _is_rounded(value: float, right: float) -> bool:
    """Whether a value is the right one, rounded as people round."""
    return abs(value - right) <= max(TOLERANCE * abs(right), 0.006) or value == round(right, 1)
