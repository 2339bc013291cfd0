"""Raw text as shards of token ids on disk, for pretraining on more text than memory holds.

Written in one pass over the text with bounded memory: documents end to end, each with the tokenizer's end token. Rows
are windows of a shard, read through the page cache when they are asked for, so a run needs no memory for its data and
any window can be reached at once; the order of a run is the loop's own, by seed.
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict

from foretune.data.inputs import with_end
from foretune.data.tokenizer import Tokenizer
from foretune.errors import ConfigError, DataError, NotFound
from foretune.records.base import Record, write_atomically

__all__ = [
    "SHARD_TOKENS",
    "WORLD",
    "ShardIndex",
    "TokenShards",
    "Windows",
    "are_tokens_ready",
    "check_has_rows",
    "is_shard_folder",
    "open_shards",
    "write_shards",
]

WORLD = "world"  # data.path of the generated corpus
SHARD_TOKENS = 16_777_216  # 32 or 64 MiB a file
BATCH_DOCUMENTS = 1000  # encoded at once


class ShardFile(BaseModel):
    """One file of little-endian token ids."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    num_tokens: int
    sha256: str


class ShardIndex(Record):
    """`shards.json`: the files in order, and the tokenizer that alone gives their ids a meaning."""

    file_name: ClassVar[str] = "shards.json"
    tokenizer_sha256: str
    vocab_size: int
    token_bytes: int  # 2 or 4
    num_documents: int
    num_tokens: int
    sources: tuple[str, ...]
    shards: tuple[ShardFile, ...]

    @property
    def version(self) -> str:
        """A name for exactly these tokens in this order."""
        digest = hashlib.sha256("".join(shard.sha256 for shard in self.shards).encode())
        return f"shards-{digest.hexdigest()[:12]}"


def is_shard_folder(path: str | Path) -> bool:
    """Whether a folder holds token shards."""
    return bool(str(path)) and ShardIndex.exists(path)


def are_tokens_ready(path: str, folder: Path) -> bool:
    """Whether a job's data are token shards or the generated corpus: nothing to collect, split or audit.

    `folder` is what a relative path is relative to.
    """
    return path == WORLD or is_shard_folder(folder / path)


def check_has_rows(path: str, folder: Path) -> None:
    """Raise ConfigError for a job whose data are tokens: there are no rows to audit or to plan by."""
    if are_tokens_ready(path, folder):
        raise ConfigError(
            f"data.path {path} holds tokens, not rows: such a job is trained without audit and plan",
            fix="foretune train JOB; before it foretune audit TEXT_FILE, foretune plan --base NAME --num-examples N",
        )


def write_shards(
    texts: Iterable[str],
    tokenizer: Tokenizer,
    folder: str | Path,
    *,
    sources: Sequence[str] = (),
    shard_tokens: int = SHARD_TOKENS,
    on_progress: Callable[[int, int], None] | None = None,
) -> ShardIndex:
    """Tokenise documents into `folder`; `on_progress` gets documents and tokens so far.

    The index is written last, so a folder without one is unfinished and may be written again. Raises ConfigError where
    the folder has shards already or the size is no size, DataError where there is no text.
    """
    target = Path(folder)
    if shard_tokens < 2:
        raise ConfigError(f"a shard of {shard_tokens} tokens is too small", fix="--shard-tokens 16777216")
    if is_shard_folder(target):
        raise ConfigError(f"{target} holds token shards already", fix=f"choose another folder, or remove {target}")
    dtype = np.dtype("<u2" if tokenizer.vocab_size <= 65_536 else "<u4")
    files: list[ShardFile] = []
    num_documents = num_tokens = 0
    waiting = np.empty(0, dtype=dtype)
    for batch in _batches(texts):
        pieces = [np.asarray(with_end(ids, tokenizer), dtype=dtype) for ids in tokenizer.encode_batch(batch)]
        num_documents += len(batch)
        waiting = np.concatenate([waiting, *pieces])
        while len(waiting) >= shard_tokens:
            files.append(_write(target, len(files), waiting[:shard_tokens]))
            waiting = waiting[shard_tokens:].copy()
        num_tokens = sum(file.num_tokens for file in files) + len(waiting)
        if on_progress is not None:
            on_progress(num_documents, num_tokens)
    if len(waiting):
        files.append(_write(target, len(files), waiting))
    if not num_tokens:
        raise DataError("no text to tokenise", fix="check the file: foretune audit FILE")
    index = ShardIndex(
        tokenizer_sha256=tokenizer.files_digest,
        vocab_size=tokenizer.vocab_size,
        token_bytes=dtype.itemsize,
        num_documents=num_documents,
        num_tokens=num_tokens,
        sources=tuple(sources),
        shards=tuple(files),
    )
    index.write(target)
    return index


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    left = iter(texts)
    while batch := list(islice(left, BATCH_DOCUMENTS)):
        yield batch


def _write(folder: Path, number: int, tokens: np.ndarray) -> ShardFile:
    content = tokens.tobytes()
    name = f"tokens-{number:05d}.bin"
    write_atomically(folder / name, content)
    return ShardFile(name=name, num_tokens=len(tokens), sha256=hashlib.sha256(content).hexdigest())


class TokenShards:
    """Shards opened for reading; no token is read before it is asked for."""

    def __init__(self, folder: Path, index: ShardIndex) -> None:
        self.folder, self.index = folder, index
        dtype = np.dtype("<u2" if index.token_bytes == 2 else "<u4")
        self.arrays = [np.memmap(folder / shard.name, dtype=dtype, mode="r") for shard in index.shards]

    def check(self) -> None:
        """Read every byte and hold it against its hash. Raises DataError naming the damaged file."""
        for shard, array in zip(self.index.shards, self.arrays, strict=True):
            if hashlib.sha256(array.tobytes()).hexdigest() != shard.sha256:
                raise DataError(f"{self.folder / shard.name} has changed since it was written", fix=_AGAIN)

    def windows(self, length: int, *, validation_fraction: float, most_validation: int) -> tuple[Windows, Windows]:
        """Training and validation windows of at most `length` tokens; validation is the end of the text.

        Raises DataError where there are fewer than two.
        """
        places = [
            (number, start, min(start + length, len(array)))
            for number, array in enumerate(self.arrays)
            for start in range(0, len(array), length)
            if len(array) - start > 1
        ]
        if len(places) < 2:
            raise DataError(
                f"{self.index.num_tokens} tokens make {len(places)} rows of {length} tokens; training and validation "
                "need one each",
                fix="add text, or lower train.max_seq_len",
            )
        held = min(max(1, round(len(places) * validation_fraction)), most_validation, len(places) - 1)
        return Windows(self.arrays, places[:-held]), Windows(self.arrays, places[-held:])


class Windows:
    """Pieces of shards by number, each (shard, start, end)."""

    def __init__(self, arrays: Sequence[np.ndarray], places: Sequence[tuple[int, int, int]]) -> None:
        self._arrays = arrays
        self._places = np.asarray(places, dtype=np.int64)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._places)

    def __getitem__(self, number: int) -> np.ndarray:
        """The ids of one, int32 [length]."""
        shard, start, end = self._places[number]
        return np.asarray(self._arrays[shard][start:end], dtype=np.int32)


_AGAIN = "write the shards again: foretune data shard TEXT FOLDER --base BASE"


def open_shards(folder: str | Path, tokenizer: Tokenizer) -> TokenShards:
    """The shards of a folder. Raises NotFound, and DataError for another tokenizer, a missing or a cut file."""
    path = Path(folder)
    if not is_shard_folder(path):
        raise NotFound(f"no {ShardIndex.file_name} in {path}", fix=_AGAIN)
    index = ShardIndex.read(path)
    if index.tokenizer_sha256 != tokenizer.files_digest:
        raise DataError(
            f"{path} was tokenised by another tokenizer ({index.vocab_size:,} tokens) than that of the base "
            f"({tokenizer.vocab_size:,} tokens)",
            fix=_AGAIN,
        )
    for shard in index.shards:
        file = path / shard.name
        size = file.stat().st_size if file.is_file() else -1
        if size != shard.num_tokens * index.token_bytes:
            found = "is missing" if size < 0 else f"holds {size} bytes, {shard.num_tokens * index.token_bytes} expected"
            raise DataError(f"{file} {found}", fix=_AGAIN)
    return TokenShards(path, index)
