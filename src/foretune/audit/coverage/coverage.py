"""Compare training with a sample of production: topics, lengths, tone, languages, drift, and what to collect."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np

from foretune.audit.coverage.gaps import Share, cluster_map, slice_shares
from foretune.audit.coverage.record import CoverageRecord, MapPoint, Topic
from foretune.audit.coverage.tone import compare_formality, compare_lengths
from foretune.audit.subject import shorten
from foretune.data.embed.clusters import cluster_name
from foretune.data.embed.door import nearest, open_embedder
from foretune.data.embed.vectors import Embedder, Vectors, projected
from foretune.data.languages import language_of
from foretune.data.samples import Sample
from foretune.errors import DataError
from foretune.stats.drift import examples_needed, mmd_shift, tail_drift

__all__ = ["FEW_PRODUCTION", "Slicer", "coverage", "field_slicer", "rule_slicer"]

Slicer = Callable[[Sample], str]
FEW_PRODUCTION = 100  # fewer rows tell little; 1,000 find a topic that is 20 % of production and 5 % of training
MIN_ROWS = 20
MAX_COMPARED = 20_000  # rows of either side; larger ones are thinned evenly
MAX_POINTS = 1000  # of either side on the map
NUM_TYPICAL, NUM_FARTHEST = 5, 20
OTHER = "other"


def field_slicer(field: str) -> Slicer:
    """Slices by a field of the data (`product`, or `customer.type` for a nested one); rows without it are "other"."""

    def slice_of(sample: Sample) -> str:
        value: object = sample.meta
        for name in field.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        return OTHER if value in (None, "") else str(value)

    return slice_of


def rule_slicer(words: Mapping[str, Sequence[str]]) -> Slicer:
    """Slices by words: the first slice of which a word stands in the input, whatever its case; else "other"."""
    lowered = {name: [word.casefold() for word in some] for name, some in words.items()}

    def slice_of(sample: Sample) -> str:
        text = sample.input_text.casefold()
        return next((name for name, some in lowered.items() if any(word in text for word in some)), OTHER)

    return slice_of


def coverage(
    train: Sequence[Sample],
    production: Sequence[Sample],
    *,
    slicer: Slicer | None = None,
    expected: Sequence[str] = (),
    embedder: str | Embedder = "auto",
    seed: int = 0,
) -> CoverageRecord:
    """How well training covers production, by the inputs alone: production needs no answers.

    `slicer` gives each row its slice, and `expected` names slices that must not be missing; topics are found by
    clustering either way. `embedder` is a name for `open_embedder` or an embedder. Deterministic by seed. Raises
    DataError where either side is empty, and what the embedder raises.
    """
    rows = [_thinned(side) for side in (train, production)]
    texts = [[sample.input_text for sample in side] for side in rows]
    if not all(texts):
        empty = "training" if not texts[0] else "production"
        raise DataError(f"no {empty} rows to compare, expected at least {MIN_ROWS}", fix="give a sample of requests")
    model = open_embedder(embedder, corpus=[*texts[0], *texts[1]]) if isinstance(embedder, str) else embedder
    vectors = [model.encode(side) for side in texts]
    distances = 1.0 - nearest(model, texts[1], texts[0])
    topics, points = _clustered(texts, vectors, distances, seed)
    sliced = [] if slicer is None else _sliced(rows, texts, slicer, expected, distances)
    shift = mmd_shift(vectors[0], vectors[1], seed=seed) if min(map(len, texts)) >= MIN_ROWS else None
    drift = tail_drift(1.0 - nearest(model, texts[0], texts[0]), distances, seed=seed)
    return CoverageRecord(
        num_train=len(train),
        num_production=len(production),
        embedder=model.name,
        topics=(*sliced, *_languages(texts), *topics),
        length=compare_lengths(*texts),
        formality=compare_formality(*texts),
        shift_statistic=shift.statistic if shift else 0.0,
        shift_p_value=shift.p_value if shift else 1.0,
        num_strange=drift.num_beyond,
        is_drifting=drift.alarm,
        drift_p_value=drift.p_value,
        points=points,
        warnings=_warnings(len(train), len(production)),
    )


def _thinned(samples: Sequence[Sample]) -> list[Sample]:
    step = max(1, -(-len(samples) // MAX_COMPARED))
    return [sample for sample in samples[::step] if sample.input_text.strip()]


def _warnings(num_train: int, num_production: int) -> tuple[str, ...]:
    told = []
    if num_production < FEW_PRODUCTION:
        told.append(f"{num_production} production rows tell little: give {FEW_PRODUCTION}, better 1,000")
    if max(num_train, num_production) > MAX_COMPARED:
        told.append(f"compared on at most {MAX_COMPARED:,} rows of either side, evenly spaced")
    return tuple(told)


def _sliced(
    rows: list[list[Sample]], texts: list[list[str]], slicer: Slicer, expected: Sequence[str], distances: Vectors
) -> list[Topic]:
    names = [[slicer(sample) for sample in side] for side in rows]
    shares = slice_shares(*names, expected=expected)
    needed = _needed(shares, len(rows[0]))
    labels = np.array(names[1])
    return [
        _topic(share, "slice", needed[share.name], *_examples(texts[1], labels == share.name, distances, None))
        for share in shares
    ]


def _languages(texts: list[list[str]]) -> list[Topic]:
    """Shares by language, where more than one is told; texts too short to tell are left out."""
    told = [[name for text in side if (name := language_of(text, is_sure=True))] for side in texts]
    if len({*told[0], *told[1]}) < 2 or not all(told):
        return []
    shares = slice_shares(*told)
    needed = _needed(shares, len(texts[0]))
    return [_topic(share, "language", needed[share.name], (), ()) for share in shares if share.status != "unused"]


def _clustered(
    texts: list[list[str]], vectors: list[Vectors], distances: Vectors, seed: int
) -> tuple[list[Topic], tuple[MapPoint, ...]]:
    found = cluster_map(*vectors, seed=seed)
    shares = _named(found.shares, texts, [found.train, found.production])
    needed = _needed(shares, len(texts[0]))
    topics = [
        _topic(s, "cluster", needed[s.name], *_examples(texts[1], found.production == number, distances, vectors[1]))
        for number, s in enumerate(shares)
    ]
    return topics, _points(texts, vectors, [found.train, found.production])


def _named(shares: list[Share], texts: list[list[str]], labels: list[np.typing.NDArray[np.int64]]) -> list[Share]:
    """Topics by the words that tell them apart; a name that comes twice gets a number."""
    everything = np.array([*texts[0], *texts[1]], object)
    topic = np.concatenate(labels)
    names: list[str] = []
    for number in range(len(shares)):
        name = cluster_name(everything[topic == number].tolist(), everything[topic != number].tolist())
        names.append(name if name not in names else f"{name} ({number})")
    return [share._replace(name=name) for share, name in zip(shares, names, strict=True)]


def _needed(shares: Sequence[Share], num_train: int) -> dict[str, int]:
    """Rows to add to each gap; an expected slice that production never asked for needs none by its share."""
    counts = {share.name: share.num_train for share in shares}
    rest = num_train - sum(counts.values())
    gaps = [share.name for share in shares if share.is_gap]
    wanted = {share.name: share.production_share for share in shares}
    needed = examples_needed({**counts, "": rest} if rest > 0 else counts, wanted, gaps)
    return {name: needed.get(name, 0) for name in counts}


def _examples(
    texts: list[str], inside: np.typing.NDArray[np.bool_], distances: Vectors, vectors: Vectors | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Typical texts (nearest to the mean, where there are vectors) and those farthest from training."""
    rows = np.flatnonzero(inside)
    far = rows[np.argsort(-distances[rows], kind="stable")]
    order = rows if vectors is None else rows[np.argsort(-(vectors[rows] @ vectors[rows].sum(axis=0)), kind="stable")]
    return _distinct(texts, order, NUM_TYPICAL), _distinct(texts, far, NUM_FARTHEST)


def _distinct(texts: list[str], rows: np.typing.NDArray[np.int64], num: int) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts[row] for row in rows.tolist()))[:num]


def _topic(
    share: Share,
    kind: Literal["slice", "cluster", "language"],
    needed: int,
    typical: tuple[str, ...],
    farthest: tuple[str, ...],
) -> Topic:
    values = share._asdict() | {"kind": kind, "needed": needed if share.is_gap else 0}
    shown = {"typical": typical, "farthest": farthest if share.is_gap else ()}
    return Topic.model_validate(values | shown)


def _points(
    texts: list[list[str]], vectors: list[Vectors], labels: list[np.typing.NDArray[np.int64]]
) -> tuple[MapPoint, ...]:
    flat = projected(np.concatenate(vectors))
    sides = (flat[: len(texts[0])], flat[len(texts[0]) :])
    points = []
    for name, words, places, topic in zip(("train", "production"), texts, sides, labels, strict=True):
        step = max(1, -(-len(words) // MAX_POINTS))
        for row in range(0, len(words), step):
            x, y = (round(float(value), 4) for value in places[row])
            values = {"x": x, "y": y, "side": name, "topic": int(topic[row]), "text": shorten(words[row], 80)}
            points.append(MapPoint.model_validate(values))
    return tuple(points)
