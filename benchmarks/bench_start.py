"""How fast the command line answers: `--help`, and `plan` of a job without torch; medians of interleaved starts."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

REPEATS = 9
COMMAND = [str(Path(sys.executable).parent / "foretune")]
WITHOUT_TORCH = "import sys; from foretune.cli.main import main\ntry: main()\nfinally: print('torch' in sys.modules)"


def _seconds(arguments: list[str], folder: Path) -> float:
    begin = time.perf_counter()
    subprocess.run([*COMMAND, *arguments], cwd=folder, capture_output=True, check=True)
    return time.perf_counter() - begin


def measure() -> dict[str, Any]:
    """Medians in seconds, and whether `plan` imported torch."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([*COMMAND, "init", "json-extract", "job"], cwd=folder, capture_output=True, check=True)
        commands = {"help": ["--help"], "plan": ["plan", "job/job.toml", "--json"], "python": []}
        times: dict[str, list[float]] = {"help": [], "plan": [], "bare_python": []}
        for _ in range(REPEATS):
            times["help"].append(_seconds(commands["help"], folder))
            times["plan"].append(_seconds(commands["plan"], folder))
            begin = time.perf_counter()
            subprocess.run([sys.executable, "-c", ""], check=True)
            times["bare_python"].append(time.perf_counter() - begin)
        torch_free = subprocess.run(
            [sys.executable, "-c", WITHOUT_TORCH, "plan", "job/job.toml", "--json"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        ).stdout.strip()
    return {
        "metrics": {
            key: {
                "median_seconds": round(statistics.median(found), 3),
                "min": round(min(found), 3),
                "max": round(max(found), 3),
            }
            for key, found in times.items()
        },
        "plan_imports_torch": torch_free.endswith("True"),
        "repeats": REPEATS,
    }
