"""How a global batch is computed: as flat tokens by our own decoder, or in padded rectangles by the transformers class.

Both give the same sum of losses and the same gradients within rounding; the loop cannot tell them apart.
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import torch

from foretune.data.micro import micro_batches, padded_tokens
from foretune.models.decoder import FlatModel, FlatSettings, flat_model, why_not_flat
from foretune.models.flat_varlen import why_no_flash
from foretune.models.load import LoadedModel
from foretune.models.recompute import can_recompute, keep_activations, recompute_activations
from foretune.models.virtual import KeyValuePrefix, num_virtual_tokens
from foretune.train.flat import flat_batches, flat_inputs, flat_loss, flat_pairs
from foretune.train.objective import LossFunction, LossSum, Row, build_batch, loss_for
from foretune.train.trunk import Trunk, build_trunk
from foretune.units import show_bytes

__all__ = ["FLAT_SWITCHES", "FlatPasses", "Micro", "PaddedPasses", "Passes", "autocast", "choose_passes"]

# Techniques of the flat engine that a job can switch off, and the setting behind each.
FLAT_SWITCHES = {
    "merged_products": {"has_merged_products": False},
    "joined_ranks": {"has_joined_ranks": False},
    "packing": {"has_packing": False},
    "shared_prefix": {"has_shared_prefix": False},
    "chunked_head": {"head_rows": 0},
    "pruned_last_layer": {"prunes_last_layer": False},
    "cached_trunk": {"caches_trunk": False},
    "kernels": {"has_kernels": False},
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

    def prepare(self, rows: Sequence[Row], budget_tokens: int, *, folder: Path, key: Callable[[], str]) -> str:
        """Compute once what is the same in every epoch over these rows; a line on it, empty where there is nothing."""
        ...

    @property
    def trunk(self) -> Trunk | None:
        """What `prepare` kept."""
        ...

    @property
    def can_recompute(self) -> bool:
        """Whether activations can be computed again in the backward pass instead of being kept."""
        ...

    def recompute(self) -> None:
        """From now on compute activations again in the backward pass: slower, less memory, the same numbers."""
        ...


def autocast(loaded: LoadedModel, precision: str) -> AbstractContextManager[object]:
    """Arithmetic in bf16 or fp16 over fp32 parameters, or plain fp32."""
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(loaded.device.type, dtype=dtype, enabled=precision != "fp32")


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
        """Keep activations again."""
        keep_activations(self.loaded.model)

    def prepare(self, rows: Sequence[Row], budget_tokens: int, *, folder: Path, key: Callable[[], str]) -> str:
        """Nothing is kept."""
        return ""

    @property
    def trunk(self) -> Trunk | None:
        """Nothing is kept."""
        return None

    @property
    def can_recompute(self) -> bool:
        """Not where learned keys and values come in as a cache, which transformers drops then."""
        has_prefix = isinstance(getattr(self.loaded.model, "kv_prefix", None), KeyValuePrefix)
        return can_recompute(self.loaded.model) and not has_prefix

    def recompute(self) -> None:
        """See `Passes`; block by block, as the transformers class does it."""
        recompute_activations(self.loaded.model)


@dataclass
class FlatPasses:
    """Flat tokens without padding; a prefix that samples share is computed once where LoRA dropout allows it."""

    loaded: LoadedModel
    settings: FlatSettings
    max_seq_len: int
    trunk: Trunk | None = None
    recomputes: bool = False
    _flat: FlatModel | None = None

    def model(self) -> FlatModel:
        """The flat form of the loaded model, made where there is none."""
        if self._flat is None:
            self._flat = flat_model(self.loaded, self.settings, max_seq_len=self.max_seq_len)
        assert self._flat is not None, "choose_passes asked before"
        self._flat.recomputes = self.recomputes
        return self._flat

    def cut(self, rows: Sequence[Row], budget_tokens: int) -> Iterator[Micro]:
        """See `Passes`."""
        model = self.model()
        device, trunk = self.loaded.device, self.trunk
        for batch in flat_batches(rows, model, budget_tokens=budget_tokens, device=device, trunk=trunk):
            picked = [rows[i] for i in batch.chosen]
            yield Micro(picked, batch.num_tokens, flat_pairs(batch.tokens), partial(flat_loss, model, batch))

    def release(self) -> None:
        """Cast weights back (exact); the next `cut` casts them anew."""
        if self._flat is not None:
            self._flat.restore()
            self._flat = None

    def prepare(self, rows: Sequence[Row], budget_tokens: int, *, folder: Path, key: Callable[[], str]) -> str:
        """See `Passes`: the states behind layers below everything that is trained."""
        model = self.model()
        if not (model.num_frozen and model.settings.caches_trunk):
            return ""
        if self.trunk is None or not self.trunk.fits(model):
            self.trunk = build_trunk(model, flat_inputs(rows), budget_tokens=budget_tokens, folder=folder, key=key)
        lower = f"the {model.num_frozen} blocks below the adapters are frozen"
        if self.trunk is None:
            return f"{lower}; what they give would take too much room to keep, so each epoch computes it again"
        size, where = show_bytes(self.trunk.states_UD.nbytes), "disk" if self.trunk.is_on_disk else "memory"
        return f"{lower} and computed once: {size} of their outputs kept in {where}"

    @property
    def can_recompute(self) -> bool:
        """Block by block."""
        return True

    def recompute(self) -> None:
        """See `Passes`."""
        self.recomputes = True


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
    if precision == "fp16":
        reason = reason or "the run computes in fp16, flat tokens in bf16 or fp32"
    reason = reason or why_no_flash(loaded.device, precision)
    if reason:
        return PaddedPasses(loaded, loss_for(loaded), precision, pad_id), reason
    settings = FlatSettings(precision="bf16" if precision == "bf16" else "fp32")
    for name in without:
        settings = replace(settings, **FLAT_SWITCHES[name])  # type: ignore[arg-type]
    return FlatPasses(loaded, settings, max_seq_len), ""
