"""Frozen records with a schema version, written atomically and read back whole."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from foretune.errors import DataError, DoesNotFit, NotFound

__all__ = ["Record", "write_atomically"]

DISK_FULL = (28, 122)  # ENOSPC, EDQUOT
FILE_LIMIT = 27  # EFBIG


class Record(BaseModel):
    """Base of every record. `file_name` is where a run folder keeps it."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")
    file_name: ClassVar[str] = ""
    schema_version: int = 1

    def write(self, folder: str | Path) -> Path:
        """Write to `folder/file_name` so that a reader sees the old file or the new one, never half."""
        path = Path(folder) / type(self).file_name
        write_atomically(path, self.model_dump_json(indent=2) + "\n")
        return path

    @classmethod
    def read(cls, folder: str | Path) -> Self:
        """Read from `folder`. Raises NotFound, or DataError where the file is damaged or of another version."""
        path = Path(folder) / cls.file_name
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise NotFound(f"no {cls.file_name} in {folder}", fix="foretune runs list") from None
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise DataError(f"{path}: {place}: {first['msg']}", fix="written by another version of foretune?") from None

    @classmethod
    def exists(cls, folder: str | Path) -> bool:
        """Whether `folder` holds this record."""
        return (Path(folder) / cls.file_name).is_file()

    def as_dict(self) -> dict[str, Any]:
        """The record as plain JSON values."""
        result: dict[str, Any] = json.loads(self.model_dump_json())
        return result


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file by temporary file, fsync and rename. Raises DoesNotFit on a full disk or a read-only folder."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True) if temporary else None
        raise write_error(path, error) from error


def write_error(path: Path, error: OSError) -> DoesNotFit:
    """The user's error for a failed write: full disk, read-only folder, or what the system said."""
    if error.errno in DISK_FULL:
        return DoesNotFit(f"{path}: the disk is full", fix=f"free space on the disk of {path.parent}, then resume")
    if error.errno == FILE_LIMIT:
        return DoesNotFit(f"{path}: larger than this shell lets a file be", fix="ulimit -f unlimited, then resume")
    fix = f"choose a folder you can write to: --runs-dir FOLDER (or chmod u+w {path.parent})"
    return DoesNotFit(f"{path}: cannot be written ({error.strerror or error})", fix=fix)
