"""Share gaps: slices, or regions of a shared map, that are common in production and rare in training."""

# SPDX-License-Identifier: Apache-2.0
#
# A slice is weak where its training share is at most half of its production share and chance does not explain it.
# Without slices, the region is searched for: at every row the share of production among its neighbours (a Gaussian
# kernel, the row itself left out) says how much more production there is than training, and the rows above a threshold
# are the region. The threshold with the largest likelihood ratio (a scan statistic, Kulldorff 1997) is held against the
# best ones after shuffling which row is of which side: so the false alarm rate is exact, for all thresholds together.
from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from foretune.data.embed.clusters import Labels, clusters, joined
from foretune.data.embed.vectors import Vectors
from foretune.stats.drift import share_p_value

__all__ = ["ALPHA", "MIN_ROWS", "WEAK_RATIO", "Map", "Share", "cluster_map", "slice_shares"]

WEAK_RATIO = 0.5  # of training share to production share
MISSING_RATIO = 0.05
MIN_SHARE = 0.01  # of production; rarer slices are not worth collecting for
ALPHA = 0.05
MAX_ROWS = 2000  # of either side that the search looks at
MIN_ROWS = 20
KERNEL_WIDTH = 0.5  # squared distance of vectors of length 1 at which a neighbour counts 1/e
PRIOR = 0.5  # neighbours of either side in equal shares, added to every row
SHUFFLES = 199
WIDENING = 1.5  # a row belongs to the region while there is so much more production than training around it
MAX_REGION = 0.6  # of all rows
ROWS_A_CLUSTER, MAX_PARTS, MAX_TOPICS = 40, 8, 12
REGION_ALPHA = 0.02
PART_ALPHA = 0.01  # of one part of the region
SAME_TOPIC = 0.4  # cosine of two parts, seen from the mean of all rows

Floats = npt.NDArray[np.float64]


class Share(NamedTuple):
    """How much of production and of training one slice is; `status` is ok, weak, missing or unused."""

    name: str
    num_train: int
    num_production: int
    train_share: float
    production_share: float
    p_value: float
    status: str

    @property
    def ratio(self) -> float:
        """Training share over production share; infinite where production has none."""
        return self.train_share / self.production_share if self.production_share else float("inf")

    @property
    def is_gap(self) -> bool:
        """Whether training holds too little of it."""
        return self.status in ("weak", "missing")


class Map(NamedTuple):
    """Topics of both sides: `train` and `production` give each row its topic, by position in `shares`."""

    train: Labels
    production: Labels
    shares: list[Share]


def slice_shares(train: Sequence[str], production: Sequence[str], *, expected: Iterable[str] = ()) -> list[Share]:
    """The share of every slice, weakest first; `expected` slices are listed even where neither side has them.

    An expected slice without a training row is missing, whatever production holds.
    """
    have, asked, declared = Counter(train), Counter(production), set(expected)
    names = sorted(set(have) | set(asked) | declared)
    level = ALPHA / max(len(names), 1)
    shares = [_share(name, have[name], len(train), asked[name], len(production), level) for name in names]
    shares = [s._replace(status="missing") if s.name in declared and not s.num_train else s for s in shares]
    return sorted(shares, key=lambda share: (not share.is_gap, share.ratio, share.name))


def _share(name: str, have: int, rows: int, asked: int, production_rows: int, level: float) -> Share:
    train, production = have / max(rows, 1), asked / max(production_rows, 1)
    p_value = share_p_value(have, rows, asked, production_rows)
    status = "ok"
    if production >= MIN_SHARE and p_value <= level and train <= WEAK_RATIO * production:
        status = "missing" if train <= MISSING_RATIO * production else "weak"
    elif have and not asked and train >= MIN_SHARE and production_rows:
        status = "unused"
    return Share(name, have, asked, train, production, p_value, status)


def cluster_map(train: Vectors, production: Vectors, *, seed: int = 0) -> Map:
    """Topics of both sides, found without labels; gaps first. They are named by number, to be renamed by their words.

    Where either side has fewer than 20 rows there is no search for gaps.
    """
    rows = np.concatenate([train, production])
    in_region, p_value = np.zeros(len(rows), bool), 1.0
    if min(len(train), len(production)) >= MIN_ROWS:
        in_region, p_value = _region(train, production, seed)
    gaps = _parts(rows, in_region, MAX_PARTS, seed)
    shares = _shares(gaps, len(train), p_value)
    if in_region.any() and not any(share.is_gap for share in shares):
        gaps = np.where(in_region, 0, -1)  # weak as a whole, though no part is so by itself
        shares = _shares(gaps, len(train), p_value)
    others = _parts(rows, ~in_region, MAX_TOPICS, seed)
    shares += [share._replace(status="ok", p_value=1.0) for share in _shares(others, len(train), 1.0)]
    topics = np.where(in_region, gaps, others + gaps.max(initial=-1) + 1)
    named = [share._replace(name=str(number)) for number, share in enumerate(shares)]
    return Map(topics[: len(train)], topics[len(train) :], named)


def _parts(rows: Vectors, inside: npt.NDArray[np.bool_], largest: int, seed: int) -> Labels:
    """The topics of the rows inside, from 0; -1 elsewhere."""
    topics = np.full(len(rows), -1, np.int64)
    if inside.any():
        num = int(np.clip(inside.sum() // ROWS_A_CLUSTER, 1, largest))
        parts = clusters(rows[inside], num, seed=seed)[0]
        topics[inside] = joined(rows[inside], parts, rows.mean(axis=0), least_cosine=SAME_TOPIC)
    return topics


def _shares(topics: Labels, num_train: int, p_value: float) -> list[Share]:
    """The share of every topic. The search has found the region, and each part of it has to hold by itself."""
    sides = (topics[:num_train], topics[num_train:])
    counts = [np.bincount(side[side >= 0], minlength=int(topics.max(initial=-1)) + 1).tolist() for side in sides]
    shares = [
        _share("", have, len(sides[0]), asked, len(sides[1]), PART_ALPHA) for have, asked in zip(*counts, strict=True)
    ]
    return [s._replace(p_value=p_value) if s.is_gap else s._replace(status="ok", p_value=1.0) for s in shares]


def _region(train: Vectors, production: Vectors, seed: int) -> tuple[npt.NDArray[np.bool_], float]:
    """Which rows lie where production is far ahead of training, and how likely chance gives such a region."""
    rng = np.random.default_rng(seed)
    chosen = [_some(len(side), rng) for side in (train, production)]
    fitted = np.concatenate([train[chosen[0]], production[chosen[1]]])
    is_production = np.repeat([0.0, 1.0], [len(part) for part in chosen]).astype(np.float32)
    share = float(is_production.mean())
    labels = np.stack([is_production, *(rng.permutation(is_production) for _ in range(SHUFFLES))], axis=1)
    kernel = _kernel(fitted, fitted)
    np.fill_diagonal(kernel, 0.0)
    contrasts = _contrast(kernel @ labels, kernel.sum(axis=1, keepdims=True), share)
    best = [_scan(contrasts[:, n], labels[:, n], share, widening=0.0)[0] for n in range(labels.shape[1])]
    p_value = (1 + sum(value >= best[0] for value in best[1:])) / len(best)
    nothing = np.zeros(len(train) + len(production), bool)
    if p_value > REGION_ALPHA:
        return nothing, p_value
    threshold = _scan(contrasts[:, 0], is_production, share, widening=WIDENING)[1]
    rows = np.concatenate([train, production])
    found = _contrasts_at(rows, fitted, is_production, share) >= threshold
    places = np.concatenate([chosen[0], len(train) + chosen[1]])
    found[places] = contrasts[:, 0] >= threshold
    shares = found[: len(train)].mean(), found[len(train) :].mean()
    is_weak = shares[1] >= MIN_SHARE and shares[0] <= WEAK_RATIO * shares[1]
    return (found if is_weak else nothing), p_value


def _some(num: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    return np.arange(num) if num <= MAX_ROWS else np.sort(rng.choice(num, MAX_ROWS, replace=False))


def _kernel(rows: Vectors, others: Vectors) -> Vectors:
    result: Vectors = np.exp((rows @ others.T - 1.0) * np.float32(2 / KERNEL_WIDTH))
    return result


def _contrast(production: Vectors, everything: Vectors, share: float) -> Floats:
    """How much more production than training lies around a row, from -1 (none of it) to 1 (nothing else)."""
    ahead = production.astype(np.float64) / share + PRIOR
    behind = (everything - production).astype(np.float64) / (1 - share) + PRIOR
    result: Floats = (ahead - behind) / (ahead + behind)
    return result


def _contrasts_at(rows: Vectors, fitted: Vectors, is_production: Vectors, share: float) -> Floats:
    parts = [np.zeros(0)]
    for start in range(0, len(rows), MAX_ROWS):
        kernel = _kernel(rows[start : start + MAX_ROWS], fitted)
        parts.append(_contrast(kernel @ is_production, kernel.sum(axis=1), share))
    return np.concatenate(parts)


def _scan(contrast: Floats, is_production: Vectors, share: float, *, widening: float) -> tuple[float, float]:
    """The best value over all regions {contrast >= threshold}, and its threshold.

    The value is the log likelihood ratio, or with `widening` w the production share less w times the training share.
    """
    order = np.argsort(-contrast, kind="stable")
    asked: Floats = np.cumsum(is_production[order], dtype=np.float64)
    num: Floats = np.arange(1, len(order) + 1).astype(np.float64)
    have: Floats = num - asked
    value: Floats
    if widening:
        value = asked / share - widening * have / (1 - share)
    else:
        value = _log_ratio(asked, num * share) + _log_ratio(have, num * (1 - share))
        value[asked <= num * share] = 0.0
    value[: int(MIN_SHARE * len(order))] = 0.0
    best = int(value[: max(1, int(MAX_REGION * len(order)))].argmax())
    return float(value[best]), float(contrast[order[best]])


def _log_ratio(observed: Floats, expected: Floats) -> Floats:
    result: Floats = observed * np.log(np.maximum(observed, 1e-12) / expected)
    return result
