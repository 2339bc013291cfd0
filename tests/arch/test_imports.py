"""Do imports run down, and does the command line start light."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "transformers", "peft", "scipy", "numpy", "pyarrow", "sacrebleu")
LIGHT_PACKAGES = ("config", "records", "hardware", "cli.main", "api", "journey", "steps", "errors", "units", "log")
NO_TORCH = (*LIGHT_PACKAGES, "stats", "plan", "diagnose", "data.samples", "data.tokenizer", "backends.local")


def loaded_after(code: str) -> set[str]:
    """Top-level modules in sys.modules after `code` in a fresh interpreter."""
    script = f"{code}\nimport sys\nprint('\\n'.join(sorted(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stderr.split()}


def test_import_contracts_hold(repository: Path) -> None:
    # A process of its own: it sets up logging anew, which would switch off our logger for the tests after it.
    script = "import sys\nfrom importlinter.cli import lint_imports\nsys.exit(lint_imports(sys.argv[1], no_cache=True))"
    command = [sys.executable, "-c", script, str(repository / "pyproject.toml")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=repository)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("command", [["--help"], ["run", "--help"], ["runs", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(command: list[str]) -> None:
    # Stands for the budget of 0.3 s: a clock would fail on a busy machine, these imports are what costs the time.
    loaded = loaded_after(f"from foretune.cli.main import run_command\nassert run_command({command!r}) == 0")
    assert loaded & set(HEAVY) == set()


@pytest.mark.parametrize("package", NO_TORCH)
def test_torch_is_not_imported_by(package: str) -> None:
    loaded = loaded_after(f"import foretune.{package}")
    assert loaded & {"torch", "transformers", "peft"} == set()


def test_every_module_can_be_imported(repository: Path) -> None:
    root = repository / "src"
    modules = [
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted((root / "foretune").rglob("*.py"))
        if path.name != "__main__.py"
    ]
    script = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
    done = subprocess.run([sys.executable, "-W", "error", "-c", script, *modules], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
