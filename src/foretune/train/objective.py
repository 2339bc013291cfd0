"""Methods as values: how samples become rows, and how a micro-batch becomes a loss. The loop knows nothing else.

Losses are sums over supervised tokens (or samples, for classes); the loop divides by the weight of the whole global
batch, so that accumulation cannot change the gradient.
"""

# SPDX-License-Identifier: Apache-2.0
#
# Shapes: B rows, L tokens, S source tokens (encoder), V vocabulary, C classes, P soft-prompt tokens, N supervised.
# A preference pair is two rows of a batch: the better conversations first, then the worse ones in the same order.
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from foretune.models.load import LoadedModel
from foretune.models.virtual import prompted_inputs

__all__ = [
    "Batch",
    "LossFunction",
    "LossSum",
    "Preference",
    "Row",
    "TokenLosses",
    "build_batch",
    "causal_loss",
    "classify_loss",
    "loss_for",
    "regress_loss",
    "seq2seq_loss",
    "token_losses",
]

# Families whose head is a plain linear layer on the last hidden state, so that it can be applied to chosen positions.
PLAIN_HEADS = ("llama", "mistral", "qwen2", "qwen3", "gpt2", "gpt_neo", "gpt_neox", "bloom")


class Preference(NamedTuple):
    """What a row is compared with, and what the model thought of both before training.

    Pairs: the worse conversation. KTO (`is_desirable` says whether the row's answer is good): the row's prompt with the
    answer to another one. `reference` are the log-probabilities (nats) of the row and of these ids before training.
    """

    ids: np.ndarray  # int, [L]
    weights: np.ndarray  # float, [L]
    is_desirable: bool | None = None
    reference: tuple[float, float] = (0.0, 0.0)


class Row(NamedTuple):
    """One training row: token ids, the weight of predicting each of them, and what else the method needs."""

    ids: np.ndarray  # int, [L]
    weights: np.ndarray  # float, [L]; weight of the loss of predicting ids[i]
    source: np.ndarray | None = None  # int, [S]; encoder-decoder only
    label: int = -1  # class; classification only
    value: float | None = None  # standardised target; regression only
    preference: Preference | None = None  # dpo, orpo, kto

    @property
    def is_pair(self) -> bool:
        """Whether this row is two sequences of a batch."""
        return self.preference is not None and self.preference.is_desirable is None

    @property
    def length(self) -> int:
        """Positions of its longest sequence in a padded batch; an encoder's and a decoder's add up."""
        if self.source is not None:
            return len(self.ids) + len(self.source)
        return max(len(self.ids), 0 if self.preference is None else len(self.preference.ids))

    @property
    def num_tokens(self) -> int:
        """Tokens of all its sequences."""
        return len(self.ids) + sum(
            len(ids) for ids in (self.source, self.preference and self.preference.ids) if ids is not None
        )

    @property
    def weight(self) -> float:
        """Supervised weight; one for a sample that is judged as a whole."""
        if self.label >= 0 or self.value is not None or self.preference is not None:
            return 1.0
        return float(self.weights[1:].sum() if self.source is None else self.weights.sum())


@dataclass(frozen=True)
class Batch:
    """A right-padded micro-batch on the model's device."""

    ids_BL: Tensor
    weights_BL: Tensor
    mask_BL: Tensor
    source_BS: Tensor | None = None
    source_mask_BS: Tensor | None = None
    labels_B: Tensor | None = None
    values_B: Tensor | None = None


class LossSum(NamedTuple):
    """Sum of the weighted losses in nats, with gradient, and how many supervised items were right.

    `metrics` are further sums over the rows, to be divided by the weight as the loss is.
    """

    loss: Tensor
    num_right: int
    metrics: Mapping[str, float] = {}


LossFunction = Callable[[LoadedModel, Batch], LossSum]


def _padded(arrays: Sequence[np.ndarray], fill: float, dtype: Any) -> Tensor:
    longest = max(len(array) for array in arrays)
    out = np.full((len(arrays), longest), fill, dtype=dtype)
    for row, array in zip(out, arrays, strict=True):
        row[: len(array)] = array
    return torch.from_numpy(out)


def build_batch(rows: Sequence[Row], pad_id: int, device: torch.device) -> Batch:
    """Pad rows on the right. With causal attention no real token can see padding, so decoders need no mask."""
    sequences = [(row.ids, row.weights) for row in rows]
    if rows[0].is_pair:
        sequences += [(row.preference.ids, row.preference.weights) for row in rows if row.preference is not None]
    ids = _padded([one[0] for one in sequences], pad_id, np.int64)
    mask = _padded([np.ones(len(one[0])) for one in sequences], 0, np.int64)
    weights = _padded([one[1] for one in sequences], 0.0, np.float32)
    sources = [row.source for row in rows if row.source is not None]
    values = [row.value for row in rows if row.value is not None]
    return Batch(
        ids.to(device),
        weights.to(device),
        mask.to(device),
        _padded(sources, pad_id, np.int64).to(device) if sources else None,
        _padded([np.ones(len(s)) for s in sources], 0, np.int64).to(device) if sources else None,
        torch.tensor([row.label for row in rows], device=device) if rows[0].label >= 0 else None,
        torch.tensor(values, dtype=torch.float32, device=device) if values else None,
    )


def _weighted_cross_entropy(logits_NV: Tensor, targets_N: Tensor, weights_N: Tensor) -> LossSum:
    losses_N = functional.cross_entropy(logits_NV.float(), targets_N, reduction="none")
    right = int((logits_NV.detach().argmax(-1) == targets_N).sum())
    return LossSum((losses_N * weights_N).sum(), right)


class TokenLosses(NamedTuple):
    """The loss of predicting each token asked for (nats, with gradient), which sequence it is of, and whether right."""

    losses_N: Tensor
    rows_N: Tensor
    right_N: Tensor


def token_losses(loaded: LoadedModel, ids_BL: Tensor, asked_BL: Tensor) -> TokenLosses:
    """Cross-entropy of every token of a decoder's batch where `asked_BL` is true (its first column is never asked).

    The head is computed at the positions asked for only, where the family allows it.
    """
    chosen_BL = asked_BL[:, 1:]
    targets_N = ids_BL[:, 1:][chosen_BL]
    logits_NV = _logits_at(loaded, ids_BL[:, :-1], chosen_BL)
    losses_N = functional.cross_entropy(logits_NV.float(), targets_N, reduction="none")
    return TokenLosses(losses_N, chosen_BL.nonzero()[:, 0], logits_NV.detach().argmax(-1) == targets_N)


def _logits_at(loaded: LoadedModel, ids_BL: Tensor, chosen_BL: Tensor) -> Tensor:
    """Next-token logits [N, V] at the chosen positions, behind the soft prompt or prefix where there is one."""
    model: Any = loaded.model
    inputs = prompted_inputs(loaded.model, ids_BL)
    start = inputs["inputs_embeds"].shape[1] - ids_BL.shape[1] if "inputs_embeds" in inputs else 0
    if loaded.family in PLAIN_HEADS:
        hidden_BLD = model.base_model(**inputs, use_cache=False).last_hidden_state
        logits_NV: Tensor = model.get_output_embeddings()(hidden_BLD[:, start:][chosen_BL])
        return logits_NV
    whole_NV: Tensor = model(**inputs, use_cache=False).logits[:, start:][chosen_BL]
    return whole_NV


def causal_loss(loaded: LoadedModel, batch: Batch) -> LossSum:
    """Next-token cross-entropy; the head is computed at supervised positions only where the family allows it."""
    found = token_losses(loaded, batch.ids_BL, batch.weights_BL > 0)
    weights_BL = batch.weights_BL[:, 1:]
    return LossSum((found.losses_N * weights_BL[weights_BL > 0]).sum(), int(found.right_N.sum()))


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


def regress_loss(loaded: LoadedModel, batch: Batch) -> LossSum:
    """Squared error of the one output at the last real token, in squared standard deviations of the target."""
    assert batch.values_B is not None
    errors_B = classify_logits(loaded, batch)[:, 0].float() - batch.values_B
    return LossSum(errors_B.square().sum(), 0, {"absolute_error": float(errors_B.detach().abs().sum())})


def loss_for(loaded: LoadedModel) -> LossFunction:
    """The loss that fits the kind of model."""
    known = {"causal": causal_loss, "seq2seq": seq2seq_loss, "classify": classify_loss, "regress": regress_loss}
    return known[loaded.kind]
