"""Tables of scores: every metric with its interval, no row dropped, two systems compared, one's own scorer."""

# SPDX-License-Identifier: Apache-2.0
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import foretune
from foretune.errors import ScoreError
from foretune.evaluate.scorers import SCORERS, compare_scores, default_metrics, find_scorer, score_samples
from foretune.stats.intervals import wilson
from foretune.stats.verdict import verdict

LABELS = ["negative", "neutral", "positive"]


def sentiment(n, accuracy, seed):
    rng = np.random.default_rng(seed)
    targets = [LABELS[place] for place in np.random.default_rng(0).integers(0, 3, n)]
    guesses = [LABELS[place] for place in rng.integers(0, 3, n)]
    return [t if rng.random() < accuracy else g for t, g in zip(targets, guesses, strict=True)], targets


SENTENCES = [f"the {a} cat sat on the {b} mat near the door" for a in ("red", "old", "big") for b in ("wet", "new")]
WORSE = [sentence.replace("cat", "dog") for sentence in SENTENCES]


@pytest.mark.req("R119")
@pytest.mark.req("R270")
def test_every_metric_has_its_interval():
    others = (
        "schema_valid",
        "json_match",
        "field_f1",
        "number_match",
        "number_closeness",
        "absolute_error",
        "spearman",
    )
    others += ("code_runs", "code_same_output")
    names = [name for name in SCORERS if name not in others]
    table = score_samples(names, WORSE * 4, SENTENCES * 4)
    assert list(table.metrics) == names
    for name, metric in table.metrics.items():
        assert metric.n == 24
        assert metric.ci_low <= metric.value <= metric.ci_high, name
        assert np.isfinite([metric.ci_low, metric.ci_high]).all()
        assert metric.method
    json_names = ["schema_valid", "json_match", "field_f1"]
    table = score_samples(json_names, ['{"a": 1}', '{"a": 2}'], ['{"a": 1}', '{"a": 1}'])
    assert [table.metrics[name].value for name in json_names] == [1.0, 0.5, 0.5]


def test_binary_metrics_use_wilson_and_graded_ones_t():
    table = score_samples(["exact_match", "token_f1", "bleu"], WORSE[:3] + SENTENCES[3:], SENTENCES)
    assert table.metrics["exact_match"][:5] == tuple(wilson(3, 6))
    assert table.metrics["token_f1"].method == "t"
    assert table.metrics["bleu"].method == "jackknife t"
    assert table.metrics["bleu"].signature.startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")


def test_scores_of_one_sample():
    table = score_samples(["exact_match", "bleu", "macro_f1"], ["a b c d", "x"], ["a b c d", "y"])
    assert table.of_sample(0) == {"exact_match": 1.0, "bleu": pytest.approx(1.0)}
    assert table.of_sample(1) == {"exact_match": 0.0, "bleu": 0.0}


def test_invalid_labels_are_counted():
    table = score_samples(
        ["accuracy", "macro_f1"], ["positive", "good", " NEUTRAL"], ["positive", "positive", "neutral"]
    )
    assert table.num_invalid == 1
    assert table.metrics["accuracy"].value == pytest.approx(2 / 3)
    assert score_samples(["exact_match"], ["a"], ["a"]).num_invalid is None


def test_given_labels_and_schema_are_used():
    table = score_samples(["accuracy"], ["maybe"], ["yes"], labels=["yes", "no", "maybe"])
    assert table.num_invalid == 0
    table = score_samples(["schema_valid"], ['{"a": 1}'], ['{"a": 1}'], schema={"required": ["b"]})
    assert table.metrics["schema_valid"].value == 0


@pytest.mark.req("R285")
@pytest.mark.parametrize(("metric", "method"), [("accuracy", "McNemar"), ("macro_f1", "paired bootstrap with t")])
def test_compare_two_systems(metric, method):
    names = ["accuracy", "macro_f1"]
    baseline = score_samples(names, *sentiment(300, 0.5, 1))
    candidate = score_samples(names, *sentiment(300, 0.8, 2))
    result = compare_scores(metric, baseline, candidate)
    assert result.value == pytest.approx(candidate.metrics[metric].value - baseline.metrics[metric].value)
    assert result.method.startswith(method)
    assert verdict(result).value == "better"
    assert verdict(compare_scores(metric, candidate, baseline)).value == "worse"
    twin = score_samples(names, *sentiment(300, 0.5, 3))
    unproven = compare_scores(metric, baseline, twin)
    assert unproven.ci_low < 0 < unproven.ci_high
    assert verdict(unproven).value == "inconclusive"


def test_compare_graded_with_groups_and_looks():
    baseline, candidate = (score_samples(["rouge_l"], answers, SENTENCES) for answers in (WORSE, SENTENCES))
    groups = ["a", "a", "b", "b", "c", "c"]
    result = compare_scores("rouge_l", baseline, candidate, groups=groups, look=2)
    assert (result.look, result.num_units) == (2, 3)
    with pytest.raises(ScoreError, match="'bleu' was not scored, expected one of rouge_l"):
        compare_scores("bleu", baseline, candidate)


def test_unknown_scorer_is_corrected():
    with pytest.raises(ScoreError, match="no scorer 'rouge_L'") as caught:
        score_samples(["rouge_L"], ["a"], ["a"])
    assert caught.value.fix == "did you mean rouge_l?"


@pytest.mark.parametrize(("predictions", "targets"), [([], []), (["a"], ["a", "b"])])
def test_no_row_is_dropped(predictions, targets):
    with pytest.raises(ScoreError, match="expected one each"):
        score_samples(["exact_match"], predictions, targets)


def test_a_missing_answer_names_its_row():
    with pytest.raises(ScoreError, match="prediction of row 1 is None, expected text"):
        score_samples(["exact_match"], ["a", None], ["a", "b"])


# the user's own scorer

OWN = '''
"""Metrics of ours."""
from __future__ import annotations
from dataclasses import dataclass

@dataclass
class Wish:
    text: str

def helpful(prediction, target):
    """Says please.

    More.
    """
    return "please" in prediction

def broken(prediction, target):
    return 1 / len(prediction)

def missing(prediction, target):
    return float("nan") if prediction == "b" else 0.3

def wrong(prediction):
    return 1.0

def kilometres(prediction, target):
    return 1000.0 * len(prediction)

def never(prediction, target):
    return float("nan")

CONSTANT = 3
'''


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "our_metrics.py").write_text(OWN)
    (tmp_path / "torn.py").write_text("def f(:\n")
    monkeypatch.chdir(tmp_path)


@pytest.mark.req("R273")
def test_own_scorer_loads_and_runs(own):
    name = "our_metrics:helpful"
    table = score_samples([name, "exact_match"], ["yes please", "no", "please"], ["x", "y", "z"])
    assert table.scores[name].tolist() == [1.0, 0.0, 1.0]
    assert table.metrics[name].value == pytest.approx(2 / 3)
    assert table.specs[name].help == "Says please."
    assert "our_metrics" not in sys.modules
    better = score_samples([name], ["please"] * 3, ["x", "y", "z"])
    assert compare_scores(name, table, better).value == pytest.approx(1 / 3)


def test_own_scorer_of_any_range(own):
    table = score_samples(["our_metrics:kilometres"], ["a", "bb"], ["", ""])
    metric = table.metrics["our_metrics:kilometres"]
    assert metric.value == 1500
    assert np.isfinite([metric.ci_low, metric.ci_high]).all()


def test_own_scorer_of_an_installed_module():
    assert find_scorer("foretune.evaluate.scorers.text:contains").function("a b", "b") == 1


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("our_metrics:never", "our_metrics:never scores no row; it fails on row 0: the score is nan"),
        ("our_metrics:wrong", "cannot be called with"),
        ("our_metrics:CONSTANT", "has no function CONSTANT"),
        ("our_metrics:absent", "has no function absent"),
        ("no_such_module:f", "No module named 'no_such_module'"),
        ("torn:f", r"torn\.py:1: "),
        (":f", "names no scorer"),
    ],
)
def test_own_scorer_faults(own, name, said):
    with pytest.raises(ScoreError, match=said) as caught:
        score_samples([name], ["a", "", "b"], ["", "", ""])
    assert caught.value.fix


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("our_metrics:broken", {1: "ZeroDivisionError: division by zero"}),
        ("our_metrics:missing", {2: "the score is nan"}),
    ],
)
def test_a_row_without_a_score_is_named_and_kept(own, name, why):
    table = score_samples([name, "exact_match"], ["aa", "", "b"], ["", "", ""])
    (row,) = why
    assert table.unscored == {name: why} and np.flatnonzero(np.isnan(table.scores[name])).tolist() == [row]
    assert (table.n, table.metrics[name].n, table.metrics["exact_match"].n) == (3, 2, 3)
    assert set(table.of_sample(row)) == {"exact_match"} and table.unscored_of(row) == {name: why[row]}
    assert set(table.of_sample(0)) == {name, "exact_match"} and table.unscored_of(0) == {}


def test_pairs_with_a_hole_are_left_out_on_both_sides(own):
    name = "our_metrics:missing"
    before = score_samples([name], ["b", "a", "a", "a"], ["x"] * 4)
    after = score_samples([name], ["a", "a", "a", "b"], ["x"] * 4)
    result = compare_scores(name, before, after, groups=["g", "g", "h", "h"])
    assert (result.n, result.value, result.num_units) == (2, 0.0, 2)
    opposite = [score_samples([name], answers, ["x", "x"]) for answers in (["a", "b"], ["b", "a"])]
    with pytest.raises(ScoreError, match="no sample has a our_metrics:missing score of both systems"):
        compare_scores(name, *opposite)


# which metrics fit


@pytest.mark.parametrize(
    ("targets", "primary", "others"),
    [
        (['{"a": 1}', "[1]"], "json_match", ("json_valid", "schema_valid", "field_f1")),
        (["3", "4", "5"], "exact_match", ("token_f1",)),
        (["positive", "negative"] * 20 + ["neutral"], "accuracy", ("macro_f1",)),
        (["spam", "ham"] * 100 + ["typo"], "exact_match", ("token_f1",)),
        (["Paris", "London", "Rome"], "exact_match", ("token_f1",)),
        ([f"intent {number % 77}" for number in range(1540)], "accuracy", ("macro_f1",)),
        ([f"intent {number % 77}" for number in range(160)], "exact_match", ("token_f1",)),
        (SENTENCES, "rouge_l", ("bleu", "token_f1")),
    ],
)
def test_default_metrics(targets, primary, others):
    assert default_metrics(targets) == (primary, others)


def test_no_targets():
    with pytest.raises(ScoreError):
        default_metrics([])


def test_table_of_scorers_is_whole():
    for name, spec in SCORERS.items():
        assert spec.name == name
        assert spec.help.endswith(".") and "\n" not in spec.help


def test_heavy_imports_wait():
    code = (
        "import sys, foretune.evaluate.scorers, foretune.stats.verdict\n"
        "heavy = {'torch', 'scipy', 'sacrebleu', 'jsonschema', 'transformers'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    source = str(Path(foretune.__file__).parents[1])
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": source})
    assert result.returncode == 0, result.stderr


def test_the_page_lists_every_scorer() -> None:
    page = (Path(__file__).parents[3] / "docs" / "evaluate.md").read_text(encoding="utf-8")
    rows = page.partition("| metric | what it measures |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", rows)) >= set(SCORERS)
    unknown = {name for name in re.findall(r"^\| `(\w+)`", rows, re.MULTILINE) if name not in SCORERS}
    assert unknown == {"perplexity"}
