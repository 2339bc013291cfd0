"""What is shown beside a verdict can be set after training; what decides it cannot, and the look stays the same."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from foretune.config.job import JobConfig
from foretune.data.ledger import TestLedger
from foretune.data.samples import Message, Sample
from foretune.errors import ConfigError, ScoreError
from foretune.evaluate.later import deciding_settings, with_shown
from foretune.evaluate.preflight import check_scorers
from foretune.records.evaluation import EvaluationRecord
from foretune.records.run import ResolvedRecord
from local_web import Reply

from .conftest import LABELS, question, said

Run = Any  # the fake run of conftest.py


@pytest.fixture
def evaluated(fake_run: Run, cli: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`evaluated(*options)` runs `foretune evaluate` on a run that has its verdict already."""
    monkeypatch.setattr("foretune.api.reconcile_run", lambda run: None)
    fake_run.primary_metric = "accuracy"
    fake_run.write_questions()
    fake_run.evaluate()
    fake_run.loads.clear()
    return lambda *options: cli("evaluate", "colours-001", "--runs-dir", fake_run.runs_dir, *options)


def number_of(body: dict[str, Any]) -> int:
    """The thing that a request asks about."""
    return int(str(body["messages"][-1]["content"]).rpartition("thing ")[2].rstrip("?"))


@pytest.mark.req("R287")
def test_a_scorer_is_added_to_the_same_answers_and_the_verdict_stays(evaluated: Any, fake_run: Run) -> None:
    before = EvaluationRecord.read(fake_run.run_dir)
    result = evaluated("--set", 'evaluate.scorers=["rouge_l", "chrf"]')
    assert result.code == 0, result.err
    after = EvaluationRecord.read(fake_run.run_dir)
    assert (after.delta, after.verdict, after.look) == (before.delta, before.verdict, 1)
    assert set(after.systems[0].metrics) == {*before.systems[0].metrics, "rouge_l", "chrf"}
    assert "rouge_l" in result.out and "chrf" in result.out
    assert fake_run.loads == []  # every answer was there
    assert len(TestLedger(fake_run.runs_dir).looks()) == 1
    assert ResolvedRecord.read(fake_run.run_dir).origins == {"evaluate.scorers": "after training"}
    assert evaluated().code == 6  # still sealed
    assert evaluated("--set", "evaluate.scorers=[]").code == 0
    assert set(EvaluationRecord.read(fake_run.run_dir).systems[0].metrics) == set(before.systems[0].metrics)


@pytest.mark.req("R174")
def test_an_endpoint_and_a_judge_that_come_later_are_asked_and_nobody_else(
    evaluated: Any, fake_run: Run, chat_server: Any
) -> None:
    server = chat_server(lambda body, number: said(LABELS[number_of(body) % 3]))
    assert evaluated("--set", f'evaluate.endpoints=["{server.spec()}"]').code == 0
    record = EvaluationRecord.read(fake_run.run_dir)
    assert [claim.system for claim in record.claims] == ["endpoint:big"] and fake_run.loads == []
    assert len(server.requests) == 60 + 2 * 12
    judge = chat_server(lambda body, number: said('{"A": {}, "B": {}, "winner": "tie"}'))
    assert evaluated("--set", f'evaluate.judge="{judge.spec("wise")}"').code == 0
    record = EvaluationRecord.read(fake_run.run_dir)
    assert record.judge is not None and record.judge.ties == 60
    assert len(server.requests) == 60 + 2 * 12 and [claim.system for claim in record.claims] == ["endpoint:big"]


def test_the_same_model_at_another_address_is_asked_anew(evaluated: Any, fake_run: Run, chat_server: Any) -> None:
    one, two = (chat_server(lambda body, number, word=word: said(word)) for word in ("blue", "gold"))
    for server in (one, two):
        assert evaluated("--set", f'evaluate.endpoints=["{server.spec()}"]').code == 0
    answers = {row["prediction"] for row in fake_run.lines("answers.jsonl") if row["system"] == "endpoint:big"}
    assert answers == {"gold"} and len(two.requests) == len(one.requests)


def test_an_added_endpoint_that_fails_is_asked_again_without_saying_it_again(
    evaluated: Any, fake_run: Run, chat_server: Any
) -> None:
    down = [True]
    server = chat_server(
        lambda body, number: Reply("x", 503) if down and number > 24 else said(LABELS[number_of(body) % 3])
    )
    assert evaluated("--set", f'evaluate.endpoints=["{server.spec()}"]').code == 0
    assert EvaluationRecord.read(fake_run.run_dir).gaps
    down.clear()
    assert evaluated().code == 0
    record = EvaluationRecord.read(fake_run.run_dir)
    assert not record.gaps and record.look == 1 and record.system("endpoint:big").num_missing == 0


@pytest.mark.req("R287")
@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("evaluate.primary_metric=rouge_l", "was fixed before training"),
        ("evaluate.advanced.margin=0.5", "was fixed before training"),
        ("evaluate.documents=docs", "was fixed before training"),
        ("train.epochs=3", "was fixed before training"),
        ("evaluate.scorer=rouge_l", "is no setting"),
        ("evaluate.scorers=rouge_l", 'expected a list, such as ["rouge_l"]'),
        ('evaluate.scorers=["rouge_x"]', "no scorer 'rouge_x'"),
        ('evaluate.scorers=["number_match"]', "number_match fails on row 0"),
        ('evaluate.endpoints=["here"]', "not of the form URL#model"),
    ],
)
def test_what_decides_or_cannot_be_is_refused_and_nothing_changes(
    evaluated: Any, fake_run: Run, setting: str, said: str
) -> None:
    before = (fake_run.run_dir / "resolved.json").read_bytes()
    result = evaluated("--set", setting)
    assert result.code in (2, 3) and said in result.err
    assert (fake_run.run_dir / "resolved.json").read_bytes() == before


def test_a_setting_that_the_primary_metric_needs_decides_too() -> None:
    job = JobConfig()
    assert with_shown(job, {"evaluate.json_schema": "s.json"}, "field_f1").evaluate.json_schema == "s.json"
    with pytest.raises(ConfigError, match="json_schema was fixed before training"):
        with_shown(job, {"evaluate.json_schema": "s.json"}, "schema_valid")


def test_only_what_decides_and_is_no_default_marks_an_evaluation() -> None:
    assert deciding_settings(JobConfig(), "accuracy") == {}
    shown = {"scorers": ["bleu"], "judge": "http://h/v1#m", "json_schema": "s.json", "max_new_tokens": 9}
    job = JobConfig.model_validate({"evaluate": shown, "train": {"epochs": 9}})
    assert deciding_settings(job, "accuracy") == {"evaluate.max_new_tokens": 9}
    assert set(deciding_settings(job, "schema_valid")) == {"evaluate.max_new_tokens", "evaluate.json_schema"}


OWN = "def score(prediction, target):\n    return {score}\n"


def test_an_own_metric_that_was_changed_after_the_verdict_is_refused(
    fake_run: Run, cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foretune.api.reconcile_run", lambda run: None)
    monkeypatch.chdir(fake_run.folder)
    own = fake_run.folder / "later_metric.py"
    own.write_text(OWN.format(score="float(prediction == target)"))
    fake_run.primary_metric = fake_run.settings["evaluate"]["primary_metric"] = "later_metric:score"
    fake_run.write_questions()
    fake_run.evaluate()
    kept = (fake_run.run_dir / "evaluation.json").read_bytes()
    own.write_text(OWN.format(score="1.0"))
    result = cli("evaluate", "colours-001", "--runs-dir", fake_run.runs_dir, "--set", 'evaluate.scorers=["rouge_l"]')
    assert result.code == 2 and "its scorer has changed" in result.err
    assert (fake_run.run_dir / "evaluation.json").read_bytes() == kept


def test_a_withheld_verdict_is_given_once_the_scorer_is_mended(
    fake_run: Run, cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foretune.api.reconcile_run", lambda run: None)
    monkeypatch.chdir(fake_run.folder)
    own = fake_run.folder / "mended_metric.py"
    own.write_text("def score(prediction, target):\n    return {'odd': None}.get(prediction, prediction == target)\n")
    usual = fake_run.tuned.answer
    fake_run.tuned.answer = lambda prompt: "odd" if any(f"100{n}?" in prompt for n in range(4)) else usual(prompt)
    fake_run.primary_metric = fake_run.settings["evaluate"]["primary_metric"] = "mended_metric:score"
    fake_run.write_questions()
    assert "No verdict" in fake_run.evaluate().reason
    own.write_text(OWN.format(score="float(prediction == target)"))
    fake_run.loads.clear()
    assert cli("evaluate", "colours-001", "--runs-dir", fake_run.runs_dir).code == 0
    record = EvaluationRecord.read(fake_run.run_dir)
    assert (record.verdict, record.look, fake_run.loads) == ("better", 1, [])


def test_whatever_an_own_scorer_raises_names_its_row(fake_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(fake_run.folder)
    (fake_run.folder / "raising_metric.py").write_text(
        "def score(prediction, target):\n"
        "    if prediction == 'blue':\n        raise RuntimeError('no blue')\n"
        "    assert prediction != 'gold', 'no gold'\n    return 1.0\n"
    )
    fake_run.settings["evaluate"]["scorers"] = ["raising_metric:score"]
    fake_run.write_questions()
    fake_run.evaluate()
    whys = {row["unscored"].get("raising_metric:score") for row in fake_run.lines("answers.jsonl")}
    assert {"RuntimeError: no blue", "AssertionError: no gold"} <= whys


def test_a_metric_that_cannot_score_the_targets_is_told_before_training(fake_run: Run) -> None:
    fake_run.settings["evaluate"]["scorers"] = ["number_match", "absolute_error", "rouge_l"]
    with pytest.raises(ConfigError, match="2 faults") as caught:
        rows = [question(number) for number in range(30)]
        check_scorers(fake_run.job, "accuracy", rows, rows, fake_run.folder, "chat")
    assert "take number_match out of evaluate.scorers" in caught.value.what
    fake_run.settings["evaluate"] = {"primary_metric": "number_match"}
    with pytest.raises(ScoreError, match="is no number"):
        check_scorers(fake_run.job, "number_match", [question(0)], [question(0)], fake_run.folder, "chat")


def test_one_held_out_target_that_cannot_be_scored_is_named(fake_run: Run) -> None:
    """One in training is a matter of the audit."""

    def counted(answer: str, place: str = "") -> Sample:
        return Sample(id=answer, messages=(Message("user", "how many?"), Message("assistant", answer)), place=place)

    rows, odd = [counted(str(number)) for number in range(60)], counted("several", "data.jsonl:17")
    fake_run.settings["evaluate"] = {"primary_metric": "number_match"}
    check_scorers(fake_run.job, "number_match", [*rows, odd], rows, fake_run.folder, "chat")
    with pytest.raises(ScoreError, match=r"data\.jsonl:17: number_match .* 'several' is no number"):
        check_scorers(fake_run.job, "number_match", rows, [*rows, odd], fake_run.folder, "chat")


def test_general_rows_are_no_examples_and_choose_no_metric(fake_run: Run) -> None:
    turns = (Message("user", "say anything"), Message("assistant", "a long general answer that is no colour at all"))
    general = [Sample(f"g{number}", turns, meta={"mixed": {"source": "x"}}) for number in range(20)]
    own = [question(number) for number in range(30)]
    held = [question(number) for number in range(100, 112)], [question(number) for number in range(1000, 1030)]
    fake_run.write([*own, *(replace(sample, id=sample.id) for sample in general)], *held)
    record = fake_run.evaluate()
    assert record.primary_metric == "accuracy" and "constant" in [system.name for system in record.systems]
    assert not any("general answer" in prompt for prompt in fake_run.base.prompts)
