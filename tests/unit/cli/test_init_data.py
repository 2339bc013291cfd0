"""`foretune init --data`: a job for one's own rows that reads, plans, audits and trains, each setting with a reason."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from conftest import CliResult
from foretune.config import read_job
from foretune.hardware import Machine
from foretune.plan import auto
from foretune.units import GIB

Cli = Callable[..., CliResult]
pytestmark = pytest.mark.req("R260")


def chat(number: int) -> dict[str, Any]:
    ask = {"role": "user", "content": f"colour {number} of the {('sky', 'sea', 'sun')[number % 3]}?"}
    return {"messages": [ask, {"role": "assistant", "content": f"as blue as number {number * 7}"}]}


def pair(number: int) -> dict[str, Any]:
    return {"prompt": f"what is {number} and {number * 7}?", "completion": str(number * 8)}


def preference(number: int) -> dict[str, Any]:
    return {"prompt": f"greet number {number}", "chosen": f"good day, number {number}", "rejected": "what now"}


def labelled(number: int) -> dict[str, Any]:
    return {"text": f"the {('cat', 'dog')[number % 2]} came by at {number}", "label": ("cat", "dog")[number % 2]}


def write(path: Path, rows: Iterable[Any]) -> None:
    """Rows into a file whose ending says how."""
    found = list(rows)
    if path.suffix == ".txt":
        path.write_text("\n\n".join(found))
    elif path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, found[0])
            writer.writeheader()
            writer.writerows(found)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in found))


KINDS: dict[str, tuple[Callable[[int], Any], str, str]] = {
    "chat.jsonl": (chat, "lora", "exact_match"),
    "pairs.jsonl": (pair, "lora", "exact_match"),
    "classes.csv": (labelled, "classify", "accuracy"),
    "preference.jsonl": (preference, "dpo", "exact_match"),
    "text.txt": (lambda n: f"once upon a time number {n} went out to see the world " * 9, "pretrain", "bits_per_byte"),
}


@pytest.mark.parametrize("name", KINDS)
def test_what_is_written_reads_plans_audits_and_trains(name: str, cli: Cli, tiny_llama: Path, tmp_path: Path) -> None:
    row, method, metric = KINDS[name]
    write(tmp_path / name, map(row, range(60)))
    before = (tmp_path / name).read_bytes()
    told = cli("init", "--data", name, "--base", tiny_llama, "--json")
    assert told.code == 0, told.err
    document, stem = told.document, name.partition(".")[0]
    job = f"{stem}/job.toml"
    assert document["next"] == f"foretune plan {job}" and document["files"] == [job] and document["num_rows"] == 60
    choices = {choice["name"]: choice["value"] for choice in document["choices"]}
    assert (choices["train.method"], choices["base"]) == (method, str(tiny_llama))
    assert all(choice["reason"] for choice in document["choices"])
    shown = cli("config", "show", job, "--json").document
    written = {key: value for key, value in choices.items() if key != "evaluate.primary_metric"}
    assert {key: shown["settings"][key] for key in written} == written
    planned = cli("plan", job, "--json")
    assert planned.code == 0, planned.err
    assert not any("outside the usual" in warning for warning in planned.document["warnings"])
    assert document["peak_memory_gb"] == planned.document["peak_memory_gb"]
    assert cli("audit", job, "--json").code == 0
    trained = cli("train", job, "--smoke", "--foreground", "--yes", "--set", "train.advanced.num_threads=1", "--json")
    assert trained.code == 0, trained.err
    resolved = json.loads(next(Path("runs").glob("*/resolved.json")).read_text())
    assert choices["evaluate.primary_metric"] == resolved["primary_metric"] == metric
    assert (tmp_path / name).read_bytes() == before


def test_the_answer_for_people_fits_and_names_every_choice(cli: Cli, tmp_path: Path) -> None:
    write(tmp_path / "few.jsonl", map(pair, range(30)))
    told = cli("init", "--data", "few.jsonl", "mine")
    assert told.code == 0, told.err
    assert all(len(line.rstrip()) <= 80 for line in told.out.splitlines())
    text = " ".join(told.out.split())
    for words in (
        "30 rows",
        "Wrote mine/job.toml",
        "another: --base",
        "epochs",
        "30 rows are too little",
        "teach no new",
    ):
        assert words in text
    assert told.out.endswith("Next: foretune plan mine/job.toml\n")
    job = read_job(tmp_path / "mine" / "job.toml")
    assert (job.name, job.base, job.data.path) == ("few", "pebble", "../few.jsonl")
    assert '\nmethod = "lora"  # ' in (tmp_path / "mine" / "job.toml").read_text()
    assert not (tmp_path / "runs").exists()


def test_every_fault_of_the_rows_comes_at_once_and_nothing_is_written(cli: Cli, tmp_path: Path) -> None:
    good = "".join(json.dumps(pair(number)) + "\n" for number in range(40))
    (tmp_path / "rows.jsonl").write_text(good + '{"prompt": "half\nnull\n')
    told = cli("init", "--data", "rows.jsonl", "--json")
    assert told.code == 3 and {fault["line"] for fault in told.document["error"]["faults"]} == {41, 42}
    write(tmp_path / "two.jsonl", map(pair, range(2)))
    assert cli("init", "--data", "two.jsonl").code == 3  # nothing to train on is left
    write(tmp_path / "mixed.jsonl", [*map(pair, range(40)), *map(preference, range(3))])
    assert cli("init", "--data", "mixed.jsonl").code == 3
    assert cli("init", "--data", "nowhere.jsonl").code == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mixed.jsonl", "rows.jsonl", "two.jsonl"]


def test_words_that_do_not_go_together_are_refused(cli: Cli, tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", map(pair, range(40)))
    for words in (("sentiment",), ("sentiment", "mine"), ("mine", "yours"), ("--rows", "20")):
        told = cli("init", *words, "--data", "rows.jsonl")
        assert told.code == 2 and "--data" in told.err and "fix: " in told.err, words
    assert cli("init", "sentiment", "--base", "pebble").code == 2
    unknown = cli("init", "--data", "rows.jsonl", "--base", "no-such-base")
    assert unknown.code == 4 and "no-such-base" in unknown.err
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_columns_of_other_names_are_named_with_set(cli: Cli, tmp_path: Path) -> None:
    write(tmp_path / "rows.csv", ({"mail": f"mail number {n}", "team": ("sales", "help")[n % 2]} for n in range(60)))
    unnamed = cli("init", "--data", "rows.csv")
    assert unnamed.code == 3 and "data.input_field" in unnamed.err
    named = ("--set", "data.input_field=mail", "--set", "data.target_field=team")
    told = cli("init", "--data", "rows.csv", *named, "--json")
    assert told.code == 0, told.err
    job = read_job(tmp_path / "rows" / "job.toml")
    assert (job.data.input_field, job.data.target_field, job.train.method) == ("mail", "team", "classify")
    assert cli("plan", "rows/job.toml", "--json").code == 0
    for setting in ("train.epochs=2", "data.input=mail", "data.max_rows=-1"):
        assert cli("init", "--data", "rows.csv", *named, "--set", setting, "other").code == 2
    assert not (tmp_path / "other").exists()
    assert cli("init", "sentiment", "--set", "data.system=x").code == 2


def test_nothing_is_overwritten(cli: Cli, tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", map(pair, range(40)))
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "job.toml").write_text("mine")
    told = cli("init", "--data", "rows.jsonl")
    assert told.code == 2 and "rows/job.toml exists already" in told.err and "ANOTHER_FOLDER" in told.err
    assert (tmp_path / "rows" / "job.toml").read_text() == "mine"


def test_a_folder_and_a_base_beside_it_are_named_from_the_job(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "train.jsonl", map(chat, range(60)))
    write(tmp_path / "in" / "test.jsonl", map(chat, range(100, 120)))
    embedded = Path(auto.resolve_base("pebble"))
    (tmp_path / "model").symlink_to(embedded)
    told = cli("init", "--data", "in", "--base", "model", "--seed", 7, "--json")
    assert told.code == 0, told.err
    job = read_job(tmp_path / "in-job" / "job.toml")
    assert (job.data.path, job.seed) == ("../in", 7)
    assert (tmp_path / "in-job" / job.base).resolve() == embedded
    assert "names its own test files" in told.document["notes"][0]
    assert cli("audit", "in-job/job.toml").code == 0


def test_where_nothing_fits_it_says_what_would(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = Machine("Testchip", 2, 2.5e9, 32, 8 * GIB, 6 * GIB, 100 * GIB, ())
    monkeypatch.setattr(auto, "detect_machine", lambda: small)
    write(tmp_path / "rows.jsonl", map(pair, range(60)))
    told = cli("init", "--data", "rows.jsonl", "--base", "llama-3.1-8b", "big")
    assert told.code == 0, told.err
    text = " ".join(told.out.split())
    assert "It does not fit here" in text and "by qlora" in text and "foretune init --data rows.jsonl --base" in text
    assert told.out.endswith("Next: foretune plan big/job.toml --choices smallest\n")
    offered = cli("plan", "big/job.toml", "--choices", "smallest", "--json")
    assert offered.code == 0 and offered.document["offers"]
    smaller = text.partition("rows.jsonl --base ")[2].split()[0]
    again = cli("init", "--data", "rows.jsonl", "--base", smaller, "smaller", "--json").document
    assert again["fits"] and again["next"] == "foretune plan smaller/job.toml"


def test_four_bits_are_written_where_only_they_fit(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = Machine("Testchip", 2, 2.5e9, 32, 8 * GIB, 4 * GIB, 100 * GIB, ())
    monkeypatch.setattr(auto, "detect_machine", lambda: small)
    write(tmp_path / "rows.jsonl", ({**pair(n), "completion": "word " * 150 + str(n)} for n in range(60)))
    document = cli("init", "--data", "rows.jsonl", "--base", "qwen3-0.6b", "--json").document
    assert document["fits"]
    job = read_job(tmp_path / "rows" / "job.toml")
    assert (job.train.method, job.train.advanced.quantise_base) == ("lora", "4bit")


def test_preferences_can_be_offered_devices_too(cli: Cli, tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", map(preference, range(60)))
    assert cli("init", "--data", "rows.jsonl").code == 0
    assert cli("plan", "rows/job.toml", "--choices", "cheapest", "--json").document["offers"]
