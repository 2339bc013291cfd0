"""Samples to training rows, one builder a kind of model: chat and text, source and target, text and class."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from foretune.data.inputs import class_input, plain_text, source_ids, with_end
from foretune.data.samples import Sample
from foretune.data.tokenise import tokenise_all
from foretune.data.tokenizer import Tokenizer
from foretune.data.world.shards import masked_token_stream
from foretune.errors import ConfigError, DataError
from foretune.train.objective import Row

__all__ = [
    "Rows",
    "build_rows",
    "causal_rows",
    "classify_rows",
    "packed_rows",
    "seq2seq_rows",
    "world_rows",
]

WORLD_SEED = 20_261_121
WORLD_VALIDATION_SEED = WORLD_SEED + 1
# What nobody says (the user's turns, the tables asked about) is worth a little as language, and little as a skill.
UNSAID_WEIGHT = 0.1


class Rows(NamedTuple):
    """Rows to train on, and how many samples were left out because their answer would have been cut off."""

    rows: list[Row]
    num_dropped: int
    places: tuple[str, ...] = ()


def build_rows(
    samples: Sequence[Sample],
    tokenizer: Tokenizer,
    *,
    kind: str,
    max_seq_len: int,
    train_on: str = "assistant",
    labels: Sequence[str] = (),
    pack: bool = False,
) -> Rows:
    """The rows of one split for a model of `kind` (causal, seq2seq, classify). Raises DataError where none is left."""
    if kind == "classify":
        built = classify_rows(samples, tokenizer, labels, max_seq_len)
    elif kind == "seq2seq":
        built = seq2seq_rows(samples, tokenizer, max_seq_len)
    elif pack:
        built = packed_rows(samples, tokenizer, max_seq_len)
    else:
        built = causal_rows(samples, tokenizer, max_seq_len, train_on)
    if samples and not built.rows:
        raise DataError(
            f"all {len(samples)} samples are longer than max_seq_len {max_seq_len}, nothing is left to train on",
            fix="raise train.max_seq_len, shorten the samples, or choose a base with more positions",
        )
    return built


def causal_rows(samples: Sequence[Sample], tokenizer: Tokenizer, max_seq_len: int, train_on: str) -> Rows:
    """Conversations with loss on what the assistant says (or on all), raw text with loss everywhere."""
    data = tokenise_all(
        samples, tokenizer, max_seq_len=max_seq_len, train_on="all" if train_on == "all" else "assistant"
    )
    rows = [Row(np.asarray(s.ids, dtype=np.int32), np.asarray(s.loss_mask, dtype=np.float32)) for s in data.samples]
    return Rows(rows, data.num_dropped_too_long, tuple(data.places))


def packed_rows(samples: Sequence[Sample], tokenizer: Tokenizer, max_seq_len: int) -> Rows:
    """Raw text for pretraining: documents end to end, cut into rows of `max_seq_len`; the rest makes a short row."""
    texts = [plain_text(sample) for sample in samples]
    pieces = [np.asarray(with_end(ids, tokenizer), dtype=np.int32) for ids in tokenizer.encode_batch(texts)]
    stream = np.concatenate(pieces) if pieces else np.empty(0, dtype=np.int32)
    cut = [stream[i : i + max_seq_len] for i in range(0, len(stream), max_seq_len)]
    return Rows([Row(ids, np.ones(len(ids), dtype=np.float32)) for ids in cut if len(ids) > 1], 0)


def seq2seq_rows(samples: Sequence[Sample], tokenizer: Tokenizer, max_seq_len: int) -> Rows:
    """Source and target for an encoder-decoder; a pair with either side too long is left out."""
    rows, dropped = [], []
    for sample in samples:
        source, target = source_ids(sample, tokenizer), with_end(tokenizer.encode(sample.target), tokenizer)
        if max(len(source), len(target)) > max_seq_len:
            dropped.append(sample.place)
            continue
        ids = np.asarray(target, dtype=np.int32)
        rows.append(Row(ids, np.ones(len(ids), dtype=np.float32), np.asarray(source, dtype=np.int32)))
    return Rows(rows, len(dropped), tuple(dropped))


def classify_rows(samples: Sequence[Sample], tokenizer: Tokenizer, labels: Sequence[str], max_seq_len: int) -> Rows:
    """Text and class; a text that is too long loses its beginning. Raises DataError on a class not seen in training."""
    number = {label: i for i, label in enumerate(labels)}
    rows = []
    for sample in samples:
        if sample.target not in number:
            raise DataError(
                f"{sample.place}: class {sample.target!r} is not among the {len(labels)} classes of the training split",
                fix="check its spelling, or add training rows of that class",
            )
        ids = np.asarray(class_input(sample, tokenizer, max_seq_len), dtype=np.int32)
        rows.append(Row(ids, np.zeros(len(ids), dtype=np.float32), label=number[sample.target]))
    return Rows(rows, 0)


def world_rows(num_documents: int, tokenizer: Tokenizer, max_seq_len: int, *, seed: int = WORLD_SEED) -> Rows:
    """Rows of the generated corpus that pebble is pretrained on; documents longer than `max_seq_len` are left out."""
    if num_documents <= 0:
        raise ConfigError('data.path = "world" needs the number of documents', fix="data.max_rows = 400000")
    rows, dropped = [], 0
    for document in masked_token_stream(seed, tokenizer.backend, num_documents):
        if len(document.ids) > max_seq_len:
            dropped += 1
            continue
        weights = np.where(np.asarray(document.said), np.float32(1.0), np.float32(UNSAID_WEIGHT))
        rows.append(
            Row(np.asarray(document.ids, dtype=np.int16 if tokenizer.vocab_size < 32_768 else np.int32), weights)
        )
    return Rows(rows, dropped)
