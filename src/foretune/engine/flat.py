"""Answers from flat tokens: whether a model can give them, and the generator that does."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from foretune.engine.memory import free_bytes
from foretune.models.decoder import FlatModel, FlatSettings, flat_model, why_not_flat
from foretune.models.generate import Generator
from foretune.models.load import LoadedModel
from foretune.models.lora import LowRank

__all__ = ["FlatAnswers", "why_not_flat_answers"]

# Settings of a generation_config.json that change a greedy answer, beside the repetition penalty that we know.
CHANGES_ANSWERS = (
    "bad_words_ids",
    "begin_suppress_tokens",
    "encoder_repetition_penalty",
    "exponential_decay_length_penalty",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "guidance_scale",
    "min_length",
    "min_new_tokens",
    "no_repeat_ngram_size",
    "sequence_bias",
    "suppress_tokens",
    "watermarking_config",
)
HARMLESS: tuple[object, ...] = (None, 0, 1.0, [])
FOLDED_FRACTION = 4  # adapters are folded into copies of their weights that take at most one part of the free memory


def why_not_flat_answers(loaded: LoadedModel, num_tokens: int) -> str:
    """Why a model cannot answer from flat tokens, prompt and answer `num_tokens` long; empty where it can."""
    reason = why_not_flat(loaded, max_seq_len=num_tokens)
    if reason:
        return reason
    if any(isinstance(module, LowRank) and module.is_off for module in loaded.model.modules()):
        return "adapters are switched off"
    config = getattr(loaded.model, "generation_config", None)
    asked = [name for name in CHANGES_ANSWERS if getattr(config, name, None) not in HARMLESS]
    return f"generation_config.json asks for {asked[0]}" if asked else ""


class FlatAnswers:
    """The flat form of a loaded model, made when first asked for and again when the model's parts are others."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded
        self._held: tuple[list[Any], FlatModel] | None = None

    def model(self) -> FlatModel:
        """The flat form of the model as it is now."""
        if self._held is None or self._held[0] != _parts(self.loaded.model):
            self._held = None
            with torch.inference_mode(mode=False), torch.no_grad():  # parameters are merged: they must stay plain ones
                made = flat_model(self.loaded, FlatSettings(), max_seq_len=1)
            assert made is not None
            self._held = _parts(self.loaded.model), made
        return self._held[1]

    def generator(self, stop_ids: Sequence[int]) -> Generator:
        """Greedy answers that end at `stop_ids`."""
        config = getattr(self.loaded.model, "generation_config", None)
        return Generator(self.model(), stop_ids, penalty=float(getattr(config, "repetition_penalty", None) or 1.0))

    def answers(
        self, generator: Generator, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, num_rows: int
    ) -> Iterator[tuple[int, list[int]]]:
        """Answers by number of their prompt, as they come, with adapters folded in where memory allows."""
        with generator.model.folded(most_bytes=free_bytes() // FOLDED_FRACTION):
            yield from generator.answers(prompts, max_new_tokens=max_new_tokens, num_rows=num_rows)

    def outputs(
        self, generator: Generator, inputs: Sequence[Sequence[int]], *, num_rows: int
    ) -> Iterator[tuple[int, Tensor]]:
        """What the head says of each input, by number."""
        with generator.model.folded(most_bytes=free_bytes() // FOLDED_FRACTION):
            yield from generator.outputs(inputs, num_rows=num_rows)


def _parts(model: nn.Module) -> list[Any]:
    """What a flat form was made of: adapters by identity, parameters by where they lie."""
    low_rank = [id(module) for module in model.modules() if isinstance(module, LowRank)]
    return [*low_rank, *((id(one), one.data_ptr()) for one in model.parameters())]
