"""The probe in a process of its own: what it measures of memory is what training will have, not what planning left."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from foretune.backends.local import named_error
from foretune.errors import DoesNotFit, ForetuneError
from foretune.records.probe import ProbeRecord
from foretune.units import show_bytes

__all__ = ["LESS_MEMORY", "PROBE_FOLDER", "probe_apart"]

PROBE_FOLDER = ".probe"  # what the probe writes to time it; gone when it ends, however it ends
LESS_MEMORY = "--set train.advanced.recompute=always, a smaller train.advanced.micro_batch_size, or train.max_seq_len"


def probe_apart(run_dir: Path, *, recompute: bool = False) -> ProbeRecord:
    """Measure a few real steps of the run in `run_dir` in a process like training's; what it wrote to `probe.json`.

    `recompute`: activations are computed again in the backward pass, as the plan means to. Ctrl-C ends the process too.
    Raises what the probe raised, DoesNotFit where it was killed (most likely for memory), ForetuneError where it died.
    """
    arguments = ["foretune.train", str(run_dir), "--probe", *(["--recompute"] if recompute else [])]
    try:
        done = subprocess.run(
            [sys.executable, "-m", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
    finally:
        shutil.rmtree(run_dir / PROBE_FOLDER, ignore_errors=True)
    if done.returncode:
        raise _failure(done.returncode, done.stdout)
    return ProbeRecord.read(run_dir)


def _failure(code: int, output: str) -> ForetuneError:
    """Why the probe ended with `code`: the error that it named in its last line, or what killed it."""
    lines = output.strip().splitlines()
    named = _named(lines[-1]) if lines else None
    if named is not None:
        return named_error(named)
    if code == -signal.SIGKILL:
        from foretune.hardware import detect_machine

        free = show_bytes(detect_machine().training_memory_bytes)
        what = f"the probe of a few real steps was killed, most likely out of memory ({free} are free now)"
        return DoesNotFit(f"{what}; training would be too", fix=LESS_MEMORY)
    ended = f"by signal {-code}" if code < 0 else f"with exit code {code}"
    tail = "".join(f"\n  probe: {line}" for line in lines[-5:])
    return ForetuneError(f"the probe of a few real steps ended {ended}{tail}", fix="foretune plan without --probe")


def _named(line: str) -> dict[str, Any] | None:
    """The error that a line of JSON names; None where it is none."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and "error" in found else None
