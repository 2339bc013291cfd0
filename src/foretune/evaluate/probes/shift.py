"""A sample of production against training: can they be told apart, how much is not covered, and the score on it."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np

from foretune.data.embed.door import nearest, open_embedder
from foretune.data.embed.vectors import Embedder
from foretune.data.formats import read_samples
from foretune.data.samples import Sample
from foretune.errors import DataError
from foretune.evaluate.probes.references import references
from foretune.evaluate.probes.rows import plain_text
from foretune.evaluate.probes.scope import NoEvidence, Scope, mean_score, share_score
from foretune.evaluate.systems import FINE_TUNED
from foretune.records.evidence import Score, ShiftEvidence
from foretune.stats.drift import mmd_shift
from foretune.stats.separation import separation

__all__ = ["Production", "read_production_samples", "shift_evidence"]

MOST_ROWS, QUICK_ROWS = 1000, 400  # of either side
LEAST_ROWS = 20
COVERED = 0.95  # of held-out training inputs lie nearer to training than what counts as not covered
NUM_WORST = 10
Production = Callable[[Path], list[Sample]]


def shift_evidence(scope: Scope, read_queries: Production | None) -> ShiftEvidence:
    """Production inputs beside those of training; the score where production has targets."""
    production = read_production_samples(scope, read_queries)
    most = QUICK_ROWS if scope.quick else MOST_ROWS
    rng = Random(f"shift/{scope.case.job.seed}")
    train = _thinned([one for one in scope.own if one.input_text.strip()], most, rng)
    asked = _thinned([one for one in production if one.input_text.strip()], most, rng)
    if min(len(train), len(asked)) < LEAST_ROWS:
        raise NoEvidence(f"{len(train)} training and {len(asked)} production inputs, {LEAST_ROWS} of each are needed")
    texts = [[sample.input_text for sample in side] for side in (train, asked)]
    name = "tfidf" if scope.quick else scope.case.job.evaluate.advanced.embedder
    model = open_embedder(name, corpus=[*texts[0], *texts[1]])
    vectors = [model.encode(side) for side in texts]
    apart = separation(*vectors)
    far = _uncovered(model, texts[0], texts[1], rng)
    order = np.argsort(-far.distances, kind="stable")[:NUM_WORST]
    labelled = scope.drawn([sample for sample in production if sample.target], "production")
    return ShiftEvidence(
        num_production=len(production),
        auc=Score(value=apart.value, ci_low=apart.low, ci_high=apart.high, n=apart.n),
        mmd_p_value=mmd_shift(*vectors).p_value,
        uncovered_fraction=share_score(int(far.is_far.sum()), len(far.is_far)),
        score_production=_production_score(scope, labelled),
        score_test=_test_score(scope),
        worst_places=tuple(asked[at].place for at in order.tolist() if far.is_far[at] and asked[at].place),
        nats_production=_nats(scope, labelled),
        nats_validation=_nats(scope, scope.split("validation")),
    )


def read_production_samples(scope: Scope, read_queries: Production | None) -> list[Sample]:
    """The job's sample of production, with targets where it has them. Raises NoEvidence where there is none."""
    data = scope.case.job.data
    if not data.production_path:
        raise NoEvidence("no sample of production was given (data.production_path)")
    path = scope.case.folder / Path(data.production_path).expanduser()
    try:
        return read_samples(
            path, task=data.task, system=data.system, input_field=data.input_field, target_field=data.target_field
        ).samples
    except DataError:
        if read_queries is None:
            return read_samples(path, task="any").samples
    return read_queries(path)


def _thinned(samples: Sequence[Sample], most: int, rng: Random) -> list[Sample]:
    if len(samples) <= most:
        return list(samples)
    return [samples[place] for place in sorted(rng.sample(range(len(samples)), most))]


class _Far(NamedTuple):
    """How far each production input lies from training, and whether that is farther than training lies from itself."""

    distances: np.ndarray
    is_far: np.ndarray


def _uncovered(model: Embedder, train: Sequence[str], asked: Sequence[str], rng: Random) -> _Far:
    """Distances to one half of the distinct training inputs, held against those of the other half."""
    distinct = list({plain_text(text): text for text in train}.values())
    if len(distinct) < LEAST_ROWS:
        raise NoEvidence(f"{len(distinct)} distinct training inputs, {LEAST_ROWS} are needed")
    rng.shuffle(distinct)
    half = len(distinct) // 2
    known, held = distinct[:half], distinct[half:]
    usual = 1.0 - nearest(model, held, known)
    distances = 1.0 - nearest(model, asked, known)
    return _Far(distances, distances > np.quantile(usual, COVERED))


def _production_score(scope: Scope, samples: Sequence[Sample]) -> Score | None:
    """The primary metric on production samples with targets; None where there are none."""
    if not samples or scope.is_text:
        return None
    answers = scope.answers_to(samples, "production")
    return scope.score(answers.texts, answers.targets)


def _test_score(scope: Scope) -> Score | None:
    answers = scope.recorded_by(FINE_TUNED)
    if not answers or scope.is_text:
        return None
    return scope.score([answer.prediction for answer in answers], [answer.expected for answer in answers])


def _nats(scope: Scope, samples: Sequence[Sample]) -> Score | None:
    """What targets cost the fine-tuned model, a mean over samples of nats a token; None where it writes no tokens."""
    if scope.is_text or scope.kind not in ("causal", "seq2seq"):
        return None
    try:
        rows = references(samples, scope.tokenizer, kind=scope.kind, max_len=scope.max_len)
    except DataError:  # the template that serves cannot tell prompt and answer apart
        return None
    if len(rows) < LEAST_ROWS:
        return None
    found = scope.losses([row.asked() for row in rows], "fine_tuned")
    means = [float(nats[: len(row.places)].mean()) for row, nats in zip(rows, found, strict=True)]
    return mean_score(means, limits=None)
