"""Benchmark items by their word 13-grams: an index of a folder of benchmark files, and the rows that repeat an item."""

# SPDX-License-Identifier: Apache-2.0
#
# A 13-gram of words (lower case, without punctuation) that stands in a row and in a benchmark item is a copy; shorter
# ones are mostly boilerplate. 13-grams in more than 5 items are left out: they are the benchmark's own instruction. The
# index is a .npz file of plain arrays (no pickles): sorted 64-bit hashes, the item of each, and the items' names.
from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np

from foretune.data.faults import FaultList
from foretune.data.files import find_files
from foretune.data.rows import read_rows
from foretune.data.shingles import I64, U64, runs
from foretune.errors import DataError, NotFound

__all__ = ["BenchmarkIndex", "Repeat", "build_index", "index_of", "load_index", "repeats", "save_index"]

NUM_WORDS = 13
MAX_ITEMS = 5  # that share a 13-gram which still tells them apart from others
VERSION = 1
WORD = re.compile(r"\w+")
MIX = np.uint64(0x9E3779B97F4A7C15)
BLOCK_TEXTS = 2000


class BenchmarkIndex(NamedTuple):
    """The 13-grams of benchmark items; `num_short` items had too few words to be in it."""

    names: tuple[str, ...]  # of the items: file:line
    hashes: U64  # sorted, distinct within an item
    items: I64
    num_short: int = 0
    num_words: int = NUM_WORDS


class Repeat(NamedTuple):
    """A text that repeats part of a benchmark item: how many of its 13-grams, and the first one as words."""

    text: int
    item: str
    num_grams: int
    words: str


def build_index(folder: Path, *, num_words: int = NUM_WORDS, max_items: int = MAX_ITEMS) -> BenchmarkIndex:
    """Index every data file in a folder and its subfolders (or one file): all texts of a row together are an item.

    Raises NotFound where there is no data file, and DataError where no row can be read.
    """
    folders = sorted({path.parent for path in folder.rglob("*") if path.is_file()}) if folder.is_dir() else [folder]
    if not folders:
        raise NotFound(f"no benchmark files in {folder}", fix="put .jsonl, .json, .csv, .parquet or .txt files there")
    items = [item for part in folders for item in _items(part, folder)]
    if not items:
        raise DataError(f"no benchmark items in {folder}: expected rows with text", fix="check the files by hand")
    return index_of(items, num_words=num_words, max_items=max_items)


def _items(part: Path, folder: Path) -> Iterator[tuple[str, str]]:
    """Name and text of each row of the files in one folder; rows that cannot be read are left out."""
    try:
        files = find_files(part)
    except NotFound:
        return
    for file in files:
        name = file.path.relative_to(folder).as_posix() if file.path != folder else file.path.name
        for row in read_rows(file, FaultList(file.path)):
            text = "\n".join(_strings(row.fields))
            if text:
                yield f"{name}:{row.line}", text


def _strings(value: Any) -> Iterator[str]:
    """The texts within a row, in order, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _strings(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _strings(part)


def index_of(
    items: Iterable[tuple[str, str]], *, num_words: int = NUM_WORDS, max_items: int = MAX_ITEMS
) -> BenchmarkIndex:
    """Index items given as (name, text); n-grams in more than `max_items` of them are dropped."""
    names, texts = zip(*items, strict=True)
    hashes, owners = [], []
    for first, grams in _grams(texts, num_words):
        hashes.append(grams.hashes)
        owners.append(grams.owner + first)
    values, items_of = np.concatenate(hashes), np.concatenate(owners)
    has = np.zeros(len(names), np.bool_)
    has[items_of] = True
    order = np.lexsort((items_of, values))
    values, items_of = values[order], items_of[order]
    first_of = np.ones(len(values), np.bool_)
    first_of[1:] = (values[1:] != values[:-1]) | (items_of[1:] != items_of[:-1])
    values, items_of = values[first_of], items_of[first_of]
    kept = np.repeat(runs(values).sizes <= max_items, runs(values).sizes)
    return BenchmarkIndex(tuple(names), values[kept], items_of[kept], int((~has).sum()), num_words)


class _WordGrams(NamedTuple):
    hashes: U64
    owner: I64  # number of the text within the block
    place: I64  # word at which the n-gram begins, in its text


def _grams(texts: Iterable[str], num_words: int) -> Iterator[tuple[int, _WordGrams]]:
    """Blocks of the n-grams of words of many texts, each with the number of its first text."""
    block: list[str] = []
    first = 0
    for text in texts:
        block.append(text)
        if len(block) == BLOCK_TEXTS:
            yield first, _block_grams(block, num_words)
            first, block = first + len(block), []
    yield first, _block_grams(block, num_words)


def _block_grams(texts: Sequence[str], num_words: int) -> _WordGrams:
    words = [WORD.findall(text.casefold()) for text in texts]
    lengths = np.fromiter(map(len, words), np.int64, len(words))
    codes = np.fromiter((_word_hash(word) for found in words for word in found), np.uint64, int(lengths.sum()))
    num = max(len(codes) - num_words + 1, 0)
    hashes = np.zeros(num, np.uint64)
    for offset in range(num_words):
        hashes = hashes * MIX + codes[offset : offset + num]
    hashes ^= hashes >> np.uint64(31)
    owner = np.repeat(np.arange(len(words)), lengths)[:num]
    starts = np.cumsum(lengths) - lengths
    place = np.arange(num) - starts[owner]
    inside = place + num_words <= lengths[owner]
    return _WordGrams(hashes[inside], owner[inside], place[inside])


@lru_cache(maxsize=1 << 18)
def _word_hash(word: str) -> int:
    return int.from_bytes(blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest())


def repeats(texts: Iterable[str], index: BenchmarkIndex) -> list[Repeat]:
    """The texts that share an n-gram with an item: one entry a text, with the item that it shares most with."""
    result = []
    held: list[str] = []

    def kept() -> Iterator[str]:
        for text in texts:
            held.append(text)
            yield text

    for first, grams in _grams(kept(), index.num_words):
        low = np.searchsorted(index.hashes, grams.hashes, side="left")
        high = np.searchsorted(index.hashes, grams.hashes, side="right")
        hits = np.flatnonzero(high > low)
        shared: dict[int, dict[int, list[int]]] = {}
        for hit in hits.tolist():
            found = shared.setdefault(int(grams.owner[hit]), {})
            for item in index.items[low[hit] : high[hit]].tolist():
                found.setdefault(item, []).append(int(grams.place[hit]))
        result += [_repeat(first + text, held[text], found, index) for text, found in sorted(shared.items())]
        held.clear()
    return result


def _repeat(number: int, text: str, found: dict[int, list[int]], index: BenchmarkIndex) -> Repeat:
    item = min(found, key=lambda one: (-len(found[one]), one))
    start = found[item][0]
    words = WORD.findall(text.casefold())[start : start + index.num_words]
    return Repeat(number, index.names[item], len(found[item]), " ".join(words))


def save_index(index: BenchmarkIndex, path: Path) -> None:
    """Write an index as one compressed .npz file, which holds hashes and names, not the items' texts."""
    head = {"version": VERSION, "num_words": index.num_words, "num_short": index.num_short, "names": index.names}
    text = np.frombuffer(json.dumps(head).encode(), np.uint8)
    with open(path, "wb") as file:
        np.savez_compressed(file, head=text, hashes=index.hashes, items=index.items)


def load_index(path: Path) -> BenchmarkIndex:
    """Read what `save_index` wrote. Raises NotFound, or DataError where the file is something else."""
    fix = "build it anew from the folder of benchmark files"
    if not path.is_file():
        raise NotFound(f"no benchmark index {path}", fix=fix)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            head = json.loads(bytes(arrays["head"]))
            hashes, items = arrays["hashes"].astype(np.uint64), arrays["items"].astype(np.int64)
        if head["version"] != VERSION or len(hashes) != len(items):
            raise ValueError(f"version {head['version']}")
        return BenchmarkIndex(tuple(head["names"]), hashes, items, int(head["num_short"]), int(head["num_words"]))
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
        what = f"{path} is no benchmark index ({error}): expected a .npz file of version {VERSION}"
        raise DataError(what, fix=fix) from error
