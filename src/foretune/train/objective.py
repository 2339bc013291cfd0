"""Methods as values: how samples become rows, and how a micro-batch becomes a loss. The loop knows nothing else.

Losses are sums over supervised tokens (or samples, for classes); the loop divides by the weight of the whole global
batch, so that accumulation cannot change the gradient.
"""

# SPDX-License-Identifier: Apache-2.0
#
# Shapes: B rows, L tokens, S source tokens (encoder), V vocabulary, C classes, P soft-prompt tokens, N supervised.
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from foretune.models.adapter import SoftPrompt
from foretune.models.load import LoadedModel

__all__ = ["Batch", "LossSum", "Row", "build_batch", "causal_loss", "classify_loss", "loss_for", "seq2seq_loss"]

# Families whose head is a plain linear layer on the last hidden state, so that it can be applied to chosen positions.
PLAIN_HEADS = ("llama", "mistral", "qwen2", "qwen3", "gpt2", "gpt_neo", "gpt_neox", "bloom")


class Row(NamedTuple):
    """One training row: token ids, the weight of predicting each of them, encoder input or class where needed."""

    ids: np.ndarray  # int, [L]
    weights: np.ndarray  # float, [L]; weight of the loss of predicting ids[i]
    source: np.ndarray | None = None  # int, [S]; encoder-decoder only
    label: int = -1  # class; classification only

    @property
    def length(self) -> int:
        """Positions this row takes in a padded batch."""
        return len(self.ids) + (0 if self.source is None else len(self.source))

    @property
    def weight(self) -> float:
        """Supervised weight; one for a classified sample."""
        return 1.0 if self.label >= 0 else float(self.weights[1:].sum() if self.source is None else self.weights.sum())


@dataclass(frozen=True)
class Batch:
    """A right-padded micro-batch on the model's device."""

    ids_BL: Tensor
    weights_BL: Tensor
    mask_BL: Tensor
    source_BS: Tensor | None = None
    source_mask_BS: Tensor | None = None
    labels_B: Tensor | None = None


class LossSum(NamedTuple):
    """Sum of the weighted losses in nats, with gradient, and how many supervised items were right."""

    loss: Tensor
    num_right: int


LossFunction = Callable[[LoadedModel, Batch], LossSum]


def _padded(arrays: Sequence[np.ndarray], fill: float, dtype: Any) -> Tensor:
    longest = max(len(array) for array in arrays)
    out = np.full((len(arrays), longest), fill, dtype=dtype)
    for row, array in zip(out, arrays, strict=True):
        row[: len(array)] = array
    return torch.from_numpy(out)


def build_batch(rows: Sequence[Row], pad_id: int, device: torch.device) -> Batch:
    """Pad rows on the right. With causal attention no real token can see padding, so decoders need no mask."""
    ids = _padded([row.ids for row in rows], pad_id, np.int64)
    mask = _padded([np.ones(len(row.ids)) for row in rows], 0, np.int64)
    weights = _padded([row.weights for row in rows], 0.0, np.float32)
    sources = [row.source for row in rows if row.source is not None]
    return Batch(
        ids.to(device),
        weights.to(device),
        mask.to(device),
        _padded(sources, pad_id, np.int64).to(device) if sources else None,
        _padded([np.ones(len(s)) for s in sources], 0, np.int64).to(device) if sources else None,
        torch.tensor([row.label for row in rows], device=device) if rows[0].label >= 0 else None,
    )


def _weighted_cross_entropy(logits_NV: Tensor, targets_N: Tensor, weights_N: Tensor) -> LossSum:
    losses_N = functional.cross_entropy(logits_NV.float(), targets_N, reduction="none")
    right = int((logits_NV.detach().argmax(-1) == targets_N).sum())
    return LossSum((losses_N * weights_N).sum(), right)


def causal_loss(loaded: LoadedModel, batch: Batch) -> LossSum:
    """Next-token cross-entropy; the head is computed at supervised positions only where the family allows it."""
    model = loaded.model
    inputs = _with_soft_prompt(loaded, batch.ids_BL[:, :-1])
    weights_BL = batch.weights_BL[:, 1:]
    chosen_BL = weights_BL > 0
    targets_N, weights_N = batch.ids_BL[:, 1:][chosen_BL], weights_BL[chosen_BL]
    num_prompt = 0 if "input_ids" in inputs else inputs["inputs_embeds"].shape[1] - weights_BL.shape[1]
    if loaded.family in PLAIN_HEADS:
        hidden_BLD = model.base_model(**inputs, use_cache=False).last_hidden_state
        head: Any = model.get_output_embeddings()
        logits_NV = head(hidden_BLD[:, num_prompt:][chosen_BL])
    else:
        logits_NV = model(**inputs, use_cache=False).logits[:, num_prompt:][chosen_BL]
    return _weighted_cross_entropy(logits_NV, targets_N, weights_N)


def _with_soft_prompt(loaded: LoadedModel, ids_BL: Tensor) -> dict[str, Tensor]:
    prompt = getattr(loaded.model, "soft_prompt", None)
    if not isinstance(prompt, SoftPrompt):
        return {"input_ids": ids_BL}
    embed: Any = loaded.model.get_input_embeddings()
    tokens_BLD = embed(ids_BL)
    prompt_BPD = prompt.embedding.to(tokens_BLD.dtype).expand(len(ids_BL), -1, -1)
    return {"inputs_embeds": torch.cat([prompt_BPD, tokens_BLD], dim=1)}


def seq2seq_loss(loaded: LoadedModel, batch: Batch) -> LossSum:
    """Cross-entropy of the target given the encoded source (T5): the decoder sees the target shifted right."""
    model: Any = loaded.model
    start = torch.full_like(batch.ids_BL[:, :1], model.config.decoder_start_token_id)
    output = model(
        input_ids=batch.source_BS,
        attention_mask=batch.source_mask_BS,
        decoder_input_ids=torch.cat([start, batch.ids_BL[:, :-1]], dim=1),
        use_cache=False,
    )
    chosen_BL = batch.weights_BL > 0
    return _weighted_cross_entropy(output.logits[chosen_BL], batch.ids_BL[chosen_BL], batch.weights_BL[chosen_BL])


def classify_loss(loaded: LoadedModel, batch: Batch) -> LossSum:
    """Cross-entropy of the class at the last real token."""
    assert batch.labels_B is not None
    logits_BC = classify_logits(loaded, batch)
    return _weighted_cross_entropy(logits_BC, batch.labels_B, torch.ones_like(batch.labels_B, dtype=torch.float32))


def classify_logits(loaded: LoadedModel, batch: Batch) -> Tensor:
    """Class scores [B, C]."""
    model: Any = loaded.model
    logits: Tensor = model(input_ids=batch.ids_BL, attention_mask=batch.mask_BL).logits
    return logits


def loss_for(loaded: LoadedModel) -> LossFunction:
    """The loss that fits the kind of model."""
    return {"causal": causal_loss, "seq2seq": seq2seq_loss, "classify": classify_loss}[loaded.kind]
