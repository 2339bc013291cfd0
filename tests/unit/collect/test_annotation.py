"""The round trip of annotation: tasks out, answers of several people back, settled, and turned into samples."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from foretune.collect.agreement import agreement
from foretune.collect.annotation import export_tasks, read_tasks
from foretune.collect.answers import import_answers
from foretune.collect.comparisons import bradley_terry, first_shown_share
from foretune.collect.guidelines import Guidelines, register_guidelines
from foretune.collect.logs import write_samples
from foretune.collect.settle import (
    adjudicated,
    adjudication_tasks,
    annotated_samples,
    comparisons_of,
    gold_scores,
    preference_samples,
    settle,
    tone_counts,
)
from foretune.collect.sources import SourceCard
from foretune.collect.tasks import Task, answer_tasks, comparison_tasks, label_tasks
from foretune.data.formats import read_samples
from foretune.data.provenance import provenance_of, with_provenance
from foretune.data.samples import Message, Sample
from foretune.errors import ConfigError, DataError, NotFound
from foretune.records.dataset import Provenance
from local_web import FakeClock

LABELS = ("refund", "return", "other")
NOW = "2026-11-21T12:00:00Z"


@pytest.fixture
def guidelines(tmp_path: Path, clock: FakeClock) -> Guidelines:
    (tmp_path / "how-to.md").write_text("A refund is about money. A return is about goods.", encoding="utf-8")
    return register_guidelines(tmp_path / "how-to.md", tmp_path / "work", clock=clock)


def questions(num: int) -> list[Sample]:
    return [Sample(f"q{n}", (Message("user", f"question {n}"), Message("assistant", "?"))) for n in range(num)]


def truth(number: int) -> str:
    return LABELS[number % 3]


def fill(path: Path, answers: dict[str, Any], **others: str) -> Path:
    """Write answers by task id into a file as an annotator would, with a spreadsheet's habits for CSV."""
    if path.suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        lines = (json.dumps({**row, "answer": answers.get(row["task_id"], ""), **others}) + "\n" for row in rows)
        path.write_text("".join(lines), encoding="utf-8")
        return path
    rows = list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines()))
    with open(path, "w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, rows[0], delimiter=";")
        writer.writeheader()
        writer.writerows({**row, "answer": answers.get(row["task_id"], ""), **others} for row in rows)
    return path


@pytest.mark.req("R104")
@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_labels_make_the_round_trip(form: Any, guidelines: Guidelines, tmp_path: Path) -> None:
    gold = {f"q{n}": truth(n) for n in range(0, 30, 6)}
    tasks = label_tasks(questions(30), LABELS, guidelines, gold=gold)
    sent = export_tasks(tasks, tmp_path / "out", ("ann", "bob", "cy"), form=form, usd_per_answer=0.05)
    assert (sent.num_tasks, sent.num_gold, sent.num_answers, sent.cost_usd) == (30, 5, 90, pytest.approx(4.5))
    assert sent.cost == "90 answers to 30 tasks x $0.0500 = $4.50"
    assert read_tasks(tmp_path / "out") == tasks
    for name, path in sent.files.items():
        text = path.read_text(encoding="utf-8-sig")
        assert "gold" not in text and guidelines.version in text
        muddled = {f"q{n}": LABELS[(n + 1) % 3] for n in range(0, 30, 2)} if name == "cy" else {}
        fill(path, {**{f"q{n}": truth(n) for n in range(30)}, **muddled})
    answers = import_answers(sent.files, tasks)
    assert (len(answers.answers), answers.num_open, answers.num_outdated, answers.faults) == (90, 0, 0, ())
    scores = gold_scores(answers, tasks)
    assert (scores["ann"][:2], scores["cy"][:2]) == ((5, 5), (5, 0)) and scores["cy"].low == 0
    settled = settle(answers, tasks, leave_out={name for name, score in scores.items() if score.num_right < 3})
    assert settled.values == {f"q{n}": truth(n) for n in range(30)} and settled.disputes == ()
    alpha = agreement(answers.votes).alpha
    assert alpha is not None and 0.3 < alpha < 0.8


@pytest.mark.req("R104")
def test_disputes_are_found_and_an_adjudicator_decides(guidelines: Guidelines, tmp_path: Path) -> None:
    tasks = label_tasks(questions(4), LABELS, guidelines)
    sent = export_tasks(tasks, tmp_path / "out", ("ann", "bob", "cy"))
    given = {"ann": ("refund",) * 3, "bob": ("refund", "return", "return"), "cy": ("other", "other", "return")}
    for name, values in given.items():
        fill(sent.files[name], {f"q{n}": value for n, value in enumerate(values)})
    answers = import_answers(sent.files, tasks)
    settled = settle(answers, tasks)
    assert settled.values == {"q0": "refund", "q2": "return"} and settled.num_too_few == 1
    assert [dispute.task_id for dispute in settled.disputes] == ["q1"]
    assert settle(answers, tasks, min_share=1.0).values == {} and answers.num_open == 3
    again = adjudication_tasks(settled, tasks)
    assert "refund (1); return (1); other (1)" in again[0].question and "ann" not in again[0].question
    to_judge = export_tasks(again, tmp_path / "judge", ("judge",))
    fill(to_judge.files["judge"], {"q1": "other"})
    final = adjudicated(settled, import_answers(to_judge.files, again))
    assert final.values["q1"] == "other" and final.disputes == ()
    samples = annotated_samples(final, tasks, retrieved_at=NOW, licence="own")
    assert {sample.input_text: sample.target for sample in samples}["question 1"] == "other"


@pytest.mark.req("R105")
def test_guidelines_are_versioned_and_every_answer_stores_its_version(
    guidelines: Guidelines, tmp_path: Path, clock: FakeClock
) -> None:
    same = register_guidelines(tmp_path / "how-to.md", tmp_path / "work", clock=clock)
    assert same == guidelines and guidelines.number == 1
    tasks = label_tasks(questions(3), LABELS, guidelines)
    sent = export_tasks(tasks, tmp_path / "out", ("ann", "bob"))
    (tmp_path / "how-to.md").write_text("A refund is about money. An exchange is a return.", encoding="utf-8")
    newer = register_guidelines(tmp_path / "how-to.md", tmp_path / "work", clock=clock)
    assert (newer.number, newer.version != guidelines.version) == (2, True)
    assert "money. A return" in guidelines.path.read_text() and "exchange" in newer.path.read_text()
    fill(sent.files["ann"], {"q0": "refund"})
    fill(sent.files["bob"], {"q0": "refund"}, guideline=newer.version)
    renewed = [task.model_copy(update={"guideline": newer.version}) for task in tasks]
    answers = import_answers(sent.files, renewed)
    assert {answer.annotator: answer.guideline for answer in answers.answers} == {
        "ann": guidelines.version,
        "bob": newer.version,
    }
    assert answers.num_outdated == 1
    for text, error in (("", DataError), (None, NotFound)):
        path = tmp_path / "other.md"
        path.write_text(text) if text is not None else path.unlink()
        with pytest.raises(error):
            register_guidelines(path, tmp_path / "work")


@pytest.mark.req("R091")
@pytest.mark.req("R106")
def test_summaries_are_written_approved_and_trained_on(guidelines: Guidelines, tmp_path: Path) -> None:
    origin = Provenance(
        source="NewsAPI",
        licence="theirs",
        retrieved_at=NOW,
        sha256="0" * 64,
        share="link-only",
        url="https://a.example/1",
    )
    articles = [with_provenance(Sample(f"a{n}", text=f"Article {n}. It rained."), origin) for n in range(3)]
    tasks = answer_tasks(articles, guidelines, question="Write a summary of one sentence. Which tone has it?")
    sent = export_tasks(tasks, tmp_path / "out", ("ann",), form="jsonl")
    fill(sent.files["ann"], {"a0": "It rained.", "a1": "=rain", "a2": "Wet."}, approved="yes", tone="Neutral")
    rows = [json.loads(line) for line in sent.files["ann"].read_text().splitlines()]
    draft = [{**row, "approved": "no"} if row["task_id"] == "a2" else row for row in rows]
    sent.files["ann"].write_text("".join(json.dumps(row) + "\n" for row in draft))
    answers = import_answers(sent.files, tasks)
    assert tone_counts(answers.answers) == {"neutral": 3}
    samples = annotated_samples(answers, tasks, retrieved_at=NOW)
    assert sorted((sample.input_text[:9], sample.target) for sample in samples) == [
        ("Article 0", "It rained."),
        ("Article 1", "=rain"),
    ]
    for sample in samples:
        provenance = provenance_of(sample)
        assert (provenance.share, provenance.licence, provenance.url) == ("link-only", "theirs", origin.url)
        assert sample.meta["guideline"] == guidelines.version and sample.meta["tone"] == "neutral"
    path = write_samples(samples, tmp_path / "train" / "summaries.jsonl", SourceCard(kind="annotation"))
    assert [sample.messages for sample in read_samples(path).samples] == [sample.messages for sample in samples]


@pytest.mark.req("R107")
def test_comparisons_give_strengths_and_preference_pairs(guidelines: Guidelines, tmp_path: Path) -> None:
    answers_by_item = {f"i{n}": {"base": f"short {n}", "tuned": f"long answer {n}"} for n in range(20)}
    answers_by_item["same"] = {"base": "equal", "tuned": "equal"}
    inputs = {name: f"question {name}" for name in answers_by_item}
    tasks = comparison_tasks(answers_by_item, inputs, guidelines)
    assert len(tasks) == 20 and 5 <= sum(task.variants[0] == "base" for task in tasks) <= 15
    sent = export_tasks(tasks, tmp_path / "out", ("ann", "bob"))
    better = {task.id: "a" if task.variants[0] == "tuned" else "b" for task in tasks}
    tie = tasks[0].id
    fill(sent.files["ann"], {**better, tie: "tie"})
    fill(sent.files["bob"], {**better, tie: "TIE"})
    answers = import_answers(sent.files, tasks)
    settled = settle(answers, tasks)
    pairs = preference_samples(settled, tasks, retrieved_at=NOW)
    assert len(pairs) == 19
    assert all(p.target.startswith("long") and p.rejected[-1].content.startswith("short") for p in pairs)
    strongest, _ = bradley_terry(comparisons_of(answers, tasks))
    assert strongest.name == "tuned" and 0.1 < first_shown_share(comparisons_of(answers, tasks)) < 0.9
    path = write_samples(pairs, tmp_path / "pairs.jsonl", SourceCard(kind="annotation"))
    row = json.loads(path.read_text().splitlines()[0])
    assert set(row) >= {"prompt", "chosen", "rejected", "provenance", "guideline"}
    again = read_samples(path, task="preference").samples
    assert [(p.target, p.rejected[-1].content) for p in again] == [(p.target, p.rejected[-1].content) for p in pairs]


def test_tasks_are_dealt_out_evenly_and_all_pairs_meet(guidelines: Guidelines, tmp_path: Path) -> None:
    tasks = label_tasks(questions(60), LABELS, guidelines, gold={"q0": "refund"})
    names = ("a", "b", "c", "d", "e")
    sent = export_tasks(tasks, tmp_path, names, form="jsonl", per_task=2)
    ids = {name: [json.loads(line)["task_id"] for line in sent.files[name].read_text().splitlines()] for name in names}
    assert sent.num_answers == 59 * 2 + 5 and all("q0" in given for given in ids.values())
    sizes = [len(given) for given in ids.values()]
    assert max(sizes) - min(sizes) <= 1
    told = Counter(name for given in ids.values() for name in given)
    assert all(count == 2 for name, count in told.items() if name != "q0")
    meet = Counter(frozenset(n for n in names if f"q{k}" in ids[n]) for k in range(1, 60))
    assert len(meet) == 10
    assert ids["a"] != sorted(ids["a"]) and ids["a"][:5] != ids["b"][:5]
    again = export_tasks(tasks, tmp_path / "again", names, form="jsonl", per_task=2)
    assert all(again.files[name].read_text() == sent.files[name].read_text() for name in names)


def test_what_annotators_get_wrong_is_told_by_line_and_the_rest_counts(guidelines: Guidelines, tmp_path: Path) -> None:
    tasks = label_tasks(questions(5), LABELS, guidelines)
    path = tmp_path / "to-ann.csv"
    lines = ["task_id,answer", "q0, Refund ", "q1,refnd", "q9,refund", "q2,", "q3,other", "q3,refund", "q4,other"]
    path.write_text("\n".join(lines) + "\n")
    answers = import_answers([path], tasks)
    assert {answer.task_id: answer.value for answer in answers.answers} == {
        "q0": "refund",
        "q3": "other",
        "q4": "other",
    }
    assert answers.num_open == 1 and {answer.annotator for answer in answers.answers} == {"ann"}
    told = {fault.line: (fault.what, fault.fix) for fault in answers.faults}
    assert told[3] == ("answer to q1", "did you mean refund?") and told[4][0] == "no such task"
    assert told[7][0] == "ann answers q3 twice" and len(told) == 3
    with pytest.raises(NotFound):
        import_answers([tmp_path / "to-bob.csv"], tasks)


def test_ratings_written_by_a_spreadsheet_as_decimals_are_understood(guidelines: Guidelines, tmp_path: Path) -> None:
    tasks = label_tasks(questions(2), ("1", "2", "3"), guidelines, kind="rating")
    path = tmp_path / "both.jsonl"
    rows = [
        {"task_id": f"q{n}", "answer": value, "annotator": who}
        for n, who, value in ((0, "a", 2.0), (0, "b", 3), (1, "a", 1))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert import_answers([path], tasks).votes == {"q0": {"a": "2", "b": "3"}, "q1": {"a": "1"}}


def test_no_cell_of_an_export_is_a_formula(guidelines: Guidelines, tmp_path: Path) -> None:
    sample = Sample("q=1", (Message("user", '=HYPERLINK("https://evil.example")'), Message("assistant", "?")))
    tasks = label_tasks([sample], ("-1", "+1"), guidelines)
    path = export_tasks(tasks, tmp_path, ("ann",)).files["ann"]
    (row,) = csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines())
    assert not [value for value in row.values() if value.startswith(("=", "+", "-", "@"))]
    assert import_answers([fill(path, {"q=1": "'-1"})], tasks).answers[0].value == "-1"


def test_impossible_exports_are_refused(guidelines: Guidelines, tmp_path: Path) -> None:
    tasks = label_tasks(questions(2), LABELS, guidelines)
    bad: list[tuple[list[Task], tuple[str, ...], int]] = [
        (tasks * 2, ("a",), 0),
        ([], ("a",), 0),
        (tasks, (), 0),
        (tasks, ("a", "A"), 0),
        (tasks, ("../x",), 0),
        (tasks, ("a",), 2),
    ]
    for listed, names, per_task in bad:
        with pytest.raises(ConfigError):
            export_tasks(listed, tmp_path, names, per_task=per_task)
    with pytest.raises(DataError, match="gold answer 'money'"):
        label_tasks(questions(1), LABELS, guidelines, gold={"q0": "money"})
    with pytest.raises(ConfigError, match="min_share"):
        settle(import_answers([], tasks), tasks, min_share=0.2)
    with pytest.raises(NotFound):
        read_tasks(tmp_path / "nowhere")
    assert list(tmp_path.glob("to-*")) == []


def test_what_is_known_of_a_row_goes_with_its_answer(guidelines: Guidelines, tmp_path: Path) -> None:
    sample = Sample("n1", text="news", meta={"published_at": "2026-11-20", "provenance": None})
    (task,) = answer_tasks([sample], guidelines)
    assert task.meta == {"published_at": "2026-11-20"}
    export_tasks([task], tmp_path, ["ann"])
    assert "2026-11-20" not in (tmp_path / "to-ann.csv").read_text(encoding="utf-8-sig")
    fill(tmp_path / "to-ann.csv", {"n1": "a line"}, approved="yes")
    answers = import_answers([tmp_path / "to-ann.csv"], read_tasks(tmp_path))
    (made,) = annotated_samples(answers, read_tasks(tmp_path), retrieved_at=NOW)
    assert made.meta["published_at"] == "2026-11-20" and made.target == "a line"
