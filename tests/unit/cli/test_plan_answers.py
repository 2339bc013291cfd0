"""`foretune plan` around the forecast: pages, budgets, launches, next steps that run as printed, and bad input."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from foretune.ui.words import show_span

Cli = Any  # the fixture of conftest.py
LLAMA = ("--base", "llama-2-7b", "--num-examples", "5000", "--tokens-per-example", "512")
H100 = (*LLAMA, "--gpu", "H100")


def document(cli: Cli, *arguments: str, code: int = 0) -> dict[str, Any]:
    result = cli("plan", *arguments, "--json")
    assert result.code == code, result.err
    found: dict[str, Any] = json.loads(result.out)
    return found


def parses(line: str) -> bool:
    """Whether a command line is understood by the command line's own parser."""
    from typer.main import get_command

    from foretune.cli.main import app

    command, rest = get_command(app), shlex.split(line)[1:]
    while hasattr(command, "commands") and rest:
        command = command.commands[rest.pop(0)]
    command.make_context(command.name, [argument for argument in rest if argument != "--help"])
    return True


@pytest.mark.parametrize(
    "arguments",
    [
        H100,
        (*H100, "--choices", "fastest", "--max-hours", "24"),
        ("--choices", "affordable", "--max-cost", "20", "--base", "llama-3.2-1b", "--method", "lora"),
        ("--base", "llama-2-70b", "--method", "full", "--gpu", "T4", "--num-examples", "50"),
        ("--params", "1.3B", "--gpu", "RTX 4090", "--no-packing", "--num-examples", "50", "--tokens-per-example", "99"),
        ("--scorecard",),
    ],
)
def test_next_runs_as_printed(cli: Cli, arguments: tuple[str, ...]) -> None:
    then = document(cli, *arguments)["next"]
    assert then.startswith("foretune ") and "..." not in then and parses(then)
    printed = re.search(r"^Next: (.*)$", cli("plan", *arguments).out, re.MULTILINE)
    assert printed and printed.group(1) == then
    if " --launch " not in then:
        assert cli(*shlex.split(then)[1:]).code == 0


@pytest.mark.parametrize(
    ("situation", "command"),
    [
        ("goal = 'knowledge'\nknowledge_changes = 'weekly'", "foretune faq rag"),
        ("goal = 'classification'\nnum_examples = 5000\nprompt_tried = false", "foretune init sentiment"),
        ("goal = 'format'\nnum_examples = 50", "foretune init json-extract"),
    ],
)
def test_the_next_step_of_an_advice_runs_where_there_is_no_job(
    cli: Cli, tmp_path: Path, situation: str, command: str
) -> None:
    (tmp_path / "project.toml").write_text(f"[situation]\n{situation}\n")
    then = document(cli, "--project", "project.toml")["next"]
    assert then == command and cli(*shlex.split(then)[1:]).code == 0


def test_offers_have_numbers_states_and_what_they_launch(cli: Cli, tmp_path: Path) -> None:
    found = document(cli, *LLAMA, "--choices", "cheapest")
    assert [offer["number"] for offer in found["offers"]] == list(range(1, len(found["offers"]) + 1))
    assert {"rented", "hosted"} == {offer["kind"] for offer in found["offers"]} and found["unavailable"]
    assert all(offer["launch"] and offer["start"] for offer in found["offers"])
    shown = cli("plan", *LLAMA, "--choices", "cheapest").out
    assert "billed:" in shown and "closed: Cohere" in shown and "(seen 20" in shown
    assert all(len(line) <= 80 for line in shown.splitlines() if not line.startswith("Next: "))


def test_a_row_is_written_and_never_sent(cli: Cli, tmp_path: Path) -> None:
    found = document(cli, *LLAMA, "--choices", "cheapest", "--launch", "task.yaml")
    assert (tmp_path / "task.yaml").read_text() == found["launch"] and found["launch_file"] == "task.yaml"
    number = next(offer["number"] for offer in found["offers"] if offer["provider"] == "Fireworks")
    hosted = document(cli, *LLAMA, "--choices", "cheapest", "--launch", "r.json", "--offer", str(number))
    assert json.loads((tmp_path / "r.json").read_text())["provider"] == "Fireworks" and "r.json" in hosted["next"]
    assert document(cli, *LLAMA, "--launch", "x.yaml", code=0)["launch_file"] == "x.yaml"
    assert document(cli, *LLAMA, "--choices", "cheapest", "--offer", "99999", code=4)["error"]["fix"] == "--offer 1"


@pytest.mark.req("R211")
def test_a_colab_notebook_of_a_row(cli: Cli, tmp_path: Path) -> None:
    result = cli("plan", *LLAMA, "--launch", "colab.ipynb", "--launch-as", "colab")
    assert result.code == 0 and json.loads((tmp_path / "colab.ipynb").read_text())["nbformat"] == 4


def test_what_a_budget_buys(cli: Cli) -> None:
    asked = ("--choices", "affordable", "--max-cost", "50", "--base", "llama-3.1-8b")
    found = document(cli, *asked)
    assert found["budget_usd"] == 50 and [row["method"] for row in found["affordable"]] == ["lora", "qlora", "full"]
    assert "examples: as many as all of it pays for" in cli("plan", *asked).out
    assert "asks what a budget buys" in cli("plan", "--choices", "affordable").err


@pytest.mark.req("R084")
def test_a_forecast_over_the_budget_is_refused(cli: Cli) -> None:
    refused = cli("plan", *H100, "--max-cost", "0.01")
    assert refused.code == 6 and "is above --max-cost" in refused.err
    cost = document(cli, *H100)["cost_usd"]
    between = (cost["expected"] + cost["high"]) / 2
    assert any("may cost up to" in one for one in document(cli, *H100, "--max-cost", f"{between:.4f}")["warnings"])


def test_costs_pilot_place_and_sizes_are_in_the_document(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "project.toml").write_text(
        "[situation]\nteam = 'none'\n[money]\nannotation_items = 100\nannotation_kind = 'entities'\n"
        "queries_per_month = 10\nusd_per_query = 1\ntuned_usd_per_query = 1\n"
    )
    found = document(cli, *H100, "--project", "project.toml")
    assert [line["name"] for line in found["project_cost"]["lines"]][:2] == ["training", "labels"]
    assert found["pilot"]["num_examples"] == 500 and found["place"]["where"] == "hosted"
    assert found["sizes"]["lora_ratio"] == pytest.approx(4.77, abs=0.005)
    assert found["payback"]["payback_with_labour"] is None  # never: no infinity in JSON
    shown = cli("plan", *H100, "--project", "project.toml").out
    assert "pilot first: 500 examples" in shown and "cost of the project" in shown and "never with labour" in shown


def test_a_page(cli: Cli, tmp_path: Path) -> None:
    found = document(cli, *H100, "--html", "plan.html")
    assert found["html"] == "plan.html" and "What the memory goes to" in (tmp_path / "plan.html").read_text()
    assert document(cli, *LLAMA, "--choices", "fastest", "--html", "c.html")["html"] == "c.html"
    page, best = (tmp_path / "c.html").read_text(), document(cli, *LLAMA, "--choices", "fastest")["offers"][0]
    assert "Where to run it" in page and f"on {best['num_gpus']} x {best['device']}" in page
    hours = show_span("train_seconds", best["train_hours"]["low"] * 3600, best["train_hours"]["high"] * 3600)
    assert page.replace("\u00a0", " ").count(hours) >= 2  # the ranking and the forecast below it agree
    (tmp_path / "project.toml").write_text("[timeline]\ncomplexity = 'simple'\n")
    assert document(cli, "--project", "project.toml", "--html", "p.html")["html"] == "p.html"
    assert "Wrote p.html" in cli("plan", "--project", "project.toml", "--html", "p.html").out


@pytest.mark.req("R351", "R247")
def test_explain_shows_formats_and_adapters(cli: Cli) -> None:
    shown = cli("plan", *H100, "--explain").out
    assert "13.5 GB in 16 bits, 6.7 GB in 8 bits, 3.4 GB in 4 bits" in shown and "(4.77 x)" in shown


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--method", "lorra"), "did you mean `lora`?"),
        (("--method", "tuning"), "expected one of lora"),
        (("--parallelism", "zero9"), "did you mean `zero"),
        (("--framework", "axolotI"), "did you mean `axolotl`?"),
        (("--gpu", "RTX 409O"), "did you mean `RTX 4090`"),
        (("--price-per-gpu-hour", "2EUR"), "rate under [rates]"),
        (("--price-per-gpu-hour", "-1"), "expected greater than or equal to 0"),
        (("--epochs", "nan"), "expected a finite number"),
        (("--micro-batch-size", "-4"), "expected greater than 0"),
        (("--precision", "bf8"), "expected 'bf16'"),
        (("--launch-as", "k8s"), "expected one of auto, sky"),
    ],
)
def test_a_wrong_word_or_number_is_named_with_what_was_expected(
    cli: Cli, arguments: tuple[str, ...], said: str
) -> None:
    result = cli("plan", "--base", "llama-2-7b", "--num-examples", "9", *arguments)
    assert result.code == 2 and said in result.err and "Traceback" not in result.err


def test_every_fault_is_told_at_once(cli: Cli) -> None:
    result = cli("plan", "--base", "llama-2-7b", "--num-examples", "-5", "--rank", "0", "--method", "lorra")
    assert all(flag in result.err for flag in ("--num-examples -5", "--rank 0", "--method lorra"))


def test_an_unknown_framework_is_a_mean_and_says_so(cli: Cli) -> None:
    found = document(cli, *H100, "--framework", "quokka")
    assert any("framework not known" in one for one in found["assumptions"])


def config(folder: Path, **changes: object) -> str:
    plain = {"hidden_size": 256, "num_hidden_layers": 4, "intermediate_size": 512, "num_attention_heads": 4}
    folder.mkdir()
    text = json.dumps({"model_type": "llama", "vocab_size": 1000, "max_position_embeddings": 512, **plain, **changes})
    (folder / "config.json").write_text(text)
    return str(folder)


def test_an_unknown_architecture_is_counted_from_its_fields(cli: Cli, tmp_path: Path) -> None:
    base = config(tmp_path / "m", model_type="quokka")
    found = document(cli, "--base", base, "--gpu", "H100", "--num-examples", "9", "--tokens-per-example", "9")
    assert any("quokka" in one for one in found["assumptions"]) and found["total_parameters"] > 1e6


def test_missing_fields_and_broken_configs(cli: Cli, tmp_path: Path) -> None:
    base = Path(config(tmp_path / "m"))
    broken = json.loads((base / "config.json").read_text())
    del broken["num_hidden_layers"]
    (base / "config.json").write_text(json.dumps(broken))
    assert "no `num_hidden_layers`" in cli("plan", "--base", base, "--gpu", "H100").err
    (base / "config.json").write_text("{nonsense")
    assert "not valid JSON" in cli("plan", "--base", base, "--gpu", "H100").err
    negative = config(tmp_path / "n", hidden_size=-1)
    assert "`hidden_size` is -1" in cli("plan", "--base", negative, "--gpu", "H100").err


def test_rows_longer_than_the_positions(cli: Cli, tmp_path: Path) -> None:
    base = config(tmp_path / "m")
    found = document(cli, "--base", base, "--gpu", "H100", "--max-seq-len", "4096", "--num-examples", "9")
    assert any("longer than the model's 512 positions" in one for one in found["warnings"])


def test_data_that_does_not_parse(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text('{"prompt": "a", "completion": "b"}\n{bad\n{"prompt": "c"}\n')
    result = cli("plan", "--base", "llama-2-7b", "--gpu", "H100", "--data", "d.jsonl")
    assert result.code == 3 and "d.jsonl:2:" in result.err and "d.jsonl:3:" in result.err


def test_full_fine_tuning_of_70b_on_a_t4_says_what_would_fit(cli: Cli) -> None:
    found = document(cli, "--base", "llama-3.1-70b", "--method", "full", "--gpu", "T4", "--num-examples", "100")
    assert found["fits"] is False and any("would fit: " in one for one in found["warnings"]) and found["pilot"] is None
    assert "--choices cheapest" in found["next"] and "--gpu" not in found["next"]


def test_huge_values_are_warned_of_or_refused(cli: Cli) -> None:
    assert cli("plan", "--params", "90000T").code == 2
    idle = document(cli, *H100, "--num-gpus", "100000")
    assert any("most of them would wait" in one for one in idle["warnings"])
    vast = document(
        cli, "--base", "llama-2-7b", "--gpu", "H100", "--num-examples", "1000000000", "--tokens-per-example", "1000"
    )
    assert any("very expensive" in one for one in vast["warnings"]) and any(
        "four months" in one for one in vast["warnings"]
    )


def prices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    book = tmp_path / "config" / "foretune" / "prices.toml"
    book.parent.mkdir(parents=True)
    book.write_text(text)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.mark.parametrize(("date", "said"), [("2020-01-01", "over 90 days old"), ("2999-01-01", "dated in the future")])
def test_prices_of_another_time(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, date: str, said: str
) -> None:
    prices(tmp_path, monkeypatch, f'[[hourly]]\ndevice = "H100"\nusd_per_hour = 2.0\ndate = {date}\n')
    assert any(said in one for one in document(cli, *H100)["warnings"])


def test_currencies_need_their_rate(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = '[[hourly]]\ndevice = "H100"\nusd_per_hour = 2.0\ncurrency = "EUR"\ndate = 2026-11-20\n'
    prices(tmp_path, monkeypatch, row)
    assert "EUR = 1.08" in cli("plan", *H100).err
    (tmp_path / "config" / "foretune" / "prices.toml").write_text(f"[rates]\nEUR = 1.5\n{row}")
    assert document(cli, *H100)["price"]["usd_per_gpu_hour"] == 3.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[money]\nlabour_usd_per_hour = '100 EUR'\nlabour_hours = true", "`labour_hours`: got True"),
        ("[money]\nannotation_kind = 'clasification'", "there are classification"),
        ("[money]\nannotation_kind = 3", "expected text in quotes"),
        ("[situation]\nteam = 'nobody'", "`team`: got 'nobody'"),
    ],
)
def test_a_faulty_project_names_field_and_kind(cli: Cli, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "project.toml").write_text(text)
    result = cli("plan", "--project", "project.toml")
    assert result.code in (2, 4) and said in result.err and "Traceback" not in result.err
