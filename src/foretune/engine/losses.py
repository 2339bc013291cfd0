"""How surely a model predicts given tokens: the loss of each, many rows at once, without a gradient."""

# SPDX-License-Identifier: Apache-2.0
#
# Shapes: B rows, L tokens, S source tokens (encoder), V vocabulary, N tokens asked for, C classes.
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from foretune.engine.engine import Engine
from foretune.models.lora import adapters_off
from foretune.models.virtual import num_virtual_tokens, prompted_inputs

__all__ = ["Asked", "class_losses", "losses_of"]

BUDGET_TOKENS = 4096  # positions of a padded batch
BUDGET_LOGITS = 2**26  # numbers in its logits
Progress = Callable[[int, int], None]


class Asked(NamedTuple):
    """A row of token ids and the positions to predict; position 0 of a decoder has nothing before it, so it is none.

    `source` is what an encoder reads; then every position may be asked for.
    """

    ids: Sequence[int]
    places: Sequence[int]
    source: Sequence[int] | None = None


@torch.inference_mode()
def losses_of(
    engine: Engine, rows: Sequence[Asked], *, is_base: bool = False, on_progress: Progress | None = None
) -> list[np.ndarray]:
    """The loss in nats of each token asked for, a float64 array [N] a row, in the order of `rows` and `places`.

    Decoders and encoder-decoders. `is_base`: as if the model had no adapters. Rows of like length share a padded batch;
    with causal attention no token sees the padding.
    """
    found: list[np.ndarray] = [np.empty(0)] * len(rows)
    model: Any = engine.loaded.model
    done = 0
    with adapters_off(model) if is_base else nullcontext():
        for chosen in _batches(engine, rows):
            values = _batch_losses(engine, [rows[index] for index in chosen])
            for index, row in zip(chosen, values, strict=True):
                found[index] = row
            done += len(chosen)
            if on_progress is not None:
                on_progress(done, len(rows))
    return found


def _batches(engine: Engine, rows: Sequence[Asked]) -> Iterator[list[int]]:
    """Rows of like length, longest first; a batch keeps within both budgets, or is one row."""
    vocabulary = max(1, engine.tokenizer.vocab_size)
    budget = min(BUDGET_TOKENS, BUDGET_LOGITS // vocabulary)
    order = sorted((i for i, row in enumerate(rows) if len(row.places)), key=lambda i: -_length(rows[i]))
    start = 0
    while start < len(order):
        size = max(1, budget // max(1, _length(rows[order[start]])))
        yield order[start : start + size]
        start += size


def _length(row: Asked) -> int:
    return max(len(row.ids), len(row.source or ()))


def _batch_losses(engine: Engine, rows: Sequence[Asked]) -> list[np.ndarray]:
    ids_BL, _ = _padded(engine, [row.ids for row in rows])
    counts = [len(row.places) for row in rows]
    rows_N = torch.repeat_interleave(torch.arange(len(rows)), torch.tensor(counts)).to(ids_BL.device)
    places_N = torch.tensor([place for row in rows for place in row.places], device=ids_BL.device)
    logits_BLV, is_shifted = _logits(engine, rows, ids_BL)
    logits_NV = logits_BLV[rows_N, places_N - 1 if is_shifted else places_N]
    losses_N = functional.cross_entropy(logits_NV.float(), ids_BL[rows_N, places_N], reduction="none")
    values: np.ndarray = losses_N.double().cpu().numpy()
    return np.split(values, np.cumsum(counts)[:-1])


def _logits(engine: Engine, rows: Sequence[Asked], ids_BL: Tensor) -> tuple[Tensor, bool]:
    """Logits, and whether those of a position predict the next one (a decoder) or itself (a decoder with encoder)."""
    model: Any = engine.loaded.model
    if engine.loaded.kind == "seq2seq":
        source_BS, mask_BS = _padded(engine, [row.source or () for row in rows])
        start = torch.full_like(ids_BL[:, :1], model.config.decoder_start_token_id)
        decoder_BL = torch.cat([start, ids_BL[:, :-1]], dim=1)
        output = model(input_ids=source_BS, attention_mask=mask_BS, decoder_input_ids=decoder_BL, use_cache=False)
        return output.logits, False
    inputs = prompted_inputs(model, ids_BL)
    skip = num_virtual_tokens(model) if "inputs_embeds" in inputs else 0
    return model(**inputs, use_cache=False).logits[:, skip:], True


def _padded(engine: Engine, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Ids and mask [B, L], padded on the right."""
    longest = max(1, *(len(row) for row in rows))
    ids = np.full((len(rows), longest), engine.tokenizer.pad_id, dtype=np.int64)
    mask = np.zeros((len(rows), longest), dtype=np.int64)
    for place, row in enumerate(rows):
        ids[place, : len(row)], mask[place, : len(row)] = row, 1
    device = engine.loaded.device
    return torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)


@torch.inference_mode()
def class_losses(engine: Engine, inputs: Sequence[Sequence[int]], labels: Sequence[str]) -> list[float]:
    """The loss in nats of each input's class under a class head. Raises KeyError for a class that it does not have."""
    numbers = {label: number for number, label in enumerate(engine.labels)}
    wanted = [numbers[label] for label in labels]
    rows = [Asked(ids, (0,)) for ids in inputs]
    model: Any = engine.loaded.model
    found = [0.0] * len(rows)
    for chosen in _batches(engine, rows):
        ids_BL, mask_BL = _padded(engine, [rows[index].ids for index in chosen])
        scores_BC = model(input_ids=ids_BL, attention_mask=mask_BL).logits.float().log_softmax(-1)
        for index, scores_C in zip(chosen, scores_BC, strict=True):
            found[index] = -float(scores_C[wanted[index]])
    return found
