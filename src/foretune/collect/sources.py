"""The card beside a data file that says where it came from: `source.FILE.json`, or `source.json` for a folder."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from foretune.collect.web import stamp
from foretune.data.licences import AND, licence_id, licence_terms
from foretune.data.provenance import strictest
from foretune.errors import DataError
from foretune.records.base import write_atomically
from foretune.records.dataset import UNKNOWN_LICENCE, SharePolicy

__all__ = ["SourceCard", "card_path", "derived_card", "file_time", "licence_warnings", "read_card", "write_card"]

MAX_NAME = 120  # characters of the names of several sources
OURS = {"licence", "share"}  # a source.json without these is somebody else's


class SourceCard(BaseModel):
    """Where a file came from; `retrieved_at` is UTC (ISO 8601), `note` what a user of it must know."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: str = "file"
    name: str = ""
    url: str = ""
    licence: str = UNKNOWN_LICENCE
    share: SharePolicy = "internal"
    retrieved_at: str = ""
    note: str = ""

    @field_validator("licence")
    @classmethod
    def _spdx(cls, value: str) -> str:
        return licence_id(value)


def card_path(data_file: Path) -> Path:
    """Where the card of a data file lies."""
    return data_file.with_name(f"source.{data_file.name}.json")


def write_card(data_file: Path, card: SourceCard) -> Path:
    """Write the card of a data file, atomically. Raises DoesNotFit."""
    path = card_path(data_file)
    write_atomically(path, card.model_dump_json(indent=2) + "\n")
    return path


def read_card(data_file: Path) -> SourceCard:
    """The card of a file: its own, else that of its folder, else one that knows nothing.

    Raises DataError for a card that is damaged or says something impossible.
    """
    for path in (card_path(data_file), data_file.with_name("source.json")):
        fields = _fields(path)
        if fields is None:
            continue
        try:
            return SourceCard.model_validate(fields)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            fix = f"expected {', '.join(SourceCard.model_fields)}"
            raise DataError(f"{path}: {place}: {first['msg']}", fix=fix) from None
    return SourceCard()


def _fields(path: Path) -> dict[str, Any] | None:
    """What a card says; None where there is none, or where `source.json` is not one of ours."""
    if not path.is_file():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        if path.name == "source.json":
            return None
        raise DataError(
            f"{path} cannot be read: {error}", fix=f"mend it, or delete it and collect again: rm {path}"
        ) from None
    is_ours = isinstance(value, dict) and (path.name != "source.json" or OURS & set(value))
    return value if is_ours else None


def derived_card(files: Sequence[Path], note: str) -> SourceCard:
    """The card of a file that was made of others: all their licences at once, the strictest share policy.

    Raises DataError for a damaged card.
    """
    cards = [read_card(file) for file in files]
    licences = list(dict.fromkeys(card.licence for card in cards))
    known = [licence for licence in licences if licence != UNKNOWN_LICENCE]
    return SourceCard(
        kind=cards[0].kind if len(cards) == 1 else "file",
        name=", ".join(dict.fromkeys(card.name for card in cards if card.name))[:MAX_NAME],
        url=cards[0].url if len(cards) == 1 else "",
        licence=AND.join(known) if known and len(known) == len(licences) else UNKNOWN_LICENCE,
        share=strictest(card.share for card in cards),
        retrieved_at=max((card.retrieved_at for card in cards), default=""),
        note=note,
    )


def file_time(path: Path) -> str:
    """When a local file was last written, as `retrieved_at` of a file that nothing else is known of."""
    return stamp(datetime.fromtimestamp(path.stat().st_mtime, UTC))


def licence_warnings(licences: dict[str, str]) -> list[str]:
    """One sentence for each licence that limits what may be done, with the names of the sources under it."""
    by_warning: dict[str, list[str]] = {}
    for name, licence in licences.items():
        warning = licence_terms(licence).warning
        if warning:
            by_warning.setdefault(warning, []).append(name)
    return [f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''}: {text}" for text, names in by_warning.items()]
