"""A model ready to answer: batched greedy generation with stop tokens, class prediction, and loss on text.

What it does not know: prompts, metrics, runs. It never samples; the same input gives the same answer.
"""

# SPDX-License-Identifier: Apache-2.0
#
# Shapes: B rows, L prompt tokens, D width, C classes.
from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from foretune.data.targets import UNSCALED, Scale, shown_number
from foretune.data.tokenizer import Tokenizer
from foretune.engine.flat import FlatAnswers, why_not_flat_answers
from foretune.engine.memory import free_bytes, is_out_of_memory, rows_that_fit
from foretune.errors import DoesNotFit, NotFound
from foretune.log import note
from foretune.models.adapter import load_adapter
from foretune.models.load import LoadedModel, load_model
from foretune.models.provenance import read_notes
from foretune.models.virtual import KeyValuePrefix, SoftPrompt, num_virtual_tokens, prompted_inputs

__all__ = ["Engine", "TextLoss", "decode_seconds", "load_engine"]

PROBE_TOKENS = 16  # read and generated, where speed is measured

Progress = Callable[[int, int], None]
Said = TypeVar("Said")


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
        self.said: list[str] = []  # what the user was told
        self.shrunk: list[str] = []  # of that, batches made smaller
        self._flat = FlatAnswers(loaded)
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

        A batch that does not fit into memory is halved. A prompt that leaves no room keeps its end. The answer ends at
        the first of the tokenizer's stop tokens. Equal prompts are answered once. Raises DoesNotFit where not even one
        prompt fits.
        """
        places: dict[tuple[int, ...], list[int]] = {}
        for place, prompt in enumerate(prompts):
            places.setdefault(tuple(self._fitted(prompt, max_new_tokens)), []).append(place)
        answers: list[list[int]] = [[] for _ in prompts]
        asked, done = list(places), 0
        stream = partial(self._stream, max_new_tokens=max_new_tokens)
        for number, answer in self._within_memory(asked, batch_size, stream):
            for place in places[asked[number]]:
                answers[place] = list(answer)
                done += 1
            if on_progress is not None:
                on_progress(done, len(prompts))
        return answers

    def _within_memory(
        self,
        prompts: Sequence[Sequence[int]],
        size: int,
        stream: Callable[[list[Sequence[int]], int], Iterator[tuple[int, Said]]],
    ) -> Iterator[tuple[int, Said]]:
        """What `stream` says of each prompt, by number; where memory runs out, with half as many rows at once."""
        waiting = list(range(len(prompts)))
        while waiting:
            left = dict.fromkeys(waiting)
            try:
                for number, said in stream([prompts[i] for i in waiting], size):
                    del left[waiting[number]]
                    yield waiting[number], said
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                size = self._halved(size, type(error).__name__)
            waiting = list(left)

    def _halved(self, size: int, why: str) -> int:
        if size == 1:
            raise DoesNotFit(
                "memory runs out while a single prompt is answered",
                fix="free memory, or make prompts and answers shorter: evaluate.max_new_tokens, evaluate.few_shot",
            )
        self._say(f"out of memory in evaluation ({why}): batch size is now {size // 2}", self.shrunk)
        return size // 2

    def _say(self, message: str, *lists: list[str]) -> None:
        """Tell the user, once."""
        if message not in self.said:
            note(message)
            for one in (self.said, *lists):
                one.append(message)

    def _is_flat(self, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> bool:
        """Whether flat tokens answer these prompts; if not, the reason is told."""
        reason = why_not_flat_answers(self.loaded, self._longest(prompts, max_new_tokens))
        if reason and self.loaded.kind != "seq2seq":
            self._say(f"answers come from the transformers class on padded batches, because {reason}")
        return not reason

    def _longest(self, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> int:
        own = max((len(prompt) for prompt in prompts), default=0)
        return own + max_new_tokens + num_virtual_tokens(self.loaded.model)

    def _stream(
        self, prompts: Sequence[Sequence[int]], size: int, *, max_new_tokens: int
    ) -> Iterator[tuple[int, list[int]]]:
        if not self._is_flat(prompts, max_new_tokens):
            yield from self._in_batches(prompts, max_new_tokens, size)
            return
        generator, longest = self._flat.generator(self.tokenizer.stop_ids), self._longest(prompts, max_new_tokens)
        fits = rows_that_fit(size, generator.slot_bytes(longest), free_bytes())
        if fits < size:
            message = f"{size} rows of {longest} tokens would not fit into memory: batch size is now {fits}"
            self._say(message, self.shrunk)
        yield from self._flat.answers(generator, prompts, max_new_tokens=max_new_tokens, num_rows=fits)

    def _in_batches(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, size: int
    ) -> Iterator[tuple[int, list[int]]]:
        """Batches of prompts of like length."""
        order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            yield from zip(chosen, self._answers([list(prompts[i]) for i in chosen], max_new_tokens), strict=True)

    def _fitted(self, prompt: Sequence[int], max_new_tokens: int) -> list[int]:
        room = None if self.max_len is None else max(1, self.max_len - max_new_tokens)
        return (list(prompt)[-room:] if room else list(prompt)) or [self.tokenizer.pad_id]

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
        """What the head says of each input: [C]; a prefix that inputs share is read once."""
        found: list[Tensor] = [torch.empty(0)] * len(inputs)
        ways = partial(self._heads, flat=self._is_flat(inputs, 0))
        for index, logits_C in self._within_memory(inputs, batch_size, ways):
            found[index] = logits_C
        return found

    def _heads(self, inputs: Sequence[Sequence[int]], size: int, *, flat: bool) -> Iterator[tuple[int, Tensor]]:
        if flat:
            generator = self._flat.generator(())
            yield from self._flat.outputs(generator, inputs, num_rows=size)
            return
        model: Any = self.loaded.model
        order = sorted(range(len(inputs)), key=lambda i: -len(inputs[i]))
        pad = self.tokenizer.pad_id
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            longest = len(inputs[chosen[0]])
            rows = [list(inputs[i]) + [pad] * (longest - len(inputs[i])) for i in chosen]
            masks = [[1] * len(inputs[i]) + [0] * (longest - len(inputs[i])) for i in chosen]
            logits_BC = model(
                input_ids=torch.tensor(rows, device=self.loaded.device),
                attention_mask=torch.tensor(masks, device=self.loaded.device),
            ).logits
            yield from zip(chosen, logits_BC, strict=True)

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


def decode_seconds(loaded: LoadedModel, tokenizer: Tokenizer, num_rows: int) -> float:
    """Measured seconds of one more token for `num_rows` short rows, as `generate` gives them; prompts not counted."""
    endless = copy(tokenizer)
    endless.stop_ids = ()
    engine = Engine(loaded, endless)
    draw = torch.Generator().manual_seed(0)
    prompts = torch.randint(0, tokenizer.vocab_size, (num_rows, PROBE_TOKENS), generator=draw).tolist()
    seconds = []
    for num_tokens in (1, 1, 1 + PROBE_TOKENS):  # the first is warm-up
        began = time.perf_counter()
        engine.generate(prompts, max_new_tokens=num_tokens, batch_size=num_rows)
        seconds.append(time.perf_counter() - began)
    return max(seconds[2] - seconds[1], seconds[2] / 4) / PROBE_TOKENS


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
