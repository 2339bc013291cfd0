"""The peak that a process reports is its own, not that of the process that started it."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
import sys

import pytest

SMALL = "from foretune.engine.memory import peak_resident_bytes as peak; print(peak())"
FAT = f"import subprocess, sys; held = bytearray(b'x') * 300_000_000; subprocess.run([sys.executable, '-c', {SMALL!r}])"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the two apart")
def test_a_large_parent_does_not_count() -> None:
    done = subprocess.run([sys.executable, "-c", FAT], capture_output=True, text=True, check=True)
    assert 5e6 < int(done.stdout) < 2e8


def test_what_was_held_once_counts_afterwards() -> None:
    once = f"held = bytearray(b'x') * 300_000_000; del held; {SMALL}"
    done = subprocess.run([sys.executable, "-c", once], capture_output=True, text=True, check=True)
    assert 3e8 < int(done.stdout) < 5e8
