"""Checkpoints of sharded tensors: every process writes its own shard as safetensors, each file with its hash.

Written into a hidden folder that gets its name by one rename when all of it is on the disk. Read back whole or in any
other number of shards, by torch.distributed.checkpoint; a plain checkpoint is read into shards the same way.
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch import distributed as dist
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor

from foretune.errors import CheckpointError
from foretune.records.base import write_atomically, write_error

__all__ = ["file_sha256", "is_sharded", "local_part", "read_shards", "verify_files", "write_shards"]

CHUNK_BYTES = 2**24


def is_sharded(tensors: Mapping[str, Tensor]) -> bool:
    """Whether any of the tensors lies in shards over several processes."""
    return any(isinstance(value, DTensor) for value in tensors.values())


def local_part(tensor: Tensor) -> Tensor:
    """This process's part of a tensor: all of it where it is not sharded."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def file_sha256(path: Path) -> str:
    """Hex digest of a file, read in pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(CHUNK_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def write_shards(path: Path, tensors: Mapping[str, Tensor], document: Mapping[str, Any], state_file: str) -> None:
    """Write the folder `path`: a shard of each process, then `state_file` with `document` and every file's hash.

    All processes call it together; the first makes the folder and names it. Raises DoesNotFit.
    """
    partial = path.with_name(f".{path.name}.partial")
    if dist.get_rank() == 0:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    dist.barrier()
    try:
        save(dict(tensors), storage_writer=HuggingFaceStorageWriter(str(partial), save_distributed=True))
    except CheckpointException as error:
        for failure, _ in error.failures.values():
            if isinstance(failure, OSError):
                raise write_error(partial, failure) from error
        raise
    hashes = _joined({file.name: file_sha256(file) for file in _own(partial)})
    if dist.get_rank() == 0:
        write_atomically(partial / state_file, json.dumps({**document, "sha256": hashes}) + "\n")
        shutil.rmtree(path, ignore_errors=True)
        os.replace(partial, path)
        _sync_folder(path.parent)
    dist.barrier()


def _own(folder: Path) -> Sequence[Path]:
    """The files that this process wrote; torch counts shards from 1."""
    return sorted(folder.glob(f"shard-{dist.get_rank() + 1:05d}-*.safetensors"))


def _joined(mine: dict[str, str]) -> dict[str, str]:
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, mine)
    return {name: value for one in found for name, value in one.items()}


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def verify_files(path: Path, hashes: Mapping[str, str], *, together: bool) -> None:
    """Raise CheckpointError where a file of the checkpoint is not what was written, or is none of it.

    `together`: each process reads its share of the files, and all of them raise where one finds a fault.
    """
    names = sorted(hashes)
    mine = names[dist.get_rank() :: dist.get_world_size()] if together else names
    fault = next((f"{name} does not match its hash" for name in mine if not _is_intact(path / name, hashes[name])), "")
    strange = next((file.name for file in path.glob("*.safetensors") if file.name not in hashes), "")
    _raise_fault(path, fault or (strange and f"{strange} is not of this checkpoint"), together=together)


def _raise_fault(path: Path, fault: str, *, together: bool) -> None:
    """Raise CheckpointError where this process, or with `together` any process, has a fault to report."""
    faults = _joined({fault: fault} if fault else {}) if together else {fault: fault}
    first = next((one for one in faults if one), "")
    if first:
        raise CheckpointError(f"{path}: {first}, the checkpoint is damaged", fix="an earlier one is used")


def _is_intact(file: Path, expected: str) -> bool:
    try:
        return file_sha256(file) == expected
    except OSError:
        return False


def read_shards(path: Path, parameters: Mapping[str, Tensor], *, has_moments: bool) -> dict[str, Tensor]:
    """Put the parameters of a checkpoint in place, however it was sharded; the optimizer's tensors by their names.

    Moments come back sharded as their parameters are. Raises CheckpointError where something is missing.
    """
    reader = HuggingFaceStorageReader(str(path))
    known = reader.read_metadata().state_dict_metadata
    sizes = {name: found.size for name, found in known.items() if isinstance(found, TensorStorageMetadata)}
    targets: dict[str, Tensor] = {f"p.{name}": value.detach() for name, value in parameters.items()}
    moments: dict[str, Tensor] = {}
    for name, value in parameters.items() if has_moments else ():
        for key in (key for key in sizes if key.startswith(f"o.{name}.")):
            like = value.detach()
            moments[key] = torch.zeros_like(like) if sizes[key] == like.shape else torch.zeros(sizes[key])
    fault = next((f"{name} is missing" for name in targets if name not in sizes), "")
    _raise_fault(path, fault or _read({**targets, **moments}, reader), together=is_sharded(parameters))
    return moments


def _read(targets: dict[str, Tensor], reader: HuggingFaceStorageReader) -> str:
    """Fill the targets, each process for itself; what went wrong, or ""."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # meant so
        try:
            load(targets, storage_reader=reader, no_dist=True)
        except (CheckpointException, SafetensorError) as error:
            return f"it cannot be read ({error})"
    return ""
