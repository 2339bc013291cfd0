"""Disk that a run needs, asked for before the run and before each save: a full disk must not cost work."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from foretune.errors import DoesNotFit
from foretune.units import show_bytes

__all__ = ["artefact_bytes", "check_disk", "checkpoint_bytes", "run_bytes"]

MOMENTS = 2  # AdamW keeps two numbers for each parameter
FP32 = 4
SLACK_BYTES = 16_000_000  # events, logs, records, the report


class Sized(Protocol):
    """A tensor's size."""

    def numel(self) -> int:
        """How many numbers."""

    def element_size(self) -> int:
        """Bytes of each."""


def checkpoint_bytes(parameters: Iterable[Sized]) -> int:
    """One checkpoint: every trainable parameter and its two moments, as they are kept (moments in fp32 at least)."""
    return sum(p.numel() * (p.element_size() + MOMENTS * max(FP32, p.element_size())) for p in parameters)


def artefact_bytes(parameters: Iterable[Sized], *, trains_whole_model: bool, has_bf16_weights: bool = False) -> int:
    """What training leaves: the adapter in fp32, or the whole model (give all its parameters) in fp32 or bf16."""
    width = 2 if trains_whole_model and has_bf16_weights else FP32
    return width * sum(p.numel() for p in parameters)


def run_bytes(checkpoint: int, artefact: int, *, keep_checkpoints: int) -> int:
    """What a whole run needs at its fullest: the kept checkpoints, one more while it is written, and the artefact."""
    return (keep_checkpoints + 1) * checkpoint + artefact + SLACK_BYTES


def check_disk(folder: Path, needed_bytes: int, what: str) -> None:
    """Raise DoesNotFit where the disk of `folder` (or of its nearest existing parent) has not `needed_bytes` free."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < needed_bytes:
        raise DoesNotFit(
            f"{what} needs {show_bytes(needed_bytes)} of disk, {show_bytes(free)} are free at {folder}",
            fix="free space and resume, or --runs-dir on another disk, or train.advanced.keep_checkpoints = 1",
        )
