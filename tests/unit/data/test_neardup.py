"""Near-duplicates: what is found, what is left alone, and that the figures agree with a plain computation."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretune.data.formats import read_samples
from foretune.data.neardup import cluster_roots, compared, near_duplicates, normalised
from foretune.data.split import input_key


def sentence(rng: random.Random, num_words: int) -> str:
    return " ".join("".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(num_words))


def typos(text: str, share: float, rng: random.Random) -> str:
    return "".join(rng.choice("abcdefgh") if rng.random() < share else char for char in text)


def jaccard(left: str, right: str) -> float:
    a, b = ({text[i : i + 5] for i in range(len(text) - 4)} for text in (left, right))
    return len(a & b) / len(a | b)


def test_similarity_is_the_jaccard_index_of_5_grams() -> None:
    rng = random.Random(1)
    texts = [sentence(rng, 12) for _ in range(30)]
    texts += [typos(text, 0.02, rng) for text in texts[:10]]
    pairs = near_duplicates(texts, threshold=0.3)
    assert len(pairs) >= 9
    for pair in pairs:
        assert pair.similarity == pytest.approx(jaccard(texts[pair.left], texts[pair.right]), abs=1e-12)


@pytest.mark.req("R142")
def test_recall_and_precision_on_planted_copies() -> None:
    rng = random.Random(2)
    originals = [sentence(rng, rng.randint(10, 40)) for _ in range(400)]
    kinds = {
        "case": lambda text: text.upper(),
        "space": lambda text: f"  {text.replace(' ', '   ')}\n",
        "typo": lambda text: typos(text, 0.02, rng),
        "one word less": lambda text: " ".join(text.split()[1:]),
        "one word more": lambda text: f"{text} please",
    }
    texts, source = list(originals), list(range(400))
    for make in kinds.values():
        texts += [make(text) for text in originals[:100]]
        source += range(100)
    pairs = near_duplicates(texts)
    assert all(source[pair.left] == source[pair.right] for pair in pairs)
    roots = cluster_roots(len(texts), [(pair.left, pair.right) for pair in pairs])
    found = sum(roots[row] == roots[source[row]] for row in range(400, len(texts)))
    assert found >= 0.95 * (len(texts) - 400)


def test_a_shared_instruction_does_not_make_rows_alike() -> None:
    rng = random.Random(3)
    instruction = "Extract the name, the date and the amount from the following ticket and answer with JSON only.\n\n"
    texts = [instruction + sentence(rng, 5) for _ in range(200)]
    assert near_duplicates(texts) == []
    assert jaccard(texts[0], texts[1]) > 0.5
    texts.append(texts[7] + " x")
    assert [(pair.left, pair.right) for pair in near_duplicates(texts)] == [(7, 200)]


def test_equal_texts_are_pairs_even_when_common_or_short() -> None:
    texts = ["Yes", "no", " yes ", "YES", "", "", "a"]
    assert [(pair.left, pair.right, pair.similarity) for pair in near_duplicates(texts)] == [(0, 2, 1.0), (0, 3, 1.0)]
    assert near_duplicates([]) == []
    assert near_duplicates(["one"]) == []


def test_long_texts_need_less_to_be_alike() -> None:
    rng = random.Random(4)
    long, short = sentence(rng, 60), sentence(rng, 6)
    texts = [long, typos(long, 0.05, rng), short, f"{short[:12]}##{short[14:24]}#{short[25:]}"]
    assert 0.5 < jaccard(texts[0], texts[1]) < 0.7
    assert 0.5 < jaccard(texts[2], texts[3]) < 0.7
    assert [(pair.left, pair.right) for pair in near_duplicates(texts)] == [(0, 1)]


def test_a_large_crowd_is_joined_into_one_cluster() -> None:
    rng = random.Random(6)
    base = sentence(rng, 30)
    texts = [f"{base} {number}" for number in range(100)] + [sentence(rng, 30) for _ in range(2000)]
    pairs = near_duplicates(texts)
    roots = cluster_roots(len(texts), [(pair.left, pair.right) for pair in pairs])
    assert set(roots[:100]) == {0}
    assert len(pairs) < 1000
    assert roots[100:] == list(range(100, len(texts)))


def test_the_result_is_the_same_every_time() -> None:
    rng = random.Random(7)
    texts = [sentence(rng, 10) for _ in range(50)]
    texts += [typos(text, 0.02, rng) for text in texts]
    assert near_duplicates(texts) == near_duplicates(list(texts))


def test_cluster_roots_join_through_others() -> None:
    assert cluster_roots(6, [(0, 3), (3, 5), (1, 2)]) == [0, 1, 1, 0, 4, 0]
    assert cluster_roots(4, [(2, 3), (0, 1), (1, 3)]) == [0, 0, 0, 0]


def test_normalised_joins_white_space_and_case() -> None:
    assert normalised(" A\tb\n\nÇ ") == "a b ç"


@pytest.mark.req("R142")
def test_real_questions_have_the_near_copies_that_were_measured(shared_data: Path) -> None:
    """banking77 has 1,121 pairs at 0.7 by a plain computation of all pairs; equal texts are linked to the first."""
    samples = read_samples(shared_data / "banking77").samples
    texts = [input_key(sample) for sample in samples]
    pairs = near_duplicates(texts)
    assert len(texts) == 13_083
    assert 1_110 <= len(pairs) <= 1_160
    assert sum(samples[pair.left].target != samples[pair.right].target for pair in pairs) == 78


def test_punctuation_does_not_count_but_alone_it_does() -> None:
    assert compared("Hello,  World! it's_x") == "hello world its_x"
    assert compared("?!") == "?!"
    texts = ["where is my card?", "Where is my card", "?!", "?!", "!?"]
    assert [(pair.left, pair.right) for pair in near_duplicates(texts)] == [(0, 1), (2, 3)]


@pytest.mark.req("R142")
def test_copies_within_something_are_found_by_containment() -> None:
    rng = random.Random(8)
    originals = [sentence(rng, 12) for _ in range(300)]
    wrapper = "Below is a task. Answer it well.\n{}\nWrite nothing else, and do not explain what you have done."
    wrapped = [wrapper.format(text) for text in originals[:12]]
    cut = [text[: len(text) * 6 // 10] for text in originals[12:30]]
    texts = [*originals, *wrapped, *cut]
    assert near_duplicates(texts) == []
    pairs = near_duplicates(texts, containment=0.9)
    assert {(pair.left, pair.right) for pair in pairs} == {(number, 300 + number) for number in range(30)}
    assert all(pair.containment > 0.9 and pair.similarity < 0.7 for pair in pairs)


def test_all_pairs_above_the_threshold_are_found() -> None:
    rng = random.Random(9)
    texts = [sentence(rng, rng.randint(3, 60)) for _ in range(120)]
    texts += [typos(text, rng.choice((0.01, 0.03, 0.05)), rng) for text in texts for _ in range(2)]
    texts = list(dict.fromkeys(texts))
    expected = {
        (left, right)
        for left in range(len(texts))
        for right in range(left + 1, len(texts))
        if jaccard(texts[left], texts[right]) >= 0.7
    }
    found = {(pair.left, pair.right) for pair in near_duplicates(texts, long_threshold=0.7)}
    assert len(expected) > 100
    assert found == expected


def test_order_of_the_texts_does_not_matter() -> None:
    rng = random.Random(10)
    texts = [sentence(rng, 15) for _ in range(200)]
    texts += [typos(text, 0.03, rng) for text in texts[:80]]
    order = rng.sample(range(len(texts)), len(texts))
    straight = {frozenset((pair.left, pair.right)) for pair in near_duplicates(texts)}
    shuffled = near_duplicates([texts[number] for number in order])
    assert {frozenset((order[pair.left], order[pair.right])) for pair in shuffled} == straight


def test_texts_may_be_a_view_of_something_larger() -> None:
    class View(Sequence[str]):
        def __len__(self) -> int:
            return 40

        def __getitem__(self, index: Any) -> Any:
            return sentence(random.Random(index % 30), 12)

    assert [(pair.left, pair.right) for pair in near_duplicates(View())] == [(n, n + 30) for n in range(10)]


@pytest.mark.parametrize(
    "text", ["a" * 70_000, "\ud800 lone surrogate " * 5, "\x00\u200f\u202e" * 30, "日本語の文章です" * 4]
)
def test_odd_texts(text: str) -> None:
    assert [(pair.left, pair.right) for pair in near_duplicates([text, "other words", text])] == [(0, 2)]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(max_size=60), max_size=12))
def test_any_texts_give_sorted_pairs(texts: list[str]) -> None:
    pairs = near_duplicates([*texts, *texts], containment=0.9)
    assert pairs == sorted(set(pairs))
    assert all(0 <= pair.left < pair.right < 2 * len(texts) for pair in pairs)
    assert all(0 <= pair.similarity <= 1 and 0 <= pair.containment <= 1 for pair in pairs)
    roots = cluster_roots(2 * len(texts), [pair[:2] for pair in pairs])
    assert all(roots[n] == roots[n + len(texts)] for n, text in enumerate(texts) if compared(text))


def test_thirty_thousand_rows_take_seconds() -> None:
    """A million rows in 5 minutes on 2 cores: 30,000 in 18 CPU seconds."""
    rng = random.Random(11)
    words = [sentence(rng, 1) for _ in range(8000)]
    texts = [" ".join(rng.choices(words, k=60)) for _ in range(29_000)]
    texts += [typos(text, 0.03, rng) for text in texts[:1000]]
    start = time.process_time()
    pairs = near_duplicates(texts, containment=0.9)
    assert time.process_time() - start < 18
    assert {(pair.left, pair.right) for pair in pairs} == {(number, 29_000 + number) for number in range(1000)}
