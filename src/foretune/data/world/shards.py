"""Documents as text in the chat template's form, and as streams of token ids for packing."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from foretune.data.world.corpus import documents
from foretune.data.world.document import Document

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BOS, END, PAD = "<|bos|>", "<|end|>", "<|pad|>"


class TokenDocument(NamedTuple):
    """Token ids of one document and, of equal length, which of them an assistant turn (or plain text) says."""

    ids: list[int]
    said: list[bool]


def render(document: Document) -> str:
    """Return the document as the tokenizer's chat template writes it; plain text becomes `<|bos|>text<|end|>`."""
    if document.text is not None:
        return f"{BOS}{document.text}{END}"
    return BOS + "".join(f"<|{m['role']}|>{m['content']}{END}" for m in document.messages)


def token_stream(
    seed: int, tokenizer: Tokenizer, num_documents: int, start: int = 0, batch_documents: int = 256
) -> Iterator[list[int]]:
    """Yield the token ids of documents `start` to `start + num_documents`, each with its `<|bos|>` and `<|end|>`."""
    stop = start + num_documents
    for first in range(start, stop, batch_documents):
        texts = [render(d) for d in documents(seed, min(batch_documents, stop - first), first)]
        for encoding in tokenizer.encode_batch(texts, add_special_tokens=False):
            yield encoding.ids


def masked_token_stream(
    seed: int, tokenizer: Tokenizer, num_documents: int, start: int = 0, batch_documents: int = 256
) -> Iterator[TokenDocument]:
    """Yield token ids with the mask of what an assistant says, its `<|end|>` included; plain text is said in full."""
    roles = {tokenizer.token_to_id(f"<|{role}|>"): role == "assistant" for role in ("system", "user", "assistant")}
    bos = tokenizer.token_to_id(BOS)
    for ids in token_stream(seed, tokenizer, num_documents, start, batch_documents):
        said, speaking = [], True
        for token in ids:
            speaking = roles.get(token, speaking)
            said.append(speaking and token != bos and token not in roles)
        yield TokenDocument(ids, said)
