"""What is missing is named, kept, and never turned into a score or a verdict."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from foretune.errors import ScoreError
from foretune.records.evaluation import EvaluationRecord

Run = Any  # the fake run of conftest.py
OWN = """
def score(prediction, target):
    broken = {broken}
    return broken.get(prediction, float(prediction == target))
"""


def own_metric(run: Run, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    """A scorer of the user's own as the primary metric, which has no number for some answers."""
    (run.folder / "holes_metric.py").write_text(OWN.format(broken=broken))
    monkeypatch.chdir(run.folder)
    run.settings["evaluate"]["primary_metric"] = "holes_metric:score"


def answering(run: Run, odd: dict[int, str]) -> None:
    """The tuned model is right, but for the test questions of `odd`."""
    usual = run.tuned.answer

    def answer(prompt: str) -> str:
        number = int("".join(c for c in prompt.rpartition("thing ")[2].partition("?")[0] if c.isdigit()) or -1)
        return odd.get(number, usual(prompt))

    run.tuned.answer = answer


def test_a_nan_is_named_and_its_row_kept(fake_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_run.write_questions()
    own_metric(fake_run, monkeypatch, '{"odd": float("nan")}')
    answering(fake_run, {1003: "odd"})
    record = fake_run.evaluate()
    assert (record.verdict, record.n) == ("better", 60)
    assert "holes_metric:score gave no score for 1 of 60 samples; they are left out" in record.reason
    assert record.system("fine_tuned").metrics["holes_metric:score"].n == 59
    assert any("1 of 60 answers of fine_tuned have no score (row 3: the score is nan)" in w for w in record.warnings)
    rows = [row for row in fake_run.lines("answers.jsonl") if row["system"] == "fine_tuned"]
    (hole,) = [row for row in rows if row["unscored"]]
    assert len(rows) == 60 and (hole["sample_id"], hole["prediction"]) == ("q1003", "odd")
    assert hole["unscored"] == {"holes_metric:score": "the score is nan"}
    assert "holes_metric:score" not in hole["scores"] and "exact_match" in hole["scores"]
    assert EvaluationRecord.read(fake_run.run_dir) == record


def test_no_verdict_is_made_from_a_hole(fake_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_run.write_questions()
    own_metric(fake_run, monkeypatch, '{"odd": float("nan")}')
    answering(fake_run, dict.fromkeys(range(1000, 1004), "odd"))
    record = fake_run.evaluate()
    assert record.delta.ci_low > 0.2  # the rest alone would say better
    assert record.verdict == "inconclusive" and record.n_needed is None
    assert "No verdict: holes_metric:score gave no score for 4 of 60 samples, more than 5%" in record.reason


def test_systems_whose_holes_leave_no_pair_get_no_verdict(fake_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_run.write_questions(num_test=10)
    own_metric(fake_run, monkeypatch, '{"yes": float("nan"), "no": 0.5}')
    fake_run.tuned.answer = lambda prompt: "no" if "thing 1009?" in prompt else "yes"
    fake_run.base.answer = lambda prompt: "yes" if prompt.rstrip().endswith("1009?<|end|><|assistant|>") else "no"
    record = fake_run.evaluate()
    assert record.verdict == "inconclusive" and "No verdict" in record.reason


def test_a_scorer_without_any_number_stops_before_the_test_split_is_opened(
    fake_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_run.write_questions()
    own_metric(fake_run, monkeypatch, "{}")
    (fake_run.folder / "holes_metric.py").write_text("def score(prediction, target):\n    return float('nan')\n")
    with pytest.raises(ScoreError, match="holes_metric:score scores no row; it fails on row 0: the score is nan"):
        fake_run.evaluate()
    assert not (fake_run.runs_dir / "test_ledger.jsonl").exists()


def test_systems_that_are_all_alike_have_a_result(fake_run: Run) -> None:
    fake_run.write_questions(num_test=30)
    fake_run.base.answer = fake_run.tuned.answer = lambda prompt: "blue"
    record = fake_run.evaluate()
    assert record.verdict in ("inconclusive", "not_better") and record.delta.ci_low < 0 < record.delta.ci_high
    assert 0 < record.smallest_visible_difference < 1


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "rouge_l", "bleu"])
@pytest.mark.parametrize("num_test", [1, 2])
def test_fewer_rows_than_a_metric_needs(fake_run: Run, metric: str, num_test: int) -> None:
    fake_run.settings["evaluate"]["primary_metric"] = metric
    fake_run.write_questions(num_test=num_test)
    record = fake_run.evaluate()
    assert record.verdict == "inconclusive" and record.n == num_test
    assert -1 <= record.delta.ci_low <= record.delta.ci_high <= 1


def test_scores_that_are_all_equal_are_said_and_decide_nothing(fake_run: Run) -> None:
    fake_run.write_questions()
    fake_run.settings["evaluate"]["primary_metric"] = "json_valid"  # of answers that are colours
    record = fake_run.evaluate()
    assert record.verdict in ("inconclusive", "not_better") and record.delta.value == 0
    assert any("json_valid is 0 for every answer of every system" in warning for warning in record.warnings)
