"""Fewer rows out of many: at random, by class, by slice, by rating, or the most unlike each other."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from foretune.data.embed.vectors import Vectors
from foretune.data.samples import Sample, content_key
from foretune.errors import ConfigError, DataError

__all__ = [
    "best_rated",
    "diverse",
    "number_at",
    "ordered_by_seed",
    "random_subset",
    "sliced",
    "split_by",
    "stratified",
    "value_at",
]

Key = Callable[[Sample], str]


def value_at(sample: Sample, field: str) -> Any:
    """A field of `meta`, nested ones by dots; None where it is missing."""
    value: Any = sample.meta
    for name in field.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def number_at(sample: Sample, field: str) -> float | None:
    """A number in `meta`, or None where there is none; texts such as "4.5" count."""
    value = value_at(sample, field)
    try:
        number = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def ordered_by_seed(samples: Iterable[Sample], seed: int) -> list[Sample]:
    """The samples in an order that depends on seed and content alone, not on where they stood."""

    def rank(sample: Sample) -> tuple[str, str]:
        key = f"{seed}:{content_key(sample)}".encode("utf-8", "surrogatepass")
        return hashlib.sha256(key).hexdigest(), sample.id

    return sorted(samples, key=rank)


def random_subset(samples: Sequence[Sample], count: int, *, seed: int = 0) -> list[Sample]:
    """`count` rows by seed and content; a larger count holds the smaller one's rows. All rows where there are fewer."""
    return _in_order(samples, ordered_by_seed(samples, seed)[: _checked(count)])


def _checked(count: int) -> int:
    if count < 1:
        raise ConfigError(f"count is {count}, expected at least 1", fix="count = 1000")
    return count


def _in_order(samples: Sequence[Sample], chosen: Sequence[Sample]) -> list[Sample]:
    """The chosen rows as they stood."""
    kept = {id(sample) for sample in chosen}
    return [sample for sample in samples if id(sample) in kept]


def split_by(samples: Sequence[Sample], key: Key) -> dict[str, list[Sample]]:
    """Rows by key (a language, a product), keys sorted; every row in one part."""
    parts: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        parts[key(sample)].append(sample)
    return dict(sorted(parts.items()))


def stratified(samples: Sequence[Sample], count: int, *, key: Key | None = None, seed: int = 0) -> list[Sample]:
    """`count` rows with the shares of the strata (by default the classes) kept, each at least once where it fits."""
    parts = split_by(samples, key or (lambda sample: sample.target))
    wanted = _quotas({name: len(part) for name, part in parts.items()}, min(_checked(count), len(samples)))
    return _in_order(samples, [s for name, part in parts.items() for s in ordered_by_seed(part, seed)[: wanted[name]]])


def _quotas(sizes: Mapping[str, int], count: int) -> dict[str, int]:
    """`count` shared out by size (largest remainders), at least one each while that is possible."""
    total = max(sum(sizes.values()), 1)
    exact = {name: count * size / total for name, size in sizes.items()}
    least = 1 if count >= len(sizes) else 0
    quotas = {name: max(least, math.floor(share)) for name, share in exact.items()}
    order = sorted(exact, key=lambda name: (quotas[name] - exact[name], name))
    while sum(quotas.values()) > count:
        name = max((n for n in order if quotas[n] > least), key=lambda n: (quotas[n] - exact[n], n))
        quotas[name] -= 1
    for name in order:
        if sum(quotas.values()) < count and quotas[name] < sizes[name]:
            quotas[name] += 1
    return quotas


def sliced(samples: Sequence[Sample], counts: Mapping[str, int], *, key: Key, seed: int = 0) -> list[Sample]:
    """So many rows of each slice; unnamed slices are left out. Raises DataError where a slice is too small."""
    parts = split_by(samples, key)
    for name, count in counts.items():
        if count > len(parts.get(name, [])):
            what = f"slice {name!r} has {len(parts.get(name, []))} rows, {count} are wanted"
            raise DataError(what, fix="ask for fewer, or collect more: foretune data coverage")
    return _in_order(
        samples, [s for name, count in counts.items() for s in ordered_by_seed(parts.get(name, []), seed)[:count]]
    )


def best_rated(samples: Sequence[Sample], count: int, *, rating: str = "rating", seed: int = 0) -> list[Sample]:
    """The `count` rows with the highest rating in `meta`; ties by seed. Raises DataError where nothing is rated."""
    rated = [sample for sample in ordered_by_seed(samples, seed) if number_at(sample, rating) is not None]
    if not rated:
        raise DataError(f"no row has a number in the field {rating!r}", fix="rate the rows, or choose another subset")
    order = sorted(rated, key=lambda sample: -(number_at(sample, rating) or 0.0))
    return _in_order(samples, order[: _checked(count)])


def diverse(samples: Sequence[Sample], count: int, vectors: Vectors, *, seed: int = 0) -> list[Sample]:
    """`count` rows that leave no row far from a chosen one: greedy k-centre on vectors of length 1 (Gonzalez 1985).

    The largest distance of any row to the chosen ones is at most twice the best possible. Starts at a row by seed.
    """
    if len(vectors) != len(samples):
        raise DataError(f"{len(vectors)} vectors for {len(samples)} rows, expected one each", fix="embed the same rows")
    if _checked(count) >= len(samples):
        return list(samples)
    places = {id(sample): row for row, sample in enumerate(samples)}
    chosen = [places[id(ordered_by_seed(samples, seed)[0])]]
    nearest = vectors @ vectors[chosen[0]]
    while len(chosen) < count:
        nearest[chosen[-1]] = np.inf
        chosen.append(int(nearest.argmin()))
        nearest = np.maximum(nearest, vectors @ vectors[chosen[-1]])
    return [samples[row] for row in sorted(chosen)]
