"""Train, validation and test: deterministic by content, with everything that is alike on one side."""

# SPDX-License-Identifier: Apache-2.0
#
# Rows are joined to clusters: declared groups, equal inputs, and near-duplicate inputs. Clusters are put in the order
# of a hash of seed and content, and fill test, then validation, then train. So the order of the rows in the file does
# not matter, and a row added later moves few others.
from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from foretune.data.neardup import cluster_roots, near_duplicates, normalised
from foretune.data.samples import Sample, content_key, sample_hash
from foretune.errors import DataError

__all__ = ["SPLITS", "Splits", "alike_folds", "floored_share", "input_key", "split_samples", "without_copies"]

SPLITS = ("train", "validation", "test")
GIANT_FRACTION, GIANT_MIN = 0.2, 20  # a cluster of near-duplicates beyond this is a template, not copies
LEAST_TRAIN = 0.6  # of the rows that a floor under the test split must leave for training
LARGE_FRACTION = 0.25  # of a held-out split: larger clusters go there only if it cannot be filled without them


@dataclass(frozen=True, slots=True)
class Splits:
    """The three splits; `num_clusters` counts groups of alike rows with more than one row."""

    train: list[Sample]
    validation: list[Sample]
    test: list[Sample]
    num_clusters: int = 0
    seed: int = 0
    warnings: tuple[str, ...] = field(default=())

    def as_dict(self) -> dict[str, list[Sample]]:
        """The splits by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}


def input_key(sample: Sample) -> str:
    """What makes two samples the same question: everything before the answer but the system message, or the text."""
    return sample.text or "\n".join(message.content for message in sample.prompt if message.role != "system")


def split_samples(
    samples: Sequence[Sample],
    *,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.1,
    seed: int = 0,
    validation: Sequence[Sample] = (),
    test: Sequence[Sample] = (),
    stratify: bool = False,
    fewest_test: int = 0,
) -> Splits:
    """Split by content and seed; `validation` and `test` are taken as they are where they are given.

    `stratify` keeps the shares of the classes (targets). Sizes are within one of the fractions where the clusters
    allow it; a test split that would have fewer than `fewest_test` rows gets as many where training keeps 60 %. Copies
    of given validation or test inputs are taken out of the training rows. Raises DataError where there are too few
    different rows to split.
    """
    warnings: list[str] = []
    rows = sorted(samples, key=lambda sample: (sample_hash(sample), sample.id))
    rows = without_copies(rows, [*validation, *test], warnings)
    test_fraction = floored_share(len(rows), test_fraction, validation_fraction, 0 if test else fewest_test, warnings)
    shares = {"test": 0.0 if test else test_fraction, "validation": 0.0 if validation else validation_fraction}
    wanted = {name: share for name, share in shares.items() if share > 0}
    if len(rows) <= len(wanted):
        raise _too_few(len(rows), "row" if len(rows) == 1 else "rows", wanted)
    clusters = _clusters(rows, [*validation, *test], warnings)
    if len(clusters) <= len(wanted):
        raise _too_few(len(clusters), f"different inputs among {len(rows)} rows", wanted)
    clusters.sort(key=lambda cluster: _rank(rows[cluster[0]], seed))
    side = _assigned(rows, clusters, wanted, stratify, warnings)
    parts: dict[str, list[Sample]] = {name: [] for name in SPLITS}
    for cluster, name in zip(clusters, side, strict=True):
        parts[name] += [rows[index] for index in cluster]

    def order(sample: Sample) -> tuple[str, str]:
        return _rank(sample, seed), sample.id

    return Splits(
        sorted(parts["train"], key=order),
        list(validation) or sorted(parts["validation"], key=order),
        list(test) or sorted(parts["test"], key=order),
        sum(len(cluster) > 1 for cluster in clusters),
        seed,
        tuple(warnings),
    )


def floored_share(num_rows: int, share: float, validation_fraction: float, fewest: int, warnings: list[str]) -> float:
    """The share of the test split: at least `fewest` rows where that leaves 60 % for training; said in a warning."""
    if not share or not num_rows or share * num_rows >= fewest:
        return share
    wanted = fewest / num_rows
    if 1 - validation_fraction - wanted < LEAST_TRAIN:
        return share
    warnings.append(
        f"test has {fewest} rows instead of {round(share * num_rows)}, so that smaller differences show; "
        "data.advanced.fewest_test = 0 keeps the fraction"
    )
    return wanted


def alike_folds(samples: Sequence[Sample], num_folds: int, *, seed: int = 0) -> list[list[int]]:
    """Row numbers in `num_folds` parts of like size; groups, equal and nearly equal inputs stay in one part.

    The same for the same rows in any order. Raises DataError where there are fewer different rows than parts.
    """
    clusters = _clusters(samples, (), [])
    if len(clusters) < num_folds:
        raise DataError(
            f"{len(clusters)} different inputs cannot make {num_folds} parts", fix="cross_fit = 5, or add rows"
        )
    clusters.sort(key=lambda cluster: (-len(cluster), min(_rank(samples[row], seed) for row in cluster)))
    folds: list[list[int]] = [[] for _ in range(num_folds)]
    for cluster in clusters:
        min(folds, key=len).extend(cluster)
    return [sorted(fold) for fold in folds]


def _too_few(num: int, what: str, wanted: Iterable[str]) -> DataError:
    needed = len(list(wanted)) + 1
    return DataError(
        f"{num} {what} cannot be split into {', '.join(['train', *wanted])}: expected at least {needed}",
        fix="add rows (500 or more for a simple task), or set data.validation_path and data.test_path",
    )


def _rank(sample: Sample, seed: int) -> str:
    return hashlib.sha256(f"{seed}:{content_key(sample)}".encode("utf-8", "surrogatepass")).hexdigest()


def without_copies(rows: list[Sample], held_out: Sequence[Sample], warnings: list[str]) -> list[Sample]:
    """Training rows less those whose input or declared group stands in `held_out`; their number becomes a warning."""
    inputs = {normalised(input_key(sample)) for sample in held_out}
    groups = {sample.group for sample in held_out} - {""}
    kept = [s for s in rows if s.group not in groups and normalised(input_key(s)) not in inputs]
    if len(kept) < len(rows):
        what = "input or group" if groups else "input"
        num = len(rows) - len(kept)
        warnings.append(
            f"{num} training rows share their {what} with a given validation or test row; they are left out"
        )
    return kept


def _clusters(rows: Sequence[Sample], held_out: Sequence[Sample], warnings: list[str]) -> list[list[int]]:
    """Row numbers joined by declared group, equal input, or near-duplicate input.

    `held_out` rows only help to tell which 5-grams are common, so that the audit of all splits sees the same pairs.
    """
    inputs = [normalised(input_key(row)) for row in rows]
    num = len(rows)
    pairs = near_duplicates([*inputs, *map(input_key, held_out)])
    near = [(pair.left, pair.right) for pair in pairs if pair.right < num]
    groups = _equal_links([row.group for row in rows])
    same = _equal_links([f"{text}\0{normalised(row.target)}" for text, row in zip(inputs, rows, strict=True)])
    limit = max(GIANT_MIN, GIANT_FRACTION * num)
    near = _without_giants(near, num, limit, "near-duplicate inputs", warnings)
    exact = _without_giants(_equal_links(inputs), num, limit, "equal inputs", warnings)
    members: dict[int, list[int]] = defaultdict(list)
    for index, root in enumerate(cluster_roots(num, [*groups, *near, *exact, *same])):
        members[root].append(index)
    return list(members.values())


def _equal_links(keys: Sequence[str]) -> list[tuple[int, int]]:
    """Each item linked to the first with the same key; empty keys link to nothing."""
    first: dict[str, int] = {}
    return [(leader, i) for i, key in enumerate(keys) if key and (leader := first.setdefault(key, i)) != i]


def _without_giants(
    links: list[tuple[int, int]], num: int, limit: float, what: str, warnings: list[str]
) -> list[tuple[int, int]]:
    """Links outside of clusters larger than `limit`: such a cluster is a template that all rows share."""
    roots = cluster_roots(num, links)
    sizes = Counter(roots)
    giants = {root for root, size in sizes.items() if size > limit}
    if not giants:
        return links
    largest = max(sizes.values())
    warnings.append(f"{largest} of {num} rows have {what}; they are split all the same, so test may resemble train")
    return [link for link in links if roots[link[0]] not in giants]


def _assigned(
    rows: Sequence[Sample],
    clusters: Sequence[Sequence[int]],
    wanted: dict[str, float],
    stratify: bool,
    warnings: list[str],
) -> list[str]:
    """The split of every cluster."""
    side = ["train"] * len(clusters)
    sizes = [len(cluster) for cluster in clusters]
    strata = _strata(rows, clusters) if stratify else {"": list(range(len(clusters)))}
    weights = {label: sum(sizes[number] for number in members) for label, members in strata.items()}
    movable = {label: members[:-1] for label, members in strata.items()}  # each class keeps a cluster for training
    everywhere = sorted(number for members in movable.values() for number in members)
    for name, share in wanted.items():
        target = max(1, round(share * len(rows)))
        quotas = _quotas(weights, target)
        left = target
        for label, members in movable.items():
            left -= _fill(name, quotas[label], members, sizes, side, LARGE_FRACTION)
        left -= _fill(name, left, everywhere, sizes, side, LARGE_FRACTION)
        left -= _fill(name, left, everywhere, sizes, side, 1.0)
        if left == target:
            left -= _take_smallest(name, everywhere or range(len(clusters)), sizes, side)
        if abs(left) > 1:
            warnings.append(f"{name} has {target - left} rows instead of {target}, because alike rows stay together")
    if "train" not in side:
        raise _too_few(len(clusters), f"groups among {len(rows)} rows", wanted)
    return side


def _strata(rows: Sequence[Sample], clusters: Sequence[Sequence[int]]) -> dict[str, list[int]]:
    """Clusters by the commonest class of their rows, classes sorted."""
    strata: dict[str, list[int]] = defaultdict(list)
    for number, cluster in enumerate(clusters):
        counts = Counter(rows[index].target for index in cluster)
        strata[min(counts, key=lambda label: (-counts[label], label))].append(number)
    return dict(sorted(strata.items()))


def _quotas(weights: dict[str, int], target: int) -> dict[str, int]:
    """`target` shared out by weight (largest remainders); a class keeps a row for training as long as it can."""
    total = sum(weights.values())
    exact = {label: target * weight / total for label, weight in weights.items()}
    quotas = {label: min(int(share), weights[label] - 1) for label, share in exact.items()}
    by_remainder = sorted(exact, key=lambda label: (-(exact[label] - int(exact[label])), label))
    for label in by_remainder:
        if sum(quotas.values()) < target and quotas[label] < weights[label] - 1:
            quotas[label] += 1
    return quotas


def _fill(name: str, quota: int, members: Iterable[int], sizes: Sequence[int], side: list[str], large: float) -> int:
    """Move clusters from train into a split, never beyond the quota; returns how many rows moved.

    Clusters larger than `large` times the quota stay: one cluster should not be a quarter of a test split.
    """
    left = quota
    for number in members:
        if left <= 0:
            break
        if side[number] == "train" and sizes[number] <= min(left, max(1.0, large * quota)):
            side[number] = name
            left -= sizes[number]
    return quota - left


def _take_smallest(name: str, members: Iterable[int], sizes: Sequence[int], side: list[str]) -> int:
    """Where every cluster is larger than the split: the smallest one all the same, so that the split is not empty."""
    number = min((number for number in members if side[number] == "train"), key=lambda n: sizes[n], default=-1)
    if number < 0 or side.count("train") < 2:
        return 0
    side[number] = name
    return sizes[number]
