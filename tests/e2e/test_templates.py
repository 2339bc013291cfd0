"""Templates from `init` to a verdict on a tiny random model; the news come from a recorded service and from people."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

Cli = Any  # the fixture of conftest.py
PLACES = ("Oslo", "Lima", "Cairo", "Delhi", "Quito", "Accra", "Hanoi", "Turin")
EVENTS = ("talks on water", "a vote on taxes", "a strike at the port", "floods in the north", "a new trade deal")
QUICK = {
    "train.advanced.max_steps": 2,
    "train.advanced.num_threads": 1,
    "train.max_seq_len": 256,
    "evaluate.max_new_tokens": 6,
    "evaluate.few_shot": "[2]",
    "evaluate.advanced.probe_samples": 0,
    "evaluate.advanced.max_test_samples": 8,
    "evaluate.advanced.max_validation_samples": 4,
}


def foretune(cli: Cli, *arguments: object) -> dict[str, Any]:
    """The JSON answer of a command."""
    done = cli(*arguments, "--json")
    assert done.code == 0, f"{done.out}\n{done.err}"
    return done.document


def journey(cli: Cli, job: str, base: Path, **settings: object) -> dict[str, Any]:
    """Take a job to its verdict in a few steps."""
    wanted = {"base": base, **QUICK, **settings}
    return foretune(cli, "run", job, "--yes", *(f"--set={name}={value}" for name, value in wanted.items()))


@pytest.mark.req("R022")
@pytest.mark.req("R023")
@pytest.mark.parametrize(("template", "metric"), [("support-chat", "rouge_l"), ("sentiment", "accuracy")])
def test_a_template_runs_to_its_verdict(template: str, metric: str, cli: Cli, tmp_path: Path, tiny_llama: Path) -> None:
    assert foretune(cli, "init", template, "demo", "--rows", "60")["template"] == template
    answer = journey(cli, "demo/job.toml", tiny_llama, **{"data.advanced.noisy_test": 0.1})
    evaluation = answer["evaluation"]
    assert answer["state"] == "evaluated" and evaluation["primary_metric"] == metric
    assert {score["system"] for score in evaluation["noisy"]} >= {"fine_tuned"}
    source = json.loads((tmp_path / "demo" / "data" / "source.json").read_text())
    assert (source["licence"], source["share"]) == ("Apache-2.0", "public")


@pytest.fixture
def recorded_news() -> Iterator[str]:
    """A server that answers as NewsAPI did: 48 articles of eight weeks, in pages; its address."""
    articles = [
        {
            "source": {"id": None, "name": "The Daily"},
            "author": "A. Writer",
            "title": f"{PLACES[n % 8]}: {EVENTS[n % 5]} ({n})",
            "description": f"In {PLACES[n % 8]} there were {EVENTS[n % 5]}, report {n} says, and {n * 7} people came.",
            "url": f"https://www.daily.example/news/{n}",
            "publishedAt": f"2026-{9 + n // 24:02d}-{1 + n % 24:02d}T10:00:00Z",
            "content": f"Long text {n} about {EVENTS[n % 5]} in {PLACES[n % 8]}… [+1200 chars]",
        }
        for n in range(48)
    ]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"status": "ok", "totalResults": len(articles), "articles": articles}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v2/everything"
    server.shutdown()
    server.server_close()


def summarised(path: Path) -> None:
    """What an annotator does with a file of tasks: a line for each item, approved."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    with open(path, "w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        for row in rows:
            line = next(
                (
                    f"{place} | {event}"
                    for place in PLACES
                    for event in EVENTS
                    if place in row["input"] and event in row["input"]
                ),
                "",
            )
            writer.writerow({**row, "answer": f"{line} #{row['task_id'][-4:]}", "approved": "yes", "tone": "plain"})


@pytest.mark.req("R025")
def test_recorded_news_become_summaries_and_a_verdict_split_by_time(
    cli: Cli, tmp_path: Path, tiny_llama: Path, recorded_news: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEWSAPI_KEY", "key-0123456789")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    query = (
        "collect",
        "newsapi",
        "politics",
        "raw",
        "--start",
        "2026-09-01",
        "--end",
        "2026-11-01",
        "--url",
        recorded_news,
    )
    news = foretune(cli, *query)
    assert news["num_total"] == 48
    (tmp_path / "style.md").write_text("One line: place, bar, event.")
    options = ("--guidelines", "style.md", "--annotators", "ann", "--kind", "answer")
    foretune(cli, "collect", "tasks", news["path"], "work", *options)
    summarised(tmp_path / "work" / "to-ann.csv")
    assert foretune(cli, "collect", "answers", "work", "data/lines.jsonl")["num_samples"] == 48
    foretune(cli, "init", "news-summary", "demo", "--rows", "10")
    settings = {"data.path": tmp_path / "data" / "lines.jsonl", "data.time_field": "published_at"}
    answer = journey(cli, "demo/job.toml", tiny_llama, **settings)
    assert answer["state"] == "evaluated" and answer["evaluation"]["primary_metric"] == "rouge_l"
    dataset = json.loads(Path(answer["run_dir"], "dataset.json").read_text())
    assert any("split by `published_at`" in warning for warning in dataset["warnings"])
    test = tmp_path / "runs" / ".datasets" / dataset["version"] / "test.jsonl"
    train = test.with_name("train.jsonl")
    dates = [
        [json.loads(line)["meta"]["published_at"] for line in path.read_text().splitlines()] for path in (train, test)
    ]
    assert max(dates[0]) < min(dates[1])
    assert json.loads(train.read_text().splitlines()[0])["meta"]["provenance"]["share"] == "link-only"
