"""Splits: sizes, determinism, and that what is alike stays on one side."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest

from foretune.data.samples import Message, Sample, sample_hash
from foretune.data.split import Splits, alike_folds, split_samples
from foretune.errors import DataError


def text(number: int, num_words: int = 8) -> str:
    rng = random.Random(number)
    return " ".join("".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(3, 8))) for _ in range(num_words))


def row(question: str, answer: str = "", *, group: str = "") -> Sample:
    name = f"{question}->{answer}"
    return Sample(name, (Message("user", question), Message("assistant", answer or f"re {question}")), group=group)


def rows(num: int, first: int = 0) -> list[Sample]:
    return [row(text(number)) for number in range(first, first + num)]


def sizes(splits: Splits) -> tuple[int, int, int]:
    return len(splits.train), len(splits.validation), len(splits.test)


def side_of(splits: Splits) -> dict[str, str]:
    return {sample.id: name for name, samples in splits.as_dict().items() for sample in samples}


def ids(samples: Sequence[Sample]) -> list[str]:
    return [sample.id for sample in samples]


@pytest.mark.req("R115")
@pytest.mark.req("R123")
@pytest.mark.parametrize("num", [3, 10, 57, 100, 999])
def test_default_is_80_10_10_within_one(num: int) -> None:
    splits = split_samples(rows(num))
    train, validation, test = sizes(splits)
    assert abs(test - max(1, num / 10)) <= 1
    assert abs(validation - max(1, num / 10)) <= 1
    assert train == num - validation - test
    assert train >= 1
    assert sorted(side_of(splits)) == sorted(ids(rows(num)))


@pytest.mark.req("R115")
def test_order_of_the_rows_does_not_matter_and_the_seed_does() -> None:
    samples = rows(200)
    shuffled = random.Random(1).sample(samples, len(samples))
    first, second = split_samples(samples), split_samples(shuffled)
    for name in ("train", "validation", "test"):
        assert ids(first.as_dict()[name]) == ids(second.as_dict()[name])
    other = split_samples(samples, seed=1)
    assert set(ids(other.test)) != set(ids(first.test))


def test_a_row_more_moves_few_others() -> None:
    before, after = side_of(split_samples(rows(300))), side_of(split_samples(rows(301)))
    assert sum(before[name] != after[name] for name in before) <= 4


@pytest.mark.req("R118")
def test_copies_and_near_copies_stay_together() -> None:
    samples = rows(300)
    for number in range(60):
        question = text(number)
        samples += [row(question.upper(), f"a{number}"), row(f"{question[:-1]}x", f"b{number}")]
    splits = split_samples(samples)
    side = side_of(splits)
    for number in range(60):
        question = text(number)
        names = (f"{question}->", f"{question.upper()}->a{number}", f"{question[:-1]}x->b{number}")
        assert len({side[name] for name in names}) == 1
    assert splits.num_clusters == 60
    assert sizes(splits) == (336, 42, 42)


def test_declared_groups_stay_together_across_different_texts() -> None:
    samples = [row(text(number), group=f"customer {number % 40}") for number in range(200)]
    splits = split_samples(samples)
    groups = {name: {sample.group for sample in part} for name, part in splits.as_dict().items()}
    assert not groups["train"] & (groups["test"] | groups["validation"])
    assert not groups["test"] & groups["validation"]
    assert sizes(splits) == (160, 20, 20)
    assert splits.num_clusters == 40


def test_classes_keep_their_shares_and_none_leaves_training() -> None:
    labels = ["common"] * 400 + ["rare"] * 90 + ["lone"]
    samples = [row(text(number), label) for number, label in enumerate(labels)]
    splits = split_samples(samples, stratify=True)
    assert sizes(splits) == (393, 49, 49)
    for part in (splits.validation, splits.test):
        counts = Counter(sample.target for sample in part)
        assert abs(counts["common"] - 40) <= 1
        assert abs(counts["rare"] - 9) <= 1
    assert {sample.target for sample in splits.train} == {"common", "rare", "lone"}


def test_every_class_is_tested_where_that_is_possible() -> None:
    samples = [row(text(number), f"class {number % 20}") for number in range(200)]
    splits = split_samples(samples, stratify=True)
    assert set(Counter(sample.target for sample in splits.test).values()) == {1}
    assert len(splits.test) == 20


def test_a_test_split_is_not_one_cluster() -> None:
    cluster = [row(f"{text(0, 40)} {number}") for number in range(9)]
    samples = rows(91, first=1) + cluster
    splits = split_samples(samples)
    assert sizes(splits) == (80, 10, 10)
    side = side_of(splits)
    assert {side[sample.id] for sample in cluster} == {"train"}


def test_a_template_that_all_rows_share_is_split_with_a_warning() -> None:
    many = [row("Write a poem.", text(number)) for number in range(100)]
    splits = split_samples(many)
    assert sizes(splits) == (80, 10, 10)
    assert any("100 of 100 rows have equal inputs" in warning for warning in splits.warnings)


@pytest.mark.req("R414")
def test_a_given_test_split_is_not_touched_and_validation_comes_from_training() -> None:
    samples, test = rows(100), rows(30, first=500)
    splits = split_samples(samples, test=test)
    assert splits.test == test
    assert sizes(splits) == (90, 10, 30)
    assert not set(ids(splits.validation)) & set(ids(test))
    assert set(ids(splits.validation)) < set(ids(samples))


def test_given_validation_and_test_leave_all_rows_for_training() -> None:
    splits = split_samples(rows(20), validation=rows(3, first=100), test=rows(4, first=200))
    assert sizes(splits) == (20, 3, 4)
    assert split_samples(rows(1), validation=rows(1, first=100), test=rows(1, first=200)).train == rows(1)


@pytest.mark.req("R118")
def test_copies_of_given_test_rows_leave_the_training_rows() -> None:
    test = [*rows(5, first=500), row("shared", "a", group="g1")]
    samples = [*rows(50), row(text(500).upper(), "other"), row("SHARED", "a"), row(text(900), "x", group="g1")]
    splits = split_samples(samples, test=test)
    assert splits.test == test
    assert sizes(splits) == (45, 5, 6)
    assert splits.warnings[0].startswith("3 training rows share their input or group with a given")


def test_no_test_fraction_means_no_test_split() -> None:
    assert sizes(split_samples(rows(50), test_fraction=0.0)) == (45, 5, 0)


@pytest.mark.parametrize("num", [0, 1, 2])
def test_too_few_rows_cannot_be_split(num: int) -> None:
    with pytest.raises(DataError, match="cannot be split into train, test, validation: expected at least 3") as caught:
        split_samples(rows(num))
    assert "add rows" in caught.value.fix


def test_copies_do_not_count_as_rows_to_split() -> None:
    with pytest.raises(DataError, match="1 different inputs among 10 rows"):
        split_samples([row("same") for _ in range(10)])


def test_one_group_cannot_be_split() -> None:
    with pytest.raises(DataError, match="1 different inputs among 30 rows"):
        split_samples([row(text(number), group="one") for number in range(30)])


def test_a_group_too_large_for_its_split_is_told() -> None:
    samples = [row(text(number), group=f"g{number % 4}") for number in range(100)]
    splits = split_samples(samples)
    assert sizes(splits) == (50, 25, 25)
    assert sum("because alike rows stay together" in warning for warning in splits.warnings) == 2


def test_raw_text_is_split_by_its_text() -> None:
    samples = [Sample(f"t{number}", text=text(number)) for number in range(40)]
    splits = split_samples(samples)
    assert sizes(splits) == (32, 4, 4)
    assert len({sample_hash(sample) for part in splits.as_dict().values() for sample in part}) == 40


def test_twenty_thousand_rows_take_seconds() -> None:
    """50,000 rows in a minute on one core, measured on 20,000."""
    digests = [hashlib.sha256(str(number % 18_000).encode()).hexdigest() for number in range(20_000)]
    samples = [
        row(f"{' '.join(digest[i : i + 6] for i in range(0, 60, 6))} {n % 7}") for n, digest in enumerate(digests)
    ]
    start = time.process_time()
    splits = split_samples(samples)
    assert time.process_time() - start < 24
    assert sum(sizes(splits)) == 20_000
    assert abs(len(splits.test) - 2_000) <= 1
    assert splits.num_clusters > 1_500


@pytest.mark.parametrize(("num", "test"), [(3000, 300), (1000, 200), (700, 200), (500, 50)])
def test_a_floor_under_the_test_split(num: int, test: int) -> None:
    """At least 200 rows where 60 % stay for training, else the fraction."""
    split = split_samples(rows(num), fewest_test=200)
    assert abs(len(split.test) - test) <= 1 and len(split.train) >= 0.6 * num - 1
    assert any("so that smaller differences show" in warning for warning in split.warnings) == (num in (1000, 700))
    assert sizes(split_samples(rows(num), test_fraction=0.0, fewest_test=200))[2] == 0


def test_folds_keep_alike_rows_together() -> None:
    some = rows(40)
    doubled = [*some, *(replace(sample, id=f"{sample.id}-again") for sample in some[:10])]
    folds = alike_folds(doubled, 5)
    assert sorted(row for fold in folds for row in fold) == list(range(50))
    where = {row: number for number, fold in enumerate(folds) for row in fold}
    assert all(where[row] == where[40 + row] for row in range(10))
    assert {len(fold) for fold in folds} == {10}
    with pytest.raises(DataError, match="cannot make 60 parts"):
        alike_folds(some, 60)
