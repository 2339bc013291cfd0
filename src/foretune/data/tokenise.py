"""Samples to token ids with a loss mask that is proved, not guessed: only the answers carry loss."""

# SPDX-License-Identifier: Apache-2.0
#
# Positions, not shifted targets: `loss_mask[i]` is 1 where token i is to be predicted from the tokens before it. The
# first token has nothing before it, so `loss_mask[0]` is always 0.
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from foretune.data.faults import fault_error
from foretune.data.samples import Sample
from foretune.data.tokenizer import Tokenizer
from foretune.data.turns import Layout, Turn, lay_out
from foretune.errors import DataError, Fault

__all__ = [
    "TokenisedData",
    "TokenisedSample",
    "TrainOn",
    "prompt_ids",
    "sample_fault",
    "shown_mask",
    "tokenise",
    "tokenise_all",
]

TrainOn = Literal["assistant", "all"]
CHUNK = 1024  # samples whose encodings are in memory at once


@dataclass(frozen=True, slots=True)
class TokenisedSample:
    """Token ids and, for each, 1 if it is to be learned. Truncated to `max_seq_len` where it was longer.

    `answer_cut` says that tokens to learn were among the `num_dropped_tokens`; such a sample must not be trained on.
    """

    ids: list[int]
    loss_mask: list[int]
    num_dropped_tokens: int = 0
    answer_cut: bool = False
    place: str = ""

    @property
    def num_loss_tokens(self) -> int:
        """How many tokens are learned."""
        return sum(self.loss_mask)


@dataclass(frozen=True, slots=True)
class TokenisedData:
    """Samples ready to train on; rows whose answer would have been cut off are left out and counted.

    `places` are where those rows stand; `indices` tells which input each kept sample came from.
    """

    samples: list[TokenisedSample]
    num_dropped_too_long: int
    places: list[str]
    indices: list[int]


def tokenise(
    sample: Sample, tokenizer: Tokenizer, *, max_seq_len: int = 0, train_on: TrainOn = "assistant"
) -> TokenisedSample:
    """Token ids and loss mask of one sample; `max_seq_len` 0 means no limit.

    Raises DataError where the answers cannot be told from the prompt with certainty.
    """
    (whole,) = _masked([sample], tokenizer, train_on)
    return _cut(whole, max_seq_len)


def tokenise_all(
    samples: Sequence[Sample], tokenizer: Tokenizer, *, max_seq_len: int = 0, train_on: TrainOn = "assistant"
) -> TokenisedData:
    """Tokenise many samples at once. A raw text longer than `max_seq_len` becomes several rows, with nothing lost.

    Raises DataError naming every row whose answers cannot be told from the prompt.
    """
    kept: list[TokenisedSample] = []
    indices: list[int] = []
    dropped: list[str] = []
    for index, whole in enumerate(_masked(samples, tokenizer, train_on)):
        pieces = _rows(whole, max_seq_len) if samples[index].is_text else [_cut(whole, max_seq_len)]
        if pieces[0].answer_cut:
            dropped.append(whole.place or samples[index].id)
            continue
        kept += pieces
        indices += [index] * len(pieces)
    return TokenisedData(kept, len(dropped), dropped, indices)


def prompt_ids(sample: Sample, tokenizer: Tokenizer) -> list[int]:
    """What inference is fed for this sample: the prompt with the generation prompt; a prefix of its training ids."""
    if sample.is_text:
        return [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    return tokenizer.encode(tokenizer.render(sample.prompt, add_generation_prompt=True, tools=sample.tools))


def shown_mask(tokenised: TokenisedSample, tokenizer: Tokenizer, *, marks: tuple[str, str] = ("⟦", "⟧")) -> str:
    """The sample as the model sees it, with the parts that are learned between ⟦ and ⟧."""
    edges = [0]
    edges += [i for i in range(1, len(tokenised.ids)) if tokenised.loss_mask[i] != tokenised.loss_mask[i - 1]]
    edges.append(len(tokenised.ids))
    text = ""
    done = 0
    for start, end in pairwise(edges):
        piece = tokenizer.decode(tokenised.ids[:end], skip_special=False)
        part = piece[done:]
        done = len(piece)
        text += f"{marks[0]}{part}{marks[1]}" if tokenised.loss_mask[start] else part
    return text


def _masked(samples: Sequence[Sample], tokenizer: Tokenizer, train_on: TrainOn) -> list[TokenisedSample]:
    results: list[TokenisedSample] = []
    faults: list[Fault] = []
    for start in range(0, len(samples), CHUNK):
        chunk = samples[start : start + CHUNK]
        layouts = _layouts(chunk, tokenizer, faults)
        results += _masked_chunk(chunk, layouts, tokenizer, train_on, faults) if len(layouts) == len(chunk) else []
    if faults:
        raise _refused(faults, tokenizer)
    return results


def _layouts(samples: Sequence[Sample], tokenizer: Tokenizer, faults: list[Fault]) -> list[Layout]:
    layouts = []
    for sample in samples:
        try:
            layouts.append(Layout(sample.text, "", ()) if sample.is_text else lay_out(sample, tokenizer))
        except DataError as error:
            faults.append(sample_fault(sample, error.what, error.fix))
    return layouts


def _masked_chunk(
    samples: Sequence[Sample],
    layouts: Sequence[Layout],
    tokenizer: Tokenizer,
    train_on: TrainOn,
    faults: list[Fault],
) -> list[TokenisedSample]:
    encodings = tokenizer.encodings([layout.text for layout in layouts])
    prompts = tokenizer.encode_batch([layout.prompt for layout in layouts])
    results = []
    for sample, layout, encoding, prompt in zip(samples, layouts, encodings, prompts, strict=True):
        try:
            if sample.is_text:
                results.append(_text_sample(sample, encoding.ids, tokenizer))
            else:
                results.append(_chat_sample(sample, layout, encoding, prompt, tokenizer, train_on))
        except DataError as error:
            faults.append(sample_fault(sample, error.what, error.fix))
    return results


def sample_fault(sample: Sample, what: str, fix: str) -> Fault:
    """What is wrong with one row, with its place."""
    file, _, line = sample.place.rpartition(":")
    if file and line.isdigit():
        return Fault(file, int(line), what, fix=fix)
    return Fault(sample.place or f"sample {sample.id}", 0, what, fix=fix)


def _refused(faults: list[Fault], tokenizer: Tokenizer) -> DataError:
    if len(faults) == 1:
        return DataError(str(faults[0]), fix=faults[0].fix, faults=tuple(faults))
    return fault_error(faults, f"the rows, as seen through {tokenizer.template.name}")


def _text_sample(sample: Sample, ids: list[int], tokenizer: Tokenizer) -> TokenisedSample:
    """Raw text: begin token, text, end token; everything but the first token is learned."""
    begin = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    end = [] if tokenizer.eos_id is None else [tokenizer.eos_id]
    whole = begin + ids + end
    return TokenisedSample(whole, [0] * min(len(whole), 1) + [1] * (len(whole) - 1), place=sample.place)


def _chat_sample(
    sample: Sample, layout: Layout, encoding: Any, prompt: list[int], tokenizer: Tokenizer, train_on: TrainOn
) -> TokenisedSample:
    ids: list[int] = encoding.ids
    if ids[: len(prompt)] == prompt:
        mask = _mask(encoding, layout, 0, layout.turns, len(prompt))
    else:
        ids, mask = _rejoined(sample, layout, encoding, prompt, tokenizer)
    if layout.add_eos and tokenizer.eos_id is not None:
        ids, mask = [*ids, tokenizer.eos_id], [*mask, 1]
    if train_on == "all":
        mask = [1] * len(ids)
    mask[:1] = [0]
    if not any(mask):
        raise DataError("no token carries loss", fix="give the assistant an answer")
    return TokenisedSample(ids, mask, place=sample.place)


def _mask(encoding: Any, layout: Layout, offset: int, turns: Sequence[Turn], num_prompt_tokens: int) -> list[int]:
    """1 on the tokens of one encoding that lie in an answer; its text begins at character `offset` of the layout's.

    A token that also holds some of the prompt or of the next turn is not learned; white space behind an answer is no
    harm. An answer that begins right behind the prompt begins with the token behind the prompt's.
    """
    mask = [0] * len(encoding.ids)
    for turn in turns:
        is_behind_prompt = turn.start == len(layout.prompt)
        start = num_prompt_tokens if is_behind_prompt else _token_from(encoding, turn.start - offset)
        end = _token_from(encoding, turn.end - offset)
        if end > start and layout.text[turn.end : offset + encoding.token_to_chars(end - 1)[1]].strip():
            end -= 1
        mask[start:end] = [1] * (end - start)
    return mask


def _token_from(encoding: Any, char: int) -> int:
    """First token that begins at `char` or later; the number of tokens where there is none."""
    if char <= 0:
        return 0
    token: int | None = encoding.char_to_token(char)
    if token is None:
        starts = (i for i, (start, end) in enumerate(encoding.offsets) if start >= char and end > start)
        return next(starts, len(encoding.ids))
    return token + 1 if encoding.token_to_chars(token)[0] < char else token


def _rejoined(
    sample: Sample, layout: Layout, encoding: Any, prompt: list[int], tokenizer: Tokenizer
) -> tuple[list[int], list[int]]:
    """Ids and mask of the text encoded in two pieces, cut where the model begins its last answer, as at inference.

    Needed where a token would span the border (a prompt that ends in a newline, an answer that begins with one).
    Proved by the pieces decoding to the same text as the whole.
    """
    border = len(layout.prompt)
    first, second = tokenizer.encodings([layout.prompt, layout.text[border:]])
    ids = [*first.ids, *second.ids]
    if first.ids != prompt or tokenizer.decode(ids, False) != tokenizer.decode(encoding.ids, False):
        raise DataError(
            f"{tokenizer.template.name}: the tokens of the prompt are no prefix of those of the whole text, so the "
            "answer cannot be told from the prompt",
            fix="begin answers without white space, or use a base model with another tokenizer",
        )
    earlier, last = layout.turns[:-1], layout.turns[-1:]
    return ids, _mask(first, layout, 0, earlier, 0) + _mask(second, layout, border, last, 0)


def _cut(sample: TokenisedSample, max_seq_len: int) -> TokenisedSample:
    if max_seq_len <= 0 or len(sample.ids) <= max_seq_len:
        return sample
    lost = sample.loss_mask[max_seq_len:]
    return TokenisedSample(
        sample.ids[:max_seq_len], sample.loss_mask[:max_seq_len], len(lost), answer_cut=any(lost), place=sample.place
    )


def _rows(sample: TokenisedSample, max_seq_len: int) -> list[TokenisedSample]:
    """A raw text in rows of at most `max_seq_len` tokens; the first token of each row has nothing before it."""
    if max_seq_len <= 0 or len(sample.ids) <= max_seq_len:
        return [sample]
    rows = []
    for start in range(0, len(sample.ids), max_seq_len):
        ids = sample.ids[start : start + max_seq_len]
        rows.append(TokenisedSample(ids, [0] + [1] * (len(ids) - 1), place=sample.place))
    return rows
