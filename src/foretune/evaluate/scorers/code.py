"""Answers that are Python: whether they run, and whether they print what the target prints, in a limited process.

The process has limits of time, memory, files and size, an empty folder and no environment, and is stopped by an audit
hook at sockets, other processes, native code and files outside its folder. That stops accidents, not an attacker: code
of strangers belongs into a container.
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from foretune.stats.checks import FloatArray

__all__ = ["CodeRun", "code_of", "code_runs", "code_same_output", "run_code"]

CPU_SECONDS, WALL_SECONDS = 5, 10
MEMORY_BYTES = 512 * 2**20
FILE_BYTES = 2**20
SHOWN_BYTES = 100_000
WORKERS = 2
FENCE = re.compile(r"```[\w+-]*[ \t]*\n(.*?)(?:\n```|\Z)", re.DOTALL)

# Runs inside the limited process, before the answer's code. `open` is watched for writing and for reading outside the
# folder and Python itself; the hook cannot be taken off again.
WARDEN = """
import os, resource, sys
cpu, memory, size = map(int, sys.argv[1:4])
for limit, value in ((resource.RLIMIT_CPU, cpu), (resource.RLIMIT_AS, memory), (resource.RLIMIT_FSIZE, size),
                     (resource.RLIMIT_NOFILE, 32), (resource.RLIMIT_CORE, 0)):
    hard = resource.getrlimit(limit)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(limit, (value, value))
home = os.path.realpath(os.getcwd())
readable = tuple(os.path.realpath(part) for part in {sys.base_prefix, sys.prefix, *sys.path} if part)
refused = ("socket.", "subprocess.", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.system", "os.kill",
           "os.killpg", "ctypes.", "pty.", "os.chmod", "os.chown", "os.link", "os.symlink", "os.rename", "os.remove",
           "os.rmdir", "os.chdir", "shutil.", "sys.addaudithook", "signal.pthread_kill", "resource.setrlimit")
def warden(event, arguments, refused=refused, home=home, readable=readable, os=os, isinstance=isinstance):
    if event.startswith(refused):
        raise PermissionError(event + " is not allowed")
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        path = os.path.realpath(os.fsdecode(arguments[0]))
        inside = path == home or path.startswith(home + os.sep)
        writes = bool((arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        known = path == "/dev/null" or any(path.startswith(part + os.sep) for part in readable)
        if not inside and (writes or not known):
            raise PermissionError("only files of its own folder may be opened")
source = sys.stdin.read()
code = compile(source, "answer.py", "exec")
sys.argv = ["answer.py"]
sys.addaudithook(warden)
exec(code, {"__name__": "__main__"})
"""


class CodeRun(NamedTuple):
    """How a program ended: exit status (None: it ran out of time) and what it printed, at most 100 kB."""

    status: int | None
    output: str

    @property
    def is_clean(self) -> bool:
        """Whether it ran to its end without an error."""
        return self.status == 0


def code_of(answer: str) -> str:
    """The code of an answer: what stands in its code fences, else all of it."""
    fenced = FENCE.findall(answer)
    return "\n".join(fenced) if fenced else answer


def run_code(source: str) -> CodeRun:
    """Run Python source in a process of its own, within the limits at the head of this file."""
    limits = [str(value) for value in (CPU_SECONDS, MEMORY_BYTES, FILE_BYTES)]
    with tempfile.TemporaryDirectory(prefix="foretune-code-") as folder:
        output = Path(folder) / ".output"
        home = Path(folder) / "home"
        home.mkdir()
        with output.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", WARDEN, *limits],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.DEVNULL,
                cwd=home,
                env={"PYTHONHASHSEED": "0", "PYTHONIOENCODING": "utf-8"},
                start_new_session=True,
            )
            status = _status(process, source)
        return CodeRun(status, output.read_bytes()[:SHOWN_BYTES].decode("utf-8", "replace"))


def _status(process: subprocess.Popen[bytes], source: str) -> int | None:
    try:
        process.communicate(source.encode("utf-8", "replace"), timeout=WALL_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return None
    return process.returncode


def code_runs(predictions: Sequence[str], targets: Sequence[str], allowed: bool) -> FloatArray:
    """(N,) 1 where the answer holds code that runs to its end without an error."""
    return np.array([float(run.is_clean) for run in _runs([code_of(text) for text in predictions])])


def code_same_output(predictions: Sequence[str], targets: Sequence[str], allowed: bool) -> FloatArray:
    """(N,) 1 where the answer's code runs and prints what the target's code prints, white space at the ends aside."""
    given = _runs([code_of(text) for text in predictions])
    wanted = _runs([code_of(text) for text in targets])
    same = (one.is_clean and one.output.strip() == two.output.strip() for one, two in zip(given, wanted, strict=True))
    return np.array([float(value) for value in same])


def _runs(sources: Sequence[str]) -> list[CodeRun]:
    """Each different source once; an empty one did not run."""
    different = sorted({source for source in sources if source.strip()})
    with ThreadPoolExecutor(WORKERS) as pool:
        found = dict(zip(different, pool.map(run_code, different), strict=True))
    return [found.get(source, CodeRun(1, "")) for source in sources]
