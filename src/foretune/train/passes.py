"""How a global batch is computed: as flat tokens by our own decoder, or in padded rectangles by the transformers class.

Both give the same sum of losses and the same gradients within rounding; the loop cannot tell them apart.
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, Protocol

import torch

from foretune.data.micro import micro_batches, padded_tokens
from foretune.models.decoder import FlatModel, FlatSettings, flat_model, why_not_flat
from foretune.models.load import LoadedModel
from foretune.models.virtual import KeyValuePrefix, num_virtual_tokens
from foretune.train.flat import FlatBatch, flat_batches, flat_loss
from foretune.train.objective import LossFunction, LossSum, Row, build_batch, loss_for

__all__ = ["FLAT_SWITCHES", "FlatPasses", "Micro", "PaddedPasses", "Passes", "autocast", "choose_passes"]

# Techniques of the flat engine that a job can switch off, and the setting behind each.
FLAT_SWITCHES = {
    "merged_products": {"has_merged_products": False},
    "joined_ranks": {"has_joined_ranks": False},
    "packing": {"has_packing": False},
    "shared_prefix": {"has_shared_prefix": False},
    "chunked_head": {"head_rows": 0},
    "pruned_last_layer": {"prunes_last_layer": False},
}


class Micro(NamedTuple):
    """One micro-batch: what it computes, and its loss when it is asked for."""

    rows: Sequence[Row]
    num_tokens: int  # positions computed: padding included, a shared prefix once
    num_pairs: int  # pairs of positions that attention computes
    loss: Callable[[], LossSum]


class Passes(Protocol):
    """Cuts the rows of one global batch into micro-batches of at most `budget_tokens` computed positions."""

    def cut(self, rows: Sequence[Row], budget_tokens: int) -> Iterator[Micro]:
        """The micro-batches; the model must be in the mode (training or not) that they will run in."""
        ...

    def release(self) -> None:
        """Give the loaded model its own form back: before it is saved, merged, or run by itself."""
        ...


def autocast(loaded: LoadedModel, precision: str) -> AbstractContextManager[object]:
    """bf16 arithmetic over fp32 parameters, or plain fp32."""
    return torch.autocast(loaded.device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


@dataclass(frozen=True)
class PaddedPasses:
    """Right-padded rectangles of like lengths, longest first, through `loss_of`."""

    loaded: LoadedModel
    loss_of: LossFunction
    precision: str
    pad_id: int

    def cut(self, rows: Sequence[Row], budget_tokens: int) -> Iterator[Micro]:
        """See `Passes`."""
        lengths = [row.length for row in rows]
        for chosen in micro_batches(range(len(rows)), lengths, budget_tokens=budget_tokens):
            num_tokens = padded_tokens(chosen, lengths) + len(chosen) * num_virtual_tokens(self.loaded.model)
            picked = [rows[i] for i in chosen]
            yield Micro(picked, num_tokens, num_tokens**2 // len(chosen), partial(self._loss, picked))

    def _loss(self, rows: Sequence[Row]) -> LossSum:
        batch = build_batch(rows, self.pad_id, self.loaded.device)
        with autocast(self.loaded, self.precision):
            return self.loss_of(self.loaded, batch)

    def release(self) -> None:
        """Nothing was changed."""


@dataclass
class FlatPasses:
    """Flat tokens without padding; a prefix that samples share is computed once where LoRA dropout allows it."""

    loaded: LoadedModel
    settings: FlatSettings
    max_seq_len: int
    _flat: FlatModel | None = None

    def _model(self) -> FlatModel:
        if self._flat is None:
            self._flat = flat_model(self.loaded, self.settings, max_seq_len=self.max_seq_len)
        assert self._flat is not None, "choose_passes asked before"
        return self._flat

    def cut(self, rows: Sequence[Row], budget_tokens: int) -> Iterator[Micro]:
        """See `Passes`."""
        model = self._model()
        for batch in flat_batches(rows, model, budget_tokens=budget_tokens, device=self.loaded.device):
            yield Micro(
                [rows[i] for i in batch.chosen], batch.num_tokens, _pairs(batch), partial(flat_loss, model, batch)
            )

    def release(self) -> None:
        """Cast weights back (exact); the next `cut` casts them anew."""
        if self._flat is not None:
            self._flat.restore()
            self._flat = None


def _pairs(batch: FlatBatch) -> int:
    """Pairs of a token and a token of its own segment or one before it: position of a segment's end x its tokens."""
    ends = batch.tokens.positions_T[[segment.end - 1 for segment in batch.tokens.segments]] + 1
    return int(sum((s.end - s.start) * int(end) for s, end in zip(batch.tokens.segments, ends, strict=True)))


def _why_padded(loaded: LoadedModel, max_seq_len: int) -> str:
    """Why a loaded model, with what is attached to it, cannot run as flat tokens; empty where it can."""
    if isinstance(getattr(loaded.model, "kv_prefix", None), KeyValuePrefix):
        return "learned keys and values stand before every sample"
    if loaded.kind == "regress":
        return "a number is read off each sample"
    return why_not_flat(loaded, max_seq_len=max_seq_len)


def choose_passes(
    loaded: LoadedModel,
    *,
    precision: str,
    pad_id: int,
    max_seq_len: int,
    engine: str = "auto",
    without: Sequence[str] = (),
) -> tuple[Passes, str]:
    """Flat tokens where the model allows it, else padded; and why not flat (empty where it is).

    `engine` "padded" forces the transformers class; `without` names techniques of `FLAT_SWITCHES` to switch off. Raises
    ConfigError where an adapter sits on a trained base.
    """
    reason = 'train.advanced.engine = "padded"' if engine == "padded" else _why_padded(loaded, max_seq_len)
    if reason:
        return PaddedPasses(loaded, loss_for(loaded), precision, pad_id), reason
    settings = FlatSettings(precision="bf16" if precision == "bf16" else "fp32")
    for name in without:
        settings = replace(settings, **FLAT_SWITCHES[name])  # type: ignore[arg-type]
    return FlatPasses(loaded, settings, max_seq_len), ""
