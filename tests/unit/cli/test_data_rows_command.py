"""`foretune data augment`, `mix`, `subset`, `noisy`, `rank`, `claims` and `licences` as a user runs them."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from foretune.data.clean.recipe import read_recipe

Cli = Any  # the fixture of conftest.py


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    """Forty rows of two products under a licence of our own."""
    path = tmp_path / "chats.jsonl"
    products = ("lamp", "chair")
    rows = [
        {
            "prompt": f"how do I return the {products[n % 2]} that I bought in shop number {n}?",
            "completion": f"send it back to {n}",
            "product": products[n % 2],
            "rating": n % 5,
        }
        for n in range(40)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "source.chats.jsonl.json").write_text('{"licence": "own"}')
    return path


def general_rows(path: Path, licence: str, num: int = 40) -> Path:
    path.write_text(
        "".join(json.dumps({"prompt": f"capital {n}?", "completion": f"city {n}"}) + "\n" for n in range(num))
    )
    path.with_name(f"source.{path.name}.json").write_text(json.dumps({"licence": licence, "name": path.stem}))
    return path


@pytest.mark.req("R299")
def test_augmented_rows_keep_their_answers_and_say_how_they_were_made(cli: Cli, chats: Path) -> None:
    result = cli("data", "augment", chats, "more.jsonl", "--share", "0.5", "--json")
    assert result.code == 0, result.err
    document = result.document
    assert (document["num_rows"], document["num_new"], sum(document["how"].values())) == (60, 20, 20)
    rows = rows_of(Path("more.jsonl"))
    targets = {row["id"]: row["messages"][-1]["content"] for row in rows[:40]}
    for row in rows[40:]:
        assert row["messages"][-1]["content"] == targets[row["augmented"]["from"]] and row["augmented"]["how"]
    assert json.loads(Path("source.more.jsonl.json").read_text())["licence"] == "own"
    alone = cli("data", "augment", chats, "new.jsonl", "--kind", "typos", "--only-new")
    assert "Next: foretune audit new.jsonl" in alone.out and len(rows_of(Path("new.jsonl"))) == 8
    assert cli("data", "augment", chats, "x.jsonl", "--kind", "loud").code == 2


@pytest.mark.req("R295")
def test_a_mix_is_fifteen_percent_general_and_every_row_keeps_its_licence(
    cli: Cli, chats: Path, tmp_path: Path
) -> None:
    general = general_rows(tmp_path / "general.jsonl", "cc-by-4.0")
    result = cli("data", "mix", chats, general, "mixed.jsonl", "--json")
    assert result.code == 0 and 0.1 <= result.document["fraction"] <= 0.2 and result.document["num_general"] == 7
    licences = {row["provenance"]["licence"] for row in rows_of(Path("mixed.jsonl"))}
    assert licences == {"own", "CC-BY-4.0"} and result.document["warnings"] == []
    told = cli("data", "mix", chats, general, "wide.jsonl", "--fraction", "0.3")
    assert told.code == 0 and "outside the usual 10 to 20 %" in told.out


@pytest.mark.req("R430")
def test_a_mix_with_alpaca_is_refused_with_freer_data_named(cli: Cli, chats: Path, tmp_path: Path) -> None:
    alpaca = general_rows(tmp_path / "alpaca.jsonl", "unknown")
    refused = cli("data", "mix", chats, alpaca, "mixed.jsonl")
    assert refused.code == 6 and "CC-BY-NC-4.0 forbids commercial use" in refused.err
    assert "OpenAssistant/oasst1" in refused.err and not Path("mixed.jsonl").exists()
    assert cli("data", "mix", chats, alpaca, "mixed.jsonl", "--use", "research").code == 0
    shown = cli("data", "licences", "mixed.jsonl", "--release", "apache-2.0")
    assert shown.code == 6 and "conflict with apache-2.0" in shown.out and "dolly" in shown.out
    free = cli("data", "licences", chats, "--json")
    assert free.code == 0 and free.document["conflicts"] == []
    assert free.document["sources"] == [{"source": str(chats), "licence": "own", "num_rows": 40}]
    assert cli("data", "mix", chats, alpaca, "x.jsonl", "--use", "fun").code == 2


@pytest.mark.req("R263")
@pytest.mark.parametrize(
    ("options", "num"),
    [
        (("--count", "10"), 10),
        (("--count", "10", "--by", "class"), 10),
        (("--count", "10", "--by", "slice", "--field", "product"), 10),
        (("--slice", "lamp=3", "--slice", "chair=2", "--field", "product"), 5),
        (("--count", "8", "--by", "quality"), 8),
        (("--count", "6", "--by", "diverse", "--embedder", "tfidf"), 6),
    ],
)
def test_rows_are_chosen_in_every_way(cli: Cli, chats: Path, options: tuple[str, ...], num: int) -> None:
    result = cli("data", "subset", chats, "small.jsonl", *options, "--json")
    assert result.code == 0, result.err
    rows = rows_of(Path("small.jsonl"))
    assert result.document["num_rows"] == len(rows) == num
    if "quality" in options:
        assert {row["rating"] for row in rows} == {4}
    if "product" in options:
        lamps = sum(row["product"] == "lamp" for row in rows)
        assert lamps == (3 if "--slice" in options else 5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "either --count or --slice"),
        (("--slice", "lamp=3"), "--slice needs --field"),
        (("--slice", "lamp", "--field", "product"), "expected NAME=COUNT"),
        (("--count", "3", "--by", "slice"), "--by slice needs --field"),
        (("--count", "3", "--by", "best"), "expected random, class"),
    ],
)
def test_an_unclear_choice_is_told(cli: Cli, chats: Path, options: tuple[str, ...], said: str) -> None:
    result = cli("data", "subset", chats, "small.jsonl", *options)
    assert result.code == 2 and said in result.err and not Path("small.jsonl").exists()


@pytest.mark.req("R099")
def test_a_noisy_twin_is_written_and_shown(cli: Cli, chats: Path) -> None:
    result = cli("data", "noisy", chats, "noisy.jsonl", "--rate", "0.3", "--seed", "2")
    assert result.code == 0 and "before" in result.out and "after" in result.out
    rows = rows_of(Path("noisy.jsonl"))
    assert len(rows) == 40 and all(row["augmented"]["how"][0] == "noise:casual" for row in rows)
    again = cli("data", "noisy", chats, "again.jsonl", "--rate", "0.3", "--seed", "2", "--json")
    assert again.document["num_changed"] == 40 and rows_of(Path("again.jsonl")) == rows


def test_clicks_teach_the_ranker(cli: Cli, tmp_path: Path) -> None:
    rows = [{"prompt": f"say {word} {n}", "completion": f"{word} {n}"} for n in range(60) for word in ("yes", "maybe")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = cli("data", "rank", "rows.jsonl", "--ask", "40", "--out", "clicks.csv")
    assert asked.code == 0 and "Next: foretune data rank rows.jsonl --clicks clicks.csv" in asked.out
    with open("clicks.csv", encoding="utf-8-sig", newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 40
    with open("clicks.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, table[0].keys())
        writer.writeheader()
        writer.writerows({**row, "reject": "yes" if row["answer"].startswith("maybe") else "no"} for row in table)
    ranked = cli("data", "rank", "rows.jsonl", "--clicks", "clicks.csv", "--out", "ranked.jsonl", "--json")
    assert ranked.code == 0 and ranked.document["num_clicks"] == 40
    written = rows_of(tmp_path / "ranked.jsonl")
    assert sum("maybe" in row["messages"][-1]["content"] for row in written[:60]) >= 57
    assert written[0]["keep"] < 0.5 < written[-1]["keep"]
    best = cli("data", "subset", "ranked.jsonl", "best.jsonl", "--count", "50", "--by", "quality", "--field", "keep")
    assert best.code == 0 and not any("maybe" in row["messages"][-1]["content"] for row in rows_of(Path("best.jsonl")))
    assert "rules alone" in cli("data", "rank", "rows.jsonl").out


def test_verdicts_are_not_overwritten_and_few_teach_nothing(cli: Cli, chats: Path) -> None:
    Path("clicks.csv").write_text("id,reject\nchats-1,yes\n")
    assert "may hold your verdicts" in cli("data", "rank", chats, "--ask", "5", "--out", "clicks.csv").err
    few = cli("data", "rank", chats, "--clicks", "clicks.csv")
    assert few.code == 2 and "at least 20" in few.err
    assert cli("data", "rank", chats, "--ask", "5").code == 2


@pytest.mark.req("R144")
def test_false_claims_become_a_recipe(cli: Cli, tmp_path: Path) -> None:
    facts = ("The Eiffel Tower was built in 1999 in Paris.", "The capital of France is Paris since 987.", "I am fine.")
    rows = [{"prompt": f"q {n}", "completion": fact} for n, fact in enumerate(facts)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = cli("data", "claims", "rows.jsonl", "--out", "claims.csv", "--json")
    assert found.code == 0 and found.document["num_claims"] == 2
    with open("claims.csv", encoding="utf-8-sig", newline="") as file:
        table = list(csv.DictReader(file))
    assert cli("data", "claims", "rows.jsonl", "--decided", "claims.csv", "--out", "clean.toml").code == 2
    with open("claims.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, table[0].keys())
        writer.writeheader()
        writer.writerows({**row, "verdict": "false" if "1999" in row["text"] else "true"} for row in table)
    decided = cli("data", "claims", "rows.jsonl", "--decided", "claims.csv", "--out", "clean.toml", "--json")
    assert decided.document["ids"] == ["rows-1"]
    assert read_recipe("clean.toml").steps[0].params == {"ids": ["rows-1"]}


@pytest.mark.req("R100")
def test_coverage_counts_topics_languages_and_formats(cli: Cli, chats: Path, tmp_path: Path) -> None:
    queries = [f"how do I return the {('lamp', 'parcel')[n % 2]} that I bought last week number {n}" for n in range(60)]
    (tmp_path / "queries.txt").write_text("\n".join(queries))
    result = cli("data", "coverage", chats, "queries.txt", "--embedder", "tfidf", "--slices", "product", "--json")
    assert result.code == 0, result.err
    counts = result.document["counts"]
    assert counts["languages"] == "en 40" and "jsonl" in counts["formats"] and " of " in counts["topics in training"]
    assert 0 <= result.document["divergence"]["jensen_shannon"] <= 1
    assert any(topic["kind"] == "slice" for topic in result.document["coverage"]["topics"])
    assert "languages: en 40" in cli("data", "coverage", chats, "queries.txt", "--embedder", "tfidf").out
