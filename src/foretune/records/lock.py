"""A lock file that one process holds, with its pid inside; the lock goes with the process, however it ends."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from foretune.errors import ForetuneError
from foretune.records.base import write_error

__all__ = ["held_lock", "lock_pid"]


@contextmanager
def held_lock(path: Path, *, busy: Callable[[int | None], ForetuneError]) -> Iterator[None]:
    """Hold the lock file `path`, whose folder is made where it is missing.

    Raises what `busy` makes of the holder's pid while another process holds it, ConfigError where it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise write_error(path, error) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise busy(lock_pid(path)) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def lock_pid(path: Path) -> int | None:
    """The process that holds this lock file now, or None."""
    if not path.is_file():
        return None
    with open(path, encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            text = file.read().strip()
            return int(text) if text.isdigit() else None
    return None
