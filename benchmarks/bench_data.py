"""All data benchmarks: near-duplicates, label and reference noise, personal data, reading, coverage, a whole audit.

`python benchmarks/run.py data` takes half an hour or more of one core, with `--quick` some minutes. Peers that are
installed run in the same process as ours, turn by turn; those that are not are named. Reads `../shared/data`; what is
absent is skipped.
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib.util
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import data_coverage
import data_neardup
import data_noise
import data_pii
import data_reading

ALPACA = data_neardup.DATA / "alpaca_52k" / "alpaca_data.json"
PEERS = ("rensa", "datasketch", "sklearn", "cleanlab", "presidio_analyzer", "orjson", "msgspec")
QUICK_NOISE = ("references", "rules", "numbers")
REPEATS, QUICK_REPEATS = 40, 4
QUICK_MB = 50


def measure(quick: bool = False) -> dict[str, Any]:
    """Every part's figures, with its CPU and wall seconds; `quick` takes fewer sets and repetitions."""
    metrics = {name: _timed(name, part, quick) for name, part in PARTS.items()}
    missing = [name for name in PEERS if importlib.util.find_spec(name) is None]
    return {"quick": quick, "missing_peers": missing, "metrics": metrics}


def _timed(name: str, part: Callable[[bool], dict[str, Any]], quick: bool) -> dict[str, Any]:
    wall, cpu = time.perf_counter(), time.process_time()
    result = part(quick)
    seconds = {"cpu": round(time.process_time() - cpu, 1), "wall": round(time.perf_counter() - wall, 1)}
    print(f"{name}: {seconds['wall']} s", file=sys.stderr, flush=True)
    return {**result, "seconds": seconds}


def _near_duplicates(quick: bool) -> dict[str, Any]:
    return data_neardup.measure(million=not quick, quick=quick)


def _noise(quick: bool) -> dict[str, Any]:
    metrics: dict[str, Any] = data_noise.measure(QUICK_NOISE if quick else ())["metrics"]
    return metrics


def _reading(quick: bool) -> dict[str, Any]:
    if quick:
        data_reading.ROUNDS, data_reading.LARGE_MB = 1, QUICK_MB
    return data_reading.measure()


def _coverage(quick: bool) -> dict[str, Any]:
    return data_coverage.measure(QUICK_REPEATS if quick else REPEATS)


def _audit(quick: bool) -> dict[str, Any]:
    """`foretune audit` of Alpaca, all default checks, in its own process; quick: its first 5,000 rows."""
    if not ALPACA.exists():
        return {"skipped": f"no {ALPACA.name}"}
    command = [str(Path(sys.executable).parent / "foretune"), "audit", str(ALPACA), "--json"]
    limit = ["--set", "data.max_rows=5000"] if quick else []
    begin = time.perf_counter()
    done = subprocess.run([*command, *limit], capture_output=True, text=True, check=False)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    record = json.loads(done.stdout) if done.returncode in (0, 3) else {}
    return {
        "exit_code": done.returncode,
        "wall_seconds": round(time.perf_counter() - begin, 1),
        "peak_gb_of_largest_child": round(peak * 1024 / 1e9, 2),
        "answered": bool(record),
    }


PARTS: dict[str, Callable[[bool], dict[str, Any]]] = {
    "audit": _audit,
    "near_duplicates": _near_duplicates,
    "noise": _noise,
    "personal_data": lambda quick: data_pii.measure(),
    "reading": _reading,
    "coverage": _coverage,
}
