"""Is every module documented and within size, and does no file say where it was made."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ast
import re
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "foretune"
MODULES = sorted(SOURCE.rglob("*.py"))
MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 100
MAX_LOOP_LINES = 250
MAX_MEDIAN_LINES = 12
LOOP = ("train/loop.py", "fit")
SPDX = "# SPDX-License-Identifier: Apache-2.0"
PRIVATE_PLACE = re.compile(r"(?<![\w.])/(work|root|tmp)/[a-z]")
TEXT_SUFFIXES = {".py", ".toml", ".md", ".txt", ".json", ".html", ".css", ".js", ".cfg", ".yml", ""}


def name_of(path: Path) -> str:
    """The module as it stands in the tree."""
    return path.relative_to(SOURCE).as_posix()


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Every function of a file with its number of lines."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_module_opens_with_one_sentence_and_its_licence(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(text)) or ""
    first = docstring.partition("\n\n")[0]
    assert first.endswith((".", "?")), f"{name_of(path)} does not open with a sentence"
    assert SPDX in text.splitlines()[:30], f"{name_of(path)} has no SPDX line at its head"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_file_is_within_size(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_FILE_LINES


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_functions_are_within_size(path: Path) -> None:
    for function, size in functions(path):
        limit = MAX_LOOP_LINES if (name_of(path), function) == LOOP else MAX_FUNCTION_LINES
        assert size <= limit, f"{name_of(path)}: {function} has {size} lines"


def test_median_function_is_short() -> None:
    sizes = [size for path in MODULES for _, size in functions(path)]
    assert statistics.median(sizes) <= MAX_MEDIAN_LINES


def test_no_file_names_a_place_of_the_machine_it_was_written_on(repository: Path) -> None:
    folders = ("src", "tests", "docs", "recipes", "benchmarks", "examples", "tools")
    files = [path for folder in folders for path in (repository / folder).rglob("*") if path.is_file()]
    files += [path for path in repository.iterdir() if path.is_file()]
    for path in files:
        if path.suffix not in TEXT_SUFFIXES or "__pycache__" in path.parts or path == Path(__file__):
            continue
        found = PRIVATE_PLACE.search(path.read_text(encoding="utf-8", errors="replace"))
        assert found is None, f"{path.relative_to(repository)}: {found and found.group()}"


def test_errors_belong_to_one_tree() -> None:
    from foretune import errors

    kinds = [getattr(errors, name) for name in errors.__all__ if name != "Fault"]
    assert all(issubclass(kind, errors.ForetuneError) for kind in kinds)
    codes = {kind.__name__: kind.exit_code for kind in kinds}
    assert codes == {
        "ForetuneError": 1,
        "ConfigError": 2,
        "DataError": 3,
        "ScoreError": 3,
        "TrainingDiverged": 3,
        "CheckpointError": 3,
        "NotFound": 4,
        "MissingDependency": 4,
        "ServeError": 5,
        "GateRefused": 6,
        "DoesNotFit": 7,
    }
