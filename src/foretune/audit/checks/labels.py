"""Checks of class labels: how many are wrong, which ones surely, and all rows in the order to read them."""

# SPDX-License-Identifier: Apache-2.0
#
# Each row is judged by a model that did not see it (5 folds); a row is suspicious as far as that model finds its given
# class unlikely. The number of wrong labels is read from the same model: were the label of a row drawn at random, its
# suspicion would have a distribution that can be computed (give every row another class and look). A share of the rows
# has it, the rest are right and hardly reach there: the ratio of the two tails is the rate. That many rows are flagged,
# the most suspicious, after the model has been fitted again without them.
#
# Two things that it cannot know are said instead of guessed. Labels that were confused with one like class are no
# random ones and leave no trace in those tails: how many there may be at most is told by the off-diagonal of the
# confident joint (Northcutt et al., "Confident Learning", 2021), whose rows are listed to be read. And where no model
# tells the classes apart, the tails disagree with each other: then no row is held to be wrong, and the rate is a range.
# Measured beside confident learning alone in benchmarks/data_noise.py.
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from foretune.audit.features import text_features
from foretune.audit.logistic import held_out_probabilities
from foretune.audit.rows import row_finding
from foretune.audit.subject import Subject, shorten
from foretune.errors import DataError
from foretune.records.audit import Finding

__all__ = ["LabelNoise", "label_noise", "label_noise_rows", "num_listed"]

I64 = npt.NDArray[np.int64]
F32 = npt.NDArray[np.float32]

TAILS = np.array([*np.arange(0.1, 0.96, 0.05), 0.97, 0.98, 0.99])  # shares of the random labels that count as the tail
RATE_TAILS = slice(1, 13)  # those that the rate is read from: 0.15 to 0.7
AGREEMENT = 0.1  # by which the widest of these may lie above the narrowest where the classes can be told apart
MAX_LIST_FRACTION = 0.25  # of the rows; nobody reads more
PRECISION = 0.9  # of the rows flagged, by their own estimate
NUM_DRAWS = 5
FLOOR = 1e-9
LEAST_RATE = 0.002
MIN_ROWS, MIN_ROWS_PER_CLASS = 100, 5
MAX_WEIGHTS = 20_000_000  # rows x classes; above, held-out models take more than minutes
CERTAINTY = 0.9  # planted flips of 5 to 40 %, banking77 and clinc150 (benchmarks/data_noise.py, 2026-11)
# The list: the top 500 of 25,000 reviews of IMDB's test held 290 of 725 labels that five people judged wrong, by
# TF-IDF and logistic regression (measured 2026-11-20); the same share is listed here.
LIST_FRACTION, LIST_CERTAINTY = 0.02, 0.5


class LabelNoise(NamedTuple):
    """What is known of the labels of some texts.

    `rate` is the estimated share of wrong labels, in [0, 1], if they are wrong at random; with mistakes of any kind it
    lies between `least` and `most`. `order` lists all rows, the most suspicious first; the first `num_flagged` are held
    to be wrong, none where the classes cannot be told apart (`accuracy` is that of the model on rows it did not see).
    `suspicion` is -ln p(given label); `proposed` the likeliest label.
    """

    rate: float
    least: float
    most: float
    accuracy: float
    is_separable: bool
    num_flagged: int
    order: tuple[int, ...]
    suspicion: tuple[float, ...]
    proposed: tuple[str, ...]


def label_noise_rows(subject: Subject) -> list[Finding]:
    """DATA080: labels that are wrong; DATA081: the next rows to read, the most suspicious first."""
    rows = [row for row, sample in enumerate(subject.samples) if not sample.is_text and sample.target.strip()]
    labels = [subject.targets[row] for row in rows]
    num_classes = len(set(labels))
    is_enough = len(rows) >= max(MIN_ROWS, MIN_ROWS_PER_CLASS * num_classes) and num_classes > 1
    if subject.task != "classify" or not is_enough or len(rows) * num_classes > MAX_WEIGHTS:
        return []
    noise = label_noise([subject.inputs[row] for row in rows], labels)
    seen = {rows[n]: _shown(subject, rows[n], noise.proposed[n]) for n in noise.order}
    flagged = [rows[n] for n in noise.order[: noise.num_flagged]]
    end = max(noise.num_flagged + round(LIST_FRACTION * len(rows)), num_listed(noise, len(rows)))
    doubted = [n for n in noise.order[noise.num_flagged : end] if noise.proposed[n] != labels[n]]
    title = f"labels are wrong (estimated rate {noise.rate:.1%}, {noise.least:.1%} to {noise.most:.1%})"
    fix = "read them in this order: a person decides faster than the model that proposes"
    wrong = {row: seen[row] for row in flagged}
    doubtful = {rows[n]: seen[rows[n]] for n in doubted}
    to_read = f"labels are doubtful: read these first ({noise.least:.1%} to {noise.most:.1%} of all may be wrong)"
    return [
        *row_finding(subject, 80, "warning", title, wrong, fix=fix, certainty=CERTAINTY),
        *row_finding(subject, 81, "info", to_read, doubtful, fix=fix, certainty=LIST_CERTAINTY),
    ]


def num_listed(noise: LabelNoise, num_rows: int) -> int:
    """How many rows to read where mistakes between like classes may be many and the classes can be told apart."""
    return round(min(noise.most, MAX_LIST_FRACTION) * num_rows) if noise.is_separable else 0


def _shown(subject: Subject, row: int, proposed: str) -> str:
    sample = subject.samples[row]
    return f"{shorten(sample.input_text, 80)} -> {shorten(sample.target, 40)!r}, likelier {proposed!r}"


def label_noise(texts: Sequence[str], labels: Sequence[str], *, seed: int = 0) -> LabelNoise:
    """Judge the label of every text. Raises DataError where there are fewer than two classes."""
    names = sorted(set(labels))
    if len(names) < 2:
        raise DataError(f"label noise needs at least 2 classes, got {len(names)}", fix="check data.target_field")
    number = {name: index for index, name in enumerate(names)}
    given = np.array([number[label] for label in labels], np.int64)
    rows = np.arange(len(given))
    features = text_features(texts)
    proba = held_out_probabilities(features, given, len(names), seed=seed)
    accuracy, mistaken = _mistaken(proba, given)
    ratios = _tail_ratios(proba, given, seed)
    chance = float(np.bincount(given).max()) / len(given)
    is_separable = _agree(ratios) and accuracy > chance + 3 / len(given) ** 0.5
    ratio = _settled(ratios, len(given)) if is_separable else float(ratios[RATE_TAILS].min())
    # A class drawn for a row with a wrong label may be its right one: such draws are no wrong labels.
    rate = ratio / (1 + ratio / (len(names) - 1))
    if rate > LEAST_RATE:
        kept = np.ones(len(given), np.float32)
        kept[np.argsort(proba[rows, given])[: round(rate * len(given))]] = 0
        proba = held_out_probabilities(features, given, len(names), kept, seed=seed + 1)
    suspicion = -np.log(proba[rows, given] + FLOOR)
    return LabelNoise(
        rate=rate,
        least=rate if is_separable else 0.0,
        most=max(rate, mistaken),
        accuracy=accuracy,
        is_separable=is_separable,
        num_flagged=_num_flagged(ratio, _tail_ratios(proba, given, seed), len(given)) if is_separable else 0,
        order=tuple(np.argsort(-suspicion, kind="stable").tolist()),
        suspicion=tuple(suspicion.tolist()),
        proposed=tuple(names[index] for index in proba.argmax(axis=1).tolist()),
    )


def _tail_ratios(proba: F32, given: I64, seed: int) -> npt.NDArray[np.float64]:
    """For each tail: the share of rows at least that suspicious, over the share of rows with a random class."""
    num, num_classes = proba.shape
    shift = np.random.default_rng(seed).integers(1, num_classes, (num, NUM_DRAWS))
    drawn = np.sort(np.take_along_axis(proba, (given[:, None] + shift) % num_classes, axis=1).ravel())
    own = np.sort(proba[np.arange(num), given])
    limits = np.quantile(drawn, TAILS)
    found: npt.NDArray[np.float64] = np.searchsorted(own, limits, side="right") / num
    expected = np.searchsorted(drawn, limits, side="right") / len(drawn)
    ratios: npt.NDArray[np.float64] = found / expected
    return ratios


def _agree(ratios: npt.NDArray[np.float64]) -> bool:
    """Whether all tails tell one rate: hard rows of classes that overlap make the wide tails larger."""
    found = ratios[RATE_TAILS]
    return bool(found[-1] - found[0] <= AGREEMENT)


def _mistaken(proba: F32, given: I64) -> tuple[float, float]:
    """The accuracy of the held-out model, and the share of rows that it surely puts into another class.

    Surely: at least as likely as that class is on average where it is given, the limit of confident learning.
    """
    num = len(given)
    own = proba[np.arange(num), given]
    sizes = np.maximum(np.bincount(given, minlength=proba.shape[1]), 1)
    limits = np.bincount(given, own, minlength=proba.shape[1]) / sizes
    sure = np.where(proba >= limits, proba, -1)
    is_other = (sure.max(axis=1) > 0) & (sure.argmax(axis=1) != given)
    return float((proba.argmax(axis=1) == given).mean()), float(is_other.mean())


def _settled(ratios: npt.NDArray[np.float64], num_rows: int) -> float:
    """The ratio of the widest tail that is not clearly above that of any narrower one.

    In wide tails right labels of hard rows are counted too; in narrow ones there are few rows to count.
    """
    found, tails = ratios[RATE_TAILS], TAILS[RATE_TAILS]
    errors = np.sqrt(found * tails * num_rows) / (tails * num_rows)
    least = np.minimum.accumulate(found + 2 * errors)
    return float(found[np.flatnonzero(found - errors <= least)[-1]])


def _num_flagged(ratio: float, ratios: npt.NDArray[np.float64], num_rows: int) -> int:
    """How many rows to flag: the widest tail in which `ratio` explains nine rows of ten."""
    wide = np.flatnonzero(ratio >= PRECISION * ratios)
    if ratio <= LEAST_RATE or not len(wide):
        return 0
    return round(float(ratios[wide[-1]] * TAILS[wide[-1]]) * num_rows)
