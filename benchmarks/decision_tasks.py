"""Worlds of real data: a base and fine-tuned models stand in as classifiers that are really fitted, on real texts.

The base is fitted to a few hidden rows of each class (how strong it is differs), the fine-tuned models to those and to
the training rows, so errors, learning curves and what is hard are real. Lost formats and missing facts are laid over.
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import functools
import io
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from decision_worlds import SHARES, World, _stakes, efforts, with_agreement

__all__ = ["DATA", "real"]

DATA = Path(__file__).parents[2] / "shared" / "data"
DEV = ("banking77", "clinc150")
HELD_OUT = ("tweeteval", "restaurant8k", "gsm8k", "banking77", "clinc150")


class Rows(NamedTuple):
    """Texts and their classes."""

    texts: list[str]
    labels: list[str]


def real(seed: int) -> World | None:
    """A world on one data set (seeds below 1,000: development, other classes above); None where data is missing."""
    names = DEV if seed < 1000 else HELD_OUT
    name = names[seed % len(names)]
    rng = np.random.default_rng([77, seed])
    rows = _rows(name)
    if rows is None:
        return None
    texts, labels = _chosen(name, rows, rng, is_dev=seed < 1000)
    return _world(f"{name}-{seed}", name, texts, labels, rng)


@functools.cache
def _rows(name: str) -> Rows | None:
    folder = DATA / {"tweeteval": "tweeteval_sentiment"}.get(name, name)
    return READERS[name](folder) if folder.is_dir() else None


def _banking(folder: Path) -> Rows:
    texts = [(folder / f"{part}.csv").read_text(encoding="utf-8") for part in ("train", "test")]
    rows = [row for text in texts for row in csv.DictReader(io.StringIO(text, newline=""))]
    return Rows([row["text"] for row in rows], [row["category"] for row in rows])


def _clinc(folder: Path) -> Rows:
    parts = json.loads((folder / "data_full.json").read_text())
    rows = [row for part in ("train", "val", "test") for row in parts[part]]
    return Rows([row[0] for row in rows], [row[1] for row in rows])


def _tweets(folder: Path) -> Rows:
    texts = [(folder / f"{part}_text.txt").read_text(encoding="utf-8").splitlines() for part in ("val", "test")]
    labels = [(folder / f"{part}_labels.txt").read_text().split() for part in ("val", "test")]
    pairs = [pair for text, label in zip(texts, labels, strict=True) for pair in zip(text, label, strict=False)]
    return Rows([text for text, _ in pairs], [label for _, label in pairs])


def _restaurant(folder: Path) -> Rows:
    rows = [row for part in ("train_0", "test") for row in json.loads((folder / f"{part}.json").read_text())]
    named = ["+".join(sorted({label["slot"] for label in row.get("labels", ())})) or "none" for row in rows]
    return Rows([row["userInput"]["text"] for row in rows], named)


def _gsm8k(folder: Path) -> Rows:
    """How many calculations a problem takes: hard to see from its words."""
    texts = [(folder / f"{part}.jsonl").read_text(encoding="utf-8") for part in ("train", "test")]
    rows = [json.loads(line) for text in texts for line in text.split("\n") if line]
    return Rows([row["question"] for row in rows], [str(min(6, len(re.findall("<<", row["answer"])))) for row in rows])


READERS: dict[str, Any] = {
    "banking77": _banking,
    "clinc150": _clinc,
    "tweeteval": _tweets,
    "restaurant8k": _restaurant,
    "gsm8k": _gsm8k,
}


def _chosen(name: str, rows: Rows, rng: np.random.Generator, *, is_dev: bool) -> Rows:
    """Some classes of a data set with many, of one half for development and of the other held out; else all rows."""
    counts = Counter(rows.labels)
    names = sorted(label for label, count in counts.items() if count >= 60)
    if name in ("banking77", "clinc150"):
        half = names[::2] if is_dev else names[1::2]
        names = [str(label) for label in rng.choice(half, int(rng.integers(8, len(half))), replace=False)]
    kept = set(names)
    places = [place for place, label in enumerate(rows.labels) if label in kept]
    places = [int(place) for place in rng.permutation(places)[:9000]]
    return Rows([rows.texts[place] for place in places], [rows.labels[place] for place in places])


def _world(name: str, source: str, texts: list[str], labels: list[str], rng: np.random.Generator) -> World:
    from sklearn.feature_extraction.text import TfidfVectorizer

    features = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True).fit_transform(texts)
    classes = sorted(set(labels))
    wanted = np.array([classes.index(label) for label in labels])
    hidden = _hidden(wanted, len(classes), rng)
    rest = np.setdiff1d(np.arange(len(texts)), hidden)
    rng.shuffle(rest)
    largest = max(100, min(len(rest) // 4, 2000))
    num_train = int(min(largest, 10 ** rng.uniform(1.9, np.log10(largest))))
    train, pool = rest[: 2 * num_train], rest[2 * num_train :]
    base = _scores(features, wanted, hidden, len(classes))[pool]
    truth = wanted[pool]
    size = len(pool)
    item = rng.random((8, size))
    base_right = base.argmax(axis=1) == truth

    def shaken() -> np.ndarray:
        return _shaken(base, rng) == truth

    malformed = item[0] < float(rng.choice([0.0, 0.0, rng.uniform(0.05, 0.5)]))
    needs_fact = item[1] < float(rng.choice([0.0, 0.0, rng.uniform(0.1, 0.6)]))
    told = item[2] < rng.uniform(0.85, 1.0)
    hit = item[3] < rng.uniform(0.5, 0.98)
    again = malformed & (item[4] < 0.9)
    tuned, both, layout = {}, {}, {}
    for share in SHARES:
        rows = np.concatenate([hidden, train[: max(2, round(share * num_train))]])
        layout[share] = malformed & (item[5] > share * num_train / (share * num_train + 60))
        fitted = _scores(features, wanted, rows, len(classes))[pool]
        known = fitted.argmax(axis=1) == truth
        tuned[share] = known & ~layout[share] & ~needs_fact
        if share == 1.0:
            again_known = [_shaken(fitted, rng) == truth for _ in range(2)]
        both[share] = known & ~layout[share] & (~needs_fact | hit)
    num_validation = int(min(size // 2, 10 ** rng.uniform(1.7 if rng.random() < 0.15 else 2.05, 2.9)))
    life_months = float(rng.uniform(6, 18))
    money = str(rng.choice(["costly failures", "cheaper query", ""]))
    stakes = _stakes(money, life_months, rng) if rng.random() < 0.4 else None
    prompt = base_right & ~malformed & ~needs_fact
    world = World(
        name=name,
        archetype=f"real: {source}",
        source="real",
        prompt=prompt,
        asked_format=shaken() & ~(malformed & ~told) & ~needs_fact,
        asked_context=shaken() & ~again,
        asked_placebo=shaken() & ~again & ~needs_fact,
        tuned_context=again_known[0] & ~layout[1.0],
        tuned_placebo=again_known[1] & ~layout[1.0] & ~needs_fact,
        constrained=base_right & ~(malformed & ~told) & ~needs_fact,
        rag=shaken() & ~malformed & (~needs_fact | hit),
        both=both,
        tuned=tuned,
        num_train=num_train,
        num_validation=num_validation,
        validation=rng.choice(size, num_validation, replace=False),
        num_classes=len(classes),
        noise=float(rng.choice([0.0, 0.0, 0.0, 0.02, rng.uniform(0.15, 0.35)])),
        is_retrieval_measured=bool(rng.random() < 0.5),
        target=float(rng.uniform(0.6, 0.97)) if stakes is None and rng.random() < 0.5 else None,
        stakes=stakes,
        life_months=life_months,
        effort=efforts(rng),
    )
    return with_agreement(world, rng)


def _shaken(scores: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What is answered when the prompt changes a little."""
    return np.asarray((scores + rng.normal(0, 0.12 * float(scores.std()), scores.shape)).argmax(axis=1))


def _hidden(wanted: np.ndarray, num_classes: int, rng: np.random.Generator) -> np.ndarray:
    """The rows that the base knew before: from one of each class to many."""
    count = int(rng.choice([1, 2, 4, 10, 25, 50, 150]))
    own = [rng.permutation(np.flatnonzero(wanted == number)) for number in range(num_classes)]
    return np.concatenate([rows[: min(count, len(rows) // 4)] for rows in own])


def _scores(features: Any, wanted: np.ndarray, rows: np.ndarray, num_classes: int) -> np.ndarray:
    """(rows, classes) scores of a ridge classifier fitted on some rows."""
    from sklearn.linear_model import Ridge

    targets = -np.ones((len(rows), num_classes))
    targets[np.arange(len(rows)), wanted[rows]] = 1
    model = Ridge(alpha=1.0, solver="sparse_cg", tol=1e-3).fit(features[rows], targets)
    return np.asarray(features @ model.coef_.T + model.intercept_)
