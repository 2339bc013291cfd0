"""Near-duplicates: what is found, what is left alone, and that the figures agree with a plain computation."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import random
from pathlib import Path

import pytest

from foretune.data.formats import read_samples
from foretune.data.neardup import cluster_roots, near_duplicates, normalised
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
    """banking77 has 1,121 pairs at 0.7 by a plain computation of all pairs; crowds are linked to leaders only."""
    texts = [input_key(sample) for sample in read_samples(shared_data / "banking77").samples]
    pairs = near_duplicates(texts)
    assert len(texts) == 13_083
    assert 900 <= len(pairs) <= 1_121
    assert sum(pair.similarity == 1 for pair in pairs) in range(10, 30)
