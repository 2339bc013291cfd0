"""`--html` of audit, coverage, clean and diff, and what `foretune report` says: the pages from the command line."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import CliResult, write_chat_rows

from foretune.data.samples import Message, Sample
from foretune.data.split import Splits
from foretune.data.store import DatasetStore
from foretune.records.dataset import DatasetRecord
from foretune.records.evaluation import Delta, EvaluationRecord, MetricValue, SystemResult

Cli = Callable[..., CliResult]


def test_audit_writes_its_page_and_leaves_nothing_else(cli: Cli, tmp_path: Path) -> None:
    data = write_chat_rows(tmp_path / "rows.jsonl")
    result = cli("audit", data.name, "--html", "audit.html")
    assert result.code == 0, result.err
    page = (tmp_path / "audit.html").read_text(encoding="utf-8")
    assert page.lower().startswith("<!doctype html>") and "rows.jsonl" in page and "Whole row: rows by tokens" in page
    assert "Wrote audit.html" in result.out
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "runs") == ["audit.html", "rows.jsonl"]
    assert cli("audit", data.name, "--html", "again.html", "--json").document["audit"]["num_samples"] == 60


def test_the_page_of_a_job_has_the_commands_that_mend(cli: Cli, tmp_path: Path) -> None:
    lines = write_chat_rows(tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "rows.jsonl").write_text("".join([*lines, *lines[:15]]), encoding="utf-8")
    (tmp_path / "job.toml").write_text('[data]\npath = "rows.jsonl"\n', encoding="utf-8")
    assert cli("audit", "job.toml", "--html", "audit.html").code == 0
    page = (tmp_path / "audit.html").read_text(encoding="utf-8")
    assert "foretune data recipe latest --accept DATA010 --out clean.toml" in page
    assert "foretune run job.toml --dry-run" in page


def test_an_audit_that_finds_errors_writes_its_page_all_the_same(cli: Cli, tmp_path: Path) -> None:
    data = write_chat_rows(tmp_path / "rows.jsonl")
    result = cli("audit", data.name, "--set", "train.max_seq_len=4", "--html", "audit.html")
    assert result.code == 3 and "DATA030" in result.out
    page = (tmp_path / "audit.html").read_text(encoding="utf-8")
    assert "Not ready to train" in page and "<b>1 error</b>" in page


def test_coverage_writes_its_page(cli: Cli, tmp_path: Path) -> None:
    topics = {"refund": "please refund my money for order", "parcel": "where is my parcel with the number"}
    train = [{"prompt": f"{topics['refund']} {n}", "completion": "yes"} for n in range(60)]
    asked = [{"prompt": f"{topics[('refund', 'parcel')[n % 2]]} {n + 500}", "completion": "-"} for n in range(80)]
    for name, rows in (("train", train), ("production", asked)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = cli(
        "data", "coverage", "train.jsonl", "production.jsonl", "--embedder", "tfidf", "--html", "coverage.html"
    )
    assert result.code == 0 and "Wrote coverage.html" in result.out, result.err
    page = (tmp_path / "coverage.html").read_text(encoding="utf-8")
    assert "what production asks" in page and "map-gap" in page and "train.jsonl" in page


def test_clean_and_diff_write_their_pages(cli: Cli, tmp_path: Path) -> None:
    rows = [Sample(f"s{n}", (Message("user", f"q {n} "), Message("assistant", f"a {n}"))) for n in range(9)]
    version = DatasetStore(tmp_path).save(Splits([*rows[:6], rows[0]], rows[6:7], rows[7:]))
    (tmp_path / "clean.toml").write_text('[[step]]\ndo = "drop_equal"\n')
    runs = ("--runs-dir", str(tmp_path))
    done = cli("data", "clean", version, "--recipe", "clean.toml", *runs, "--html", "clean.html", "--json")
    assert done.code == 0, done.err
    assert "1 row left out" in (tmp_path / "clean.html").read_text(encoding="utf-8")
    new = done.document["clean"]["version"]
    result = cli("data", "diff", version, new, *runs, "--html", "diff.html")
    assert result.code == 0 and "Wrote diff.html" in result.out
    assert "Left out: 1" in (tmp_path / "diff.html").read_text(encoding="utf-8")


def test_a_page_that_cannot_be_written_is_a_clear_error(cli: Cli, tmp_path: Path) -> None:
    data = write_chat_rows(tmp_path / "rows.jsonl")
    (tmp_path / "taken").write_text("a file")
    result = cli("audit", data.name, "--html", "taken/audit.html")
    assert result.code not in (0, 1) and "taken" in result.err and "Traceback" not in result.err


@pytest.fixture
def judged_run(tmp_path: Path) -> Path:
    """A run with nothing but a verdict."""
    folder = tmp_path / "runs" / "job-001"
    folder.mkdir(parents=True)
    values = [MetricValue(value=v, ci_low=v - 0.05, ci_high=v + 0.05, n=300, method="wilson") for v in (0.3, 0.8)]
    systems = tuple(
        SystemResult(name=name, prompt="", metrics={"exact_match": value}, seconds=1.0)
        for name, value in zip(("base_few_shot", "fine_tuned"), values, strict=True)
    )
    EvaluationRecord(
        run_id="job-001",
        dataset_version="v",
        split="test",
        look=1,
        primary_metric="exact_match",
        n=300,
        systems=systems,
        baseline="base_few_shot",
        candidate="fine_tuned",
        delta=Delta(value=0.5, ci_low=0.4, ci_high=0.6, p_value=1e-9, method="McNemar mid-p"),
        smallest_visible_difference=0.08,
        n_needed=None,
        margin=0.02,
        verdict="better",
        reason="it is",
    ).write(folder)
    from foretune.config import JobConfig
    from foretune.records.run import ResolvedRecord

    ResolvedRecord(
        run_id="job-001",
        created="2026-11-24T09:15:00+00:00",
        foretune_version="0.1.0",
        job=JobConfig().model_dump(mode="json"),
        origins={},
        folder=".",
    ).write(folder)
    return folder


def test_report_says_the_verdict_and_gives_its_numbers(cli: Cli, judged_run: Path) -> None:
    result = cli("report")
    assert "Fine-tuning helped: exact match rose from 30 % (best prompt) to 80 %" in " ".join(result.out.split())
    summary = cli("report", "--json").document["summary"]
    assert summary["verdict"] == "better" and summary["delta"]["ci_low"] == 0.4
    assert not DatasetRecord.exists(judged_run) and (judged_run / "report.html").is_file()
