"""`foretune collect tasks`, `agreement`, `answers` and `request`: people's work makes the round trip."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Any  # the fixture of conftest.py
LABELS = ("refund", "return", "other")


@pytest.fixture
def queries(tmp_path: Path) -> Path:
    rows = [{"id": f"q{n}", "query": f"question {n} about money or goods"} for n in range(30)]
    (tmp_path / "how-to.md").write_text("A refund is about money, a return about goods.")
    path = tmp_path / "queries.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def export(cli: Cli, queries: Path, *more: object) -> Any:
    options = ("--guidelines", "how-to.md", "--annotators", "ann,bob", *more)
    result = cli("collect", "tasks", queries, "work", *options, "--json")
    assert result.code == 0, result.err
    return result.document


def fill(name: str, answer: Callable[[dict[str, str]], str], folder: str = "work") -> None:
    """Answer a file as an annotator would."""
    path = Path(folder) / f"to-{name}.csv"
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    with open(path, "w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        approved = {"approved": "yes"} if "approved" in rows[0] else {}
        writer.writerows({**row, "answer": answer(row), **approved} for row in rows)


def truth(row: dict[str, str]) -> str:
    return LABELS[int(row["task_id"][1:]) % 3]


def wrong_at(*numbers: int) -> Callable[[dict[str, str]], str]:
    return lambda row: "other" if int(row["task_id"][1:]) in numbers else truth(row)


@pytest.mark.req("R135")
def test_two_reviewers_an_item_and_their_agreement(cli: Cli, queries: Path) -> None:
    document = export(cli, queries, "--labels", ",".join(LABELS), "--usd-per-answer", "0.05")
    assert (document["num_tasks"], document["num_answers"], document["cost_usd"]) == (30, 60, 3.0)
    empty = cli("collect", "agreement", "work")
    assert empty.code == 3 and "no item has answers of two annotators" in empty.err
    fill("ann", truth)
    fill("bob", wrong_at(0, 1, 3))
    found = cli("collect", "agreement", "work", "--json").document
    assert 0.8 < found["agreement"]["alpha"] < 0.9 and found["agreement"]["num_items"] == 30
    assert found["agreement"]["kappas"]["ann & bob"] == pytest.approx(0.85, abs=0.02)
    shown = cli("collect", "agreement", "work").out
    assert "ann & bob" in shown and "95 % interval" in shown and "confused 2 times: other and refund" in shown
    assert shown.rstrip().endswith("Next: foretune collect answers work labelled.jsonl")
    alone = cli(
        "collect", "tasks", queries, "one", "--guidelines", "how-to.md", "--annotators", "ann", "--labels", "a,b"
    )
    assert alone.code == 0


@pytest.mark.req("R136")
@pytest.mark.req("R137")
def test_items_on_which_people_disagree_are_listed_left_out_and_decided(cli: Cli, queries: Path) -> None:
    export(cli, queries, "--labels", ",".join(LABELS))
    fill("ann", truth)
    fill("bob", wrong_at(0, 3))
    first = cli("collect", "answers", "work", "data.jsonl", "--disputed", "work/disputed", "--json").document
    assert [(item["id"], item["share"]) for item in first["low_confidence"]] == [("q0", 0.5), ("q3", 0.5)]
    assert (first["num_samples"], first["num_disputed"]) == (28, 2)
    rows = [json.loads(line) for line in Path("data.jsonl").read_text().splitlines()]
    assert not {"q0", "q3"} & {row["id"] for row in rows}
    assert all(row["guideline"].startswith("001-") and row["agreement"] == 1.0 for row in rows)
    assert json.loads(Path("source.data.jsonl.json").read_text())["kind"] == "annotation"
    fill("adjudicator", truth, "work/disputed")
    command = first["next"].removeprefix("foretune ").split()
    assert cli(*command, "--json").document["num_samples"] == 30
    assert "low confidence: 2 tasks" in cli("collect", "answers", "work", "data.jsonl").out


def test_gold_items_tell_who_is_not_counted(cli: Cli, queries: Path) -> None:
    Path("gold.csv").write_text("id,label\n" + "".join(f"q{n},{LABELS[n % 3]}\n" for n in range(6)))
    assert export(cli, queries, "--labels", ",".join(LABELS), "--gold", "gold.csv")["num_gold"] == 6
    fill("ann", truth)
    fill("bob", lambda row: "other")
    gold = cli("collect", "agreement", "work", "--json").document["gold"]
    assert (gold["ann"]["num_right"], gold["bob"]["num_right"]) == (6, 2)
    done = cli("collect", "answers", "work", "d.jsonl", "--min-gold", "0.8", "--min-answers", "1", "--json").document
    assert done["left_out_annotators"] == ["bob"] and done["num_samples"] == 30
    Path("gold.csv").write_text("id,label\nq99,refund\n")
    options = ("--guidelines", "how-to.md", "--annotators", "ann", "--labels", "a,b", "--gold", "gold.csv")
    unknown = cli("collect", "tasks", queries, "w2", *options)
    assert unknown.code == 3 and "no row has the id 'q99'" in unknown.err


def test_comparisons_give_strengths_and_preferences(cli: Cli, queries: Path, tmp_path: Path) -> None:
    rows = [{"id": f"c{n}", "input": f"say {n}", "base": f"say {n}", "tuned": f"SAY {n}!"} for n in range(12)]
    (tmp_path / "compare.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    export(cli, tmp_path / "compare.jsonl", "--kind", "comparison")
    for name in ("ann", "bob"):
        fill(name, lambda row: "a" if "SAY" in row["option_a"] else "b")
    found = cli("collect", "agreement", "work", "--json").document
    assert [one["name"] for one in found["strengths"]] == ["tuned", "base"]
    assert "comparisons" in cli("collect", "agreement", "work").out
    assert cli("collect", "answers", "work", "prefs.jsonl").code == 0
    first = json.loads(Path("prefs.jsonl").read_text().splitlines()[0])
    assert "SAY" in first["chosen"][0]["content"] and "say" in first["rejected"][0]["content"]


def test_written_answers_and_ratings(cli: Cli, queries: Path) -> None:
    export(cli, queries, "--kind", "answer", "--per-task", "1")
    for name in ("ann", "bob"):
        fill(name, lambda row: f"answer to {row['task_id']}")
    assert cli("collect", "answers", "work", "texts.jsonl", "--json").document["num_samples"] == 30
    assert (
        cli(
            "collect", "tasks", queries, "rated", "--guidelines", "how-to.md", "--annotators", "ann", "--kind", "rating"
        ).code
        == 0
    )


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--annotators", "ann", "--labels", "one"), 2, "fewer than two labels"),
        (("--annotators", "ann,ann", "--labels", "a,b"), 2, "named twice"),
        (("--annotators", "", "--labels", "a,b"), 2, "0 annotators"),
        (("--annotators", "ann", "--kind", "essay"), 2, "expected one of label, rating"),
        (("--annotators", "ann", "--kind", "comparison"), 3, "nothing to compare"),
    ],
)
def test_what_cannot_be_asked_is_told(cli: Cli, queries: Path, options: tuple[str, ...], code: int, said: str) -> None:
    result = cli("collect", "tasks", queries, "work", "--guidelines", "how-to.md", *options)
    assert result.code == code and said in result.err and "Traceback" not in result.err


def test_a_folder_without_tasks_or_answers_is_told(cli: Cli, queries: Path) -> None:
    assert cli("collect", "agreement", "nowhere").code == 4
    export(cli, queries, "--labels", "a,b")
    for path in Path("work").glob("to-*"):
        path.unlink()
    assert cli("collect", "answers", "work", "d.jsonl").code == 2


@pytest.mark.req("R317")
def test_a_logged_request_is_added_to_a_data_set(cli: Cli, tmp_path: Path) -> None:
    entry = {"type": "request", "time": "2026-11-20T10:00:00Z", "model": "m", "finish_reason": "stop"}
    rows = [
        {
            **entry,
            "id": "r1",
            "messages": [{"role": "user", "content": "open? ann.lee@posteo.de"}],
            "answer": "At nine.",
        },
        {**entry, "id": "r2", "messages": [{"role": "user", "content": "ship?"}], "answer": "", "status": 500},
        {"type": "feedback", "id": "r1", "rating": -1, "correction": "At eight."},
    ]
    (tmp_path / "requests.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    first = cli("collect", "request", "requests.jsonl", "r1", "data.jsonl", "--json")
    assert first.code == 0 and first.document["num_rows"] == 1
    row = json.loads(Path("data.jsonl").read_text())
    assert row["messages"][-1]["content"] == "At eight." and "posteo" not in json.dumps(row)
    assert row["provenance"]["source"] == "log: requests.jsonl" and row["provenance"]["share"] == "internal"
    failed = cli("collect", "request", "requests.jsonl", "r2", "data.jsonl")
    assert failed.code == 3 and "--answer" in failed.err
    assert "rows now  2" in cli("collect", "request", "requests.jsonl", "r2", "data.jsonl", "--answer", "Yes.").out
    assert cli("collect", "request", "requests.jsonl", "r2", "data.jsonl", "--answer", "Yes.").code == 2
    assert cli("collect", "request", "requests.jsonl", "r3", "data.jsonl").code == 4
    assert cli("collect", "request", "requests.jsonl", "r1", "data.csv").code == 2
    assert len(Path("data.jsonl").read_text().splitlines()) == 2
