"""Scores of free text, worked by hand."""

# SPDX-License-Identifier: Apache-2.0
import pytest

from foretune.evaluate.scorers import text


@pytest.mark.req("R270")
@pytest.mark.parametrize(
    ("prediction", "target", "score"),
    [("Paris", "Paris", 1), (" Paris\n", "Paris", 1), ("paris", "Paris", 0), ("Paris.", "Paris", 0), ("", "", 1)],
)
def test_exact_match(prediction, target, score):
    assert text.exact_match(prediction, target) == score


@pytest.mark.parametrize(
    ("normaliser", "prediction", "score"),
    [("none-v1", "Paris ", 0), ("strip-v1", "Paris ", 1), ("squad-v1", "the  PARIS!", 1), ("strip-v1", "the Paris", 0)],
)
def test_exact_match_by_declared_normaliser(normaliser, prediction, score):
    assert text.exact_match(prediction, "Paris", normaliser) == score


def test_articles_inside_words_stay():
    assert text.normalise_squad("The theatre, an anthem & a cat.") == "theatre anthem cat"
    assert text.exact_match_normalised("A theatre", "theatre") == 1


@pytest.mark.parametrize(
    ("prediction", "target", "score"),
    [("It is PARIS, of course", "paris", 1), ("London", "Paris", 0), ("anything", " ", 0), ("", "", 1)],
)
def test_contains(prediction, target, score):
    assert text.contains(prediction, target) == score


@pytest.mark.parametrize(
    ("prediction", "target", "score"),
    [
        ("the cat sat", "cat sat down", 2 * 2 / (2 + 3)),  # "the" is dropped
        ("cat cat cat", "cat", 2 * 1 / (3 + 1)),
        ("dog", "cat", 0),
        ("the", "cat", 0),
        ("the", "a", 1),
    ],
)
def test_token_f1(prediction, target, score):
    assert text.token_f1(prediction, target) == pytest.approx(score)


@pytest.mark.req("R271")
def test_rouge_by_hand():
    prediction, target = "the cat the cat was here", "the cat was not here"
    assert text.rouge_1(prediction, target) == pytest.approx(2 * 4 / (6 + 5))
    assert text.rouge_2(prediction, target) == pytest.approx(2 * 2 / (5 + 4))  # the cat, cat was
    assert text.rouge_l(prediction, target) == pytest.approx(2 * 4 / (6 + 5))  # the cat was here
    assert text.rouge_l("here was cat the", "the cat was here") == pytest.approx(2 / 8)


@pytest.mark.parametrize("score", [text.rouge_1, text.rouge_2, text.rouge_l])
@pytest.mark.parametrize(("prediction", "target"), [("", ""), ("", "a b"), ("a b", ""), ("!?", "a b"), ("a", "b")])
def test_rouge_of_nothing(score, prediction, target):
    assert score(prediction, target) == 0


def test_rouge_of_one_word_has_no_pairs():
    assert text.rouge_2("cat", "cat") == 0


def test_rouge_of_other_scripts():
    assert text.rouge_1("кошка сидит дома", "кошка сидит тут") == pytest.approx(2 / 3)
    assert text.rouge_l("猫坐在家", "猫在家里") == pytest.approx(3 / 4)
    assert text.rouge_l("a summary", "猫在家里") == 0


def test_rouge_of_long_texts_is_quick():
    import time

    words = [f"w{number * 7919 % 503}" for number in range(20_000)]
    start = time.perf_counter()
    assert text.rouge_l(" ".join(words), " ".join(words[::-1])) > 0
    assert time.perf_counter() - start < 5  # a table of 4e8 cells would take minutes


def test_length():
    assert text.length_chars("four", "") == 4


def test_bleu_and_chrf_of_one_sample():
    assert text.sentence_bleu("the cat sat on the mat", "the cat sat on the mat") == pytest.approx(1)
    assert text.sentence_bleu("dog", "the cat sat on the mat") == 0
    assert 0 < text.sentence_chrf("the cat", "the cats") < 1
    assert text.sentence_chrf("", "the cats") == 0
