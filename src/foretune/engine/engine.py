"""A model ready to answer: batched greedy generation with stop tokens, class prediction, and loss on text.

What it does not know: prompts, metrics, runs. It never samples; the same input gives the same answer.
"""

# SPDX-License-Identifier: Apache-2.0
#
# Shapes: B rows, L prompt tokens, D width, C classes.
from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from foretune.data.targets import UNSCALED, Scale, shown_number
from foretune.data.tokenizer import Tokenizer
from foretune.errors import NotFound
from foretune.log import note
from foretune.models.adapter import load_adapter
from foretune.models.load import LoadedModel, load_model
from foretune.models.provenance import read_notes
from foretune.models.virtual import KeyValuePrefix, SoftPrompt, num_virtual_tokens, prompted_inputs

__all__ = ["Engine", "TextLoss", "load_engine"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class TextLoss:
    """Loss on raw text: `nats` summed over `num_tokens` predicted tokens that stand for `num_bytes` bytes of UTF-8."""

    nats: float
    num_tokens: int
    num_bytes: int

    @property
    def bits_per_byte(self) -> float:
        """Bits the model needs for a byte: independent of the tokenizer, lower is better."""
        return self.nats / max(1, self.num_bytes) / 0.6931471805599453


class Engine:
    """A loaded model with its tokenizer. Build one with `load_engine`."""

    def __init__(
        self, loaded: LoadedModel, tokenizer: Tokenizer, labels: tuple[str, ...] = (), scale: Scale = UNSCALED
    ) -> None:
        self.loaded = loaded
        self.tokenizer = tokenizer
        self.labels = labels
        self.scale = scale
        loaded.model.eval()

    @property
    def max_len(self) -> int | None:
        """Positions for prompt and answer together; None where the model has no limit."""
        limits = [limit for limit in (self.loaded.max_len, self.tokenizer.max_len) if limit]
        room = min(limits) if limits and self.loaded.kind != "seq2seq" else None
        return room - num_virtual_tokens(self.loaded.model) if room else room

    def _soft_prompt(self) -> SoftPrompt | None:
        prompt = getattr(self.loaded.model, "soft_prompt", None)
        return prompt if isinstance(prompt, SoftPrompt) else None

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        batch_size: int = 32,
        on_progress: Progress | None = None,
    ) -> list[list[int]]:
        """Greedy answers, as token ids without the stop token, in the order of `prompts`.

        Prompts of like length share a batch; a batch that does not fit into memory is halved. A prompt that leaves no
        room keeps its end. The answer ends at the first of the tokenizer's stop tokens.
        """
        answers: list[list[int]] = [[] for _ in prompts]
        order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
        done = 0
        for chosen, tokens in self._in_batches(order, prompts, max_new_tokens, batch_size):
            for index, answer in zip(chosen, tokens, strict=True):
                answers[index] = answer
            done += len(chosen)
            if on_progress is not None:
                on_progress(done, len(prompts))
        return answers

    def _in_batches(
        self, order: list[int], prompts: Sequence[Sequence[int]], max_new_tokens: int, batch_size: int
    ) -> Iterator[tuple[list[int], list[list[int]]]]:
        start, size = 0, batch_size
        while start < len(order):
            chosen = order[start : start + size]
            try:
                tokens = self._answers([self._fitted(prompts[i], max_new_tokens) for i in chosen], max_new_tokens)
            except (MemoryError, torch.OutOfMemoryError) as error:
                if size == 1:
                    raise
                size = max(1, size // 2)
                note(f"out of memory in evaluation ({type(error).__name__}): batch size is now {size}")
                continue
            yield chosen, tokens
            start += len(chosen)

    def _fitted(self, prompt: Sequence[int], max_new_tokens: int) -> list[int]:
        room = None if self.max_len is None else max(1, self.max_len - max_new_tokens)
        return list(prompt)[-room:] if room else list(prompt)

    @torch.inference_mode()
    def _answers(self, prompts: Sequence[list[int]], max_new_tokens: int) -> list[list[int]]:
        """Greedy answers of one batch, padded on the left."""
        model: Any = self.loaded.model
        longest = max(len(prompt) for prompt in prompts)
        pad = self.tokenizer.pad_id
        ids_BL = torch.tensor([[pad] * (longest - len(p)) + p for p in prompts], device=self.loaded.device)
        mask_BL = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=self.loaded.device)
        stop = list(self.tokenizer.stop_ids)
        output = model.generate(
            **self._inputs(ids_BL, mask_BL),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            pad_token_id=pad,
            eos_token_id=stop or None,
        )
        new = output[:, self._num_echoed(longest) :].tolist()
        return [_until_stop(row, set(stop)) for row in new]

    def _inputs(self, ids_BL: Tensor, mask_BL: Tensor) -> dict[str, Any]:
        """What `generate` is called with: left-padded ids, virtual tokens before them where the model has some."""
        prompt = self._soft_prompt()
        prefix = getattr(self.loaded.model, "kv_prefix", None)
        if isinstance(prefix, KeyValuePrefix):  # ids that stand for what the cache holds already, never read
            held_BP = ids_BL.new_full((len(ids_BL), prefix.num_tokens), self.tokenizer.pad_id)
            return {
                "input_ids": torch.cat([held_BP, ids_BL], dim=1),
                "attention_mask": torch.cat([torch.ones_like(held_BP), mask_BL], dim=1),
                "past_key_values": prefix.cache(len(ids_BL)),
            }
        if prompt is None:
            return {"input_ids": ids_BL, "attention_mask": mask_BL}
        embed: Any = self.loaded.model.get_input_embeddings()
        count = prompt.embedding.shape[0]
        rows = []
        for ids, mask in zip(ids_BL, mask_BL, strict=True):
            num_pad = int((mask == 0).sum())
            tokens = embed(ids)
            rows.append(torch.cat([tokens[:num_pad], prompt.embedding.to(tokens.dtype), tokens[num_pad:]]))
        ones = torch.ones(len(ids_BL), count, dtype=mask_BL.dtype, device=mask_BL.device)
        return {"inputs_embeds": torch.stack(rows), "attention_mask": torch.cat([mask_BL, ones], dim=1)}

    def _num_echoed(self, num_prompt: int) -> int:
        """Tokens at the head of generate's output that are not new: the prompt, or T5's start token."""
        if self.loaded.kind == "seq2seq":
            return 1
        if self._soft_prompt() is not None:
            return 0
        return num_prompt + num_virtual_tokens(self.loaded.model)

    @torch.inference_mode()
    def classify(self, inputs: Sequence[Sequence[int]], *, batch_size: int = 64) -> list[str]:
        """The most likely class of each input."""
        return [self.labels[int(logits_C.argmax())] for logits_C in self._outputs(inputs, batch_size)]

    @torch.inference_mode()
    def regress(self, inputs: Sequence[Sequence[int]], *, batch_size: int = 64) -> list[str]:
        """The number that the head gives to each input, in the unit of the targets."""
        outputs = self._outputs(inputs, batch_size)
        return [shown_number(self.scale.restored(float(value_1[0]))) for value_1 in outputs]

    def _outputs(self, inputs: Sequence[Sequence[int]], batch_size: int) -> list[Tensor]:
        """What the head says of each input: [C]."""
        model: Any = self.loaded.model
        found: list[Tensor] = [torch.empty(0)] * len(inputs)
        order = sorted(range(len(inputs)), key=lambda i: -len(inputs[i]))
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            longest = len(inputs[chosen[0]])
            pad = self.tokenizer.pad_id
            rows = [list(inputs[i]) + [pad] * (longest - len(inputs[i])) for i in chosen]
            masks = [[1] * len(inputs[i]) + [0] * (longest - len(inputs[i])) for i in chosen]
            logits_BC = model(
                input_ids=torch.tensor(rows, device=self.loaded.device),
                attention_mask=torch.tensor(masks, device=self.loaded.device),
            ).logits
            for index, logits_C in zip(chosen, logits_BC, strict=True):
                found[index] = logits_C
        return found

    @torch.inference_mode()
    def text_loss(self, texts: Sequence[str], *, max_seq_len: int = 512) -> TextLoss:
        """Loss on raw texts, each begun with the tokenizer's own begin token and cut at `max_seq_len` tokens.

        For decoder-only models. The first token of a text is predicted only where there is a begin token before it.
        """
        model: Any = self.loaded.model
        nats, num_tokens, num_bytes = 0.0, 0, 0
        start = [] if self.tokenizer.bos_id is None else [self.tokenizer.bos_id]
        room = min(max_seq_len, self.max_len or max_seq_len)
        for text in texts:
            ids = (start + self.tokenizer.encode(text))[:room]
            if len(ids) < 2:
                continue
            ids_BL = torch.tensor([ids], device=self.loaded.device)
            inputs = prompted_inputs(model, ids_BL)
            skip = 0 if "input_ids" in inputs else inputs["inputs_embeds"].shape[1] - len(ids)
            logits = model(**inputs).logits[0, skip:-1]
            nats += float(functional.cross_entropy(logits.float(), ids_BL[0, 1:], reduction="sum"))
            num_tokens += len(ids) - 1
            num_bytes += len(self.tokenizer.decode(ids[1:]).encode("utf-8"))
        return TextLoss(nats, num_tokens, num_bytes)


def _until_stop(tokens: list[int], stop: set[int]) -> list[int]:
    end = next((i for i, token in enumerate(tokens) if token in stop), len(tokens))
    return tokens[:end]


def load_engine(base: Path, artefact: Path | None = None) -> Engine:
    """An engine over the base model in `base`, with the adapter or model folder `artefact` in place of it or on it."""
    if artefact is None:
        tokenizer = Tokenizer.from_folder(base)
        return Engine(load_model(base, pad_id=tokenizer.pad_id), tokenizer)
    if not artefact.is_dir():
        raise NotFound(f"{artefact} is not there", fix="train first: foretune train job.toml")
    if not (artefact / "adapter_config.json").is_file():
        tokenizer = Tokenizer.from_folder(artefact)
        return Engine(load_model(artefact, pad_id=tokenizer.pad_id), tokenizer)
    labels_file = artefact / "labels.json"
    labels = tuple(json.loads(labels_file.read_text(encoding="utf-8"))) if labels_file.is_file() else ()
    tokenizer = Tokenizer.from_folder(base)
    notes = read_notes(artefact)
    num_outputs = 1 if notes.method == "regress" else len(labels)
    loaded = load_model(base, num_labels=num_outputs, pad_id=tokenizer.pad_id, quantise=notes.quantise_base)
    load_adapter(loaded, artefact)
    return Engine(loaded, tokenizer, labels, Scale(notes.target_mean, notes.target_deviation))
