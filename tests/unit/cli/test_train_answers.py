"""What commands answer around training: refusals before anything is computed, what mends a run, where to go on."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import CliResult
from foretune import journey
from foretune.cli.sweep_shown import sweep_shown
from foretune.config.derive import calmer_rate
from foretune.config.read import read_job, resolve_job
from foretune.errors import GateRefused
from foretune.records.dataset import DatasetRecord
from foretune.records.events import EventLog
from foretune.records.procedure import ProcedureRecord
from foretune.records.run import find_run
from foretune.records.sweep import SettingResult, SweepRecord
from foretune.records.training import TrainingRecord
from foretune.steps import Run, create_job_run
from foretune.units import show_range
from stand_ins import training_record
from tiny import tiny_model

Cli = Callable[..., CliResult]


@pytest.mark.parametrize(
    ("verb", "settings", "said", "fix"),
    [
        (
            "plan",
            ("base=t5", "train.method=prefix"),
            "method prefix needs a decoder-only base",
            'train.method = "lora"',
        ),
        (
            "train",
            ("base=t5", "train.method=classify"),
            "needs a decoder-only base, got the encoder-decoder t5",
            "lora",
        ),
        (
            "plan",
            ("base=t5", "train.advanced.top_layers=1"),
            "needs a decoder-only base",
            "train.advanced.top_layers = 0",
        ),
        ("train", ("train.rank=64",), "rank 64 is larger than the smaller side of layer", "train.rank = 16"),
        ("plan", ("train.advanced.top_layers=9",), "more than the 2 blocks", "train.advanced.top_layers = 1"),
        (
            "plan",
            ('train.advanced.target_modules=["qq"]',),
            "matches no linear layer",
            "train.advanced.target_modules = [",
        ),
    ],
)
def test_what_no_model_of_this_shape_can_do_is_refused_by_the_plan(
    verb: str, settings: tuple[str, ...], said: str, fix: str, cli: Cli, tiny_job: Path
) -> None:
    tiny_model(tiny_job.parent / "t5", "t5")
    found = cli(verb, tiny_job, *(word for setting in settings for word in ("--set", setting)))
    assert found.code == 2 and said in found.err and fix in found.err.partition("fix:")[2]
    assert "runs why" not in found.err  # no process was started for it


@pytest.mark.parametrize(("method", "code"), [("pretrain", 2), ("lora", 3)])
def test_an_encoder_decoder_is_never_trained_on_text_without_a_target(
    method: str, code: int, cli: Cli, tiny_job: Path
) -> None:
    tiny_model(tiny_job.parent / "t5", "t5")
    rows = [{"text": f"the sky is blue for the {i}th time"} for i in range(40)]
    (tiny_job.parent / "text.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    wanted = ("base=t5", "data.path=text.jsonl", f"train.method={method}")
    found = cli("train", tiny_job, "--foreground", *(word for one in wanted for word in ("--set", one)))
    assert found.code == code and "raw text" in found.err and "decoder-only" in found.err


def test_targets_that_are_no_numbers_are_all_named_at_once(cli: Cli, tiny_job: Path) -> None:
    rows = [{"text": f"row {i}", "score": "many" if i in (3, 8) else i} for i in range(40)]
    (tiny_job.parent / "numbers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    wanted = {
        "train.method": "regress",
        "data.path": "numbers.jsonl",
        "data.input_field": "text",
        "data.target_field": "score",
    }
    found = cli("train", tiny_job, *(word for pair in wanted.items() for word in ("--set", "=".join(pair))))
    assert found.code == 3 and "the targets" in found.err
    assert "numbers.jsonl:4" in found.err and "numbers.jsonl:9" in found.err and "digits" in found.err


def run_that_failed(job: Path, error: str, message: str, fix: str) -> Path:
    """A run that was refused before its first step."""
    run_dir = create_job_run(resolve_job(job), runs_dir=job.parent / "runs", source=job)
    with EventLog(run_dir) as events:
        events.add("failed", error=error, message=message, fix=fix)
    return run_dir


def test_a_fix_that_is_a_setting_mends_the_job(cli: Cli, tiny_job: Path) -> None:
    run_dir = run_that_failed(tiny_job, "ConfigError", "rank 64 is larger", "train.rank = 16")
    found = cli("runs", "why")
    assert "settings cannot be run" in found.out and "step 0 of 0" not in found.out
    assert f"foretune runs why {run_dir.name} --out next.toml" in found.out
    assert cli("runs", "why", "--out", "next.toml").code == 0 and read_job("next.toml").train.rank == 16


def test_a_fix_of_the_base_means_the_same_from_elsewhere(cli: Cli, tiny_job: Path) -> None:
    tiny_model(tiny_job.parent / "other")
    run_that_failed(tiny_job, "ConfigError", "another base", 'base = "other"')
    Path("elsewhere").mkdir()
    found = cli("runs", "why", "--out", "elsewhere/next.toml")
    assert found.code == 0 and 'base = "other"' in found.out and "[]" not in found.out
    assert read_job("elsewhere/next.toml").base == "../other"


@pytest.mark.parametrize("fix", ["use the tokenizer of the same checkpoint", "train.nothing = 3", 'train.rank = "x'])
def test_a_fix_in_words_is_no_setting(fix: str, cli: Cli, tiny_job: Path) -> None:
    run_dir = run_that_failed(tiny_job, "ConfigError", "they do not belong together", fix)
    assert f"foretune runs show {run_dir.name}" in cli("runs", "why").out
    assert "no single setting" in cli("runs", "why", "--out", "next.toml").err and not Path("next.toml").exists()


def test_stopping_what_has_ended_proposes_what_comes_next(cli: Cli, tiny_job: Path) -> None:
    run_dir = run_that_failed(tiny_job, "ConfigError", "rank 64 is larger", "train.rank = 16")
    for command in (("runs", "stop"), ("runs", "show")):
        assert cli(*command).out.rstrip().endswith(f"foretune runs why {run_dir.name}")
    training_record(run_dir.name).write(run_dir)
    assert cli("runs", "stop").out.rstrip().endswith(f"foretune chat {run_dir.name}")


def test_a_gate_proposes_the_job_file_that_was_given(tiny_job: Path) -> None:
    file = tiny_job.rename(tiny_job.parent / "my job.toml")
    run = Run.open(create_job_run(resolve_job(file), runs_dir=tiny_job.parent / "runs", source=file))
    record: Any = ProcedureRecord.model_construct(
        action="prompt", stopped_at="prompted baseline", sentence="enough", next_command="", stops_training=True
    )
    with pytest.raises(GateRefused) as caught:
        journey.check_procedure(record, run)
    assert caught.value.fix == f"foretune run '{file}' --skip-advice 'why'"


def test_what_reading_the_data_found_is_said(cli: Cli, tiny_job: Path) -> None:
    found = cli("train", tiny_job, "--max-hours", "1e-9")  # the plan's gate closes before anything is trained
    (run_dir,) = (tiny_job.parent / "runs").glob("tiny-*")
    warnings = DatasetRecord.read(run_dir).warnings
    said = " ".join(found.err.split())
    assert found.code == 6 and "the licence is not known" in said and all(warning in said for warning in warnings)


def test_rows_left_out_are_said_with_the_limit_that_they_passed(cli: Cli, tiny_job: Path) -> None:
    rows = [
        {"prompt": f"colour {i}?" + " blue" * (600 if i % 3 == 0 else 0), "completion": "blue"} for i in range(60)
    ]  # fmt: skip
    (tiny_job.parent / "long.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = cli(
        "train", tiny_job, "--foreground", "--set", "data.path=long.jsonl", "--set", "train.advanced.max_steps=1"
    )
    assert found.code == 0 and "reloaded, merged, int8: as trained" in found.out, found.err
    (said,) = (line for line in TrainingRecord.read(find_run("runs")).warnings if "training samples" in line)
    assert "longer than 512 tokens and were left out" in said  # the model's positions, not the longest row kept


@pytest.mark.parametrize(
    ("method", "peak", "calmer"), [("lora", 2e-4, 2e-5), ("lora", 1e8, 3e-4), ("full", 1.0, 5e-5), ("new", 1.0, 0.1)]
)
def test_what_diverged_is_told_a_rate_that_is_usual(method: str, peak: float, calmer: float) -> None:
    assert calmer_rate(method, peak) == pytest.approx(calmer)


def test_a_range_whose_ends_read_alike_is_one_duration() -> None:
    assert show_range(0.01, 0.04) == "0.0 s" and show_range(58, 71) == "58 s to 1 min 11 s"
    assert show_range(1.2, 3.4) == "1.2-3.4 s"


def test_a_sweep_says_where_better_settings_may_lie() -> None:
    def setting(number: int, rate: float, rank: int, loss: float) -> SettingResult:
        values = {"train.learning_rate": rate, "train.rank": rank, "train.advanced.schedule": "cosine"}
        state: Any = "winner" if number == 3 else "stopped"
        return SettingResult(number=number, folder="", values=values, state=state, eval_losses=(loss,))

    settings = (setting(1, 1e-4, 8, 3.0), setting(2, 1e-3, 8, 2.0), setting(3, 1e-2, 16, 1.0))
    record = SweepRecord(
        run_id="tiny-001", sampler="grid", fields=(), eta=3, rung_sizes=(3,), planned_fraction=1.0, seed=0,
        settings=settings, state="done",
    )  # fmt: skip
    assert sweep_shown(record)[-1] == "lr 0.01 is the largest tried: better ones may lie above"
    settled = record.model_copy(update={"settings": (*settings, setting(4, 0.1, 8, 1.5))})
    assert not any("tried" in str(line) for line in sweep_shown(settled))
