"""Data files on disk: which ones a path means, which split they belong to, and their lines as checked UTF-8 text."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from foretune.data.faults import FaultList
from foretune.errors import NotFound

__all__ = ["MAX_ROW_BYTES", "DataFile", "add_too_long", "file_hash", "find_files", "kind_of", "split_of", "text_lines"]

KINDS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".txt": "text",
    ".text": "text",
}
NOT_DATA = re.compile(
    r"(?i)^(source|readme|licen[cs]e|notice|mapping|changelog|requirements|dataset_infos?|categories|classes|labels|"
    r"label_names|config|schema|metadata|stats)\b"
)
SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "devel": "validation",
    "eval": "validation",
    "test": "test",
    "testing": "test",
}
MAX_ROW_BYTES = 4_000_000  # a row beyond this is a missing line break, not a sample
BOMS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"\x00\x00\xfe\xff": "UTF-32"}
UTF8_BOM = b"\xef\xbb\xbf"


class DataFile(NamedTuple):
    """One file of samples; `labels` is its file of classes (`x_text.txt` with `x_labels.txt`), if that is the form."""

    path: Path
    kind: str  # jsonl, json, csv, parquet, text or pair
    labels: Path | None = None


def kind_of(path: Path) -> str:
    """The kind of a file by its ending (`.jsonl.gz` counts as `.jsonl`); "" if foretune cannot read it."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    return KINDS.get(suffixes[-1], "") if suffixes else ""


def split_of(path: Path) -> str:
    """The split that a file's name declares (`dev.jsonl`, `data.test.csv`, `val_text.txt`); "" if none."""
    words = re.split(r"[^a-z]+", path.name.lower())
    return next((SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS), "")


def find_files(path: Path) -> list[DataFile]:
    """The files that a path means: itself, or every readable file of a folder, by name.

    Raises NotFound where there is none.
    """
    if path.is_dir():
        names = sorted(child for child in path.iterdir() if child.is_file() and not child.name.startswith("."))
        files = [found for child in names if (found := _data_file(child, folder=True)) is not None]
        if not files:
            raise NotFound(f"no data files in {path}", fix=f"expected files ending in {', '.join(KINDS)}")
        return files
    if not path.exists():
        raise NotFound(f"no data file {path}", fix="check data.path in the job file; it is relative to the job file")
    found = _data_file(path, folder=False)
    if found is None:
        raise NotFound(f"{path}: cannot tell its format from its name", fix=f"expected an ending of {', '.join(KINDS)}")
    return [found]


def _data_file(path: Path, *, folder: bool) -> DataFile | None:
    kind = kind_of(path)
    if not kind or (folder and NOT_DATA.match(path.name)):
        return None
    if kind == "text" and path.name.endswith("_labels.txt"):
        texts = path.with_name(path.name.removesuffix("_labels.txt") + "_text.txt")
        return None if folder and texts.exists() else DataFile(texts, "pair", path)
    if kind == "text" and path.name.endswith("_text.txt"):
        labels = path.with_name(path.name.removesuffix("_text.txt") + "_labels.txt")
        return DataFile(path, "pair", labels) if labels.exists() else DataFile(path, "text")
    return DataFile(path, kind)


def file_hash(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb")) if path.suffix.lower() == ".gz" else open(path, "rb")


def text_lines(
    path: Path, faults: FaultList, *, keep_ends: bool = False, max_bytes: int = MAX_ROW_BYTES
) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, as UTF-8 text without a byte order mark; lines that are not clean text become faults.

    A line may end in LF or CRLF; the end is cut off unless `keep_ends`. Lines over `max_bytes` are faults (0 = never).
    """
    num_lines = 0
    try:
        with _open(path) as file:
            for num_lines, raw in enumerate(file, start=1):
                if num_lines == 1 and _is_other_unicode(raw, path, faults):
                    return
                if max_bytes and len(raw) > max_bytes:
                    add_too_long(faults, num_lines, len(raw))
                    continue
                text = _decoded(raw.removeprefix(UTF8_BOM) if num_lines == 1 else raw, num_lines, path, faults)
                if text is not None:
                    yield num_lines, text if keep_ends else text.rstrip("\r\n")
    except (OSError, EOFError, zlib.error) as error:
        faults.add(num_lines, f"cannot be read ({getattr(error, 'strerror', None) or error})", fix=f"check {path}")
    if num_lines == 0 and not faults.faults:
        faults.add(0, "the file is empty", expected="at least one row", fix=f"write samples into {path.name}")


def add_too_long(faults: FaultList, line: int, num_bytes: int) -> None:
    """Note a row that is too long to be a sample."""
    faults.add(
        line,
        "the row is too long",
        value=f"{num_bytes / 1e6:.1f} MB",
        expected=f"at most {MAX_ROW_BYTES / 1e6:.0f} MB a row",
        fix="is a line break missing? split the row, or take it out",
    )


def _is_other_unicode(raw: bytes, path: Path, faults: FaultList) -> bool:
    name = next((name for mark, name in BOMS.items() if raw.startswith(mark)), "")
    if name:
        faults.add(0, "wrong encoding", value=name, expected="UTF-8", fix=_iconv(path, name))
    return bool(name)


def _decoded(raw: bytes, line: int, path: Path, faults: FaultList) -> str | None:
    if b"\0" in raw:
        at = raw.index(b"\0") + 1
        faults.add(line, f"NUL byte at byte {at}", expected="text", fix=f"tr -d '\\000' < {path} > clean-{path.name}")
        return None
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        faults.add(
            line,
            f"wrong encoding at byte {error.start + 1} of the line",
            value=f"0x{raw[error.start]:02x}",
            expected="UTF-8",
            fix=_iconv(path, "WINDOWS-1252"),
        )
        return None


def _iconv(path: Path, name: str) -> str:
    return f"iconv -f {name} -t UTF-8 {path} > utf8-{path.name}"
