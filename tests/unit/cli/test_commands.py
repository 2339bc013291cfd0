"""The commands one by one: what they print, what they return, what they write."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib
import io
import json
import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import CliResult
from foretune import api, journey
from foretune.cli import under_way
from foretune.cli.show import runs_table, sparkline
from foretune.config import JobConfig, read_job
from foretune.config.read import ResolvedJob
from foretune.errors import ConfigError, GateRefused
from foretune.journey import Outcome
from foretune.records.audit import Finding
from foretune.records.dataset import DatasetRecord
from foretune.records.events import EventLog
from foretune.records.run import locked_run
from foretune.steps import create_job_run, reconcile_run
from stand_ins import (
    OVERFITTING,
    audit_record,
    diagnosis_record,
    estimate,
    evaluation_record,
    plan_record,
    training_record,
)

Cli = Callable[..., CliResult]


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A trained and evaluated run in `runs/`, as far as its records say."""
    job = JobConfig.model_validate({"name": "tale", "data": {"path": "data.jsonl"}})
    (tmp_path / "data.jsonl").write_text("{}")
    folder = create_job_run(ResolvedJob(job, {}, tmp_path), runs_dir=tmp_path / "runs")
    for record in (
        audit_record(),
        plan_record(),
        training_record(folder.name),
        evaluation_record(folder.name),
        diagnosis_record(folder.name, OVERFITTING),
    ):
        record.write(folder)
    return folder


# --- init -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("template", api.TEMPLATES)
def test_init_writes_a_job_that_reads_and_its_data(cli: Cli, tmp_path: Path, template: str) -> None:
    result = cli("init", template, "--rows", "20", "--json")
    assert result.code == 0
    job_file = Path(result.document["job"])
    job = read_job(job_file)
    rows = [json.loads(line) for line in (job_file.parent / job.data.path).read_text().splitlines()]
    assert len(rows) == 20 and job.name == template
    assert all(row["messages"][-1]["role"] == "assistant" for row in rows)
    assert result.document["next"] == f"foretune run {job_file}"
    if job.evaluate.json_schema:
        import jsonschema

        schema = json.loads((job_file.parent / job.evaluate.json_schema).read_text())
        for row in rows:
            jsonschema.validate(json.loads(row["messages"][-1]["content"]), schema)


def test_init_leaves_a_source_card_beside_the_data(cli: Cli, tmp_path: Path) -> None:
    assert cli("init", "sentiment", "demo", "--rows", "10").code == 0
    card = json.loads((tmp_path / "demo" / "data" / "source.json").read_text())
    assert (card["licence"], card["share"], card["retrieved_at"][-1]) == ("Apache-2.0", "public", "Z")
    audited = cli("audit", "demo/job.toml", "--json").document
    assert audited["warnings"] == [] and audited["sources"][0]["licence"] == "Apache-2.0"
    assert audited["sources"][0]["name"] == "foretune template sentiment, seed 0"


@pytest.mark.req("R021", "R024")
def test_init_lists_templates_and_use_cases_that_wait_for_data(cli: Cli, tmp_path: Path) -> None:
    listed = {row["name"]: row for row in cli("init", "--list", "--json").document["templates"]}
    assert {name for name, row in listed.items() if row["data"] == "generated"} == set(api.TEMPLATES)
    waiting = {"sarcasm-detection", "paper-summary", "legal-analysis", "hospital-chat"}
    assert waiting | {"support-chat", "code-generation", "domain-content"} <= set(listed)
    assert all(row["goal"] and row["metric"] for row in listed.values())
    assert all(len(line) <= 80 for line in cli("init", "--list").out.splitlines())
    result = cli("init", "legal-analysis", "law")
    assert result.code == 0 and "Now put your rows into law/data/legal-analysis.jsonl" in result.out
    assert read_job(tmp_path / "law" / "job.toml").data.group_field == "document"
    assert result.out.endswith("Next: foretune audit law/job.toml\n")
    assert cli("init", "legal-analysis", "law").code == 2 and cli("init").code == 2
    unknown = cli("init", "sarcasm")
    assert unknown.code == 4 and "did you mean sarcasm-detection?" in unknown.err


def test_audit_puts_faulty_rows_aside_and_goes_on(cli: Cli, tmp_path: Path) -> None:
    good = [json.dumps({"prompt": f"what is {n} and {n * 7}?", "completion": str(n * 8)}) for n in range(40)]
    (tmp_path / "rows.jsonl").write_text("\n".join([*good, '{"prompt": "half', "null"]) + "\n")
    stopped = cli("audit", "rows.jsonl")
    assert stopped.code == 3 and "--rejected FILE" in stopped.err and "rows.jsonl:41" in stopped.err
    result = cli("audit", "rows.jsonl", "--rejected", "aside.jsonl")
    assert result.code == 0 and "2 faults; the rows are put aside in aside.jsonl" in " ".join(result.out.split())
    assert [json.loads(line)["line"] for line in Path("aside.jsonl").read_text().splitlines()] == [41, 42]
    document = cli("audit", "rows.jsonl", "--set", "data.advanced.on_fault=reject", "--json").document
    assert document["num_rejected"] == 2 and document["audit"]["num_samples"] == 40
    assert not (tmp_path / "runs").exists()


def test_init_is_repeatable_and_seeded(cli: Cli, tmp_path: Path) -> None:
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert cli("init", "sentiment", folder, "--rows", "12", "--seed", seed).code == 0
    a, b, c = ((tmp_path / folder / "data" / "sentiment.jsonl").read_text() for folder in "abc")
    assert a == b != c


def test_init_overwrites_nothing(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "sentiment" / "data").mkdir(parents=True)
    (tmp_path / "sentiment" / "data" / "sentiment.jsonl").write_text("mine")
    result = cli("init", "sentiment")
    assert result.code == 2 and "exists already" in result.err
    assert not (tmp_path / "sentiment" / "job.toml").exists()
    assert (tmp_path / "sentiment" / "data" / "sentiment.jsonl").read_text() == "mine"


def test_an_unknown_template_is_not_found(cli: Cli) -> None:
    result = cli("init", "poetry")
    assert result.code == 4 and "json-extract, sentiment" in result.err


# --- config ---------------------------------------------------------------------------------------------------------


def test_config_schema_is_the_json_schema_alone(cli: Cli) -> None:
    document = cli("config", "schema", "--json").document
    assert document["title"] == "JobConfig" and "$defs" in document


def test_config_schema_for_people_names_every_field(cli: Cli) -> None:
    out = cli("config", "schema").out
    assert "train.advanced.warmup_fraction" in out and "Share of steps" in out


def test_config_show_tells_values_and_origins(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "job.toml").write_text("[train]\nrank = 8\n")
    monkeypatch.setenv("FORETUNE_TRAIN__EPOCHS", "2")
    document = cli("config", "show", "job.toml", "--origin", "--set", "seed=7", "--json").document
    assert (document["settings"]["train.rank"], document["origins"]["train.rank"]) == (8, "project")
    assert (document["settings"]["train.epochs"], document["origins"]["train.epochs"]) == (2.0, "environment")
    assert (document["settings"]["seed"], document["origins"]["seed"]) == (7, "flag")
    assert document["origins"]["base"] == "default"
    assert "environment" in cli("config", "show", "job.toml", "--origin").out
    assert "environment" not in cli("config", "show", "job.toml").out


def test_a_wrong_job_file_is_told_with_its_lines(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text("[train]\nrnk = 8\nepochs = 0\n")
    result = cli("config", "show", "job.toml")
    assert result.code == 2
    assert "job.toml:2: unknown key `train.rnk`; did you mean `rank`?" in result.err
    assert "job.toml:3: `train.epochs`" in result.err


# --- plan and audit -------------------------------------------------------------------------------------------------


def test_plan_shows_time_memory_and_cost(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[object, bool]] = []

    def plan(job: ResolvedJob, *, probe: bool) -> object:
        seen.append((job.job.train.rank, probe))
        return plan_record(price_per_hour_usd=2.0, cost_usd=estimate(1.5), warnings=("watch [out]",))

    monkeypatch.setattr(api, "plan", plan)
    (tmp_path / "job.toml").write_text("")
    result = cli("plan", "job.toml", "--probe", "--set", "train.rank=3")
    assert seen == [(3, True)]
    for text in ("48 s to 1 min 12 s", "0.40-0.60 GB of 8.0 GB", "$1.20 to $1.80 at $2.00 an hour", "watch [out]"):
        assert text in result.out
    assert result.out.endswith("Next: foretune run job.toml --set train.rank=3\n")
    assert not (tmp_path / "runs").exists()


def test_audit_errors_are_exit_3_and_the_findings_are_the_answer(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = tuple(f"d.jsonl:{n}" for n in range(1, 8))
    bad = Finding(id="DATA007", severity="error", title="no answer", count=7, places=places, fix="add one")
    data = DatasetRecord(version="0", task="chat", sources=(), splits={}, num_rejected=2, warnings=("no licence",))
    monkeypatch.setattr(api, "audited", lambda path, **options: api.Audited(data, audit_record(bad)))
    result = cli("audit", "d.jsonl")
    assert result.code == 3
    assert "error   DATA007 no answer (7 rows)" in result.out
    assert "d.jsonl:5 and 2 more" in result.out
    assert "warning: no licence" in result.out
    document = cli("audit", "d.jsonl", "--json").document
    assert document["audit"]["findings"][0]["count"] == 7 and document["num_rejected"] == 2


# --- evaluate, diagnose, report, chat -------------------------------------------------------------------------------


def test_evaluate_shows_the_verdict_first(cli: Cli, run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "evaluate", lambda *a, **k: evaluation_record(n_needed=500))
    out = cli("evaluate").out
    assert out.startswith("better: the interval lies above 0")
    assert "0.800 (0.750-0.850)" in out and "+0.500 (95 % +0.400 to +0.600" in out
    assert "about 500 samples" in out


def test_evaluate_of_a_run_that_is_not_trained_is_not_found(cli: Cli, run_dir: Path) -> None:
    (run_dir / "training.json").unlink()
    result = cli("evaluate")
    assert result.code == 4 and "foretune runs resume tale-001" in result.err


def test_diagnose_writes_the_job_that_mends(
    cli: Cli, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("foretune.diagnose.diagnose")
    monkeypatch.setattr(module, "diagnose", lambda job, run_dir: diagnosis_record("x", OVERFITTING))
    shown = cli("diagnose", "tale-001").out
    assert "1. overfitting (strength 1.5)" in shown and "eval loss rose" in shown and "train.epochs = 1.0" in shown
    (tmp_path / "sub").mkdir()
    result = cli("diagnose", "tale-001", "--apply", "1", "--out", "sub/next.toml", "--json")
    assert result.document["patch"] == {"train.epochs": 1.0}
    job = read_job(tmp_path / "sub" / "next.toml")
    assert job.train.epochs == 1.0 and job.name == "tale"
    assert job.data.path == "../data.jsonl"
    assert "From run tale-001" in (tmp_path / "sub" / "next.toml").read_text()
    assert cli("diagnose", "tale-001", "--apply", "1", "--out", "sub/next.toml").code == 2
    assert cli("diagnose", "tale-001", "--apply", "2", "--out", "other.toml").code == 4
    assert cli("diagnose", "tale-001", "--out", "other.toml").code == 2
    assert "Wrote next.toml" in cli("diagnose", "tale-001", "--apply", "1").out and Path("next.toml").is_file()


def test_report_writes_the_page(cli: Cli, run_dir: Path) -> None:
    result = cli("report", "--json")
    assert Path(result.document["path"]).read_text().lower().startswith("<!doctype html>")


class Echo:
    """A model that says who was asked what."""

    def __init__(self, name: str) -> None:
        self.name = name

    def reply(self, messages: list[object], max_new_tokens: int) -> str:
        return f"{self.name} heard {len(messages)}"


@pytest.fixture
def echoes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models that answer without being loaded."""
    monkeypatch.setattr(api, "chat", lambda run, runs_dir, base=False: Echo("base" if base else str(run)))


@pytest.mark.usefixtures("echoes")
def test_chat_answers_once_alone_or_side_by_side(cli: Cli) -> None:
    assert cli("chat", "tale-001", "--message", "hi").out.startswith("tale-001 heard 1\n")
    document = cli("chat", "tale-001", "--message", "hi", "--compare-base", "--json").document
    assert document["replies"] == [
        {"name": "base", "reply": "base heard 1"},
        {"name": "tale-001", "reply": "tale-001 heard 1"},
    ]


@pytest.mark.usefixtures("echoes")
def test_chat_remembers_what_was_said(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("one\n\ntwo\n/quit\nthree\n"))
    out = cli("chat", "tale-001").out
    assert "heard 1" in out and "heard 3" in out and "heard 5" not in out


@pytest.mark.usefixtures("echoes")
def test_chat_never_hangs(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert cli("chat", "tale-001").code == 0
    assert cli("chat", "tale-001", "--json").code == 2
    assert cli("chat", "pebble", "--compare-base").code == 2


# --- runs -----------------------------------------------------------------------------------------------------------


def test_runs_list_and_show(cli: Cli, run_dir: Path) -> None:
    listed = cli("runs", "list")
    assert "tale-001  evaluated  pebble  lora    better   1 min 10 s" in listed.out
    assert max(map(len, listed.out.splitlines())) <= 80
    shown = cli("runs", "show", "tale-001")
    for text in ("evaluated", "█", "best eval loss 0.410 at step 8", "better: the interval"):
        assert text in shown.out
    document = cli("runs", "show", "--json").document
    assert document["run"]["run_id"] == "tale-001" and document["training"]["num_steps"] == 8


def test_the_next_command_looks_into_the_same_runs_folder(cli: Cli, run_dir: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "our runs"
    run_dir.parent.rename(elsewhere)
    for given in (("--runs-dir", "our runs"), ("--runs-dir=our runs",)):
        found = cli("runs", "list", *given)
        assert found.out.endswith(f"Next: foretune runs show {run_dir.name} --runs-dir 'our runs'\n")
    assert cli("runs", "list", "--runs-dir", "none").out.endswith("Next: foretune init json-extract\n")  # knows no runs


def test_no_runs_is_no_error(cli: Cli) -> None:
    result = cli("runs", "list")
    assert result.code == 0 and result.out.startswith("no runs in runs")
    assert cli("runs", "list", "--json").document["runs"] == []


def test_an_unknown_run_is_exit_4_with_the_nearest_name(cli: Cli, run_dir: Path) -> None:
    result = cli("runs", "show", "tael-001")
    assert result.code == 4 and "did you mean tale-001?" in result.err


def test_a_run_under_way_shows_its_loss(cli: Cli, run_dir: Path) -> None:
    (run_dir / "training.json").unlink()
    with locked_run(run_dir), EventLog(run_dir) as log:
        log.add("train_start", planned_steps=9)
        for number in range(1, 5):
            log.add("step", step=number, loss=4.0 / number)
        shown = cli("runs", "show").out
    assert "training" in shown and "loss so far █▃▂▁ 1.000" in shown
    assert shown.endswith("Next: foretune runs watch tale-001\n")


def test_stopping_what_does_not_run_says_so(cli: Cli, run_dir: Path) -> None:
    result = cli("runs", "stop", "--json")
    assert (result.code, result.document["stopped"]) == (0, False)


def test_the_runs_folder_comes_from_the_flag_or_the_environment(
    cli: Cli, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path.parent)
    assert cli("runs", "list", "--runs-dir", run_dir.parent, "--json").document["runs"]
    monkeypatch.setenv("FORETUNE_RUNS_DIR", str(run_dir.parent))
    assert cli("runs", "list", "--json").document["runs"]


# --- run and train --------------------------------------------------------------------------------------------------


def test_run_hands_over_its_flags_and_answers_with_the_verdict(
    cli: Cli, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, object] = {}

    def run(job: ResolvedJob, **options: object) -> Outcome:
        seen.update(options, plan=job.job.plan, epochs=job.job.train.epochs, seed=job.job.seed)
        return Outcome(run_dir, "done")

    monkeypatch.setattr(api, "run", run)
    (tmp_path / "job.toml").write_text("")
    flags = (
        "--max-cost",
        "5",
        "--max-hours",
        "2",
        "--set",
        "train.epochs=4",
        "--seed",
        "9",
        "--detach",
        "--reuse-test",
    )
    result = cli("run", "job.toml", *flags)
    assert (seen["epochs"], seen["seed"], seen["detach"], seen["reuse_test"]) == (4.0, 9, True, True)
    assert seen["plan"].max_cost_usd == 5.0 and seen["plan"].max_hours == 2.0  # type: ignore[attr-defined]
    assert result.out.startswith("better: the interval lies above 0")
    assert result.out.endswith("Next: foretune diagnose tale-001 --apply 1 --out next.toml\n")
    assert cli("run", "job.toml", "--json").document["evaluation"]["verdict"] == "better"


@pytest.mark.parametrize(
    ("outcome", "code", "said", "then"),
    [
        ("running", 0, "goes on by itself", "foretune runs watch tale-001"),
        ("stopped", 0, "stopped with a checkpoint", "foretune runs resume tale-001"),
    ],
)
def test_run_says_what_became_of_it(
    cli: Cli,
    run_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    outcome: str,
    code: int,
    said: str,
    then: str,
) -> None:
    monkeypatch.setattr(api, "run", lambda job, **options: Outcome(run_dir, outcome))  # type: ignore[arg-type]
    (tmp_path / "job.toml").write_text("")
    result = cli("run", "job.toml")
    assert result.code == code and said in result.out and result.out.endswith(f"Next: {then}\n")


def test_an_interrupted_run_is_exit_130(
    cli: Cli, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "train", lambda job, **options: Outcome(run_dir, "stopped", interrupted=True))
    (tmp_path / "job.toml").write_text("")
    assert cli("train", "job.toml").code == 130


def test_detach_and_foreground_exclude_each_other(cli: Cli) -> None:
    assert cli("train", "job.toml", "--detach", "--foreground").code == 2


def test_a_price_is_asked_for_only_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    free, dear = plan_record(), plan_record(cost_usd=estimate(10.0))
    under_way.approval(yes=False)(free)
    under_way.approval(yes=True)(dear)
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    with pytest.raises(ConfigError, match=r"\$8.00 to \$12.00") as caught:  # no terminal: refused, never asked
        under_way.approval(yes=False)(dear)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("typed", "agreed"), [("y\n", True), ("yes\n", True), ("n\n", False), ("\n", False), ("", False)]
)
def test_on_a_terminal_the_price_must_be_agreed_to(monkeypatch: pytest.MonkeyPatch, typed: str, agreed: bool) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    monkeypatch.setattr(sys, "stderr", screen := Terminal())
    approve = under_way.approval(yes=False)
    if agreed:
        approve(plan_record(cost_usd=estimate(10.0)))
    else:
        with pytest.raises(GateRefused, match="not agreed"):
            approve(plan_record(cost_usd=estimate(10.0)))
    assert "This will cost $8.00 to $12.00. Start? [y/N]" in screen.getvalue()


def test_reconciliation_reads_as_a_sentence(cli: Cli, run_dir: Path) -> None:
    reconcile_run(journey.Run.open(run_dir))
    assert re.search(r"predicted 48.* took (62 s|1 min 2 s)", cli("runs", "show").out)


# --- doctor and drawing ---------------------------------------------------------------------------------------------


@pytest.mark.req("R252")
def test_doctor_checks_the_machine(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    result = cli("doctor", "--json")
    checks = {check["name"]: check for check in result.document["checks"]}
    assert {"python", "torch", "torch starts", "memory", "disk", "accelerator", "runs folder", "pebble"} <= set(checks)
    assert checks["torch starts"]["state"] == "ok" and "threads" in checks["torch starts"]["found"]
    assert checks["hub token"]["found"] == "found (HF_TOKEN)" and "hf_secret" not in result.out + result.err
    assert (result.code == 0) is result.document["ok"]
    assert all(check["fix"] for check in checks.values() if check["state"] != "ok")


def test_doctor_names_what_is_missing(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from foretune.cli import doctor

    monkeypatch.setattr(doctor, "PACKAGES", {"no-such-package": (1, 0), "torch": (999, 0)})
    monkeypatch.setattr(doctor, "TORCH_SCRIPT", "raise ImportError('libcuda')")
    (tmp_path / "file").write_text("")
    result = cli("doctor", "--runs-dir", tmp_path / "file", "--json")
    checks = {check["name"]: check for check in result.document["checks"]}
    assert result.code == 4
    assert checks["no-such-package"]["fix"] == "pip install 'no-such-package>=1.0'"
    assert checks["torch"]["state"] == checks["torch starts"]["state"] == checks["runs folder"]["state"] == "error"
    assert "libcuda" in checks["torch starts"]["found"]


def test_sparklines() -> None:
    assert sparkline([3.0, 2.0, 1.0]) == "█▅▁"
    assert sparkline([1.0, 1.0]) == "▁▁"
    assert sparkline([1.0, float("nan"), 2.0]) == "▁×█"
    assert sparkline([float("inf")]) == "×"
    assert len(sparkline([float(n) for n in range(1000)])) == 60


def test_a_long_base_name_keeps_the_table_narrow(run_dir: Path) -> None:
    info = api.run_info(run_dir)
    table = runs_table([info])
    assert len(table.columns) == 7


def test_templates_list_every_field_they_set_in_a_known_place(repository: Path) -> None:
    for path in (repository / "src" / "foretune" / "config" / "templates").glob("*.toml"):
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
        assert JobConfig.model_validate(tree).name == path.stem


@pytest.mark.parametrize(("given", "expected"), [(None, "passive"), ("active", "active")])
def test_threads_sleep_while_they_wait(given: str | None, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from foretune.cli import main

    environment = {} if given is None else {"OMP_WAIT_POLICY": given}
    monkeypatch.setattr(main.os, "environ", environment)
    main._share_the_processor()
    assert environment.get("OMP_WAIT_POLICY") == expected
