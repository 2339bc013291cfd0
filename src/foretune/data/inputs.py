"""What a model is fed for a sample: chat prompt, encoder source, classifier input or raw text, as in training."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

from foretune.data.samples import Message, Sample
from foretune.data.tokenise import prompt_ids
from foretune.data.tokenizer import Tokenizer

__all__ = ["asked", "class_input", "input_ids", "plain_text", "source_ids", "with_end"]


def asked(messages: Sequence[Message]) -> Sample:
    """Messages that wait for an answer, as a sample whose answer is still empty."""
    return Sample(id="", messages=(*messages, Message("assistant", "")))


def input_ids(sample: Sample, tokenizer: Tokenizer, *, kind: str, max_seq_len: int) -> list[int]:
    """What a model of `kind` (causal, seq2seq, classify, regress) reads before it answers; a head's input is cut."""
    if kind in ("classify", "regress"):
        return class_input(sample, tokenizer, max_seq_len)
    return source_ids(sample, tokenizer) if kind == "seq2seq" else prompt_ids(sample, tokenizer)


def source_ids(sample: Sample, tokenizer: Tokenizer) -> list[int]:
    """What an encoder reads: the messages before the answer as plain text, with the tokenizer's own end token."""
    text = "\n".join(message.content for message in sample.prompt)
    return with_end(tokenizer.encode(text), tokenizer)


def class_input(sample: Sample, tokenizer: Tokenizer, max_seq_len: int) -> list[int]:
    """What a classifier reads: the chat prompt where the model has a chat template, else the bare input text.

    A text longer than `max_seq_len` tokens loses its beginning; an empty one is a single padding token.
    """
    if tokenizer.has_chat_template:
        ids = prompt_ids(sample, tokenizer)
    else:
        ids = tokenizer.encode(sample.input_text, add_special=True)
    return ids[-max_seq_len:] or [tokenizer.pad_id]


def plain_text(sample: Sample) -> str:
    """The sample as raw text, for pretraining: its text, or what its messages say, one a line."""
    return sample.text or "\n".join(message.content for message in sample.messages)


def with_end(ids: list[int], tokenizer: Tokenizer) -> list[int]:
    """Ids with the end-of-text token behind them, where the model has one."""
    return ids if tokenizer.eos_id is None else [*ids, tokenizer.eos_id]
