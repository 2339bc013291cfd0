"""`data tokens` and `runs why`: what they show with and without colour, in 80 columns, and their exit codes."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from foretune.cli import tokens, why
from foretune.cli.face import Answer, print_answer
from foretune.config import read_job, resolve_job
from foretune.errors import ConfigError, NotFound
from foretune.records.events import EventLog
from foretune.records.token_audit import ShownSample, ShownToken, TokenAuditRecord
from foretune.steps import create_job_run

SAMPLE = ShownSample(
    place="rows.jsonl:1",
    num_tokens=240,
    num_loss_tokens=2,
    hidden_after=2,
    num_hidden_tokens=236,
    tokens=(
        ShownToken(id=1, text="<s>", is_trained=False, is_special=True),
        ShownToken(id=2, text="Hi\n", is_trained=False),
        ShownToken(id=3, text="Yes.", is_trained=True),
        ShownToken(id=4, text="</s>", is_trained=True, is_special=True),
    ),
)


def printed(answer: Answer) -> str:
    out = io.StringIO()
    print_answer(answer, as_json=False, stdout=out)
    return out.getvalue()


def test_learned_tokens_are_marked_with_and_without_colour() -> None:
    plain, coloured = io.StringIO(), io.StringIO()
    Console(file=plain, width=80).print(tokens.TokenLines(SAMPLE))
    Console(file=coloured, width=80, force_terminal=True, color_system="standard").print(tokens.TokenLines(SAMPLE))
    assert plain.getvalue() == "<s>Hi↵\n … 236 more … ⟦Yes.</s>⟧\n"
    seen = coloured.getvalue()
    assert "⟦" not in seen and "236 more" in seen
    assert any((part.endswith("Yes.") and "42m" in part) or "102m" in part for part in seen.split("\x1b["))


def test_a_job_is_shown_before_it_is_trained(tiny_job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny_job.parent)
    answer = tokens.command(str(tiny_job), runs_dir=Path("runs"))
    assert answer.exit_code == 0 and answer.next.startswith("foretune train")
    text = printed(answer)
    assert all(len(line) <= 80 for line in text.splitlines() if not line.startswith("Next:"))
    assert "⟦" in text and "learned" in text and "colours.jsonl:" in text
    record = TokenAuditRecord.model_validate(answer.document["token_audit"])
    assert not record.stops and record.num_read_rows == record.num_rows > 30
    assert not Path("runs").exists()  # it only looks
    learned = "".join(token.text for token in record.samples[0].tokens if token.is_trained)
    assert any(learned.strip().startswith(colour) for colour in ("blue", "green", "gold"))
    json.dumps(answer.document)


def test_a_run_with_a_fault_exits_as_a_data_error(tiny_job: Path, tmp_path: Path) -> None:
    run_dir = create_job_run(resolve_job(tiny_job), runs_dir=tmp_path / "runs", source=tiny_job)
    answer = tokens.command(str(tiny_job), runs_dir=tmp_path / "runs")
    bad: dict[str, Any] = dict(answer.document["token_audit"])
    bad["findings"] = [
        {"id": "TOK041", "severity": "stop", "title": "tokens of the prompt carry loss", "reason": "why",
         "num_rows": 2, "places": ["rows.jsonl:1"], "evidence": ["user: 'Hi [b]'"], "fix": "mend it"}
    ]  # fmt: skip
    TokenAuditRecord.model_validate(bad).write(run_dir)
    shown = tokens.command(run_dir.name, runs_dir=tmp_path / "runs")
    assert shown.exit_code == 3 and shown.next == ""
    text = printed(shown)
    assert "stop TOK041" in text and "rows.jsonl:1" in text and "user: 'Hi [b]'" in text and "fix: mend it" in text


def failed_run(tiny_job: Path, tmp_path: Path, error: str, message: str) -> Path:
    given = resolve_job(tiny_job, {"train.rank": 2})
    run_dir = create_job_run(given, runs_dir=tmp_path / "runs", source=tiny_job)
    with EventLog(run_dir) as events:
        events.add("train_start", step=0, planned_steps=4)
        events.add("step", step=1, loss=2.0, learning_rate=5e-3)
        events.add("failed", error=error, message=message, fix="")
    return run_dir


def test_a_failed_run_is_explained_and_its_job_mended(tiny_job: Path, tmp_path: Path) -> None:
    run_dir = failed_run(tiny_job, tmp_path, "TrainingDiverged", "step 2: loss nan")
    out = tmp_path / "elsewhere" / "next.toml"
    out.parent.mkdir()
    answer = why.command(run_dir.name, out=out, runs_dir=tmp_path / "runs")
    text = printed(answer)
    assert "no longer a number" in text and "learning_rate = 0.0005" in text and "Wrote" in text
    job = read_job(out)
    assert job.train.learning_rate == pytest.approx(5e-4) and job.train.rank == 2
    assert (out.parent / job.data.path).resolve() == (tiny_job.parent / "data" / "colours.jsonl").resolve()
    with pytest.raises(ConfigError, match="exists already"):
        why.command(run_dir.name, out=out, runs_dir=tmp_path / "runs")


def test_why_goes_on_where_resuming_mends_it_and_refuses_a_healthy_run(tiny_job: Path, tmp_path: Path) -> None:
    run_dir = failed_run(tiny_job, tmp_path, "DoesNotFit", "runs/x: the disk is full")
    assert why.command(run_dir.name, runs_dir=tmp_path / "runs").next == f"foretune runs resume {run_dir.name}"
    healthy = create_job_run(resolve_job(tiny_job), runs_dir=tmp_path / "runs", source=tiny_job)
    with pytest.raises(NotFound, match="did not fail"):
        why.command(healthy.name, runs_dir=tmp_path / "runs")
