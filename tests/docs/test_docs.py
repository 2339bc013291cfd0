"""Are the pages true: every verb has its page, every command parses, every recipe reads, every block is up to date."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
VERB_PAGES = sorted((ROOT / "docs").glob("*.md"))
SECTIONS = (
    "What it answers",
    "One command",
    "Options",
    ("The record it writes", "What it writes"),
    ("Fields", None),
    "Errors",
    "How we know it is right",
)
COMMAND = re.compile(r"^(?:\$ )?(foretune .+?)(?:\s{2,}#.*)?$", re.MULTILINE)
CODE = re.compile(r"(?:^(?: {4}.*\n?)+)|```(?:\w*)\n(.*?)```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(foretune [^`<>]+)`")


def verbs() -> dict[str, Any]:
    """Every top-level command."""
    from typer.main import get_command

    from foretune.cli.main import app

    found: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
    return found


def commands_in(text: str) -> list[str]:
    """Every `foretune ...` line of the code blocks of a page, and those in backticks."""
    found = [block.group(1) or block.group(0) for block in CODE.finditer(text)]
    lines = [line.strip() for block in found for line in block.splitlines()]
    return [match.group(1) for line in lines if (match := COMMAND.match(line))] + INLINE.findall(text)


def parse(command_line: str) -> None:
    """Parse a command line without running it; a bare verb is only looked up. Raises LookupError or what Typer does."""
    from typer.main import get_command

    from foretune.cli.main import app

    command: Any = get_command(app)
    rest = shlex.split(command_line, comments=True)[1:]
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        if rest[0] not in command.commands:
            raise LookupError(f"No such command {rest[0]!r}")
        command = command.commands[rest.pop(0)]
    rest = [argument for argument in rest if argument != "--help"]
    if rest:
        command.make_context(command.name, rest)


def all_commands() -> list[tuple[str, str]]:
    """Every command of every page, with its page."""
    return [(page.name, line) for page in PAGES for line in commands_in(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("verb", sorted(verbs()))
def test_every_verb_has_a_page_in_the_usual_order(verb: str) -> None:
    text = (ROOT / "docs" / f"{verb}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {verb}\n")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    for section in SECTIONS:
        names = section if isinstance(section, tuple) else (section,)
        if headings and headings[0] in names:
            headings.pop(0)
        else:
            assert None in names, f"{verb}.md has no section {names[0]!r} in its place"
    assert headings == []


def test_every_page_is_of_a_verb_or_of_concepts() -> None:
    assert {page.stem for page in VERB_PAGES} == {*verbs(), "concepts"}


def test_the_readme_leads_to_every_page() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(f"docs/{page.name}" in text for page in VERB_PAGES)


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_there_are_commands_to_test() -> None:
    assert len(all_commands()) >= 40


@pytest.mark.parametrize(("page", "line"), sorted(set(all_commands())))
def test_every_command_of_the_pages_parses(page: str, line: str) -> None:
    parse(line.partition(" > ")[0])


def test_a_wrong_command_does_not_parse() -> None:
    for line in ("foretune pln job.toml", "foretune plan --prob job.toml", "foretune runs shw"):
        with pytest.raises(Exception, match="No such"):
            parse(line)


@pytest.mark.parametrize("recipe", sorted((ROOT / "recipes").glob("*.toml")), ids=lambda path: path.stem)
def test_every_recipe_reads_and_says_how_to_run_it(recipe: Path) -> None:
    from foretune.config import read_job

    assert read_job(recipe).name == recipe.stem
    lines = [line.lstrip("# ") for line in recipe.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    commands = [line for line in lines if line.startswith("foretune ")]
    assert commands and all(f"recipes/{recipe.name}" in command for command in commands)
    for command in commands:
        parse(command)


def test_job_files_in_the_pages_are_valid() -> None:
    from foretune.config import JobConfig

    blocks = [
        b for page in PAGES for b in re.findall(r"```toml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    ]
    assert blocks
    for block in blocks:
        JobConfig.model_validate(tomllib.loads(block))


def test_every_field_and_every_error_is_on_a_page() -> None:
    from foretune import errors
    from foretune.config.read import field_names

    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert [name for name in field_names() if f"`{name}`" not in text] == []
    assert [name for name in errors.__all__ if name != "Fault" and f"`{name}`" not in text] == []


def test_every_record_is_on_a_page() -> None:
    import importlib
    import pkgutil

    from foretune import records
    from foretune.records.base import Record

    for module in pkgutil.iter_modules(records.__path__):
        importlib.import_module(f"foretune.records.{module.name}")
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    kinds = [kind for kind in Record.__subclasses__() if kind.__module__.startswith("foretune.records")]
    assert [kind.__name__ for kind in kinds if f"`{kind.file_name}`:" not in text] == []


@pytest.mark.parametrize("tool", ["write_docs.py --check", "changelog_check.py"])
def test_what_is_generated_is_up_to_date(tool: str) -> None:
    script, *flags = tool.split()
    done = subprocess.run([sys.executable, str(ROOT / "tools" / script), *flags], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_changelog_check_finds_faults() -> None:
    import importlib.util

    spec = importlib.util.spec_from_file_location("changelog_check", ROOT / "tools" / "changelog_check.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = "## 0.1\n### New\n- no area\n- Run: " + "word " * 30 + "end.\n"
    assert len(list(module.faults(text))) == 5
    assert list(module.faults("## Unreleased\n### Fixed\n- Run: `--json` prints one document.\n")) == []
