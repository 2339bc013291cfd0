"""The demo: a template's job from data to a verdict, in a folder of its own, with the time that each part took."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path("demo")
TEMPLATE = "json-extract"


def foretune(*arguments: str) -> None:
    """Show a command and run it; its failure is ours."""
    print(f"\n$ foretune {' '.join(arguments)}", flush=True)
    done = subprocess.run([sys.executable, "-m", "foretune", *arguments], check=False)
    if done.returncode:
        sys.exit(done.returncode)


def main() -> None:
    """Make the demo anew: what an earlier one left in `demo/` is deleted."""
    marker = FOLDER / ".made-by-make-demo"
    if FOLDER.exists() and not marker.is_file():
        sys.exit(f"{FOLDER}/ is there and `make demo` has not made it; move it away")
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    marker.write_text("`make demo` deletes this folder and makes it anew.\n")
    began = time.monotonic()
    foretune("init", TEMPLATE, str(FOLDER / TEMPLATE))
    runs = ("--runs-dir", str(FOLDER / "runs"))
    foretune("run", str(FOLDER / TEMPLATE / "job.toml"), *runs)
    seconds = time.monotonic() - began
    question = "hello. order 4711. where is my lamp? please hurry. anna"
    foretune("chat", "latest", *runs, "--compare-base", "--message", question)
    print(f"\nThe journey took {seconds:.0f} s. The report: {next(FOLDER.glob('runs/*/report.html'))}")


if __name__ == "__main__":
    main()
