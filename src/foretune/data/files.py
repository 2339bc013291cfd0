"""Data files on disk: which ones a path means, which split they belong to, and their lines as checked UTF-8 text."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import codecs
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from foretune.data.compress import READ_ERRORS, open_binary, without_compression
from foretune.data.faults import FaultList
from foretune.errors import NotFound

__all__ = [
    "MAX_ROW_BYTES",
    "DataFile",
    "add_too_long",
    "byte_chunks",
    "file_hash",
    "find_files",
    "kind_of",
    "split_of",
    "text_chunks",
    "text_lines",
]

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
CHUNK_BYTES = 1 << 20
MAX_ROW_BYTES = 4_000_000  # a row beyond this is a missing line break, not a sample
BOMS = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
    b"\x00\x00\xfe\xff": "UTF-32",
}
UTF8_BOM = b"\xef\xbb\xbf"


class DataFile(NamedTuple):
    """One file of samples; `labels` is its file of classes (`x_text.txt` with `x_labels.txt`), if that is the form."""

    path: Path
    kind: str  # jsonl, json, csv, parquet, text or pair
    labels: Path | None = None


def kind_of(path: Path) -> str:
    """The kind of a file by its ending (`.jsonl.gz` counts as `.jsonl`); "" if foretune cannot read it."""
    kind = KINDS.get(without_compression(path).suffix.lower(), "")
    return "" if kind == "parquet" and path.suffix.lower() != ".parquet" else kind


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
    return open_binary(path)


class _Block(NamedTuple):
    """Whole lines of a file (the last one may have no end); `first` is the number of the first, counted from 1."""

    first: int
    data: bytes


def text_lines(path: Path, faults: FaultList, *, keep_ends: bool = False) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, as UTF-8 text without a byte order mark; lines that are not clean text become faults.

    A line may end in LF or CRLF; the end is cut off unless `keep_ends`. Lines over MAX_ROW_BYTES are faults. Memory
    is a few times MAX_ROW_BYTES at most, whatever the size of the file or of a line.
    """
    for block in _blocks(path, faults):
        lines = None if keep_ends else _clean_lines(block.data)
        if lines is not None:
            yield from enumerate(lines, start=block.first)
            continue
        for number, raw in enumerate(_raw_lines(block.data), start=block.first):
            text = _decoded(raw, number, path, faults)
            if text is not None:
                yield number, text if keep_ends else text.rstrip("\r\n")


def _raw_lines(data: bytes) -> list[bytes]:
    """Lines with their ends; only LF ends a line."""
    lines = data.split(b"\n")
    last = lines.pop()
    return [line + b"\n" for line in lines] + ([last] if last else [])


def _clean_lines(data: bytes) -> list[str] | None:
    """The lines of a block without their ends, decoded at once; None where one of them needs a closer look."""
    if b"\0" in data:
        return None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    if "\r" in text:
        text = "\n".join([line.rstrip("\r") for line in text.split("\n")])
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return lines


def _blocks(path: Path, faults: FaultList) -> Iterator[_Block]:
    """The file in blocks of whole lines, without its byte order mark and without lines over MAX_ROW_BYTES."""
    carry, number, skipped, is_first = b"", 1, 0, True
    for data in byte_chunks(path, faults):
        if is_first:
            is_first = False
            if _is_other_unicode(data, path, faults):
                return
            data = data.removeprefix(UTF8_BOM)
        end = data.find(b"\n") + 1
        if skipped:  # inside of a line that is too long: nothing is kept until it ends
            if not end:
                skipped += len(data)
                continue
            add_too_long(faults, number, skipped + end)
            data, skipped, number = data[end:], 0, number + 1
        elif end and len(carry) + end > MAX_ROW_BYTES:
            add_too_long(faults, number, len(carry) + end)
            data, carry, number = data[end:], b"", number + 1
        cut = data.rfind(b"\n") + 1
        if cut:
            whole = carry + data[:cut]
            yield _Block(number, whole)
            number += whole.count(b"\n")
            carry = data[cut:]
        else:
            carry += data
        if len(carry) > MAX_ROW_BYTES:
            skipped, carry = len(carry), b""
    if skipped:
        add_too_long(faults, number, skipped)
    elif carry:
        yield _Block(number, carry)


def byte_chunks(path: Path, faults: FaultList) -> Iterator[bytes]:
    """The bytes of a file, decompressed, about a megabyte at a time; an empty or broken file becomes a fault.

    Of a damaged archive everything before the damage is given out.
    """
    is_empty, num_lines = True, 0
    try:
        with _open(path) as file:
            while data := file.read(CHUNK_BYTES):
                if is_empty and len(data) < len(UTF8_BOM):
                    data += file.read(len(UTF8_BOM))  # a mark at the beginning is seen whole
                is_empty = False
                num_lines += data.count(b"\n")
                yield data
    except READ_ERRORS as error:
        what = f"cannot be read ({getattr(error, 'strerror', None) or error})"
        faults.add(num_lines, what, fix=f"check {path}; download or write it again if it is cut off", raw="")
        return
    if is_empty:
        faults.add(0, "the file is empty", expected="at least one row", fix=f"write samples into {path.name}", raw="")


def text_chunks(path: Path, faults: FaultList) -> Iterator[str]:
    """The text of a file, about a megabyte at a time. What is no clean UTF-8 becomes a fault, and ends the reading."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    num_lines, is_first = 0, True
    for data in byte_chunks(path, faults):
        if is_first:
            is_first = False
            if _is_other_unicode(data, path, faults):
                return
            data = data.removeprefix(UTF8_BOM)
        try:
            text = decoder.decode(data)
        except UnicodeDecodeError as error:
            line = num_lines + 1 + error.object.count(b"\n", 0, error.start)
            _add_encoding_fault(faults, line, error, path)
            return
        if "\0" in text:
            faults.add(
                num_lines + 1 + text.count("\n", 0, text.index("\0")), "NUL byte", expected="text", fix=_tr(path)
            )
            return
        num_lines += text.count("\n")
        yield text


def add_too_long(faults: FaultList, line: int, num_bytes: int) -> None:
    """Note a row that is too long to be a sample."""
    faults.add(
        line,
        "the row is too long",
        value=f"{num_bytes / 1e6:.1f} MB",
        expected=f"at most {MAX_ROW_BYTES / 1e6:.0f} MB a row",
        fix="is a line break missing? split the row, or take it out",
        raw="",
    )


def _is_other_unicode(raw: bytes, path: Path, faults: FaultList) -> bool:
    name = next((name for mark, name in BOMS.items() if raw.startswith(mark)), "")
    if name:
        faults.add(0, "wrong encoding", value=name, expected="UTF-8", fix=_iconv(path, name), raw="")
    return bool(name)


def _decoded(raw: bytes, line: int, path: Path, faults: FaultList) -> str | None:
    if b"\0" in raw:
        at = raw.index(b"\0") + 1
        faults.add(line, f"NUL byte at byte {at}", expected="text", fix=_tr(path), raw=_shown(raw))
        return None
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        _add_encoding_fault(faults, line, error, path, raw=_shown(raw))
    return None


def _add_encoding_fault(faults: FaultList, line: int, error: UnicodeDecodeError, path: Path, raw: str = "") -> None:
    at = error.start - error.object.rfind(b"\n", 0, error.start)
    what, value = f"wrong encoding at byte {at} of the line", f"0x{error.object[error.start]:02x}"
    faults.add(line, what, value=value, expected="UTF-8", fix=_iconv(path, "WINDOWS-1252"), raw=raw)


def _shown(raw: bytes) -> str:
    """A line that is no clean text as it is put aside: bytes that are no UTF-8 as \\xNN."""
    return raw.decode("utf-8", "backslashreplace").rstrip("\r\n")


def _tr(path: Path) -> str:
    return f"tr -d '\\000' < {path} > clean-{path.name}"


def _iconv(path: Path, name: str) -> str:
    return f"iconv -f {name} -t UTF-8 {path} > utf8-{path.name}"
