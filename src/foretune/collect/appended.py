"""A JSONL file that grows by synced appends: what a killed run left half written is cut off, the rest is never lost."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from foretune.records.base import write_error

__all__ = ["append_synced", "whole_lines"]


def whole_lines(path: Path) -> list[bytes]:
    """The lines of `path`, without a last one that lacks its end, which is cut off the file; [] without a file."""
    if not path.is_file():
        return []
    data = path.read_bytes()
    whole = data.rpartition(b"\n")[0]
    if len(whole) + 1 < len(data) or (data and not whole and not data.endswith(b"\n")):
        os.truncate(path, len(whole) + 1 if whole else 0)
    return whole.split(b"\n") if whole else []


def append_synced(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows behind the others and sync them; the folder is made where it is missing. Raises DoesNotFit."""
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab") as file:
            file.write(lines.encode("utf-8", "replace"))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise write_error(path, error) from error
