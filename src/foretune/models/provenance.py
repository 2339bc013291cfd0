"""What a saved adapter rests on, in `foretune.json` beside it: base and its bits, earlier adapter, target scale."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from foretune.errors import ConfigError
from foretune.records.base import write_atomically

__all__ = ["AdapterNotes", "read_notes", "weights_sha256", "write_notes"]

NOTES_FILE = "foretune.json"


class AdapterNotes(BaseModel):
    """What PEFT's own config has no place for.

    `target_mean` and `target_deviation` turn the output of a regression head into the unit of the targets.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")
    method: str = "lora"
    base: str = ""
    base_sha256: str = ""
    quantise_base: Literal["none", "8bit", "4bit"] = "none"
    base_adapter: str = ""
    base_adapter_sha256: str = ""
    target_mean: float = 0.0
    target_deviation: float = 1.0


def write_notes(folder: Path, notes: AdapterNotes) -> None:
    """Write `foretune.json`. Raises DoesNotFit."""
    write_atomically(folder / NOTES_FILE, notes.model_dump_json(indent=2) + "\n")


def read_notes(folder: Path) -> AdapterNotes:
    """The notes of an adapter folder; those of an adapter that foretune did not make are empty. Raises ConfigError."""
    path = folder / NOTES_FILE
    if not path.is_file():
        return AdapterNotes()
    try:
        return AdapterNotes.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})", fix="copy the adapter folder again") from error


def weights_sha256(folder: Path) -> str:
    """Hex digest of all safetensors files of a folder, in the order of their names; of an empty file list too."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
