"""Preference samples to token ids: a better and a worse answer to one prompt, or one answer that is good or poor."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from foretune.data.faults import fault_error
from foretune.data.samples import Message, Sample, common_length
from foretune.data.tokenise import TokenisedSample, sample_fault, tokenise_all
from foretune.data.tokenizer import Tokenizer
from foretune.errors import Fault

__all__ = [
    "Judged",
    "PreferenceLengths",
    "TokenisedJudged",
    "TokenisedPair",
    "TokenisedPairs",
    "preference_lengths",
    "tokenise_judged",
    "tokenise_pairs",
]


@dataclass(frozen=True, slots=True)
class TokenisedPair:
    """The better and the worse conversation; both begin with the same `num_prompt_tokens`, only the rest is learned."""

    better: TokenisedSample
    worse: TokenisedSample
    num_prompt_tokens: int


@dataclass(frozen=True, slots=True)
class TokenisedPairs:
    """Pairs ready to train on; those of which an answer would have been cut off are left out, with their places."""

    pairs: list[TokenisedPair]
    places: list[str]


@dataclass(frozen=True, slots=True)
class Judged:
    """One conversation, where its answer begins, and whether it is good."""

    whole: TokenisedSample
    num_prompt_tokens: int
    is_desirable: bool


@dataclass(frozen=True, slots=True)
class TokenisedJudged:
    """Judged answers ready to train on; those that would have been cut off are left out, with their places."""

    rows: list[Judged]
    places: list[str]


class PreferenceLengths(NamedTuple):
    """Tokens of each row's longest sequence and of its longest answer; ids of its own and, of pairs, the worse one."""

    tokens: list[int]
    answers: list[int]
    ids: list[np.ndarray]
    others: Sequence[np.ndarray] = ()


def tokenise_pairs(samples: Sequence[Sample], tokenizer: Tokenizer, *, max_seq_len: int = 0) -> TokenisedPairs:
    """Pairs whose answers carry loss from where they part; `max_seq_len` 0 means no limit.

    Raises DataError naming every row without a worse answer, with two equal answers, or whose prompts differ.
    """
    _refuse(_pair_faults(samples), "preference pairs")
    shared = [common_length(sample) for sample in samples]
    better = [_from(sample, sample.messages, place) for sample, place in zip(samples, shared, strict=True)]
    worse = [_from(sample, sample.rejected, place) for sample, place in zip(samples, shared, strict=True)]
    wholes = tokenise_all([*better, *worse], tokenizer)
    found = zip(samples, wholes.samples[: len(samples)], wholes.samples[len(samples) :], strict=True)
    pairs = [(sample, TokenisedPair(good, poor, _prompt_length(good))) for sample, good, poor in found]
    _refuse((fault for sample, pair in pairs for fault in _token_faults(sample, pair)), "preference pairs")
    kept = [pair for _, pair in pairs if _fits(pair.better, max_seq_len) and _fits(pair.worse, max_seq_len)]
    dropped = [
        s.place or s.id for s, pair in pairs if not (_fits(pair.better, max_seq_len) and _fits(pair.worse, max_seq_len))
    ]
    return TokenisedPairs(kept, dropped)


def tokenise_judged(samples: Sequence[Sample], tokenizer: Tokenizer, *, max_seq_len: int = 0) -> TokenisedJudged:
    """Conversations whose last answer is judged; a pair counts as a good and a poor one.

    Raises DataError naming every row that says neither.
    """
    _refuse(_judgement_faults(samples), "judged answers")
    spoken: list[tuple[Sample, bool]] = []
    for sample in samples:
        if sample.rejected:
            start = common_length(sample)
            spoken += [(_from(sample, sample.messages, start), True), (_from(sample, sample.rejected, start), False)]
        else:
            spoken.append((_from(sample, sample.messages, sample.last_answer), bool(sample.desirable)))
    wholes = tokenise_all([sample for sample, _ in spoken], tokenizer).samples
    rows = [Judged(whole, _prompt_length(whole), good) for whole, (_, good) in zip(wholes, spoken, strict=True)]
    kept = [row for row in rows if _fits(row.whole, max_seq_len)]
    return TokenisedJudged(kept, [row.whole.place for row in rows if not _fits(row.whole, max_seq_len)])


def preference_lengths(
    method: str, samples: Sequence[Sample], tokenizer: Tokenizer, *, max_seq_len: int
) -> PreferenceLengths:
    """What the plan counts of each training row, as dpo, orpo or kto will see it."""
    if method == "kto":
        rows = tokenise_judged(samples, tokenizer, max_seq_len=max_seq_len).rows
        answers = [len(row.whole.ids) - row.num_prompt_tokens for row in rows]
        longest = [
            max(len(row.whole.ids), min(row.num_prompt_tokens + answers[place - 1], max_seq_len or len(row.whole.ids)))
            for place, row in enumerate(rows)
        ]
        return PreferenceLengths(longest, answers, [_ids(row.whole) for row in rows])
    pairs = tokenise_pairs(samples, tokenizer, max_seq_len=max_seq_len).pairs
    longest = [max(len(pair.better.ids), len(pair.worse.ids)) for pair in pairs]
    answers = [size - pair.num_prompt_tokens for size, pair in zip(longest, pairs, strict=True)]
    return PreferenceLengths(longest, answers, [_ids(p.better) for p in pairs], [_ids(p.worse) for p in pairs])


def _ids(sample: TokenisedSample) -> np.ndarray:
    return np.asarray(sample.ids, dtype=np.int32)


def _from(sample: Sample, messages: Sequence[Message], start: int) -> Sample:
    """A sample of these messages, learned from message `start` on."""
    shown = (replace(message, learn=False) for message in messages[:start])
    return replace(sample, messages=(*shown, *messages[start:]), rejected=(), desirable=None)


def _prompt_length(sample: TokenisedSample) -> int:
    """Tokens before the first that is learned."""
    return sample.loss_mask.index(1)


def _fits(sample: TokenisedSample, max_seq_len: int) -> bool:
    return not max_seq_len or len(sample.ids) <= max_seq_len


def _pair_faults(samples: Iterable[Sample]) -> Iterable[Fault]:
    for sample in samples:
        if not sample.rejected:
            yield sample_fault(
                sample, "no rejected answer", 'add "rejected", or train.method = "kto" for answers judged alone'
            )
        elif sample.messages == sample.rejected:
            yield sample_fault(sample, "the chosen and the rejected answer are the same", "take the row out")


def _token_faults(sample: Sample, pair: TokenisedPair) -> Iterable[Fault]:
    """Answers that differ as text may be the same tokens; a template may write a prompt by what answers it."""
    if pair.better.ids == pair.worse.ids:
        yield sample_fault(sample, "the chosen and the rejected answer are the same tokens", "take the row out")
    elif pair.worse.ids[: pair.num_prompt_tokens] != pair.better.ids[: pair.num_prompt_tokens]:
        yield sample_fault(
            sample, "the chat template writes the prompt differently for its two answers", "take the row out"
        )


def _judgement_faults(samples: Iterable[Sample]) -> Iterable[Fault]:
    for sample in samples:
        if not sample.is_preference:
            yield sample_fault(sample, "nothing says whether the answer is good", 'add "label": true or false')
        elif sample.rejected and sample.messages == sample.rejected:
            yield sample_fault(sample, "the chosen and the rejected answer are the same", "take the row out")


def _refuse(faults: Iterable[Fault], what: str) -> None:
    found = list(faults)
    if found:
        raise fault_error(found, what)
