"""`foretune plan` in its many ways: a device, a table, offers, a project, the scorecard; one JSON document each."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

Cli = Any  # the fixture of conftest.py
LLAMA = ("--base", "llama-2-7b", "--gpu", "A100-80", "--num-examples", "5000", "--tokens-per-example", "512")
PINNED = {
    "fits",
    "peak_memory_gb",
    "memory_components",
    "train_hours",
    "tokens_per_second",
    "cost_usd",
    "trainable_parameters",
    "total_parameters",
    "assumptions",
    "warnings",
    "advice",
    "timeline",
    "payback",
}


def document(cli: Cli, *arguments: str, code: int = 0) -> dict[str, Any]:
    result = cli("plan", *arguments, "--json")
    assert result.code == code, result.err
    found: dict[str, Any] = json.loads(result.out)
    return found


def test_a_forecast_has_the_pinned_keys(cli: Cli) -> None:
    found = document(cli, *LLAMA)
    assert set(found) >= PINNED
    assert found["fits"] is True and set(found["peak_memory_gb"]) == {"low", "expected", "high"}
    assert found["total_parameters"] == 6_738_415_616
    assert found["payback"] is None and found["timeline"]["total_weeks"]["expected"] > 3


def test_a_forecast_for_people(cli: Cli) -> None:
    result = cli("plan", *LLAMA, "--explain")
    assert result.code == 0 and "It fits." in result.out and "assumed:" in result.out
    assert "memory for" in result.out and "time of a step for" in result.out
    assert all(len(line) <= 80 for line in result.out.splitlines() if not line.startswith("Next: "))


def test_offers(cli: Cli) -> None:
    found = document(cli, *LLAMA, "--choices", "cheapest", "--max-cost", "50")
    assert found["offers"][0]["is_chosen"] and found["launch"] == found["offers"][0]["launch"]
    assert any("accelerators" in offer["launch"] for offer in found["offers"])
    assert "cheapest that fits" in cli("plan", *LLAMA, "--choices", "cheapest").out
    refused = cli("plan", *LLAMA, "--choices", "cheapest", "--max-cost", "0.001")
    assert refused.code == 6 and "the cheapest may cost" in refused.err


def test_a_table(cli: Cli, tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    table.write_text("id,model,method,gpu\na,llama-2-7b,lora,A100-80\nb,,lora,H100\n")
    found = document(cli, "--batch", str(table))
    assert found["num_rows"] == 2 and found["rows"][0]["fits"] is True and "error" in found["rows"][1]
    assert "error" in cli("plan", "--batch", str(table)).out


def test_a_project(cli: Cli, tmp_path: Path) -> None:
    asked = cli("plan", "--questions")
    assert tomllib.loads(asked.out) == {"situation": {}}
    file = tmp_path / "project.toml"
    file.write_text("[situation]\ngoal = 'knowledge'\nknowledge_changes = 'weekly'\nnum_examples = 10\n")
    found = document(cli, "--project", str(file))
    assert found["advice"]["chosen"] in ("rag", "prompting", "few-shot")
    assert "Advice:" in cli("plan", *LLAMA, "--project", str(file)).out


def test_the_scorecard_of_an_empty_folder(cli: Cli, tmp_path: Path) -> None:
    assert document(cli, "--scorecard", "--runs-dir", str(tmp_path))["scorecard"] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "neither a job, a model nor a project"),
        (("--params", "7X"), "--params 7X"),
        (("--base", "lama-2-7b"), "did you mean"),
        (("--base", "llama-2-7b", "--gpu", "H10O"), "did you mean `H100`"),
        (("--base", "llama-2-7b", "--micro-batch-size", "0"), "--micro-batch-size 0"),
        ((*LLAMA, "--choices", "nicest"), "expected one of cheapest"),
    ],
)
def test_wrong_questions_end_with_one_line_and_exit_2(cli: Cli, arguments: tuple[str, ...], said: str) -> None:
    result = cli("plan", *arguments)
    assert result.code == 2 and said in result.err and "Traceback" not in result.err
