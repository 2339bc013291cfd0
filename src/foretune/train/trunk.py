"""States behind the frozen lower layers, computed once and kept from epoch to epoch, in memory or on disk.

Everything that is trained sits above them and nothing below is random, so a token's state is the same in every epoch.
They are computed in batches that follow from the samples alone, so a resumed run gets the very same numbers.
"""

# SPDX-License-Identifier: Apache-2.0
#
# Shapes: U tokens of all known inputs, a shared prefix once; T tokens of a pass, D width, L tokens of an input.
from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
import torch
from torch import Tensor

from foretune.data.token_tree import Piece, cut_trees, num_tokens
from foretune.models.decoder import FlatModel, FlatTokens
from foretune.train.flat_layout import Layout

__all__ = ["TRUNK_FILE", "Trunk", "build_trunk", "remove_trunk"]

TRUNK_FILE = "trunk.bin"
MEMORY_SHARE = 0.25  # of the free memory; what is larger goes to the disk
DISK_SHARE = 0.25  # of the free disk; what is larger is not kept


@dataclass(frozen=True)
class Trunk:
    """The states of all tokens of the known inputs, and where those of each input lie."""

    states_UD: Tensor
    places: dict[bytes, np.ndarray]
    trunk_type: tuple[int, int, torch.dtype]
    is_on_disk: bool = False

    def places_of(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray] | None:
        """Rows of `states_UD` of each input [L]; None where one is not known."""
        found = [self.places.get(_key(ids)) for ids in inputs]
        known = [places for places in found if places is not None]
        return known if len(known) == len(found) else None

    def fits(self, model: FlatModel) -> bool:
        """Whether these are the states that `model` would compute."""
        return self.trunk_type == model.trunk_type and model.settings.caches_trunk

    def known(self, tokens: FlatTokens, layout: Layout, places: Sequence[np.ndarray]) -> FlatTokens:
        """The tokens of a layout with their states; `places` are those of each of its samples."""
        rows_T = torch.from_numpy(layout.rows_of(places))
        return replace(tokens, states_TD=self.states_UD[rows_T].to(tokens.ids_T.device))


def _key(ids: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(ids, dtype=np.int32).tobytes(), digest_size=16).digest()


def build_trunk(
    model: FlatModel, inputs: Sequence[np.ndarray], *, budget_tokens: int, folder: Path, key: Callable[[], str]
) -> Trunk | None:
    """Compute the states of every input [L] below the first trained layer; None where they would take too much room.

    In memory up to a quarter of what is free, else in `folder`/trunk.bin up to a quarter of the free disk. A file that
    an earlier start of the run finished is read, where inputs, layers and base (`key`, only then asked for) are the
    same.
    """
    unique = list({_key(ids): ids for ids in inputs}.values())
    least = model.settings.min_prefix_tokens if model.settings.has_shared_prefix else 0
    batches = list(cut_trees(unique, budget_tokens=budget_tokens, min_prefix_tokens=least))
    count = sum(num_tokens(forest) for _, forest in batches)
    num_frozen, width, dtype = model.trunk_type
    if count * width * dtype.itemsize <= MEMORY_SHARE * psutil.virtual_memory().available:
        store: _Store | None = _Store(torch.empty(count, width, dtype=dtype))
    else:
        digest = hashlib.sha256(f"{key()} {num_frozen} {dtype} {budget_tokens} {least}".encode())
        for ids in unique:
            digest.update(_key(ids))
        store = _disk_store(count, width, dtype, folder, digest.hexdigest())
    if store is None:
        return None
    places = _filled(model, unique, batches, store)
    return Trunk(store.states_UD, places, model.trunk_type, store.finished is not None)


@dataclass(frozen=True)
class _Store:
    """Room for the states; `is_done`: they are in it already."""

    states_UD: Tensor
    is_done: bool = False
    finished: Path | None = None  # written when all states are on disk
    digest: str = ""


def _disk_store(count: int, width: int, dtype: torch.dtype, folder: Path, digest: str) -> _Store | None:
    size = count * width * dtype.itemsize
    path, finished = _files(folder)
    is_done = finished.is_file() and finished.read_text(encoding="utf-8") == digest
    if not is_done and size > DISK_SHARE * shutil.disk_usage(folder).free:
        return None
    if not is_done:
        finished.unlink(missing_ok=True)
    pages = np.memmap(path, mode="r+" if is_done else "w+", dtype=np.uint8, shape=(size,))
    states_UD = torch.from_numpy(pages).view(dtype).view(count, width)
    return _Store(states_UD, is_done, finished, digest)


def _filled(
    model: FlatModel, inputs: Sequence[np.ndarray], batches: Sequence[tuple[list[int], list[Piece]]], store: _Store
) -> dict[bytes, np.ndarray]:
    """Fill the store batch by batch; where the states of each input lie."""
    places: dict[bytes, np.ndarray] = {}
    start, device = 0, model.loaded.device
    for chosen, forest in batches:
        layout = Layout(forest, inputs)
        count = layout.length
        for i in chosen:
            places[_key(inputs[i])] = (start + np.concatenate(layout.places[i])).astype(np.int64)
        if not store.is_done:
            layout.pad(-count % model.settings.row_multiple, 0)
            tokens = layout.tokens(np.zeros(0, dtype=np.int64), 0, device)
            store.states_UD[start : start + count] = model.trunk(tokens)[:count].to(store.states_UD.device)
        start += count
    if store.finished is not None and not store.is_done:
        store.finished.write_text(store.digest, encoding="utf-8")
    return places


def _files(folder: Path) -> tuple[Path, Path]:
    """The states, and what says that they are complete."""
    return folder / TRUNK_FILE, folder / f"{TRUNK_FILE}.done"


def remove_trunk(folder: Path) -> None:
    """Delete the states of a run that is finished."""
    for path in _files(folder):
        path.unlink(missing_ok=True)
