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
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from foretune.cli.face import DEFAULT_RUNS, Answer, Debug, Json, RunsDir
from foretune.errors import ForetuneError, MissingDependency

if TYPE_CHECKING:
    from rich.console import RenderableType
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
CLOUD_DEVICES = ("T4", "L4", "RTX 4090", "L40S", "A100-80", "H100", "H200")
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
    found += [*_machine(runs_dir), _runs_dir(runs_dir), _pebble(), _kernels(), _hub_token()]
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
    clouds = [] if _has_gpu() else _clouds()
    document = {"command": "doctor", "ok": not bad, "checks": [asdict(check) for check in found], "clouds": clouds}
    then = bad[0].fix if bad else "foretune init json-extract"
    shown = [_table(found), *_clouds_shown(clouds)]
    return Answer(document, shown, next=then, exit_code=MissingDependency.exit_code if bad else 0)


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


def _has_gpu() -> bool:
    from foretune.hardware import detect_machine

    return bool(detect_machine(".").gpus)


def _clouds() -> list[dict[str, Any]]:
    """Rented devices of the usual sizes, cheapest first, and the providers that train for you, each with its date."""
    from foretune.hardware.devices import device_named
    from foretune.hardware.prices import price_per_hour
    from foretune.plan.hosted import provider_status
    from foretune.plan.providers import PROVIDERS, is_recommendable

    priced = [(name, price) for name in CLOUD_DEVICES if (price := price_per_hour(name)) is not None]
    rented = [
        {
            "kind": "rented",
            "what": f"{name}, {device_named(name).memory_gb:.0f} GB",
            "provider": price.provider,
            "usd_per_hour": price.usd_per_hour,
            "date": price.date.isoformat(),
            "is_stale": price.is_stale(),
        }
        for name, price in sorted(priced, key=lambda pair: pair[1].usd_per_hour)
    ]
    hosted = [
        {
            "kind": "hosted",
            "what": "trains for you",
            "provider": one.name,
            "status": provider_status(one),
            "date": one.status_date.isoformat(),
        }
        for one in PROVIDERS
        if is_recommendable(one) and one.prices
    ]
    return [*rented, *hosted]


def _clouds_shown(clouds: list[dict[str, Any]]) -> list[RenderableType]:
    """Where to train without a GPU here."""
    if not clouds:
        return []
    from foretune.cli.show import plain_table
    from foretune.units import show_usd

    table = plain_table("no GPU here: rent", ">an hour", "cheapest firm price", "of")
    for row in (row for row in clouds if row["kind"] == "rented"):
        old = " (old)" if row["is_stale"] else ""
        table.add_row(row["what"], show_usd(row["usd_per_hour"]), row["provider"], f"{row['date']}{old}")
    names = "; ".join(f"{row['provider']} {row['status']}" for row in clouds if row["kind"] == "hosted")
    ranked = "foretune plan --base llama-3.1-8b --num-examples 1000 --tokens-per-example 500 --choices cheapest"
    return ["", table, f"[dim]or a provider that trains for you: {names}[/]", f"[dim]ranked for a job: {ranked}[/]"]


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


def _kernels() -> Check:
    """Whether the fused CPU kernels were compiled with the package."""
    from foretune.models.flat_rules import are_kernels_built

    if are_kernels_built():
        return Check("CPU kernels", "ok", "fused kernels built")
    fix = "install a C++ compiler (g++), then install foretune again; unset FORETUNE_KERNELS"
    return Check("CPU kernels", "warning", "not built: training on a CPU takes about half as long again", fix)


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
