"""Memory that is not enough: which errors say so, and how many rows fit into what is free."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import resource
import sys
from pathlib import Path

from foretune.errors import DoesNotFit
from foretune.hardware import detect_machine

__all__ = ["free_bytes", "is_out_of_memory", "peak_resident_bytes", "rows_that_fit"]

CPU_ALLOCATOR = "DefaultCPUAllocator"  # the CPU allocator of torch has no error class of its own
USABLE = 0.8  # of the free memory


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error is memory, not disk: MemoryError, torch's OutOfMemoryError, the CPU allocator's RuntimeError."""
    if isinstance(error, DoesNotFit):
        return False  # one of ours: already explained, and perhaps a full disk
    if isinstance(error, MemoryError):
        return True
    names = {kind.__name__ for kind in type(error).__mro__}
    return "OutOfMemoryError" in names or (isinstance(error, RuntimeError) and CPU_ALLOCATOR in str(error))


def free_bytes() -> int:
    """Memory that may be used where the model lives."""
    return int(USABLE * detect_machine().training_memory_bytes)


def peak_resident_bytes() -> int:
    """The most memory that this process has had resident.

    Linux counts it by address space in /proc; `getrusage` there also counts what the process that started this one had,
    which is more than a small run needs. Elsewhere `getrusage` is all there is.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        return int(status.read_text(encoding="ascii").partition("VmHWM:")[2].split()[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def rows_that_fit(num_rows: int, row_bytes: int, free: int) -> int:
    """`num_rows`, halved until they fit into `free` bytes; at least one."""
    while num_rows > 1 and num_rows * row_bytes > free:
        num_rows //= 2
    return num_rows
