"""Answers and errors: one JSON document on stdout, everything else on stderr, exit codes as promised."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import CliResult
from foretune import errors
from foretune.cli import face, main
from foretune.cli.face import Answer, parsed_settings, print_answer, wants
from foretune.errors import ConfigError, DataError, Fault, ForetuneError
from foretune.log import note

Cli = Callable[..., CliResult]


@pytest.fixture
def doctor_does(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Answer]], None]:
    """Let `foretune doctor` do something else: the shortest way to a command that fails as one likes."""

    def use(action: Callable[[], Answer]) -> None:
        monkeypatch.setattr("foretune.cli.doctor.checks", lambda runs_dir, network: action())

    return use


def raiser(error: BaseException) -> Callable[[], Answer]:
    """Something that fails."""

    def action() -> Answer:
        raise error

    return action


@pytest.mark.parametrize("name", [name for name in errors.__all__ if name != "Fault"])
def test_every_error_has_its_exit_code_and_its_fix_on_stderr(cli: Cli, doctor_does: Cli, name: str) -> None:
    kind = getattr(errors, name)
    doctor_does(raiser(kind("it is [broken]", fix="mend --it")))
    result = cli("doctor")
    assert result.code == kind.exit_code
    assert result.out == ""
    assert result.err == "error: it is [broken]\nfix: mend --it\n"


def test_every_fault_of_a_file_is_listed(cli: Cli, doctor_does: Cli) -> None:
    faults = tuple(
        Fault("d.jsonl", line, "empty answer", value="''", expected="text", fix="fill it") for line in (3, 9)
    )
    doctor_does(raiser(DataError("2 faults", fix="mend them", faults=faults)))
    result = cli("doctor")
    assert "  d.jsonl:3: empty answer, got '', expected text; fill it\n  d.jsonl:9: " in result.err
    doctor_does(raiser(DataError(f"2 faults:\n  {faults[0]}\n  {faults[1]}", faults=faults)))
    assert cli("doctor").err.count("d.jsonl:3: empty answer") == 1
    document = cli("doctor", "--json").document
    assert document["error"]["type"] == "DataError"
    assert [fault["line"] for fault in document["error"]["faults"]] == [3, 9]
    assert document["error"]["exit_code"] == 3


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (MemoryError(), 7, "out of memory"),
        (OSError(28, "No space left on device", "f"), 7, "disk is full"),
        (PermissionError(13, "Permission denied", "runs/x"), 1, "runs/x: Permission denied"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (KeyError("surprise"), 1, "this is a fault of foretune"),
    ],
)
def test_what_the_machine_says_becomes_an_error_without_a_traceback(
    cli: Cli, doctor_does: Cli, error: BaseException, code: int, said: str
) -> None:
    doctor_does(raiser(error))
    result = cli("doctor")
    assert result.code == code
    assert said in result.err and "Traceback" not in result.err


def test_the_traceback_comes_with_debug_only(cli: Cli, doctor_does: Cli) -> None:
    doctor_does(raiser(ForetuneError("broken")))
    assert "Traceback" not in cli("doctor").err
    assert "Traceback" in cli("doctor", "--debug").err


def test_json_is_one_document_whatever_is_printed(cli: Cli, doctor_does: Cli) -> None:
    def chatty() -> list[object]:
        print("a library talks")
        note("a setting was overridden")
        return []

    doctor_does(chatty)  # type: ignore[arg-type]
    result = cli("doctor", "--json")
    assert result.document["schema_version"] == 1 and result.document["next"]
    assert "a library talks" in result.err and "note: a setting was overridden" in result.err


@pytest.mark.parametrize(
    "arguments",
    [["pln"], ["plan"], ["plan", "--prob", "j"], ["run", "j", "--seed", "x"], ["runs", "shw"], ["doctor", "x"]],
)
def test_wrong_usage_is_exit_2_in_words_and_in_json(cli: Cli, arguments: list[str]) -> None:
    result = cli(*arguments)
    assert result.code == 2 and result.out == "" and result.err.startswith("error: ")
    result = cli(*arguments, "--json")
    assert result.code == 2 and result.document["error"]["exit_code"] == 2


def test_did_you_mean(cli: Cli) -> None:
    assert "Did you mean 'plan'?" in cli("pln").err
    assert "--probe" in cli("plan", "--prob", "job.toml").err
    assert "did you mean sentiment?" in cli("init", "sentimnt").err


@pytest.mark.parametrize("arguments", [[], ["--help"], ["runs"], ["config"], ["run", "-h"]])
def test_help_is_exit_0(cli: Cli, arguments: list[str]) -> None:
    result = cli(*arguments)
    assert result.code == 0 and "Usage: foretune" in result.out
    assert max(len(line) for line in result.out.splitlines()) <= 80


def test_every_command_shows_an_example_in_its_help(cli: Cli) -> None:
    from typer.main import get_command

    tree = get_command(main.app)
    paths = [[name] for name in tree.commands if not hasattr(tree.commands[name], "commands")]
    paths += [[group, name] for group in ("runs", "config") for name in tree.commands[group].commands]
    assert len(paths) >= 17
    for path in paths:
        help_text = cli(*path, "--help").out
        assert f"foretune {' '.join(path)}" in help_text.partition("Examples:")[2], path
        assert "--json" in help_text and "--debug" in help_text, path


def test_the_version(cli: Cli) -> None:
    import foretune

    assert cli("--version").out == f"foretune {foretune.__version__}\n"


def test_no_colour_where_there_is_no_terminal(cli: Cli) -> None:
    assert "\x1b" not in cli("config", "schema").out


def test_an_answer_ends_with_the_next_command(capsys: pytest.CaptureFixture[str]) -> None:
    print_answer(Answer({"a": 1}, ["found [bold]it[/]"], next="foretune runs [list]"), as_json=False, stdout=sys.stdout)
    assert capsys.readouterr().out == "found it\n\nNext: foretune runs [list]\n"
    print_answer(Answer({"a": "é"}, ["found"], next="n"), as_json=True, stdout=sys.stdout)
    assert json.loads(capsys.readouterr().out) == {"schema_version": 1, "a": "é", "next": "n"}


def test_settings_are_parsed_as_toml_or_text() -> None:
    found = parsed_settings(["train.epochs=2", "base=a=b", 'data.path="x y"'], seed=3, plan__max_hours=None)
    assert found == {"train.epochs": 2, "base": "a=b", "data.path": "x y", "seed": 3}
    with pytest.raises(ConfigError, match="expected NAME=VALUE"):
        parsed_settings(["train.epochs"])


def test_flags_are_seen_before_parsing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert wants("--json", ["plan", "--json"]) and not wants("--json", ["chat", "--", "--json"])
    monkeypatch.setenv("FORETUNE_JSON", "1")
    assert wants("--json", ["plan"])


def test_the_default_runs_folder_is_the_one_of_the_records() -> None:
    from foretune.records.run import DEFAULT_RUNS_DIR

    assert Path(DEFAULT_RUNS_DIR) == face.DEFAULT_RUNS


def test_what_a_user_wrote_is_never_turned_into_a_picture(cli: Cli) -> None:
    told = cli("compare", "--outcomes", "metrics:x:o.csv").err
    assert "metrics:x:o.csv" in told
