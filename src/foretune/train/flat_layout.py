"""Token trees laid out as flat tokens: ids, positions, segments, and where each sample's tokens lie."""

# SPDX-License-Identifier: Apache-2.0
#
# Shapes: T tokens, N rows asked for.
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from foretune.data.token_tree import Piece
from foretune.models.decoder import FlatTokens
from foretune.models.flat_segments import Segment, on_device

__all__ = ["Layout"]


class Layout:
    """Pieces laid out depth first: ids, positions, segments, and where each sample's tokens lie."""

    def __init__(self, forest: Sequence[Piece], inputs: Sequence[np.ndarray]) -> None:
        self.ids: list[np.ndarray] = []
        self.positions: list[np.ndarray] = []
        self.segments: list[Segment] = []
        self.places: dict[int, list[np.ndarray]] = {}
        self.sources: list[tuple[int, int, int]] = []  # of each piece: a sample that has it, and where
        self.length = 0
        self.num_padding = 0
        for piece in forest:
            self._lay(piece, inputs)

    def pad(self, num: int, some_id: int) -> None:
        """A segment of its own that nothing is asked of."""
        if num:
            self.ids.append(np.full(num, some_id))
            self.positions.append(np.arange(num))
            self.segments.append(Segment(self.length, self.length + num, self.length + num))
            self.length += num
            self.num_padding += num

    def rows_of(self, places: Sequence[np.ndarray]) -> np.ndarray:
        """The number of every token laid out, where `places` gives those of each sample's tokens; of padding 0."""
        found = [places[member][begin:end] for member, begin, end in self.sources]
        return np.concatenate([*found, np.zeros(self.num_padding, dtype=np.int64)])

    def tokens(self, rows_N: np.ndarray, num_prompt: int, device: torch.device) -> FlatTokens:
        """What a pass over all that was laid out reads, asked at `rows_N`."""
        ids = np.concatenate(self.ids) - num_prompt
        ids[ids < 0] = -1 - num_prompt - ids[ids < 0]  # soft-prompt row i is id -1 - i
        positions = np.concatenate(self.positions)
        arrays = (on_device(one, device) for one in (ids, positions, rows_N))
        ids_T, positions_T, asked_N = arrays
        return FlatTokens(ids_T, positions_T, tuple(self.segments), asked_N)

    def _lay(self, piece: Piece, inputs: Sequence[np.ndarray]) -> None:
        start, num = self.length, piece.end - piece.begin
        self.length += num
        self.ids.append(inputs[piece.members[0]][piece.begin : piece.end])
        self.sources.append((piece.members[0], piece.begin, piece.end))
        self.positions.append(np.arange(piece.begin, piece.end))
        for member in piece.members:
            self.places.setdefault(member, []).append(np.arange(start, start + num))
        index = len(self.segments)
        self.segments.append(Segment(start, start + num, start + num))
        for child in piece.children:
            self._lay(child, inputs)
        self.segments[index] = Segment(start, start + num, self.length)
