"""The probe's process: its record, its errors, its death, and what Ctrl-C leaves."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from foretune.backends.probing import PROBE_FOLDER, probe_apart
from foretune.config.read import resolve_job
from foretune.errors import ConfigError, DoesNotFit, ForetuneError
from foretune.records.probe import ProbeRecord
from foretune.steps import Run, collect_run, create_job_run

Stub = Callable[[str], None]
APART = "import sys; from pathlib import Path; from foretune.backends.probing import probe_apart as probe; "


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stub:
    """`stub(commands)` has these shell commands run in the place of Python."""

    def put(commands: str) -> None:
        script = tmp_path / "python"
        script.write_text(f"#!/bin/sh\n{commands}\n")
        script.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(script))

    return put


def test_an_error_of_the_probe_comes_back_as_itself(tmp_path: Path, stub: Stub) -> None:
    stub("""echo noise; echo '{"error": "ConfigError", "message": "rank 9000", "fix": "rank = 8"}'; exit 2""")
    with pytest.raises(ConfigError, match="rank 9000") as caught:
        probe_apart(tmp_path)
    assert caught.value.fix == "rank = 8"


def test_a_probe_that_is_killed_is_said_to_be_out_of_memory(tmp_path: Path, stub: Stub) -> None:
    """The kernel kills without a word; what the probe had written by then is gone."""
    stub(f"mkdir -p {tmp_path / PROBE_FOLDER / 'step-000001'}; kill -9 $$")
    with pytest.raises(DoesNotFit, match=r"killed, most likely out of memory \(.* free now\)") as caught:
        probe_apart(tmp_path)
    assert "recompute" in caught.value.fix and not (tmp_path / PROBE_FOLDER).exists()


def test_a_probe_that_crashes_shows_its_last_lines(tmp_path: Path, stub: Stub) -> None:
    stub("for i in 1 2 3 4 5 6 7; do echo line $i >&2; done; kill -11 $$")
    with pytest.raises(ForetuneError, match="by signal 11") as caught:
        probe_apart(tmp_path)
    assert "line 7" in caught.value.what and "line 2" not in caught.value.what
    assert not isinstance(caught.value, DoesNotFit)


def test_ctrl_c_ends_the_probe_too(tmp_path: Path) -> None:
    """Also where only the parent hears of it."""
    script, told = tmp_path / "python", tmp_path / "pid"
    script.write_text(f"#!/bin/sh\necho $$ > {told}.new; mv {told}.new {told}; exec sleep 60\n")
    script.chmod(0o755)
    hears = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"  # also where a shell has it ignored
    )
    code = f"{hears} {APART} sys.executable = {str(script)!r}; probe(Path({str(tmp_path)!r}))"
    parent = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, start_new_session=True)
    deadline = time.monotonic() + 60
    while not told.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    parent.send_signal(signal.SIGINT)
    _, error = parent.communicate(timeout=30)
    assert b"KeyboardInterrupt" in error
    assert not Path(f"/proc/{int(told.read_text())}").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells parent and child apart")
def test_what_the_planning_process_holds_is_not_the_runs(tiny_job: Path) -> None:
    """400 MB held here are in neither figure of the probe."""
    ballast = bytearray(b"x") * 400_000_000
    run_dir = create_job_run(resolve_job(tiny_job), runs_dir=tiny_job.parent / "runs")
    collect_run(Run.open(run_dir))
    record = probe_apart(run_dir)
    assert record == ProbeRecord.read(run_dir)
    assert len(ballast) == 400_000_000
    assert 1e8 < record.base_memory_bytes <= record.peak_memory_bytes <= record.saving_memory_bytes < 8e8
