"""Run a benchmark by name and keep what it measured: `benchmarks/run.py start | resume | prediction | real | plan`.

Each writes `benchmarks/results/NAME.json`: configuration, metrics, device, versions, commit, date. RECORDS.md is the
table that people read; LOG.md says what was tried.
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import argparse
import importlib
import inspect
import json
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from foretune.hardware.detect import detect_machine

HERE = Path(__file__).parent
NAMES = (
    "start",
    "resume",
    "prediction",
    "real",
    "plan",
    "train",
    "verdicts",
    "data",
    "sweep",
    "diagnose",
    "generate",
    "decision",
    "memory",
)


def environment() -> dict[str, Any]:
    """Where and with what the figures were measured."""
    machine = detect_machine()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": commit.stdout.strip(),
        "device": machine.cpu_name,
        "num_cores": machine.num_cores,
        "memory_bytes": machine.memory_bytes,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("foretune", "torch", "transformers")},
    }


def main() -> None:
    """Run the named benchmarks, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], default=[])
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, where a benchmark has such a form")
    parser.add_argument("--aa", action="store_true", help="of verdicts only pebble against itself")
    args = parser.parse_args()
    sys.path.insert(0, str(HERE))
    for name in args.names or NAMES:
        measure = importlib.import_module(f"bench_{name}").measure
        can_be_quick = "quick" in inspect.signature(measure).parameters
        is_aa = args.aa and name == "verdicts"
        measured = measure(("aa",)) if is_aa else measure(quick=True) if args.quick and can_be_quick else measure()
        result = {"benchmark": name, **environment(), **measured}
        is_quick = args.quick and can_be_quick
        path = HERE / "results" / f"{name}{'-aa' if is_aa else '-quick' if is_quick else ''}.json"
        path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
