"""`foretune doctor`: whether this machine can do the work, each finding with what mends it."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from foretune.cli.face import DEFAULT_RUNS, Answer, Debug, Json, RunsDir
from foretune.errors import ForetuneError, MissingDependency

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Check", "checks", "command"]

MIN_PYTHON = (3, 11)
MIN_FREE_BYTES = 2_000_000_000
MIN_MEMORY_BYTES = 2_000_000_000
IMPORT_SECONDS = 120
NETWORK_SECONDS = 5
PACKAGES = {"torch": (2, 11), "transformers": (5, 0), "peft": (0, 15), "tokenizers": (0, 20), "safetensors": (0, 4)}
OPTIONAL = {"pyarrow": "Parquet files"}
TORCH_SCRIPT = "import torch; print(torch.__version__, torch.cuda.is_available(), torch.get_num_threads())"
HUB = "https://huggingface.co"
TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


@dataclass(frozen=True)
class Check:
    """One thing looked at; `fix` is empty where it is well."""

    name: str
    state: Literal["ok", "warning", "error"]
    found: str
    fix: str = ""


def checks(runs_dir: Path, *, network: bool = False) -> list[Check]:
    """Every check of this machine, in the order in which they should be mended."""
    found = [_python(), *[_package(name, least) for name, least in PACKAGES.items()], _torch()]
    found += [_optional(name, purpose) for name, purpose in OPTIONAL.items()]
    found += [*_machine(runs_dir), _runs_dir(runs_dir), _pebble(), _hub_token()]
    return [*found, _network()] if network else found


def command(
    runs_dir: RunsDir = DEFAULT_RUNS,
    network: Annotated[bool, typer.Option("--network", help="Also ask whether the model hub answers.")] = False,
    json: Json = False,
    debug: Debug = False,
) -> Answer:
    """Check whether this machine can do the work.

    Looks at Python, packages, devices, memory, disk and the embedded model; nothing leaves this machine without
    --network.

    \b
    Examples:
      foretune doctor
      foretune doctor --network --json
    """
    found = checks(runs_dir, network=network)
    bad = [check for check in found if check.state == "error"]
    document = {"command": "doctor", "ok": not bad, "checks": [asdict(check) for check in found]}
    then = bad[0].fix if bad else "foretune init json-extract"
    return Answer(document, [_table(found)], next=then, exit_code=MissingDependency.exit_code if bad else 0)


command.__name__ = "doctor"


def _table(found: list[Check]) -> Table:
    """What was found, with the fix below what is not well."""
    from rich.markup import escape
    from rich.table import Table

    marks = {"ok": "[green]ok[/]", "warning": "[yellow]!![/]", "error": "[bold red]no[/]"}
    table = Table(box=None, pad_edge=False, show_header=False)
    for check in found:
        fix = f"\n[bold]fix:[/] {escape(check.fix)}" if check.fix else ""
        table.add_row(marks[check.state], check.name, f"{escape(check.found)}{fix}")
    return table


def _python() -> Check:
    version = platform.python_version()
    if sys.version_info < MIN_PYTHON:
        return Check("python", "error", version, "install Python 3.11 or newer")
    return Check("python", "ok", f"{version} on {platform.system()} {platform.machine()}")


def _package(name: str, least: tuple[int, int]) -> Check:
    wanted = ".".join(map(str, least))
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Check(name, "error", "not installed", f"pip install '{name}>={wanted}'")
    if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < least:
        return Check(name, "error", f"{version}, expected >= {wanted}", f"pip install '{name}>={wanted}'")
    return Check(name, "ok", version)


def _optional(name: str, purpose: str) -> Check:
    try:
        return Check(name, "ok", importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Check(name, "warning", f"not installed; only {purpose} need it", f"pip install {name}")


def _torch() -> Check:
    """Whether torch starts at all, asked in another process, so that a broken one cannot take this one along."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", TORCH_SCRIPT], capture_output=True, text=True, timeout=IMPORT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return Check("torch starts", "error", f"no answer in {IMPORT_SECONDS} s", "pip install --force-reinstall torch")
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return Check("torch starts", "error", reason, "pip install --force-reinstall torch")
    version, cuda, threads = done.stdout.split()
    return Check("torch starts", "ok", f"{version}, {'CUDA' if cuda == 'True' else 'CPU only'}, {threads} threads")


def _machine(runs_dir: Path) -> list[Check]:
    from foretune.hardware import detect_machine
    from foretune.units import show_bytes

    machine = detect_machine(runs_dir)
    memory, disk = machine.available_memory_bytes, machine.disk_free_bytes
    fix_memory = "close other programs, or use a smaller base model"
    fix_disk = "free space, or --runs-dir on another disk"
    gpus = [f"{gpu.name}, {show_bytes(gpu.free_bytes)} of {show_bytes(gpu.memory_bytes)} free" for gpu in machine.gpus]
    return [
        Check("processor", "ok", f"{machine.cpu_name}, {machine.num_cores} cores"),
        _enough("memory", memory, MIN_MEMORY_BYTES, f"{show_bytes(memory)} free", fix_memory),
        _enough("disk", disk, MIN_FREE_BYTES, f"{show_bytes(disk)} free", fix_disk),
        Check("accelerator", "ok", "; ".join(gpus) or "none: small models train on the processor"),
    ]


def _enough(name: str, have: int, need: int, found: str, fix: str) -> Check:
    return Check(name, "ok", found) if have >= need else Check(name, "warning", found, fix)


def _runs_dir(runs_dir: Path) -> Check:
    existing = next(path for path in (runs_dir.resolve(), *runs_dir.resolve().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            return Check("runs folder", "ok", f"{runs_dir} can be written")
    except OSError as error:
        fix = "--runs-dir FOLDER that you can write to"
        return Check("runs folder", "error", f"{runs_dir}: {error.strerror or error}", fix)


def _pebble() -> Check:
    from foretune.models.base import resolve_base

    try:
        folder = resolve_base("pebble")
    except ForetuneError as error:
        return Check("pebble", "error", error.what, error.fix or "reinstall foretune")
    missing = [name for name in ("config.json", "tokenizer.json", "model.safetensors") if not (folder / name).is_file()]
    if missing:
        return Check("pebble", "error", f"{', '.join(missing)} missing in {folder}", "reinstall foretune")
    return Check("pebble", "ok", "the embedded base model is here")


def _hub_token() -> Check:
    """Whether a token is there; never what it is."""
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    found = next((name for name in TOKENS if os.environ.get(name)), "")
    found = found or ("token file" if (home / "token").is_file() else "")
    return Check("hub token", "ok", f"found ({found})" if found else "none; only gated models need one")


def _network() -> Check:
    import urllib.error
    import urllib.request

    address = os.environ.get("HF_ENDPOINT", HUB)
    try:
        with urllib.request.urlopen(address, timeout=NETWORK_SECONDS) as reply:
            return Check("model hub", "ok", f"{address} answers ({reply.status})")
    except (urllib.error.URLError, TimeoutError, ValueError) as error:
        return Check("model hub", "warning", f"{address}: {error}", "work offline with pebble or a local model folder")
