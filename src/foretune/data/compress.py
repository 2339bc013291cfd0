"""Open a data file for reading or writing, compressed or not, by its ending: .gz, .bz2, .xz, .zst."""

# SPDX-License-Identifier: Apache-2.0
#
# gzip, bzip2 and xz are in the standard library; Zstandard is behind one door (the package `zstandard`).
from __future__ import annotations

import bz2
import gzip
import importlib
import lzma
import zlib
from pathlib import Path
from typing import Any, BinaryIO, cast

from foretune.errors import MissingDependency

__all__ = ["COMPRESSIONS", "READ_ERRORS", "open_binary", "without_compression"]

COMPRESSIONS = (".gz", ".bz2", ".xz", ".lzma", ".zst")
PACKED_BYTES = 1 << 14  # of a Zstandard file that are unpacked at once
READ_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError)


def without_compression(path: Path) -> Path:
    """The path less the ending that says how it is compressed: `a.jsonl.gz` is `a.jsonl`."""
    return path.with_suffix("") if path.suffix.lower() in COMPRESSIONS else path


def open_binary(path: Path, mode: str = "rb") -> BinaryIO:
    """The plain bytes of a file, to read (`rb`) or write (`wb`).

    Reading may raise one of READ_ERRORS at any point. Raises MissingDependency for .zst without zstandard.
    """
    suffix = path.suffix.lower()
    if suffix == ".gz":
        return cast(BinaryIO, gzip.open(path, mode))
    if suffix == ".bz2":
        return cast(BinaryIO, bz2.open(path, mode))
    if suffix in (".xz", ".lzma"):
        return cast(BinaryIO, lzma.open(path, mode))
    if suffix == ".zst":
        return _open_zstandard(path, mode)
    return cast(BinaryIO, open(path, mode))


def _open_zstandard(path: Path, mode: str) -> BinaryIO:
    """The one door to Zstandard; its errors become OSError, so that callers know one kind."""
    try:
        zstandard: Any = importlib.import_module("zstandard")
    except ImportError:
        what = f"{path}: Zstandard needs the package zstandard"
        raise MissingDependency(what, fix="pip install zstandard") from None
    if mode == "wb":
        return cast(BinaryIO, zstandard.open(path, mode))
    return cast(BinaryIO, _Frames(open(path, "rb"), zstandard))


class _Frames:
    """The plain bytes of Zstandard frames; unlike the package's own reader it notices that the last one is cut off."""

    def __init__(self, file: BinaryIO, zstandard: Any) -> None:
        self._file = file
        self._zstandard = zstandard
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._rest = b""
        self._is_inside = False

    def __enter__(self) -> _Frames:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, size: int) -> bytes:
        """Some bytes, about `size` of them compressed; b"" at the end. Raises OSError or EOFError."""
        plain = b""
        while not plain:
            data = self._rest or self._file.read(min(size, PACKED_BYTES))
            if not data:
                if self._is_inside:
                    raise EOFError("the archive is cut off")
                return b""
            plain = self._decompressed(data)
        return plain

    def _decompressed(self, data: bytes) -> bytes:
        try:
            plain = cast(bytes, self._frame.decompress(data))
        except self._zstandard.ZstdError as error:
            raise OSError(str(error)) from None
        self._is_inside, self._rest = not self._frame.eof, b""
        if self._frame.eof:
            self._rest = self._frame.unused_data
            self._frame = self._zstandard.ZstdDecompressor().decompressobj()
        return plain
