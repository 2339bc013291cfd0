"""Samples as the model meets them: the tokens of the prompt, those of the target, and the one that ends it."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from foretune.data.inputs import source_ids, with_end
from foretune.data.samples import Sample
from foretune.data.tokenise import prompt_ids, tokenise_all
from foretune.data.tokenizer import Tokenizer
from foretune.engine.losses import Asked

__all__ = ["Reference", "behind", "given_another", "references"]

TEXT_TOKENS = 1024  # of a raw text, where the model has no limit


@dataclass(frozen=True)
class Reference:
    """One sample in tokens: `places` are those of the target without its end, `end` that of the token that ends it.

    `start` is the first token behind the prompt; an encoder-decoder has its prompt in `source` and starts at 0.
    """

    sample: Sample
    ids: list[int]
    start: int
    places: list[int]
    end: int | None
    source: list[int] | None = None

    @property
    def num_last(self) -> int:
        """Tokens in the last tenth of the target, at least one."""
        return max(1, len(self.places) // 10)

    @property
    def target_ids(self) -> list[int]:
        """The tokens of the target."""
        return [self.ids[place] for place in self.places]

    def asked(self, *, with_prompt: bool = False) -> Asked:
        """All tokens of the target with its end, behind those of the prompt where they are wanted."""
        prompt = range(1, self.start) if with_prompt else ()
        end = () if self.end is None else (self.end,)
        return Asked(self.ids, [*prompt, *self.places, *end], self.source)


def references(samples: Sequence[Sample], tokenizer: Tokenizer, *, kind: str, max_len: int | None) -> list[Reference]:
    """The samples that fit into `max_len` tokens, each with the tokens of its last answer; raw text is all target.

    For decoders (causal) and encoder-decoders (seq2seq). Raises DataError where prompt and answer cannot be told apart.
    """
    if kind == "seq2seq":
        found = [_pair(sample, tokenizer) for sample in samples if sample.target]
    else:
        found = _rows(samples, tokenizer, max_len)
    return [one for one in found if one.places and (max_len is None or len(one.ids) <= max_len)]


def _pair(sample: Sample, tokenizer: Tokenizer) -> Reference:
    ids = tokenizer.encode(sample.target)
    whole = with_end(ids, tokenizer)
    end = len(ids) if len(whole) > len(ids) else None
    return Reference(sample, whole, 0, list(range(len(ids))), end, source_ids(sample, tokenizer))


def _rows(samples: Sequence[Sample], tokenizer: Tokenizer, max_len: int | None) -> list[Reference]:
    limit = max_len or (TEXT_TOKENS if any(sample.is_text for sample in samples) else 0)
    data = tokenise_all(samples, tokenizer, max_seq_len=limit)
    stops, seen = set(tokenizer.stop_ids), set[int]()
    found = []
    for row, index in zip(data.samples, data.indices, strict=True):
        if index in seen:  # a raw text in pieces counts by its first
            continue
        seen.add(index)
        sample = samples[index]
        start = 1 if sample.is_text else len(prompt_ids(sample, tokenizer))
        learned = [place for place in range(start, len(row.ids)) if row.loss_mask[place]]
        end = next((place for place in reversed(learned) if row.ids[place] in stops), None)
        found.append(Reference(sample, row.ids, start, [place for place in learned if place != end], end))
    return found


def behind(prompt: Sequence[int], reference: Reference) -> Asked:
    """The target of a decoder's sample behind the tokens of a prompt."""
    target = reference.target_ids
    return Asked([*prompt, *target], list(range(len(prompt), len(prompt) + len(target))))


def given_another(reference: Reference, other: Reference) -> Asked:
    """The target of one sample behind the prompt of another."""
    target = reference.target_ids
    if reference.source is not None:
        return Asked(target, list(range(len(target))), other.source)
    return behind(other.ids[: other.start], reference)
