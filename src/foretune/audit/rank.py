"""Ranks rows by how likely a person would reject them, from a few hundred accept or reject clicks."""

# SPDX-License-Identifier: Apache-2.0
#
# Two models. The first needs no clicks: it learns from all rows which words go with the rules of row_rules.py, and so
# knows what is like a flagged row. The second learns the clicks from TF-IDF of instruction, input and answer, the
# rules, a few counts, and the first model's score. Rows that sure rules flag count as clicks of weight 0.8, rejected
# with the certainty of the rule. On rows of Alpaca that its curators edited, clicks on random rows taught at least as
# much as clicks on uncertain or suspicious ones (2026-11): so the rows to ask are drawn at random.
from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy import sparse

from foretune.audit.features import Matrix, text_features
from foretune.audit.logistic import fit, probabilities
from foretune.audit.row_rules import RULES, Parts, parts_of, rules_hit
from foretune.data.samples import Sample
from foretune.errors import ConfigError

__all__ = ["FEWEST_CLICKS", "rank_rows", "rows_to_ask"]

FEWEST_CLICKS = 20
MAX_TAUGHT = 20_000  # rows that the first model learns from; more change nothing
BASE = 0.08  # of rows that no rule flags, those that a person would reject anyway
RULE_WEIGHT = 0.8
PENALTY, PRIOR_PENALTY = 1.0, 0.3
F32 = npt.NDArray[np.float32]


def rows_to_ask(num_rows: int, num: int = 200, *, seed: int = 0, asked: Sequence[int] = ()) -> tuple[int, ...]:
    """Row numbers to show to a person next: drawn at random among those not asked yet."""
    left = np.setdiff1d(np.arange(num_rows), np.asarray(asked, np.int64))
    return tuple(np.random.default_rng(seed).permutation(left)[:num].tolist())


def rank_rows(samples: Sequence[Sample], rejected: Mapping[int, bool]) -> npt.NDArray[np.float64]:
    """For each row the probability that the person would reject it, in [0, 1].

    `rejected` holds the clicks: row number -> whether it was rejected. Without clicks the rules alone rank. Raises
    ConfigError where there are some, but fewer than 20, or all are alike.
    """
    if not samples:
        return np.zeros(0)
    parts = [parts_of(sample) for sample in samples]
    flags = np.array([[rule.name in hits for rule in RULES] for hits in map(rules_hit, samples)], np.float32)
    certainty = (1 - np.prod(1 - flags * np.array([rule.certainty for rule in RULES]), axis=1)).astype(np.float32)
    prior = _prior(parts, certainty)
    if not rejected:
        return np.asarray(prior, np.float64)
    _check(rejected, len(samples))
    is_sure = flags[:, [rule.is_sure for rule in RULES]].any(axis=1)
    flagged = np.setdiff1d(np.flatnonzero(is_sure), list(rejected))
    rows = np.concatenate([np.array(list(rejected), np.int64), flagged])
    chances = np.concatenate([np.array(list(rejected.values()), np.float32), certainty[flagged]])
    row_weights = np.concatenate([np.ones(len(rejected)), np.full(len(flagged), RULE_WEIGHT)]).astype(np.float32)
    features = _features(parts, flags, certainty, prior)
    weights = fit(features[rows], _two_columns(chances), row_weights, penalty=PENALTY)
    return np.asarray(probabilities(features, weights)[:, 1], np.float64)


def _check(rejected: Mapping[int, bool], num_rows: int) -> None:
    outside = [row for row in rejected if not 0 <= row < num_rows]
    if outside:
        raise ConfigError(
            f"click on row {outside[0]}, the data has {num_rows} rows", fix="use the rows that were asked"
        )
    num_bad = sum(rejected.values())
    if len(rejected) < FEWEST_CLICKS or num_bad in (0, len(rejected)):
        raise ConfigError(
            f"{len(rejected)} clicks, {num_bad} of them rejections, teach nothing: at least {FEWEST_CLICKS} are needed,"
            " some of each kind",
            fix="judge more rows (200 are a good number)",
        )


def _two_columns(chances: F32) -> F32:
    return np.stack([1 - chances, chances], axis=1).astype(np.float32)


def _prior(parts: Sequence[Parts], certainty: F32) -> F32:
    """The first model's probability of each row, by models that were not taught with the row itself."""
    words = [text_features([part[n] for part in parts], characters=False) for n in (0, 1)]
    features = sparse.hstack([words[0], words[1] * np.float32(0.5)], format="csr", dtype=np.float32)
    targets = _two_columns(np.maximum(certainty, np.float32(BASE)))
    half = np.random.default_rng(0).integers(0, 2, len(parts))
    result = np.full(len(parts), BASE, np.float32)
    for number in (0, 1):
        taught, judged = np.flatnonzero(half != number)[:MAX_TAUGHT], np.flatnonzero(half == number)
        if len(taught) and len(judged):
            weights = fit(features[taught], targets[taught], penalty=PRIOR_PENALTY)
            result[judged] = probabilities(features[judged], weights)[:, 1]
    return result


def _features(parts: Sequence[Parts], flags: F32, certainty: F32, prior: F32) -> Matrix:
    texts = [text_features([part[number] for part in parts], characters=number == 0) for number in range(3)]
    log_prior = np.log(prior + 1e-6)
    scores = np.stack(
        [
            0.5 * (log_prior - log_prior.mean()) / max(float(log_prior.std()), 1e-6),
            0.3 * np.log(np.maximum(certainty, 0.05) / (1.001 - np.maximum(certainty, 0.05))),
            np.ones(len(parts)),
        ],
        axis=1,
    )
    counts = np.array([_counts(part) for part in parts], np.float32) * np.float32(0.3)
    columns = [texts[0], texts[1] * 0.5, texts[2] * 0.5, flags, counts, scores]
    return sparse.hstack([sparse.csr_matrix(column) for column in columns], format="csr", dtype=np.float32)


def _counts(part: Parts) -> tuple[float, ...]:
    """Lengths and digits of a row, each about 1."""
    start = part.answer[:200]
    num_digits = sum(map(str.isdigit, part.instruction + part.context[:500]))
    return (
        min(len(part.instruction), 500) / 100,
        min(len(part.context), 500) / 200,
        min(len(part.answer), 1000) / 500,
        float(not part.context),
        float(num_digits > 2),
        sum(map(str.isdigit, start)) / max(1, len(start)),
        float(np.log1p(len(part.context))),
        float(np.log1p(len(part.answer))),
    )
