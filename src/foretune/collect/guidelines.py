"""The instructions that annotators work by, each version kept: FOLDER/guidelines/NNN-HASH.md and guidelines.json."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from foretune.collect.web import Clock, SystemClock, stamp
from foretune.errors import DataError, NotFound
from foretune.records.base import write_atomically

__all__ = ["Guidelines", "register_guidelines"]


class Guidelines(NamedTuple):
    """One version of the instructions: `version` is `NNN-HASH`, counted from 1."""

    version: str
    number: int
    sha256: str
    path: Path
    registered_at: str


def register_guidelines(text_file: str | Path, folder: str | Path, *, clock: Clock | None = None) -> Guidelines:
    """Keep the instructions as a version of their own; the same text again is the same version.

    Raises NotFound, DataError (empty), DoesNotFit.
    """
    try:
        text = Path(text_file).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise NotFound(f"no guidelines {text_file}", fix="write what annotators must know into a text file") from None
    except UnicodeDecodeError:
        raise DataError(f"{text_file} is not UTF-8", fix=f"iconv -f WINDOWS-1252 -t UTF-8 {text_file}") from None
    if not text.strip():
        raise DataError(f"the guidelines {text_file} are empty", fix="say what each choice means, with examples")
    home = Path(folder) / "guidelines"
    known = _versions(home)
    digest = hashlib.sha256(text.strip().encode()).hexdigest()
    same = next((entry for entry in known if entry["sha256"] == digest), None)
    if same is None:
        number = len(known) + 1
        moment = stamp((clock or SystemClock()).now())
        same = {"version": f"{number:03d}-{digest[:8]}", "number": number, "sha256": digest, "registered_at": moment}
        write_atomically(home / f"{same['version']}.md", text)
        write_atomically(home / "guidelines.json", json.dumps([*known, same], indent=2) + "\n")
    path = home / f"{same['version']}.md"
    return Guidelines(same["version"], same["number"], digest, path, same["registered_at"])


def _versions(home: Path) -> list[dict[str, Any]]:
    path = home / "guidelines.json"
    try:
        value: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise DataError(f"{path} cannot be read: {error}", fix=f"mend it; the texts lie beside it in {home}") from None
    return value
