"""Similarity, code that runs, ROUGE-Lsum, numbers with tolerance, and scorers of other packages."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import random
import sys
from pathlib import Path

import numpy as np
import pytest

from foretune.data.embed.lexical import LexicalEmbedder
from foretune.data.embed.vectors import Vectors, unit_rows
from foretune.errors import ScoreError
from foretune.evaluate.scorers.code import code_of, run_code
from foretune.evaluate.scorers.numbers import number_match
from foretune.evaluate.scorers.registry import find_scorer
from foretune.evaluate.scorers.similarity import semantic_similarity, shuffled_similarity
from foretune.evaluate.scorers.table import score_samples
from foretune.evaluate.scorers.text import rouge_lsum


class Letters:
    """Embeds a text as its counts of a, b and c."""

    name = "letters"

    def encode(self, texts: list[str]) -> Vectors:
        return unit_rows(np.array([[text.count(letter) for letter in "abc"] for text in texts], np.float32))


@pytest.mark.req("R280")
def test_similarity_is_the_cosine_and_is_held_against_chance() -> None:
    scores = semantic_similarity(["a", "ab", "c", "", "zz"], ["a", "a", "a", "a", "zz"], Letters())
    assert scores == pytest.approx([1.0, 2**-0.5, 0.0, 0.0, 1.0])
    given, wanted = ["a", "ab", "c"], ["a", "b", "c"]
    found = shuffled_similarity(given, wanted, Letters())
    vectors = Letters().encode(given) @ Letters().encode(wanted).T
    others = [vectors[i, j] for i in range(3) for j in range(3) if i != j]
    assert found.mean == pytest.approx(np.trace(vectors) / 3)
    assert found.shuffled == pytest.approx(np.mean(others))
    assert found.above_chance == pytest.approx((found.mean - found.shuffled) / (1 - found.shuffled))


def test_similarity_without_a_model() -> None:
    targets = ["the parcel is late", "the invoice is wrong", "I forgot my password", "the parcel is lost"]
    table = score_samples(["semantic_similarity"], targets[1:] + targets[:1], targets)
    assert table.metrics["semantic_similarity"].value < 0.5
    same = score_samples(["semantic_similarity"], targets, targets, embedder=LexicalEmbedder(targets))
    assert same.metrics["semantic_similarity"].value == 1.0


def test_rouge_lsum_equals_the_reference() -> None:
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeLsum"])
    draw = random.Random(3)
    for _ in range(300):
        texts = ["", ""]
        for side in range(2):
            lines = [" ".join(draw.choices("abcdefg", k=draw.randint(0, 7))) for _ in range(draw.randint(1, 4))]
            texts[side] = "\n".join(lines)
        expected = scorer.score(texts[1], texts[0])["rougeLsum"].fmeasure
        assert rouge_lsum(texts[0], texts[1]) == pytest.approx(expected, abs=1e-12), texts


@pytest.mark.parametrize(
    ("tokens", "targets"),
    [
        ("13a", ["the red cat sat on the mat", "a dog, in the house."]),
        ("zh", ["红色的猫坐在垫子上", "那只狗在房子里睡觉"]),
        ("char", ["赤い猫がマットの上に座っている", "犬は家の中で寝ています"]),
    ],
)
def test_bleu_is_cut_by_the_script_and_equals_sacrebleu(tokens: str, targets: list[str]) -> None:
    from sacrebleu.metrics.bleu import BLEU

    given = [targets[0], targets[1][:-2] + "x"]
    table = score_samples(["bleu"], given, targets)
    expected = BLEU(tokenize=tokens).corpus_score(given, [targets]).score / 100
    assert table.metrics["bleu"].value == pytest.approx(expected, abs=1e-9)
    assert f"tok:{tokens}" in table.metrics["bleu"].signature


def test_numbers_within_a_per_cent() -> None:
    assert [number_match(said, "200") for said in ("200", "201.9", "202.1", "two hundred", "198")] == [1, 1, 0, 0, 1]
    assert [number_match(said, "0") for said in ("0", "0.001")] == [1, 0]


def test_precision_recall_f1_equal_scikit_learn() -> None:
    from sklearn.metrics import accuracy_score, precision_recall_fscore_support

    draw = random.Random(5)
    labels = ["red", "green", "blue", "grey"]
    targets = [draw.choice(labels) for _ in range(200)]
    given = [draw.choice(labels) if draw.random() < 0.4 else target for target in targets]
    names = ["accuracy", "macro_precision", "macro_recall", "macro_f1"]
    table = score_samples(names, given, targets, labels=labels)
    macro = precision_recall_fscore_support(targets, given, labels=labels, average="macro", zero_division=0)[:3]
    expected = [accuracy_score(targets, given), *macro]
    assert [table.metrics[name].value for name in names] == pytest.approx(expected, abs=1e-12)


def test_code_is_not_run_unless_it_is_allowed() -> None:
    with pytest.raises(ScoreError, match="runs the answers as Python, which is off"):
        score_samples(["code_runs"], ["print(1)"], ["print(1)"])


def test_code_that_runs_and_prints_the_same() -> None:
    answers = ["```python\nprint(1 + 1)\n```", "print(2)\n", "raise ValueError", "def f(:", ""]
    names = ["code_runs", "code_same_output"]
    table = score_samples(names, answers, ["print(2)", "print(3)", "print(2)", "print(2)", "print(2)"], run_code=True)
    assert table.scores["code_runs"].tolist() == [1, 1, 0, 0, 0]
    assert table.scores["code_same_output"].tolist() == [1, 0, 0, 0, 0]
    assert code_of("Try:\n```py\na = 1\n```\nthen\n```\nb = 2\n```") == "a = 1\nb = 2"


@pytest.mark.parametrize(
    "source",
    [
        "import socket; socket.socket()",
        "import subprocess; subprocess.run(['true'])",
        "import os; os.system('true')",
        "import os; os.fork()",
        "open('/etc/passwd').read()",
        "open('../.output', 'w').write('cheat')",
        "import ctypes; ctypes.CDLL(None)",
        "bytearray(2 * 2**30)",
        "open('big', 'wb').write(b'x' * 2**22)",
    ],
)
def test_limited_process_refuses(source: str) -> None:
    assert not run_code(source).is_clean


def test_limited_process_allows_what_programs_need(tmp_path: Path) -> None:
    source = "import json, math, re, collections\nopen('x.txt', 'w').write('5')\nprint(int(open('x.txt').read()) + 1)"
    found = run_code(source)
    assert found.is_clean and found.output == "6\n"
    assert run_code("import os; print(dict(os.environ).get('HOME'))").output == "None\n"


def test_code_without_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foretune.evaluate.scorers.code.CPU_SECONDS", 1)
    monkeypatch.setattr("foretune.evaluate.scorers.code.WALL_SECONDS", 3)
    assert not run_code("while True: pass").is_clean
    monkeypatch.setattr("foretune.evaluate.scorers.code.WALL_SECONDS", 1)
    assert run_code("import time; time.sleep(60)").status is None


def install(folder: Path, entries: str, module: str) -> None:
    """A package as pip leaves it."""
    (folder / "their_scoring.py").write_text(module, encoding="utf-8")
    info = folder / "their_scoring-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-scoring\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[foretune.scorers]\n{entries}\n", encoding="utf-8")


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "their_scoring", raising=False)
    return tmp_path


@pytest.mark.req("R273")
def test_scorers_of_other_packages(packages: Path) -> None:
    module = (
        "from foretune.evaluate.scorers import ScorerSpec\n"
        "def polite(prediction, target):\n    'Says please.'\n    return float('please' in prediction)\n"
        "def broken(prediction, target):\n    return float('nan')\n"
        "def wrong(only):\n    return 1.0\n"
        "spec = ScorerSpec('x', lambda p, t: float(p == t), 'binary', 'Same.')\n"
    )
    entries = (
        "polite = their_scoring:polite\nsame = their_scoring:spec\nbroken = their_scoring:broken\n"
        "wrong = their_scoring:wrong\ngone = their_scoring:gone"
    )
    install(packages, entries, module)
    table = score_samples(["polite", "same"], ["please", "b"], ["a", "b"])
    assert table.metrics["polite"].value == 0.5 and table.metrics["same"].method == "wilson"
    assert find_scorer("polite").help == "Says please."
    with pytest.raises(ScoreError, match="broken scores no row; it fails on row 0: the score is nan"):
        score_samples(["broken"], ["a"], ["a"])
    with pytest.raises(ScoreError, match="cannot be called"):
        find_scorer("wrong")
    with pytest.raises(ScoreError, match="of their-scoring cannot be loaded"):
        find_scorer("gone")
    with pytest.raises(ScoreError, match="no scorer 'polit'") as caught:
        find_scorer("polit")
    assert "polite" in caught.value.fix
