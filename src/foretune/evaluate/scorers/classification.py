"""Scores of labels: accuracy, precision, recall and F1 per class and macro, and the confusion matrix."""

# SPDX-License-Identifier: Apache-2.0
#
# Shapes: n samples, C labels, B resamples.
from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from foretune.errors import ScoreError
from foretune.evaluate.scorers.spec import CorpusMetric
from foretune.stats.checks import FloatArray, IntArray

__all__ = [
    "INVALID",
    "MACRO_F1",
    "MACRO_PRECISION",
    "MACRO_RECALL",
    "ClassReport",
    "ClassScore",
    "Labels",
    "class_report",
    "label_match",
]

INVALID = "invalid"  # heading of the last column of a confusion matrix: answers that are no label


@dataclass(frozen=True)
class Labels:
    """The labels that an answer may be, in order, without doubles."""

    names: tuple[str, ...]

    @classmethod
    def of(cls, names: Iterable[str]) -> Labels:
        """Labels stripped of white space, in the order given. Raises ScoreError where there is none."""
        unique = tuple(dict.fromkeys(name.strip() for name in names))
        if not unique:
            raise ScoreError("there are no labels, expected at least 1", fix="labels come from the training targets")
        return cls(unique)

    @classmethod
    def from_targets(cls, targets: Iterable[str]) -> Labels:
        """The distinct targets, sorted."""
        return cls.of(sorted({target.strip() for target in targets}))

    def parse(self, text: str) -> str | None:
        """The label that `text` is, after stripping and, where that is unique, case-folding; None for anything else.

        Nothing is guessed: "positive." or "The label is positive" are no label.
        """
        stripped = text.strip()
        return stripped if stripped in self.index else self._folded.get(stripped.casefold())

    @cached_property
    def index(self) -> dict[str, int]:
        """Place of each label."""
        return {name: place for place, name in enumerate(self.names)}

    @cached_property
    def _folded(self) -> dict[str, str | None]:
        folded: dict[str, str | None] = {}
        for name in self.names:
            folded[name.casefold()] = None if name.casefold() in folded else name
        return folded


class ClassScore(NamedTuple):
    """One class: fractions in 0..1; `support` counts the samples whose target it is."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class ClassReport:
    """Every class, their unweighted means over the classes with support, and what was answered for what.

    `counts` is (C, C + 1): rows are targets, columns answers, the last column answers that are no label.
    """

    labels: tuple[str, ...]
    counts: IntArray
    classes: tuple[ClassScore, ...]
    accuracy: float
    macro_precision: float
    macro_recall: float
    macro_f1: float
    num_invalid: int


def label_match(prediction: str, target: str, labels: Labels) -> float:
    """1 where the prediction is the target's label; an invalid answer scores 0."""
    return float(labels.parse(prediction) == _target_label(target, labels))


def class_report(predictions: Sequence[str], targets: Sequence[str], labels: Labels | None = None) -> ClassReport:
    """Confusion matrix and all class metrics; a precision or recall of 0/0 is 0, as scikit-learn's zero_division=0."""
    known = labels or Labels.from_targets(targets)
    counts = confusion_counts(predictions, targets, known)
    hits, answered, wanted = counts.diagonal(), counts.sum(axis=0)[:-1], counts.sum(axis=1)
    precision, recall, f1 = _precision(hits, answered), _precision(hits, wanted), _f1(hits, answered, wanted)
    supported = wanted > 0
    columns = zip(known.names, precision, recall, f1, wanted, strict=True)
    return ClassReport(
        labels=known.names,
        counts=counts,
        classes=tuple(ClassScore(name, float(p), float(r), float(f), int(n)) for name, p, r, f, n in columns),
        accuracy=float(hits.sum() / counts.sum()),
        macro_precision=float(precision[supported].mean()),
        macro_recall=float(recall[supported].mean()),
        macro_f1=float(f1[supported].mean()),
        num_invalid=int(counts[:, -1].sum()),
    )


def confusion_counts(predictions: Sequence[str], targets: Sequence[str], labels: Labels) -> IntArray:
    """(C, C + 1) counts: rows targets, columns answers, last column invalid."""
    answered, wanted = label_codes(predictions, targets, labels)
    size = len(labels.names)
    flat = np.bincount(wanted * (size + 1) + answered, minlength=size * (size + 1))
    return flat.reshape(size, size + 1).astype(np.intp)


def label_codes(predictions: Sequence[str], targets: Sequence[str], labels: Labels) -> tuple[IntArray, IntArray]:
    """Places of the answers' and the targets' labels; an invalid answer has place C.

    Raises ScoreError naming the row whose target is no label.
    """
    size = len(labels.names)
    parsed = [labels.parse(prediction) for prediction in predictions]
    answered = [size if label is None else labels.index[label] for label in parsed]
    wanted = []
    for row, target in enumerate(targets):
        try:
            wanted.append(labels.index[_target_label(target, labels)])
        except ScoreError as error:
            raise ScoreError(f"row {row}: {error.what}", fix=error.fix) from None
    return np.array(answered, dtype=np.intp), np.array(wanted, dtype=np.intp)


def class_rows(predictions: Sequence[str], targets: Sequence[str], labels: Labels) -> FloatArray:
    """(n, 3 C): for each class whether it was right, was answered, was wanted."""
    answered, wanted = label_codes(predictions, targets, labels)
    size = len(labels.names)
    one_hot = np.eye(size + 1, size)  # the last row, for an invalid answer, is empty
    given, target = one_hot[answered], one_hot[wanted]
    return np.concatenate([given * target, given, target], axis=1)


def macro_precision_of_sums(sums_BK: FloatArray) -> FloatArray:
    """Mean precision of the classes with support, from summed `class_rows`."""
    hits, answered, wanted = np.split(sums_BK, 3, axis=1)
    return _mean_supported(_precision(hits, answered), wanted)


def macro_recall_of_sums(sums_BK: FloatArray) -> FloatArray:
    """Mean recall of the classes with support, from summed `class_rows`."""
    hits, _, wanted = np.split(sums_BK, 3, axis=1)
    return _mean_supported(_precision(hits, wanted), wanted)


def macro_f1_of_sums(sums_BK: FloatArray) -> FloatArray:
    """Mean F1 of the classes with support, from summed `class_rows`."""
    hits, answered, wanted = np.split(sums_BK, 3, axis=1)
    return _mean_supported(_f1(hits, answered, wanted), wanted)


MACRO_PRECISION = CorpusMetric(class_rows, macro_precision_of_sums)
MACRO_RECALL = CorpusMetric(class_rows, macro_recall_of_sums)
MACRO_F1 = CorpusMetric(class_rows, macro_f1_of_sums)


def _target_label(target: str, labels: Labels) -> str:
    label = labels.parse(target)
    if label is None:
        shown = ", ".join(labels.names[:5]) + (", ..." if len(labels.names) > 5 else "")
        raise ScoreError(f"the target {target!r} is no label, expected one of {shown}", fix="mend the sample's target")
    return label


def _precision(hits: FloatArray | IntArray, of: FloatArray | IntArray) -> FloatArray:
    return np.asarray(hits / np.maximum(of, 1), dtype=np.float64)


def _f1(hits: FloatArray | IntArray, answered: FloatArray | IntArray, wanted: FloatArray | IntArray) -> FloatArray:
    return np.asarray(2 * hits / np.maximum(answered + wanted, 1), dtype=np.float64)


def _mean_supported(values: FloatArray, wanted: FloatArray) -> FloatArray:
    supported = wanted > 0
    return np.asarray((values * supported).sum(axis=1) / np.maximum(supported.sum(axis=1), 1), dtype=np.float64)
