"""The ranker learns what a person rejects; neighbours and losses tell which rows to read."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from foretune.audit.features import text_features
from foretune.audit.logistic import fit, held_out_probabilities, probabilities
from foretune.audit.neighbours import disagreement, nearest, unexpected_loss
from foretune.audit.rank import rank_rows, rows_to_ask
from foretune.data.samples import Message, Sample
from foretune.errors import ConfigError, DataError

TASKS = ("Describe", "Explain", "List facts about", "Write a poem about", "Compare two kinds of")
THINGS = "rivers trees lamps chairs storms bridges planets cities songs engines".split()


def rows(num: int = 400, seed: int = 0) -> tuple[list[Sample], np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """A person dislikes poems, and logos, which a rule knows."""
    random = np.random.default_rng(seed)
    samples, bad = [], []
    for number in range(num):
        task = str(random.choice(TASKS)) if random.random() > 0.05 else "Design a logo for"
        text = f"{task} {random.choice(THINGS)} and {random.choice(THINGS)}."
        samples.append(Sample(f"r{number}", (Message("user", text), Message("assistant", f"Here: {text.lower()}"))))
        bad.append("poem" in text or "logo" in text)
    return samples, np.array(bad)


def auc(scores: np.ndarray[tuple[int], np.dtype[np.float64]], bad: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> float:
    return float(np.mean(scores[bad][:, None] > scores[~bad][None, :]))


def test_clicks_are_learnt() -> None:
    samples, bad = rows()
    clicks = {row: bool(bad[row]) for row in rows_to_ask(len(samples), 60)}
    scores = rank_rows(samples, clicks)
    left = np.setdiff1d(np.arange(len(samples)), list(clicks))
    assert auc(scores[left], bad[left]) > 0.95
    assert ((scores >= 0) & (scores <= 1)).all()
    assert (rank_rows(samples, clicks) == scores).all()


def test_without_clicks_the_rules_rank() -> None:
    samples, _ = rows()
    scores = rank_rows(samples, {})
    is_logo = np.array(["logo" in sample.input_text for sample in samples])
    assert auc(scores, is_logo) > 0.9
    assert rank_rows([], {}).size == 0


@pytest.mark.parametrize(
    ("clicks", "message"),
    [
        ({0: True}, "teach nothing"),
        (dict.fromkeys(range(30), False), "teach nothing"),
        ({9_999: True}, "row 9999"),
    ],
)
def test_useless_clicks_are_refused(clicks: dict[int, bool], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        rank_rows(rows()[0], clicks)


def test_rows_to_ask_are_new_ones() -> None:
    first = rows_to_ask(50, 20)
    second = rows_to_ask(50, 40, asked=first)
    assert len(first) == 20
    assert sorted(first + second) == list(range(50))


def test_features_have_length_one_and_see_typos() -> None:
    features = text_features(["my card was stolen", "my card wsa stolen", "play some music", "play more music", ""])
    lengths = np.sqrt(np.asarray(features.multiply(features).sum(axis=1)).ravel())
    assert lengths[:4] == pytest.approx(1, abs=1e-5)
    assert lengths[4] == 0
    alike = (features @ features.T).toarray()
    assert alike[0, 1] > 0.5 > alike[0, 2]
    assert text_features([]).shape[0] == 0


def test_logistic_regression_agrees_with_a_reference() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    texts = [sample.input_text for sample in rows(200)[0]]
    labels = np.array([TASKS.index(t) if (t := " ".join(x.split()[:-3])) in TASKS else 0 for x in texts])
    features = text_features(texts)
    ours = probabilities(features, fit(features, np.eye(len(TASKS), dtype=np.float32)[labels], penalty=1.0))
    theirs = linear_model.LogisticRegression(C=1.0, fit_intercept=False, max_iter=500).fit(features, labels)
    assert np.abs(ours - theirs.predict_proba(features)).max() < 0.02


def test_held_out_rows_are_not_learnt_by_heart() -> None:
    random = np.random.default_rng(0)
    features = text_features([" ".join(random.choice(THINGS, 5)) for _ in range(300)])
    labels = random.integers(0, 2, 300)
    guessed = held_out_probabilities(features, labels, 2).argmax(axis=1) == labels
    assert 0.4 < guessed.mean() < 0.6


def test_an_answer_unlike_its_neighbours() -> None:
    inputs = [f"what is the capital of france, question {n}" for n in range(20)] + [
        "tell me of whales and the deep sea"
    ]
    answers = ["paris is the capital of france"] * 20 + ["whales swim"]
    answers[7] = "bananas are yellow and sweet"
    scores = disagreement(inputs, answers)
    assert int(scores.argmax()) == 7
    assert scores[20] < 0.1


def test_a_loss_above_its_neighbours() -> None:
    texts = [f"sum of {n} and {n + 1} please" for n in range(20)] + [
        f"a long poem on the sea, part {n}" for n in range(20)
    ]
    losses = [0.1] * 20 + [2.0] * 20
    losses[3] = 1.5
    assert int(unexpected_loss(texts, losses).argmax()) == 3
    with pytest.raises(DataError, match="row 1 is nan"):
        unexpected_loss(texts[:2], [0.0, float("nan")])
    with pytest.raises(DataError, match="1 losses for 2 rows"):
        unexpected_loss(texts[:2], [0.0])


def test_neighbours_are_exact_and_not_oneself() -> None:
    features = text_features(["red apple pie", "red apple cake", "blue sky today", "blue sky tomorrow"])
    near = nearest(features, 1)
    assert near.rows[:, 0].tolist() == [1, 0, 3, 2]
    assert nearest(features[:1]).rows.shape == (1, 0)
