"""Wrong class labels: planted ones are found and counted, clean data is left alone."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from foretune.audit.checks.labels import label_noise, label_noise_rows, num_listed
from foretune.audit.subject import Subject
from foretune.data.samples import Message, Sample
from foretune.errors import DataError

TOPICS = ("invoice", "delivery", "password", "refund", "weather", "music", "garden", "travel")
FILLER = "please could you kindly tell me something more today about our new old big small".split()


def texts_and_labels(num: int = 1600, seed: int = 0) -> tuple[list[str], list[str]]:
    """Sentences with two words of their topic among filler."""
    random = np.random.default_rng(seed)
    texts, labels = [], []
    for row in range(num):
        topic = TOPICS[row % len(TOPICS)]
        words = [*random.choice(FILLER, 6), topic, f"{topic}{random.integers(4)}"]
        random.shuffle(words)
        texts.append(" ".join(words))
        labels.append(topic)
    return texts, labels


def flipped(labels: list[str], share: float, seed: int = 1) -> tuple[list[str], set[int]]:
    random = np.random.default_rng(seed)
    rows = random.permutation(len(labels))[: round(share * len(labels))].tolist()
    names = sorted(set(labels))
    noisy = list(labels)
    for row in rows:
        noisy[row] = names[(names.index(labels[row]) + int(random.integers(1, len(names)))) % len(names)]
    return noisy, set(rows)


@pytest.mark.req("R139")
@pytest.mark.parametrize("share", [0.05, 0.2, 0.4])
def test_planted_flips_are_found_and_counted(share: float) -> None:
    texts, labels = texts_and_labels()
    noisy, wrong = flipped(labels, share)
    noise = label_noise(texts, noisy)
    flagged = set(noise.order[: noise.num_flagged])
    assert abs(noise.rate - share) <= 0.02
    assert len(flagged & wrong) >= 0.85 * len(wrong)
    assert len(flagged & wrong) >= 0.85 * len(flagged)
    assert sum(noise.proposed[row] == labels[row] for row in wrong) >= 0.9 * len(wrong)


def test_clean_labels_are_left_alone() -> None:
    noise = label_noise(*texts_and_labels())
    assert noise.rate <= 0.01
    assert noise.num_flagged <= 16
    assert sorted(noise.order) == list(range(1600))


def test_labels_that_the_text_does_not_tell_are_not_blamed() -> None:
    random = np.random.default_rng(3)
    texts = [" ".join(random.choice(FILLER, 8)) for _ in range(600)]
    noise = label_noise(texts, random.choice(["yes", "no"], 600).tolist())
    suspicion = np.array(noise.suspicion)[list(noise.order)]
    assert (np.diff(suspicion) <= 0).all()


def test_one_class_is_refused() -> None:
    with pytest.raises(DataError, match="got 1"):
        label_noise(["a", "b"], ["x", "x"])


def subject(texts: list[str], labels: list[str], task: str = "classify") -> Subject:
    rows = [
        Sample(f"r{n}", (Message("user", text), Message("assistant", label)), place=f"d:{n}")
        for n, (text, label) in enumerate(zip(texts, labels, strict=True))
    ]
    return Subject({"train": rows}, task=task, tokenizer=None, max_seq_len=0)


def test_findings_name_the_rows_and_what_they_cost() -> None:
    texts, labels = texts_and_labels()
    noisy, wrong = flipped(labels, 0.1)
    findings = {finding.id: finding for finding in label_noise_rows(subject(texts, noisy))}
    sure = findings["DATA080"]
    ids = {f"r{row}" for row in wrong}
    assert len(ids & set(sure.sample_ids)) >= 0.85 * len(ids)
    assert "estimated rate" in sure.title
    assert 0.05 < sure.effect < 0.12
    assert "likelier" in sure.evidence[0]
    assert findings["DATA081"].certainty < sure.certainty if "DATA081" in findings else True


def test_free_text_and_tiny_sets_are_not_judged() -> None:
    texts, labels = texts_and_labels(40)
    assert label_noise_rows(subject(texts, labels)) == []
    assert label_noise_rows(subject(*texts_and_labels(), task="chat")) == []


def test_banking77_as_measured(shared_data: Path) -> None:
    """15 of the 77 classes, to be quick: precision and recall of at least .85 at 10 %, the rate within 2 points."""
    with (shared_data / "banking77" / "train.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    kept = sorted({row["category"] for row in rows})[::5]
    rows = [row for row in rows if row["category"] in kept]
    texts, labels = [row["text"] for row in rows], [row["category"] for row in rows]
    clean = label_noise(texts, labels)
    assert clean.num_flagged <= 0.01 * len(rows)
    noisy, wrong = flipped(labels, 0.1)
    noise = label_noise(texts, noisy)
    hits = len(wrong & set(noise.order[: noise.num_flagged]))
    assert abs(noise.rate - 0.1) <= 0.02
    assert hits >= 0.85 * len(wrong)
    assert hits >= 0.85 * noise.num_flagged


def test_classes_that_overlap_are_a_range_and_blame_no_row() -> None:
    """Half the texts of each class could be of either: no model can tell their wrong labels."""
    random = np.random.default_rng(5)
    texts, labels = [], []
    for row in range(1200):
        label = "yes" if row % 2 else "no"
        told = "agree" if label == "yes" else "refuse"
        texts.append(" ".join([*random.choice(FILLER, 6), told if random.random() < 0.4 else "perhaps"]))
        labels.append(label)
    noise = label_noise(texts, labels)
    assert not noise.is_separable
    assert noise.num_flagged == 0
    assert noise.least == 0 <= noise.rate <= noise.most


def test_mistakes_between_like_classes_are_in_the_range_and_in_the_list() -> None:
    texts, labels = texts_and_labels()
    names = sorted(set(labels))
    partner = {name: names[at ^ 1] if at ^ 1 < len(names) else name for at, name in enumerate(names)}
    wrong = set(np.random.default_rng(2).permutation(len(labels))[: len(labels) // 10].tolist())
    noisy = [partner[label] if row in wrong else label for row, label in enumerate(labels)]
    noise = label_noise(texts, noisy)
    assert noise.least <= 0.1 <= noise.most + 0.03
    listed = set(noise.order[: max(noise.num_flagged, num_listed(noise, len(texts)))])
    assert len(listed & wrong) >= 0.8 * len(wrong)
