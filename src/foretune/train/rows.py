"""Samples to training rows, one builder a kind of model: chat, text, source and target, class, number, preference."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, overload

import numpy as np

from foretune.config.job import PREFERENCE_METHODS
from foretune.data.faults import fault_error
from foretune.data.inputs import class_input, plain_text, source_ids, with_end
from foretune.data.preference import Judged, tokenise_judged, tokenise_pairs
from foretune.data.samples import Sample
from foretune.data.targets import UNSCALED, Scale, target_numbers
from foretune.data.token_shards import TokenShards, Windows
from foretune.data.tokenise import TokenisedSample, sample_fault, tokenise_all
from foretune.data.tokenizer import Tokenizer
from foretune.data.world.shards import masked_token_stream
from foretune.errors import ConfigError, DataError
from foretune.train.objective import Preference, Row

__all__ = [
    "Rows",
    "build_rows",
    "causal_rows",
    "classify_rows",
    "judged_rows",
    "packed_rows",
    "pair_rows",
    "regress_rows",
    "seq2seq_rows",
    "shard_rows",
    "world_rows",
]

WORLD_SEED = 20_261_121
WORLD_VALIDATION_SEED = WORLD_SEED + 1
# What nobody says (the user's turns, the tables asked about) is worth a little as language, and little as a skill.
UNSAID_WEIGHT = 0.1
MOST_VALIDATION_ROWS = 1000  # of token shards


class ShardRows(Sequence[Row]):
    """Rows that are read from token shards when they are asked for; every token carries loss."""

    def __init__(self, windows: Windows) -> None:
        self._windows = windows

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._windows)

    @overload
    def __getitem__(self, place: int) -> Row: ...
    @overload
    def __getitem__(self, place: slice) -> list[Row]: ...
    def __getitem__(self, place: int | slice) -> Row | list[Row]:
        """One row, or the rows of a slice."""
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        ids = self._windows[place]
        return Row(ids, np.ones(len(ids), dtype=np.float32))


class Rows(NamedTuple):
    """Rows to train on, and how many samples, longer than `max_seq_len`, were left out as answers would be cut off."""

    rows: Sequence[Row]
    num_dropped: int
    places: tuple[str, ...] = ()
    max_seq_len: int = 0


def build_rows(
    samples: Sequence[Sample],
    tokenizer: Tokenizer,
    *,
    kind: str,
    max_seq_len: int,
    train_on: str = "assistant",
    labels: Sequence[str] = (),
    pack: bool = False,
    method: str = "",
    scale: Scale = UNSCALED,
) -> Rows:
    """The rows of one split for a model of `kind` (causal, seq2seq, classify, regress) and a method.

    `method` matters where it is dpo, orpo or kto; `scale` is that of the targets of regression. Raises DataError where
    no row is left.
    """
    if method != "kto":
        _refuse_poor(samples)
    if method == "kto":
        built = judged_rows(samples, tokenizer, max_seq_len)
    elif method in PREFERENCE_METHODS:
        built = pair_rows(samples, tokenizer, max_seq_len)
    elif kind == "classify":
        built = classify_rows(samples, tokenizer, labels, max_seq_len)
    elif kind == "regress":
        built = regress_rows(samples, tokenizer, scale, max_seq_len)
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
    return built._replace(max_seq_len=max_seq_len)


def _refuse_poor(samples: Sequence[Sample]) -> None:
    """Raise DataError where answers that are judged poor would be learned."""
    faults = [
        sample_fault(sample, "the answer is judged poor, and would be learned", 'train.method = "kto"')
        for sample in samples
        if sample.desirable is False
    ]
    if faults:
        raise fault_error(faults, "this split")


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
    """Source and target for an encoder-decoder; a pair with either side too long is left out.

    Raises DataError for raw text: without a target nothing but the end would be learned.
    """
    faults = [
        sample_fault(sample, "raw text has no target for an encoder-decoder to learn", "use a decoder-only base")
        for sample in samples
        if sample.is_text
    ]
    if faults:
        raise fault_error(faults, "this split")
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
    _check_classes(samples, number)
    rows = []
    for sample in samples:
        ids = np.asarray(class_input(sample, tokenizer, max_seq_len), dtype=np.int32)
        rows.append(Row(ids, np.zeros(len(ids), dtype=np.float32), label=number[sample.target]))
    return Rows(rows, 0)


def _check_classes(samples: Sequence[Sample], known: Mapping[str, int]) -> None:
    """Raise DataError naming every row whose class the training split does not have."""
    faults = [
        sample_fault(
            sample,
            f"class {sample.target!r} is not among the {len(known)} classes of the training split",
            "check its spelling, or add training rows of that class",
        )
        for sample in samples
        if sample.target not in known
    ]
    if len(faults) == 1:
        raise DataError(str(faults[0]), fix=faults[0].fix, faults=tuple(faults))
    if faults:
        raise fault_error(faults, "the classes of this split")


def regress_rows(samples: Sequence[Sample], tokenizer: Tokenizer, scale: Scale, max_seq_len: int) -> Rows:
    """Text and standardised number; a text that is too long loses its beginning. Raises DataError on what is none."""
    rows = []
    for sample, number in zip(samples, target_numbers(samples), strict=True):
        ids = np.asarray(class_input(sample, tokenizer, max_seq_len), dtype=np.int32)
        rows.append(Row(ids, np.zeros(len(ids), dtype=np.float32), value=scale.standardised(number)))
    return Rows(rows, 0)


def pair_rows(samples: Sequence[Sample], tokenizer: Tokenizer, max_seq_len: int) -> Rows:
    """Better and worse conversation of one prompt, for dpo and orpo. Raises DataError naming rows that are no pairs."""
    data = tokenise_pairs(samples, tokenizer, max_seq_len=max_seq_len)
    rows = [Row(*_learned(pair.better), preference=Preference(*_learned(pair.worse))) for pair in data.pairs]
    return Rows(rows, len(data.places), tuple(data.places))


def judged_rows(samples: Sequence[Sample], tokenizer: Tokenizer, max_seq_len: int) -> Rows:
    """Answers that are good or poor, each beside its prompt with the answer of the row before it, for kto."""
    data = tokenise_judged(samples, tokenizer, max_seq_len=max_seq_len)
    rows = [
        Row(*_learned(row.whole), preference=_mismatched(row, data.rows[place - 1], max_seq_len))
        for place, row in enumerate(data.rows)
    ]
    return Rows(rows, len(data.places), tuple(data.places))


def _learned(sample: TokenisedSample) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(sample.ids, dtype=np.int32), np.asarray(sample.loss_mask, dtype=np.float32)


def _mismatched(row: Judged, other: Judged, max_seq_len: int) -> Preference:
    """The row's prompt with another row's answer, cut at `max_seq_len` tokens."""
    start, from_ = row.num_prompt_tokens, other.num_prompt_tokens
    ids = [*row.whole.ids[:start], *other.whole.ids[from_:]][:max_seq_len]
    mask = [*row.whole.loss_mask[:start], *other.whole.loss_mask[from_:]][:max_seq_len]
    return Preference(
        np.asarray(ids, dtype=np.int32), np.asarray(mask, dtype=np.float32), is_desirable=row.is_desirable
    )


def shard_rows(shards: TokenShards, max_seq_len: int, *, validation_fraction: float) -> tuple[Rows, Rows]:
    """Training and validation rows of token shards, none of them in memory."""
    train, validation = shards.windows(
        max_seq_len, validation_fraction=validation_fraction, most_validation=MOST_VALIDATION_ROWS
    )
    return Rows(ShardRows(train), 0), Rows(ShardRows(validation), 0)


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
    return Rows(rows, dropped, max_seq_len=max_seq_len)
