"""Leaks: every exact copy and changed copies of training rows are found, and benchmark items that rows repeat."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from foretune.audit.checks.contamination import benchmark_check, contaminated_rows, read_benchmarks
from foretune.audit.checks.leakage import exact_leaks, near_leaks
from foretune.audit.subject import Subject
from foretune.data.contamination import build_index, index_of, load_index, repeats, save_index
from foretune.data.formats import read_samples
from foretune.data.samples import Message, Sample
from foretune.errors import DataError, NotFound
from foretune.records.audit import Finding


def sentence(seed: int, num_words: int = 14) -> str:
    rng = random.Random(seed)
    return " ".join("".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(3, 9))) for _ in range(num_words))


def samples(name: str, rows: Sequence[tuple[str, str]]) -> list[Sample]:
    return [Sample(f"{name}{n}", (Message("user", a), Message("assistant", b))) for n, (a, b) in enumerate(rows)]


def subject(train: Sequence[tuple[str, str]], test: Sequence[tuple[str, str]]) -> Subject:
    splits = {"train": samples("train", train), "validation": [], "test": samples("test", test)}
    return Subject(splits, task="chat", tokenizer=None, max_seq_len=0)


def ids(findings: Sequence[Finding]) -> set[str]:
    return {name for finding in findings for name in finding.sample_ids}


@pytest.mark.req("R118")
@pytest.mark.parametrize("share", [0.01, 0.1])
def test_planted_leaks(share: float) -> None:
    train = [(sentence(n), sentence(n + 10_000)) for n in range(1000)]
    clean = [(sentence(n + 5000), sentence(n + 15_000)) for n in range(400)]
    num = round(share * 400)
    exact = train[:num]
    changes = (
        lambda text: f"Hello there, I have one more question. {text} Thank you!",
        lambda text: text.replace("e", "x", 1).replace("a", "y", 1),
        lambda text: " ".join(text.split()[2:]),
        lambda text: text[: len(text) * 6 // 10],
    )
    near = [(changes[n % 4](asked), answer) for n, (asked, answer) in enumerate(train[100 : 100 + num])]
    found = subject(train, [*clean, *exact, *near])
    assert ids(exact_leaks(found)) == {f"test{400 + n}" for n in range(num)}
    flagged = ids(near_leaks(found))
    assert len(flagged & {f"test{400 + num + n}" for n in range(num)}) >= 0.95 * num
    assert not flagged & {f"test{n}" for n in range(400)}


@pytest.mark.req("R118")
def test_a_leak_is_seen_through_equal_rows() -> None:
    """Only the first of equal rows is linked to its near-copies; the others leak as well."""
    text = sentence(1, 20)
    near = text.replace("e", "x", 1)
    found = subject([(sentence(9), "a"), (text, "b")], [(near, "c"), (near, "d"), (sentence(8), "e")])
    assert ids(near_leaks(found)) == {"test0", "test1"}


@pytest.mark.parametrize(
    ("trained", "held"),
    [
        ("name three programming languages", "name three programming languages for games of small studios"),
        ("perform the following calculation for me: 4 + 5 - 5", "perform the following calculation for me: 2 + 2"),
        ("explain how the data deduplication in a system works", "explain how the dna replication in a system works"),
    ],
)
def test_another_question_is_no_leak(trained: str, held: str) -> None:
    rows = [(sentence(n), sentence(n + 100)) for n in range(40)]
    assert near_leaks(subject([*rows, (trained, sentence(901, 30))], [(held, sentence(902, 30))])) == []


@pytest.mark.req("R118")
def test_the_366_leaks_of_banking77_are_among_those_reported(shared_data: Path) -> None:
    splits = {name: read_samples(shared_data / "banking77" / f"{name}.csv").samples for name in ("train", "test")}
    found = Subject(splits, task="classify", tokenizer=None, max_seq_len=0)
    assert 366 <= sum(one.count for one in [*exact_leaks(found), *near_leaks(found)]) <= 700


@pytest.mark.req("R118")
def test_rows_that_repeat_benchmark_items(tmp_path: Path) -> None:
    folder = tmp_path / "benchmarks" / "deep"
    folder.mkdir(parents=True)
    head = sentence(0, 20)
    rows = [{"question": f"{head} {sentence(n, 16)}", "choices": [sentence(n + 900, 3)]} for n in range(1, 30)]
    (folder / "exam.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    index = build_index(tmp_path / "benchmarks")
    train = [
        (f"so, {sentence(7, 16).upper()}!", "copied"),
        (f"{head} and what follows", "the shared instruction"),
        (sentence(5, 12), "too short to tell"),
        (sentence(777, 40), "other"),
    ]
    found = benchmark_check(index)(subject(train, [(sentence(8, 16), "held out")]))
    assert ids(found) == {"train0"}
    assert found[0].evidence[0].startswith("deep/exam.jsonl:7, 4 times 13 words: ")
    assert contaminated_rows(subject(train[1:], []), index) == []


def test_an_index_is_the_same_after_a_file(tmp_path: Path) -> None:
    index = index_of([("a:1", sentence(1, 30)), ("a:2", "short"), ("b:1", sentence(2, 30))])
    assert (index.num_short, len(index.hashes)) == (1, 36)
    save_index(index, tmp_path / "exams.npz")
    again = read_benchmarks(tmp_path / "exams.npz")
    assert (again.names, again.num_short, again.num_words) == (index.names, 1, 13)
    assert np.array_equal(again.hashes, index.hashes) and np.array_equal(again.items, index.items)
    assert [(one.text, one.item) for one in repeats([sentence(3, 30), sentence(2, 30)], again)] == [(1, "b:1")]
    assert repeats([], again) == []


def test_what_is_no_index_or_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no benchmark index"):
        load_index(tmp_path / "none.npz")
    (tmp_path / "bad.npz").write_bytes(b"no zip")
    with pytest.raises(DataError, match="is no benchmark index"):
        load_index(tmp_path / "bad.npz")
    np.savez(tmp_path / "other.npz", x=np.ones(3))
    with pytest.raises(DataError, match="is no benchmark index"):
        load_index(tmp_path / "other.npz")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFound, match="no benchmark files"):
        build_index(tmp_path / "empty")


@pytest.mark.req("R118")
def test_test_rows_like_validation_rows_are_told() -> None:
    """What chooses the checkpoint may not judge it: a copy in validation is named, equal or nearly so."""
    text = sentence(1, 20)
    known = samples("validation", [(text, "a"), (sentence(7), "b")])
    held = samples("test", [(text, "a"), (text.replace("e", "x", 1), "c"), (sentence(8), "e")])
    rows = Subject(
        {"train": samples("train", [(sentence(9), "z")]), "validation": known, "test": held},
        task="chat",
        tokenizer=None,
        max_seq_len=0,
    )
    (finding,) = near_leaks(rows)
    assert set(finding.sample_ids) == {"test0", "test1"}
    assert "like validation row" in finding.evidence[0]
    assert exact_leaks(rows) == []
