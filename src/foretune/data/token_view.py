"""Tokens with their texts and whether they are learned, for people to look at."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

from foretune.data.tokenizer import Tokenizer
from foretune.records.token_audit import ShownSample, ShownToken

__all__ = ["shown_sample", "token_texts"]

HEAD_TOKENS, TAIL_TOKENS = 40, 100  # what is shown of a long row: answers stand at its end
BROKEN = "\ufffd"


def token_texts(ids: Sequence[int], tokenizer: Tokenizer) -> list[str]:
    """The text that each token adds; their concatenation is the decoded text.

    A token that is part of a character adds "", the last token of the character adds all of it.
    """
    texts: list[str] = []
    done = ""
    for end in range(1, len(ids) + 1):
        whole = tokenizer.decode(ids[:end], skip_special=False)
        ready = whole if end == len(ids) else whole.rstrip(BROKEN)
        texts.append(ready[len(done) :] if ready.startswith(done) else "")
        done = ready if ready.startswith(done) else done
    return texts


def shown_sample(ids: Sequence[int], trained: Sequence[bool], tokenizer: Tokenizer, *, place: str = "") -> ShownSample:
    """One row for showing; of more than 140 tokens the first 40 and the last 100.

    `trained` says of each token whether it carries loss.
    """
    special = {tokenizer.added_ids[text] for text in tokenizer.special_texts}
    num_hidden = max(0, len(ids) - HEAD_TOKENS - TAIL_TOKENS)
    cut = HEAD_TOKENS if num_hidden else len(ids)
    parts = [(0, cut), (cut + num_hidden, len(ids))]
    tokens = [
        ShownToken(id=int(ids[i]), text=text, is_trained=bool(trained[i]), is_special=int(ids[i]) in special)
        for start, end in parts
        for i, text in enumerate(token_texts([int(one) for one in ids[start:end]], tokenizer), start)
    ]
    return ShownSample(
        place=place,
        num_tokens=len(ids),
        num_loss_tokens=sum(map(bool, trained)),
        tokens=tuple(tokens),
        hidden_after=cut if num_hidden else 0,
        num_hidden_tokens=num_hidden,
    )
