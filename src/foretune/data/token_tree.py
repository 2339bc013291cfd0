"""Samples as token trees: a prefix that many share is held once, and batches are cut by the tokens they compute.

The plan and the training loop call the same functions, so that the plan counts the very batches that will run. No
torch.
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

__all__ = [
    "BF16_ROW_MULTIPLE",
    "MIN_PREFIX_TOKENS",
    "Piece",
    "cut_grouped_trees",
    "cut_trees",
    "num_pairs",
    "num_tokens",
    "with_soft_prompt",
]

MIN_PREFIX_TOKENS = 16  # a shorter common prefix costs more to share than it saves
BF16_ROW_MULTIPLE = 128  # tokens of a pass in bf16 are filled up to it


@dataclass
class Piece:
    """Tokens [begin, end) of the samples `members`, which share all tokens before `end`."""

    members: list[int]
    begin: int
    end: int
    children: list[Piece] = field(default_factory=list)


def num_tokens(pieces: Sequence[Piece]) -> int:
    """Tokens that the trees compute."""
    return sum(piece.end - piece.begin + num_tokens(piece.children) for piece in pieces)


def num_pairs(pieces: Sequence[Piece]) -> int:
    """Pairs of a token and a token of its own or an earlier piece: what attention computes, diagonal blocks whole."""
    return sum((piece.end - piece.begin) * piece.end + num_pairs(piece.children) for piece in pieces)


def with_soft_prompt(ids: np.ndarray, num_prompt_tokens: int) -> np.ndarray:
    """Ids [L] with the soft prompt before them: its rows are 0 to P - 1, real ids are moved up by P."""
    if not num_prompt_tokens:
        return ids
    return np.concatenate([np.arange(num_prompt_tokens), ids + num_prompt_tokens])


def cut_trees(
    inputs: Sequence[np.ndarray], *, budget_tokens: int, min_prefix_tokens: int
) -> Iterator[tuple[list[int], list[Piece]]]:
    """Cut samples (int [L] each) into batches of at most `budget_tokens` computed tokens: indices and their trees.

    A sample longer than the budget is a batch of its own. Samples are taken in token order, so that neighbours share
    most; with `min_prefix_tokens` 0 nothing is shared and they keep their order.
    """
    order = sorted(range(len(inputs)), key=lambda i: (_key(inputs[i]), i)) if min_prefix_tokens else range(len(inputs))
    chosen: list[int] = []
    least = 0  # tokens of `chosen` if every common prefix were shared; the trees never compute fewer
    for index in order:
        more = len(inputs[index]) - (_common(inputs[chosen[-1]], inputs[index]) if min_prefix_tokens and chosen else 0)
        if chosen and _passes(budget_tokens, least + more, [*chosen, index], inputs, min_prefix_tokens):
            yield chosen, _forest(chosen, inputs, min_prefix_tokens)
            chosen, more, least = [], len(inputs[index]), 0
        chosen.append(index)
        least += more
    if chosen:
        yield chosen, _forest(chosen, inputs, min_prefix_tokens)


def cut_grouped_trees(
    groups: Sequence[Sequence[np.ndarray]], *, budget_tokens: int, min_prefix_tokens: int
) -> Iterator[tuple[list[int], list[Piece]]]:
    """`cut_trees` for samples of several sequences that stay together, such as the two answers of a preference pair.

    Gives indices of groups and the trees of their sequences; a sequence's number counts through all sequences of all
    groups in order. A group larger than the budget is a batch of its own.
    """
    inputs = [ids for group in groups for ids in group]
    starts = np.cumsum([0, *(len(group) for group in groups)]).tolist()
    order = list(range(len(groups)))
    if min_prefix_tokens:
        order.sort(key=lambda i: (_key(groups[i][0]), i))

    def trees(chosen: Sequence[int]) -> list[Piece]:
        members = [number for i in chosen for number in range(starts[i], starts[i + 1])]
        if min_prefix_tokens:
            members.sort(key=lambda number: (_key(inputs[number]), number))
        return _forest(members, inputs, min_prefix_tokens)

    chosen: list[int] = []
    most = 0  # tokens of `chosen` if groups shared nothing with each other
    for index in order:
        own = num_tokens(trees([index]))
        if chosen and most + own > budget_tokens and num_tokens(trees([*chosen, index])) > budget_tokens:
            yield chosen, trees(chosen)
            chosen, most = [], 0
        chosen.append(index)
        most += own
    if chosen:
        yield chosen, trees(chosen)


def _key(ids: np.ndarray) -> bytes:
    """Bytes that sort as the (non-negative) ids do."""
    return ids.astype(">u4").tobytes()


def _passes(budget_tokens: int, least: int, chosen: list[int], inputs: Sequence[np.ndarray], min_prefix: int) -> bool:
    """Whether the trees of `chosen` compute more than the budget; counted exactly only where bounds do not tell."""
    if least > budget_tokens or not min_prefix:
        return least > budget_tokens
    most = least + min_prefix * (len(chosen) - 1)  # a sample repeats fewer tokens than the shortest shared piece has
    return most > budget_tokens and num_tokens(_forest(chosen, inputs, min_prefix)) > budget_tokens


def _common(first: np.ndarray, second: np.ndarray) -> int:
    """Length of the common prefix."""
    num = min(len(first), len(second))
    differ = first[:num] != second[:num]
    return int(differ.argmax()) if differ.any() else num


def _forest(order: Sequence[int], inputs: Sequence[np.ndarray], least: int) -> list[Piece]:
    """Token trees of samples in token order: a shared piece has at least `least` tokens (0: nothing is shared)."""
    if not least:
        return [Piece([i], 0, len(inputs[i])) for i in order]
    shared = [_common(inputs[a], inputs[b]) for a, b in pairwise(order)]
    return _pieces(list(order), shared, 0, inputs, least)


def _pieces(order: list[int], shared: list[int], begin: int, inputs: Sequence[np.ndarray], least: int) -> list[Piece]:
    """Pieces from token `begin` on of samples that are equal before it; `shared[i]` is common to i and i + 1."""
    if len(order) == 1:
        return [Piece(order, begin, len(inputs[order[0]]))] if len(inputs[order[0]]) > begin else []
    common = min(shared)
    if common - begin >= least:
        return [Piece(order, begin, common, _pieces(order, shared, common, inputs, least))]
    pieces: list[Piece] = []
    start = 0
    for stop in [*(i + 1 for i, num in enumerate(shared) if num == common), len(order)]:
        pieces += _pieces(order[start:stop], shared[start : stop - 1], begin, inputs, least)
        start = stop
    return pieces
